"""One parameter shard: parameters with a version, and the policy that decides what an arriving push does to them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncsim.errors import UserError
from asyncsim.messages import Push, Snapshot, Verdict
from asyncsim.needs import Need, joined
from asyncsim.policies import Policy, Schedule, Uplink
from asyncsim.simulation.length import RunLength
from asyncsim.simulation.parameters import NAN
from asyncsim.simulation.progress import WorkerProgress
from asyncsim.simulation.rates import Rated
from asyncsim.simulation.saving import discard, kept, pushes_in
from asyncsim.simulation.seen import Seen
from asyncsim.simulation.stream import Stream

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Future

CHANGING = (
    "params", "statistics", "version", "pushes", "samples", "lr", "lr_max", "numeric", "diverged", "older",
    "reads", "_view", "_updated", "_unchecked", "saved", "lost_pushes", "learnt",
)  # fmt: skip
"""The attributes of a shard that arrivals change, and that a checkpoint therefore keeps."""
SAVED = ("params", "statistics", "samples", "lr_max", "learnt")
"""The attributes of a shard that the server saves, in addition to the state of the policy, and goes back to after a crash."""


class Arrival(NamedTuple):
    """What became of a push, as the records hold it."""

    verdict: Verdict | None  # None: an update
    staleness: int
    lr: float
    gap: Tensor | float
    penalty: Tensor | float
    loss: Future | float
    noted: tuple[Tensor | float, ...] = ()  # numbers of the method's own


class Shard(Rated, Seen):  # type: ignore[misc]  # in a plan there are no parameters, and no policy looks at them
    """The whole model for a parameter server, one stage of it for a pipeline. Knows its members (workers) by number only.

    It is also the ``ServerView`` that policies see. When an update leaves non-finite parameters the shard has diverged; the
    update and its time are noted.
    """

    def __init__(
        self,
        policy: Policy,
        params: Tensor | None,
        layers: tuple[slice, ...],
        schedule: Schedule,
        length: RunLength,
        progress: WorkerProgress,
        samples: int,
        *,
        uplink: Uplink | None = None,
        notes: tuple[str, ...] = (),
        shard_sizes: tuple[int, ...] = (),
        scheduled: bool = True,
        keep: int = 1,
        stage: int = 0,
        num_stages: int = 1,
    ) -> None:
        super().__init__(params, policy, schedule, length, progress, samples, scheduled)
        self.uplink = uplink  # what the workers do to a push before they send it
        self.shard_sizes = shard_sizes  # training samples of each worker, where each has a shard of its own
        self.notes = notes  # names of the numbers that the method notes of every push
        self.layers = layers
        self.stage = stage
        self.num_stages = num_stages
        self.now = 0  # of the arrival or settlement that is looked at
        self.reads = self.pushes = 0
        self.keep = keep  # versions that may be asked for, the newest included
        self.older: deque[Any] = deque(maxlen=keep - 1)  # what was handed out at the versions before, oldest first
        asking = (*policy.transforms, *(uplink.transforms if uplink is not None else ()))
        self.past: deque[Any] = deque(maxlen=max((each.history for each in asking), default=0))  # parameters, oldest first
        self.stream: Stream | None = None
        self.learnt = 0, 0.0  # items of the stream, and what they are worth
        self.saved: dict[str, Any] | None = None  # what a crash of the server goes back to
        self.lost_pushes = 0  # pushes that crashes of the server found in a buffer
        self._view: tuple[int, Tensor | None] = (-1, None)

    def state(self) -> dict[str, Any]:
        """Everything that changes during a run, except the progress of the workers."""
        policy = self.policy
        kinds = {"kinds": ([each.kind for each in policy.transforms], [each.kind for each in policy.downlink], policy.step.kind)}
        values = {name: getattr(self, name) for name in CHANGING}
        uplink = None if self.uplink is None else {"states": self.uplink.states, "sent": self.uplink.sent}
        return values | {"older": list(self.older), "past": list(self.past), "policy": policy.state, "uplink": uplink} | kinds

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.policy.state = state["policy"]
        if self.uplink is not None:
            self.uplink.states, self.uplink.sent = state["uplink"]["states"], state["uplink"]["sent"]
        for name in CHANGING:
            setattr(self, name, state[name])
        self.older = deque(state["older"], maxlen=self.keep - 1)
        self.past = deque(state["past"], maxlen=self.past.maxlen)

    @property
    def needs(self) -> Need:
        """What the transforms need and do between an arrival and the step rule."""
        return joined(transform.needs for transform in self.policy.transforms)

    @property
    def buffered(self) -> int:
        """The number of pushes that wait in a buffer for others."""
        return len(self.waiting)

    @property
    def waiting(self) -> list[Push]:
        return pushes_in(self.policy.state.transforms)

    def view(self, worker: int = -1) -> Tensor | None:  # type: ignore[override]  # the same
        """What ``worker`` is handed if it reads now, shape ``(P,)``: one tensor a version, unless each has a view of its own."""
        if self.policy.worker_view:
            return None if self.params is None else self.policy.view(self.params, self, worker)
        version, view = self._view
        if version != self.version:
            view = None if self.params is None else self.policy.view(self.params, self, -1)
            self._view = (self.version, view)
        return view

    def read(self, member: int, now: int, version: int | None = None) -> Snapshot:
        """Hand out the parameters: the newest, or those of a ``version`` that is still kept; ``UserError`` if it is not."""
        share = self.progress.read(member)
        order, self.reads = self.reads, self.reads + 1
        factor = 1.0 if self.scheduled else self._factor(self.version + 1, self.samples, now)
        if version is None or version == self.version:
            view, trained = self.view(member), None
            if share < 1.0 and view is not None and self.numeric:
                trained = self.policy.sub_model(share, self, member)
                view = view.masked_fill(~trained, 0)
            if self.policy.worker_view and view is not None and self.numeric:
                self.policy.handed(view, self, member)
            return Snapshot(view, self.version, now, factor, order, share, trained)
        if not 0 < self.version - version <= len(self.older):
            raise UserError(
                f"method.program.versions: stage {self.stage + 1} is asked for version {version} and keeps "
                f"{self.version - len(self.older)} to {self.version}: take `latest`, or updates that come in step with the "
                "batches, as in pipedream (`first`) and pipedream_2bw (`double`)"
            )
        return Snapshot(self.older[version - self.version], version, now, factor, order)

    def path(self, snapshot: Snapshot, most: int) -> list[Tensor]:
        between = max(0, min(self.version - snapshot.version, most) - 1)
        return [snapshot.params, *list(self.past)[max(0, len(self.past) - between) :], self.params]

    def current(self, member: int) -> Tensor | None:
        """The parameters, shape ``(P,)``, that a late backward pass uses instead of those that its forward pass read."""
        params = self.params
        return self.policy.late_view(params, self) if params is not None and self.numeric else None

    def take_in(self, member: int, step: int, snapshot: Snapshot, work: Future | None, now: int, up: bool) -> Arrival:
        """Take a result that has been received: send it through the policy, and apply what comes out."""
        self._set_rate(self.samples_per_push, now)
        self.pushes += 1
        sees = self.progress.sees
        if sees == "loss":
            self.progress.seen = float(work.result().loss) if work is not None and self.numeric else NAN
        self.progress.push(member, snapshot.version, up, now)
        gap = self._gap(snapshot)
        push = self._push(member, step, snapshot, work, now)
        staleness, work = push.staleness, push.payload
        if self.uplink is not None:
            push = self.uplink.arrived(push) if self.uplink.sized else self.uplink.send(push, self)
        noted = push.noted
        if noted is not None:
            noted |= self.progress.noted
        verdict = self.take(push, now)
        if sees is not None and sees != "loss":
            self.progress.seen = NAN if noted is None else float(noted[sees])
        if work is not None and verdict is Verdict.DROPPED:
            self.drop(work)
        penalty = push.penalty if isinstance(push.penalty, float) else push.penalty.mean()
        loss = NAN if work is None else work
        return Arrival(verdict, staleness, self.lr, gap, penalty, loss, tuple(noted.values()) if noted else ())

    @property
    def sized(self) -> bool:
        """Is the size of a push known only when it is sent?"""
        return self.uplink is not None and self.uplink.sized

    def depart(self, member: int, step: int, snapshot: Snapshot, work: Future | None, now: int) -> float:
        """A push sets out, and is treated by the worker's transforms: its bytes."""
        assert self.uplink is not None, "it makes the size"
        return self.uplink.depart(self._push(member, step, snapshot, work, now), self)

    def launched(self, member: int, step: int, snapshot: Snapshot, work: Future | None, now: int) -> bool:
        """A push sets out while its worker goes on, and the policy is told. Returns whether it made an update of that."""
        update = self.policy.launched(self._push(member, step, snapshot, work, now), self)
        if update is not None:
            self.apply(update, now)
        return update is not None

    def _push(self, member: int, step: int, snapshot: Snapshot, work: Future | None, now: int) -> Push:
        """A result as the policy sees it now."""
        self.now = now
        noted: Any = dict.fromkeys(self.notes, NAN) if self.notes else None
        work, samples = work if self.numeric else None, self.samples_per_push
        if snapshot.pace is not None:
            samples = self.samples_per_batch * snapshot.pace[1]
        staleness = self.version - snapshot.version
        return Push(member, step, snapshot, staleness, now, samples, work, noted=noted, trained=snapshot.trained)

    def lose(self, member: int, step: int) -> None:
        """What the member had sent, or was about to send, will not arrive."""
        if self.uplink is not None and self.uplink.sized:
            self.uplink.sent.pop((member, step), None)

    def forget(self, member: int) -> None:
        """Discard what a member that has gone down kept from round to round."""
        self.policy.forget(member)
        if self.uplink is not None:
            self.uplink.forget(member)

    def drop(self, work: Future) -> None:
        """Drop a result that nobody applies. It is never computed, unless a stage below still needs the error signal, or its
        worker goes on from what the computation leaves behind."""
        if self.stage and work.pending:
            work.result()
        work.discard()

    def take(self, push: Push, now: int) -> Verdict | None:
        """Act on a push. Returns None if it became an update, otherwise the verdict."""
        result = self.policy.arrive(push, self)
        if isinstance(result, Verdict):
            return result
        self.apply(result, now)
        return None

    def settle(self, now: int) -> bool:
        """A worker has left for good, or a time has come that was asked for: apply what a buffer passes on. Returns if it did."""
        self.now = now
        push = self.policy.settle(self)
        if push is not None:
            self.apply(push, now)
        return push is not None

    def closes(self) -> int | None:
        """When (ns) the policy asks to be settled."""
        return self.policy.closes()

    def apply(self, push: Push, now: int) -> None:
        if push.samples != self.samples_per_push:  # a mean of several pushes
            self._set_rate(push.samples, now)
        if self.stream is not None:
            self.learnt = self.stream.learn(self.learnt, push, now)
        params = self.params
        if self.numeric:
            params = self.policy.apply(push, self)
            if push.payload is not None:  # else a transform made it of nothing that was computed
                self.keep_statistics(push.payload)
                push.payload.release()
        self.advance(params, push.samples, now)

    def advance(self, params: Tensor | None, samples: int, now: int) -> None:
        """Make the parameters after an update the next version."""
        if self.keep > 1:
            self.older.append(self.view())
        self.past.append(self.params)
        self.params = params
        self.version += 1
        self.samples += samples
        self._updated = now
        self.progress.version = self.version

    def save(self) -> None:
        """Save parameters and policy for a crash to go back to. Pushes in buffers are not saved."""
        self.saved = {name: getattr(self, name) for name in SAVED} | {"policy": kept(self.policy.state)}

    def crash(self) -> None:
        """Go back to what was saved last. That the shard has diverged stays noted, since it is a result of the run."""
        saved = self.saved
        assert saved is not None, "it saves itself at the start"
        self.check_finite()
        self.lost_pushes += discard(self.policy.state)
        self.policy.state = kept(saved["policy"])
        self.past.clear()
        for name in SAVED:
            setattr(self, name, saved[name])
