"""The stage program: one slice of the model, with forward and backward passes of many batches in flight."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from asyncsim.needs import Need
from asyncsim.simulation.activities import BACKWARD, COMPUTE, FORWARD, INFERENCE
from asyncsim.simulation.channels import Channel, Message, Place, Stashed, Undelivered
from asyncsim.simulation.orders import Order, Pass, Ticks, orders
from asyncsim.simulation.programs import Program, programs
from asyncsim.simulation.transport.transport import ACTIVATION, ERROR

if TYPE_CHECKING:
    from asyncsim.messages import Future, Snapshot
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker



@programs.register("stage")
class Stage(Program):
    """One stage of a pipeline. A model of one stage is a replica, and its trace and bits are the replica program's.

    - ``order``: in which order forward and backward passes come.
    - ``versions``: the parameters of a forward pass are the stage's ``latest``; those of the version that the ``first`` stage
      read for this batch (PipeDream's vertical sync); or ``double``-buffered, one batch behind (PipeDream-2BW).
    - ``backward``: a late backward pass uses the ``stashed`` parameters of its forward pass; or ``current`` parameters with the
      stashed activations (the public FDG, ADL and DDG code); or it is ``replayed``: a new forward pass from the stashed input
      with current parameters (Features Replay, DSP).
    - ``recompute``: a late backward pass with ``stashed`` parameters repeats its forward pass first, for its activations were
      not kept. It takes that time, and the numbers are the same; ``replayed`` recomputes with current parameters anyway. A list
      says it of each stage.
    - ``micro_batches``: a batch is cut in so many equal parts, each a forward and a backward pass of its own.
    - ``shrink``: every error signal is multiplied by it on its way down (FDG's gradient shrinking, beta).
    - ``queue``: messages that a channel between neighbours holds; a stage does not begin a pass whose result has no room.

    A stage that crashes keeps its stash and its messages, and does the pass again that was cut short.
    """

    order: Annotated[Order, orders] = Ticks()
    versions: Literal["latest", "first", "double"] = "latest"
    backward: Literal["stashed", "current", "replayed"] = "stashed"
    recompute: bool | tuple[bool, ...] = False
    micro_batches: int = Field(default=1, ge=1)
    shrink: float = Field(default=1.0, ge=0, le=1)
    queue: int = Field(default=2, ge=2)

    @model_validator(mode="after")
    def _recomputes_what_is_stashed(self) -> Stage:
        if self.recomputes() and self.backward != "stashed":
            raise ValueError(
                f"`recompute` repeats the forward pass with its own, `stashed` parameters, not `backward: {self.backward}`; with "
                "current ones that is `backward: replayed`"
            )
        return self

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        passes = self.micro_batches > 1 or self.versions == "double"
        old = self.versions != "latest"
        return Need.CUTS | (Need.PASSES if passes else Need.NOTHING) | (Need.OLD_VERSIONS if old else Need.NOTHING)

    @property
    def num_micro_batches(self) -> int:
        return self.micro_batches

    def fits(self, stages: int) -> None:
        self.order.fits(stages)
        if isinstance(self.recompute, tuple) and len(self.recompute) != stages:
            raise ValueError(f"`recompute` has {len(self.recompute)} entries for {stages} stages")

    def recomputes(self, stage: int | None = None) -> bool:
        """Does the stage (counted from 0; None: any stage) repeat forward passes?"""
        if isinstance(self.recompute, bool):
            return self.recompute
        return any(self.recompute) if stage is None else self.recompute[stage]

    @property
    def takes_items(self) -> bool:
        return Need.PASSES not in self.needs

    def keep(self, stage: int) -> int:
        """The number of versions of its parameters that the stage (counted from 0) has to keep."""
        return {"latest": 1, "first": stage + 1, "double": 2}[self.versions]

    def round(self, sim: Verbs, worker: Worker) -> Generator[Any, Any, None]:
        if sim.pipeline is None:
            yield from super().round(sim, worker)
            return
        place = sim.pipeline.places[worker.index]
        what, batch = place.action
        if sim.items is not None and what is Pass.BACKWARD:
            batch = next(iter(place.stash))  # batches are numbered by items, and some are left out
        if place.undelivered is not None and not (what is Pass.MEET and self._delays(sim, worker)):
            yield from self._deliver(sim, worker, place, place.undelivered)
        if what is Pass.MEET:
            yield from self._meet(sim, worker, place)
            return
        if sim.items is None or what is Pass.BACKWARD:
            worker.step = batch
        if what is Pass.BACKWARD:
            yield from self._backward(sim, worker, place, batch)
        else:
            yield from self._forward(sim, worker, place, batch, both=what is Pass.BOTH)

    def abandon(self, sim: Verbs, worker: Worker) -> None:
        if sim.pipeline is None:
            super().abandon(sim, worker)
            return
        place, step = sim.pipeline.places[worker.index], worker.step
        delivering = worker.served is not None or (place.undelivered is not None and place.undelivered[0] == step)
        if step not in place.stash and not delivering:
            sim.lose(worker, step)

    def _forward(self, sim: Verbs, worker: Worker, place: Place, batch: int, both: bool) -> Generator[Any, Any, None]:
        """Do the forward pass of a batch. At the last stage, the backward pass mostly follows in the same span."""
        below = place.below
        yield from self._ready(sim, worker, below, self._answers(worker, place) if both else place.above)
        message = below.inbox[0] if below is not None else None
        if sim.items is not None:
            batch = worker.step = (yield from sim.items.take(worker)) if message is None else message.batch
        snapshot = yield from sim.read(worker, self._wanted(batch, message))
        share = 1.0 if both else sim.costs.forward
        omitted = self.order.omits(worker.stage, place.action.batch)
        kind = COMPUTE if both else INFERENCE if omitted else FORWARD
        yield from sim.compute(worker, self._seconds(sim, worker, worker.times[batch], share), kind)
        if below is not None:
            below.take()
        version = snapshot.version if message is None else message.version
        content = self._activation(sim, worker, batch, snapshot, message)
        stashed = Stashed(snapshot, version, content)
        if not omitted:
            place.stash[batch] = stashed
        if both:
            yield from self._finish(sim, worker, place, batch, stashed, None, None)
            return
        if place.above is not None:
            nbytes = sim.costs.boundary_bytes[worker.stage]
            sim.observers.sent(worker, ACTIVATION, nbytes)
            place.above.send(Message(batch, version, content), sim.transport.carry(worker, batch, ACTIVATION, nbytes) or 0)
        place.advance()

    def _backward(self, sim: Verbs, worker: Worker, place: Place, batch: int) -> Generator[Any, Any, None]:
        """Do the backward pass of a batch, whose error signal comes from the stage above."""
        errors = place.errors
        yield from self._ready(sim, worker, errors, self._answers(worker, place))
        upper = errors.inbox[0].content if errors is not None else None
        stashed = place.stash[batch]
        worker.version = stashed.snapshot.version
        late = None if self.backward == "stashed" else sim.server.current(worker.index)
        if late is not None:
            sim.late[worker.index, batch] = late
        share = 1.0 if self.recomputes(worker.stage) or self.backward == "replayed" else 1.0 - sim.costs.forward
        yield from sim.compute(worker, self._seconds(sim, worker, worker.late_times[batch], share), BACKWARD)
        sim.late.pop((worker.index, batch), None)
        if errors is not None:
            errors.take()
        yield from self._finish(sim, worker, place, batch, stashed, upper, late)

    def _finish(
        self, sim: Verbs, worker: Worker, place: Place, batch: int, stashed: Stashed, upper: Any, late: Any
    ) -> Generator[Any, Any, None]:
        """Send the error signal to the stage below and the gradient to the shard, after both passes of a batch."""
        del place.stash[batch]
        answers = self._answers(worker, place)
        content, work = self._gradient(sim, worker, stashed, upper, late, answers is not None)
        if answers is not None:
            nbytes = sim.costs.boundary_bytes[worker.stage - 1]
            sim.observers.sent(worker, ERROR, nbytes)
            answers.send(Message(batch, stashed.version, content), sim.transport.carry(worker, batch, ERROR, nbytes) or 0)
        elif worker.stage:
            self._close(sim, worker, batch, work)
        ready = place.undelivered = batch, stashed.snapshot, work
        place.advance()
        if not self._delays(sim, worker):
            yield from self._deliver(sim, worker, place, ready)

    def _close(self, sim: Verbs, worker: Worker, batch: int, work: Future | None) -> None:
        """No stage below does a backward pass of a batch: what they computed is used now, and what they read is let go."""
        if work is not None:
            work.result()
        for below in sim.workers[worker.index - worker.stage : worker.index]:
            sim.lose(below, batch)

    def _deliver(
        self, sim: Verbs, worker: Worker, place: Place, ready: Undelivered
    ) -> Generator[Any, Any, None]:
        """Push the gradient that is ready."""
        worker.step, snapshot, work = ready
        worker.version = snapshot.version
        yield from sim.upload(worker)
        place.undelivered = None
        yield from sim.push(worker, snapshot, work)

    def _meet(self, sim: Verbs, worker: Worker, place: Place) -> Generator[Any, Any, None]:
        if place.met is None:
            place.met = place.meeting.join(worker.stage)
        if place.met is not None:
            yield from sim.wait(worker, place.met)
        place.met = None
        place.advance()

    def _ready(
        self, sim: Verbs, worker: Worker, source: Channel | None, target: Channel | None
    ) -> Generator[Any, Any, None]:
        """Wait for a message, and for room for the message that will result from it."""
        while source is not None and not source.inbox:
            yield from sim.wait(worker, source.changes())
        while target is not None and not target.room:
            yield from sim.wait(worker, target.changes())

    def _answers(self, worker: Worker, place: Place) -> Channel | None:
        """Where the error signal of the batch whose turn it is goes; None if the stage below does no backward pass of it."""
        return None if self.order.omits(worker.stage - 1, place.action.batch) else place.answers

    def _delays(self, sim: Verbs, worker: Worker) -> bool:
        return self.order.delays(worker.stage, len(sim.progress))

    def _wanted(self, batch: int, message: Message | None) -> int | None:
        """The version that the forward pass of a batch reads; None means the newest."""
        if self.versions == "double":
            return max(batch // self.micro_batches - 1, 0)
        return message.version if self.versions == "first" and message is not None else None

    def _seconds(self, sim: Verbs, worker: Worker, whole: float | Fraction, share: float) -> float:
        return whole * sim.costs.shares[worker.stage] * share / self.micro_batches

    def _activation(self, sim: Verbs, worker: Worker, batch: int, snapshot: Snapshot, message: Message | None) -> Any:
        """The object that computes the activation when it is needed; None in a plan."""
        if sim.engine is None or not sim.server.numeric:
            return None
        from asyncsim.engine.forward_backward import Forward

        below = None if message is None else message.content
        copy = self.backward == "current"
        return Forward(worker.stage, worker.member, batch, self.micro_batches, snapshot.params, below, copy)

    def _gradient(
        self, sim: Verbs, worker: Worker, stashed: Stashed, upper: Any, late: Any, answers: bool
    ) -> tuple[Any, Any]:
        """The object that computes error signal and gradient, and the future of the gradient."""
        if sim.engine is None or not sim.server.numeric:
            return None, None
        from asyncsim.engine.forward_backward import Backward

        key = worker.index, worker.step
        kernel = Backward(key, stashed.content, upper, self.shrink, late, self.backward == "replayed", sim.signals, answers)
        work = kernel.future = sim.submit(worker, stashed.snapshot, lambda _: kernel)
        if work is not None and late is not None:
            work.result()  # at once, so that the present parameters need not be kept
        return kernel, work
