"""The parameter server: versions, arrivals, updates, evaluations. It knows the time but never changes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from asyncsim.policies import Policy, Push, Schedule, Snapshot, Verdict
from asyncsim.records import OUTCOMES, Recorder
from asyncsim.simulation.length import Evaluation, RunLength
from asyncsim.simulation.progress import WorkerProgress

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.futures import Future
    from asyncsim.tasks.task import Task

NAN = float("nan")
APPLIED = OUTCOMES.index("applied")
NOTHING = len(OUTCOMES)  # what a settlement mostly gives
CHANGING = (
    "params", "statistics", "version", "pushes", "samples", "dropped", "lr", "lr_max", "finished", "diverged", "reached",
    "last_metrics", "decisions", "_view", "_updated", "_unchecked", "_next_evaluation", "_evaluated",
)  # fmt: skip
"""What an update or an evaluation changes of a server, and a checkpoint keeps."""
OUTCOME = {Verdict.BUFFERED: OUTCOMES.index("buffered"), Verdict.DROPPED: OUTCOMES.index("dropped")}


class Server:
    """Holds the parameters of one shard and lets the policy decide what an arrival does.

    Also the ``ServerView`` of the policies. ``task`` None simulates the timeline alone. When an update leaves non-finite
    parameters the run has diverged: the update and its time are noted, nothing is computed from then on, and the timeline
    goes on as it would have.
    """

    def __init__(
        self,
        policy: Policy,
        params: Tensor | None,
        task: Task | None,
        schedule: Schedule,
        length: RunLength,
        evaluation: Evaluation,
        progress: WorkerProgress,
        recorder: Recorder,
        samples: int,
        scheduled: bool = True,
    ) -> None:
        self.policy = policy
        self.params = params  # (P,), replaced by a new tensor at every update
        self.task = task
        self.layers = task.layout.layers if task is not None else ()
        self.statistics: Tensor | None = None  # (B,) running batch-norm statistics
        self.schedule = schedule
        self.scheduled = scheduled  # False: the schedule drives the workers' local learning rate, not the server's
        self.length = length
        self.evaluation = evaluation.against(length)
        self.progress = progress
        self.recorder = recorder
        self.samples_per_push = samples
        self.version = 0
        self.pushes = 0
        self.samples = 0
        self.dropped = 0
        self.lr = policy.step.lr
        self.lr_max = 0.0
        self.finished = False
        self.diverged: tuple[int, int] | None = None  # first update with non-finite parameters, and its time
        self.reached: int | None = None  # time at which the target was first met
        self.last_metrics: dict[str, float] = {}
        self.decisions = bytearray()  # of the policy, one an arrival (index into OUTCOMES) or settlement
        self._view: tuple[int, Tensor | None] = (-1, None)
        self._scratch: Tensor | None = None  # (P,) params - snapshot of the last arrival
        self._moved: Snapshot | None = None  # that snapshot, while nobody has taken the scratch
        self._updated = 0  # time of the last update
        self._unchecked: list[tuple[int, int, Tensor]] = []  # version, its time, and a number that is finite if it is
        self._check_every = 1 if params is None or params.device.type == "cpu" else 64  # to look at a number stops a GPU
        self._next_evaluation = self.evaluation.updates or self.evaluation.samples or 0
        self._evaluated = (-1, -1)  # time and version of the last evaluation

    def state(self) -> dict[str, Any]:
        """Everything that changes during a run, but for the progress of the workers."""
        return {name: getattr(self, name) for name in CHANGING} | {"policy": self.policy.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.policy.state = state.pop("policy")
        for name, value in state.items():
            setattr(self, name, value)

    @property
    def num_workers(self) -> int:
        return self.progress.num_workers

    @property
    def members(self) -> int:
        return self.progress.members

    @property
    def departed(self) -> frozenset[int]:
        return self.progress.departed

    @property
    def numeric(self) -> bool:
        """Are gradients (still) computed?"""
        return self.task is not None and self.diverged is None

    def view(self) -> Tensor | None:
        """What a worker that reads now is handed, shape ``(P,)``; one tensor a version."""
        version, view = self._view
        if version != self.version:
            view = None if self.params is None else self.policy.view(self.params, self.lr)
            self._view = (self.version, view)
        return view

    def moved(self, snapshot: Snapshot) -> Tensor:
        """``params - snapshot``, shape ``(P,)``, for the caller to overwrite."""
        if self._moved is not snapshot:
            self._subtract(snapshot)
        self._moved = None
        return self._scratch

    def _subtract(self, snapshot: Snapshot) -> None:
        self._scratch = self.params - snapshot.params
        self._moved = snapshot

    def read(self, worker: int, now: int) -> Snapshot:
        """Hand out the parameters."""
        self.progress.read(worker)
        factor = 1.0 if self.scheduled else self._factor(self.version + 1, self.samples, now)
        return Snapshot(self.view(), self.version, now, factor)

    def arrive(self, worker: int, step: int, snapshot: Snapshot, work: Future | None, now: int, up: bool = True) -> None:
        """A result has been received: send it through the policy and apply what comes out."""
        staleness = self.version - snapshot.version
        self._set_rate(self.samples_per_push, now)
        self.pushes += 1
        self.progress.push(worker, snapshot.version, counts=up)
        gap = self._gap(snapshot)
        if not self.numeric:
            work = None
        push = Push(worker, step, snapshot, staleness, now, self.samples_per_push, work)
        result = self.policy.arrive(push, self)
        if isinstance(result, Verdict):
            outcome = OUTCOME[result]
            if result is Verdict.DROPPED:
                self.dropped += 1
                if work is not None:
                    work.cancel()
        else:
            outcome = APPLIED
            self._apply(result, now)
        self.decisions.append(outcome)
        penalty = push.penalty if isinstance(push.penalty, float) else push.penalty.mean()
        self.recorder.updates.append((
            now, worker, step, snapshot.version, self.version, staleness, outcome, self.lr, gap, penalty,
            NAN if work is None else work,
        ))  # fmt: skip

    def settle(self, now: int) -> None:
        """A worker left for good: apply what a buffer now gives up."""
        push = self.policy.settle(self)
        if push is not None:
            self._apply(push, now)
        self.decisions.append(NOTHING if push is None else APPLIED)

    def evaluate(self, now: int) -> None:
        """Add a row to the metrics, unless this version has one at this time."""
        if self._evaluated == (now, self.version):
            return
        self._evaluated = (now, self.version)
        self.check_finite()
        values: list[float] = []
        if self.task is not None:
            statistics = self.statistics
            if self.numeric and self.task.statistics_size and self.task.batch_norm == "recalibrate":
                statistics = self.task.recalibrate(self.params)
            for split in self.evaluation.splits:
                scores = self.task.evaluate(self.params, split, statistics) if self.numeric else {}
                values.extend(scores.get(metric, NAN) for metric in self.task.metrics)
        self.recorder.metrics.append((now, self.version, self.pushes, self.samples, self.lr, *values))
        names = list(self.recorder.metrics.columns)[-len(values) :] if values else []
        self.last_metrics = dict(zip(names, values, strict=True))
        target = self.length.target
        if target is not None and target.metric in self.last_metrics and target.reached(self.last_metrics[target.metric]):
            if self.reached is None:
                self.reached = now
            self.finished = self.finished or target.stop

    def _set_rate(self, samples: int, now: int) -> None:
        """The learning rate of an update by ``samples`` more samples."""
        factor = self._factor(self.version + 1, self.samples + samples, now) if self.scheduled else 1.0
        self.lr = self.policy.step.lr * factor
        self.lr_max = max(self.lr_max, self.lr)

    def _apply(self, push: Push, now: int) -> None:
        if push.samples != self.samples_per_push:  # a mean of several pushes
            self._set_rate(push.samples, now)
        if self.numeric:
            self.params = self.policy.apply(push, self)
            self._keep_statistics(push.payload)
            push.payload.release()
        self.version += 1
        self._updated = now
        self.progress.version = self.version
        self.samples += push.samples
        if self.length.done(self.version, self.samples, 0) >= 1.0:
            self.finished = True
        counted = self.version if self.evaluation.updates else self.samples
        if self._next_evaluation and counted >= self._next_evaluation:
            every = self.evaluation.updates or self.evaluation.samples
            self._next_evaluation += every * ((counted - self._next_evaluation) // every + 1)
            self.evaluate(now)

    def _keep_statistics(self, payload: Future) -> None:
        if not self.task.statistics_size or self.task.batch_norm != "running":
            return
        if self.statistics is None:
            self.statistics = self.task.init_statistics()
        self.statistics = self.task.average_statistics(self.statistics, payload.result().statistics)

    def _factor(self, updates: int, samples: int, now: int) -> float:
        return self.schedule.factor(min(1.0, self.length.done(updates, samples, now)), updates, self.num_workers)

    def _gap(self, snapshot: Snapshot) -> Tensor | float:
        """L2 distance that the parameters have moved since the read. What it costs also tells whether they are still finite."""
        if not self.numeric:
            return NAN
        if snapshot.params is self.params:
            square, gap = self.params.sum(), 0.0
        else:
            self._subtract(snapshot)
            square = self._scratch.dot(self._scratch)
            gap = square.sqrt()
        self._unchecked.append((self.version, self._updated, square))
        if len(self._unchecked) >= self._check_every:
            self._look()
        return gap if self.numeric else NAN

    def check_finite(self) -> None:
        """Note divergence, if the parameters are not finite any more."""
        if self.numeric:
            self._unchecked.append((self.version, self._updated, self.params.sum()))
            self._look()

    def _look(self) -> None:
        """Find the first update that left non-finite parameters. (A square or a sum alone may also be too large for a float.)"""
        unchecked, self._unchecked = self._unchecked, []
        suspects = [(version, time) for version, time, value in unchecked if not math.isfinite(float(value))]
        if suspects and not self.params.isfinite().all():
            self.diverged = suspects[0]
