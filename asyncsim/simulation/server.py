"""The parameter server: its shards, and what is counted and evaluated over all of them. It knows the time but never changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from asyncsim.messages import Snapshot, Verdict
from asyncsim.needs import Need
from asyncsim.records import OUTCOMES, Recorder
from asyncsim.simulation.length import Evaluation, RunLength
from asyncsim.simulation.observers import Observers
from asyncsim.simulation.parameters import NAN
from asyncsim.simulation.shards import AnyShard, Shards
from asyncsim.simulation.stream import Predicting

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Future
    from asyncsim.tasks.task import Task

NOTHING = len(OUTCOMES)  # what a settlement mostly gives
CHANGING = ("version", "pushes", "dropped", "finished", "reached", "last_metrics", "decisions", "seen", "closings", "sizes",
            "items", "right", "_next_evaluation", "_evaluated")  # fmt: skip
"""The attributes of a server that an update or an evaluation changes, and that a checkpoint keeps in addition to its shards."""
OUTCOME = {verdict: OUTCOMES.index(name) for verdict, name in
           ((None, "applied"), (Verdict.BUFFERED, "buffered"), (Verdict.DROPPED, "dropped"))}  # fmt: skip
APPLIED = OUTCOME[None]


class Server(Shards, Predicting):
    """The shards of a model: one for a whole model; one for each stage of a pipeline, where worker ``w`` is member ``w // K``
    of shard ``w % K``.

    An update of the model is complete when every shard has made it, so the model's version and samples are the smallest of
    the shards'. A shard that has made all updates of the run ignores what else arrives, so that all shards end with the same
    number. With ``task`` None the timeline alone is simulated. When a shard diverges nothing is computed from then on, and
    the timeline goes on as it would have.
    """

    def __init__(
        self,
        shards: Sequence[AnyShard],
        task: Task | None,
        length: RunLength,
        evaluation: Evaluation,
        recorder: Recorder,
    ) -> None:
        super().__init__(shards)
        self.task = task
        self.length = length
        self.evaluation = evaluation.against(length)
        self.recorder = recorder
        self.version = 0
        self.pushes = 0
        self.dropped = 0
        self.finished = False
        self.reached: int | None = None  # time at which the target was first met
        self.last_metrics: dict[str, float] = {}
        self.observers = Observers(recorder)
        self._more: Callable[[int], tuple[float, ...]] | None = None
        self.decisions = bytearray()  # of the policies, one an arrival (index into OUTCOMES) or settlement
        self.seen: list[float] = []  # the numbers of all arrivals that a consistency rule sees, where it decides by them
        self.closings: list[int] = []  # when groups were to be closed (ns), each time that was asked; -1 for never
        self.sizes: list[float] = []  # of all pushes as they set out, where that depends on what is in them (bytes)
        self._next_evaluation = self.evaluation.updates or self.evaluation.samples or 0
        self._evaluated = (-1, -1)  # time and version of the last evaluation

    def state(self) -> dict[str, Any]:
        """Everything that changes during a run, except the progress of the workers."""
        return {name: getattr(self, name) for name in CHANGING} | {"shards": [shard.state() for shard in self.shards]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        for shard, its in zip(self.shards, state["shards"], strict=True):
            shard.restore(its)
        for name in CHANGING:
            setattr(self, name, state[name])

    def add_columns(self, columns: Callable[[int], tuple[float, ...]]) -> None:
        """Every evaluation records what ``columns(now)`` gives before the metrics of the task: what the run has cost."""
        self._more = columns

    @property
    def needs(self) -> Need:
        """What the policies need and do between an arrival and the step rule."""
        return self.shards[0].needs

    @property
    def num_workers(self) -> int:
        return sum(shard.num_workers for shard in self.shards)

    @property
    def samples(self) -> int:
        shards = self.shards
        return shards[0].samples if len(shards) == 1 else min(shard.samples for shard in shards)

    @property
    def updates(self) -> int:
        """The number of updates that the model has had. Those that a crash of the server took back do not count."""
        return self.version - self.shards[0].progress.undone

    @property
    def lr(self) -> float:
        """The learning rate of the last arrival (at the first shard)."""
        return self.shards[0].lr

    @property
    def numeric(self) -> bool:
        """Are gradients computed (still)? They are not in a plan, nor after the run has diverged."""
        return self.shards[0].numeric

    @property
    def diverged(self) -> tuple[int, int] | None:
        """The first update that left non-finite parameters in a shard, and its time."""
        return min((shard.diverged for shard in self.shards if shard.diverged), key=lambda each: each[1], default=None)

    @property
    def params(self) -> Tensor | None:
        """The whole model, shape ``(P,)``."""
        if len(self.shards) == 1:
            return self.shards[0].params
        pieces = [shard.params for shard in self.shards]
        return None if self.task is None else self.task.join([piece for piece in pieces if piece is not None])

    def read(self, worker: int, now: int, version: int | None = None) -> Snapshot:
        """Hand out the parameters of the worker's shard."""
        shards = self.shards
        return shards[worker % len(shards)].read(worker // len(shards), now, version)

    def current(self, worker: int) -> Tensor | None:
        """The parameters for a backward pass that begins now, if it does not use those of its forward pass."""
        return self.shards[worker % len(self.shards)].current(worker // len(self.shards))

    def receive(self, worker: int, step: int, snapshot: Snapshot, work: Future | None, now: int, up: bool = True) -> None:
        """Take a result that has been received: its shard acts on it, and what became of it is recorded."""
        count = len(self.shards)
        shard = self.shards[worker % count]
        self.pushes += 1
        if count > 1 and self.length.done(shard.version, shard.samples, 0) >= 1.0:
            self.decisions.append(NOTHING)
            shard.lose(worker // count, step)
            if work is not None and shard.numeric:
                shard.drop(work)
            return
        arrival = shard.take_in(worker // count, step, snapshot, work, now, up)
        outcome = OUTCOME[arrival.verdict]
        if shard.progress.sees is not None:
            self.seen.append(shard.progress.seen)
        self.dropped += arrival.verdict is Verdict.DROPPED
        self.decisions.append(outcome)
        self.observers.arrival((
            now, worker, step, snapshot.version, shard.version, arrival.staleness, outcome, arrival.lr, arrival.gap,
            arrival.penalty, *arrival.noted, arrival.loss,
        ))  # fmt: skip
        self._after(shard, now)

    @property
    def sized(self) -> bool:
        """Is the size of a push known only when it is sent?"""
        return self.shards[0].sized

    def depart(self, worker: int, step: int, snapshot: Snapshot, work: Future | None, now: int) -> float:
        """A push sets out whose size depends on what is in it: its bytes."""
        count = len(self.shards)
        self.sizes.append(self.shards[worker % count].depart(worker // count, step, snapshot, work, now))
        return self.sizes[-1]

    def lose(self, worker: int, step: int) -> None:
        """The result of a step will not arrive."""
        count = len(self.shards)
        self.shards[worker % count].lose(worker // count, step)

    def forget(self, worker: int) -> None:
        """Discard what a worker that has gone down kept from round to round."""
        shards = self.shards
        shards[worker % len(shards)].forget(worker // len(shards))

    def settle(self, worker: int, now: int) -> None:
        """Called when a worker has left for good: its shard applies the push that a buffer passes on because of that, if any."""
        self.close(worker % len(self.shards), now)

    def launched(self, worker: int, step: int, snapshot: Snapshot, work: Future | None, now: int) -> None:
        """A result sets out while its worker goes on: the shard is told, and may make an update of that."""
        shard = self.whole
        self.decisions.append(APPLIED if shard.launched(worker, step, snapshot, work, now) else NOTHING)
        self._after(shard, now)

    def closes(self, stage: int) -> int | None:
        """The virtual time (ns) at which the shard of a stage asks to be settled, whatever arrives until then; None if there is
        no such time."""
        due = self.shards[stage].closes()
        self.closings.append(-1 if due is None else due)
        return due

    def close(self, stage: int, now: int) -> None:
        """That time has come: the shard applies what a buffer now gives up."""
        shard = self.shards[stage]
        self.decisions.append(APPLIED if shard.settle(now) else NOTHING)
        self._after(shard, now)

    def save(self) -> None:
        """Save what a crash of the server goes back to."""
        self.whole.save()

    def crash(self) -> None:
        """Lose what has not been saved. Only a server with one shard crashes."""
        self.whole.crash()

    def restart(self, now: int) -> None:
        """Make what was saved a new version, and evaluate it."""
        shard = self.whole
        shard.advance(shard.params, 0, now)
        self.version = shard.version
        every = self.evaluation.updates or self.evaluation.samples
        if every:
            self._next_evaluation = (self._counted() // every + 1) * every
        self.evaluate(now)

    def evaluate(self, now: int) -> None:
        """Add a row to the metrics, unless this version was already evaluated at this time."""
        if self._evaluated == (now, self.version):
            return
        self._evaluated = (now, self.version)
        self.check_finite()
        values: list[float] = []
        if self.task is not None:
            params = self.params if self.numeric else None
            statistics = None if params is None else self._statistics(self.task, params)
            for split in self.evaluation.splits:
                scores = self.task.evaluate(params, split, statistics) if params is not None else {}
                values.extend(scores.get(metric, NAN) for metric in self.task.metrics)
            values.extend(self.online)
        bill = () if self._more is None else self._more(now)
        self.observers.evaluation((now, self.version, self.pushes, self.samples, self.lr, *bill, *values))
        names = list(self.recorder.metrics.columns)[-len(values) :] if values else []
        self.last_metrics = dict(zip(names, values, strict=True))
        target = self.length.target
        if target is not None and target.metric in self.last_metrics and target.reached(self.last_metrics[target.metric]):
            if self.reached is None:
                self.reached = now
            self.finished = self.finished or target.stop

    def check_finite(self) -> None:
        """Note divergence, if the parameters are not finite any more."""
        for shard in self.shards:
            shard.check_finite()
        self._share_divergence()

    def _after(self, shard: AnyShard, now: int) -> None:
        """After an update: end the run if it is over, and evaluate if that is due."""
        if not shard.numeric and self.task is not None:
            self._share_divergence()
        version = shard.version if len(self.shards) == 1 else min(each.version for each in self.shards)
        if version == self.version:
            return
        self.version = version
        samples = self.samples
        if self.length.done(self.updates, samples, 0) >= 1.0:
            self.finished = True
        counted = self._counted()
        if self._next_evaluation and counted >= self._next_evaluation:
            every = self.evaluation.updates or self.evaluation.samples or 1
            self._next_evaluation += every * ((counted - self._next_evaluation) // every + 1)
            self.evaluate(now)

    def _counted(self) -> int:
        """The count by which evaluations are spaced."""
        return self.updates if self.evaluation.updates else self.samples

    def _share_divergence(self) -> None:
        if not all(shard.numeric for shard in self.shards):
            for shard in self.shards:
                shard.numeric = False

    def _statistics(self, task: Task, params: Tensor) -> Tensor | None:
        """The batch-norm statistics for an evaluation at ``params``; None leaves them to the task."""
        if not task.statistics_size:
            return None
        if task.batch_norm == "recalibrate":
            return task.recalibrate(params)
        return task.join([shard.statistics for shard in self.shards if shard.statistics is not None])
