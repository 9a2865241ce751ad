"""What travels between workers and servers: parameters one way, results the other, and what may be seen of who receives them.

The ground floor: nothing here knows who computes, sends or treats a message. A ``Snapshot`` goes to a worker; what it computes on
it is a ``Gradient``, as long as nobody has asked for its numbers a ``Future`` of one; that arrives at the server as a ``Push``,
which a policy applies or answers with a ``Verdict``. ``ServerView`` is what a policy may see of the server.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from asyncsim.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.streams import Streams


class Snapshot(NamedTuple):
    """The parameters a worker was handed. Never written to; workers that read one version share one tensor."""

    params: Tensor | None  # (P,); None when only the timeline is simulated
    version: int  # updates the server had applied
    time: int  # virtual nanoseconds of the read
    lr_factor: float  # of the schedule, for programs that take steps of their own
    order: int = 0  # how many reads the shard had answered before, whoever read
    share: float = 1.0  # of the neurons of the model's hidden layers that the worker is to train
    trained: Tensor | None = None  # (P,) bool: the parameters of that sub-model, the others are zero; None: all
    missing: int = 0  # the worker's own writes to what the task remembers that were under way as it read that
    pace: tuple[int, int] | None = None  # the first batch of the round and their number, where that is set anew in each


class Gradient(NamedTuple):
    """What a kernel returns."""

    gradient: Tensor  # (P,), or a pseudo-gradient: snapshot minus the worker's parameters after local steps
    loss: Tensor  # 0-d, mean over the samples, at the snapshot (mean over local steps)
    statistics: Tensor | None  # (B,) batch-norm statistics of the batch, where the model has any
    carry: Any = None  # what the worker keeps for its next round, where the kernel carries something


class Evaluator(Protocol):
    """What computes a future: as much of an engine as a message asks for."""

    cancelled: int  # futures that nobody needed

    def evaluate(self, future: Future) -> None:
        """Settle a future that is asked for."""

    def gather(self, futures: list[Future]) -> None:
        """Settle those that are pending, together."""

    def mean(self, futures: list[Future]) -> Future:
        """The mean of several (at least two), as late as they are."""

    def forget(self, future: Future) -> None:
        """A pending future has been cancelled."""


class Future:
    """A gradient that is determined (snapshot, worker, step) but not computed.

    * pending: holds the snapshot, nothing has been computed;
    * done: ``result()`` was called once, holds the ``Gradient``;
    * released: only the loss is left, and what the worker carries on. Cancelled: never computed, the loss is NaN.
    """

    __slots__ = ("_carry", "_loss", "_result", "averaged", "engine", "kernel", "params", "previous", "snapshot", "step", "worker")

    def __init__(
        self,
        engine: Evaluator,
        kernel: Any,
        params: Tensor | None,
        worker: int,
        step: int,
        averaged: list[Future] | None = None,
        previous: Future | None = None,
    ) -> None:
        self.engine = engine
        self.kernel = kernel  # what computes the result: a function, mostly an ``asyncsim.engine.kernels.Kernel``
        self.params = params  # (P,)
        self.worker = worker
        self.step = step
        self.averaged = averaged  # set when this is the mean of others
        self.previous = previous  # the result that the worker delivered last, if this one is computed from what that left
        self._carry: Any = None
        self.snapshot: Snapshot | None = None  # what the kernel was made for, as long as the result may be asked for
        self._result: Gradient | None = None
        self._loss: Tensor | float = float("nan")

    @property
    def pending(self) -> bool:
        return self._result is None and (self.params is not None or self.averaged is not None)

    def result(self) -> Gradient:
        """Compute now if it has not been done; the same object ever after, until it is released."""
        result = self._result
        if result is None:
            if not self.pending:
                raise RuntimeError("this future was cancelled or released")
            self.engine.evaluate(self)
            result = self._result
            assert result is not None, "the engine has handed it over"
        return result

    @property
    def carry(self) -> Any:
        """What the worker keeps for its next round; computed now if it has not been, and there still when it is released."""
        if self._result is None and self.pending:
            self.engine.evaluate(self)
        return self._carry

    def fulfil(self, result: Gradient) -> None:
        """An engine hands over the result. Parts that were never computed one by one take the loss of the whole."""
        self._result = result
        self._loss = result.loss
        self._carry = result.carry
        self.params = None
        if self.previous is not None:  # nobody else begins from what it left
            self.previous._carry = None
            self.previous = None
        for part in self.averaged or ():
            if part.pending:
                part._loss = result.loss

    def cancel(self) -> None:
        """Nobody will ask. A pending future is never computed."""
        if self.pending:
            self.engine.cancelled += 1
            self.engine.forget(self)
        self.release()

    def discard(self) -> None:
        """A result that was delivered is thrown away. It is never computed, unless its worker goes on from what it leaves."""
        if self.pending and getattr(self.kernel, "carries", False):
            self.engine.evaluate(self)
        for part in self.averaged or ():
            part.discard()
        self.cancel()

    def release(self) -> None:
        """Let go of snapshot and gradient; the loss stays."""
        self._result = None
        self.params = None
        self.snapshot = None
        for part in self.averaged or ():
            part.release()
        self.averaged = None

    def __float__(self) -> float:
        """The training loss of this gradient's batch, NaN if it was never computed."""
        return float(self._loss)

    @staticmethod
    def mean(futures: list[Future]) -> Future:
        """The mean of several (at least two) of one run, as late as they are."""
        return futures[-1].engine.mean(futures)

    @staticmethod
    def gather(futures: list[Future]) -> None:
        """Compute those of one run that are pending, together."""
        if futures:
            futures[-1].engine.gather(futures)


class Verdict(enum.Enum):
    """Why a push did not become an update by itself."""

    BUFFERED = "buffered"
    DROPPED = "dropped"


@dataclass(slots=True)
class Push:
    """A delivered result on its way through the chain of transforms.

    ``penalty`` divides the whole update direction that this push causes (gradient and weight decay alike): a float, or a
    tensor of shape ``(P,)``. A float penalty does not force the gradient, so work that is dropped later is never computed.
    """

    worker: int
    step: int
    snapshot: Snapshot
    staleness: int  # versions between the snapshot's read and the arrival
    time: int  # virtual nanoseconds of the arrival
    samples: int
    payload: Future | None  # None when only the timeline is simulated
    penalty: float | Tensor = 1.0
    replaced: Tensor | None = None  # a gradient that a transform put in place of the computed one
    noted: dict[str, float | Tensor] | None = None  # numbers for the records, by name; None where no part notes any
    merged: tuple[tuple[int, int], ...] = ()  # version and step of those whose mean this is; empty if it is one alone
    trained: Tensor | None = None  # (P,) bool: the parameters that it is about, zero at the others; None: all

    @property
    def sources(self) -> tuple[tuple[int, int], ...]:
        """Version and worker's step at which each push was computed that has become this one, in the order of arrivals."""
        return self.merged or ((self.snapshot.version, self.step),)

    @property
    def gradient(self) -> Tensor:
        """The gradient (or pseudo-gradient), shape ``(P,)``; forces the computation."""
        if self.replaced is not None:
            return self.replaced
        if self.payload is None:
            raise UserError(
                "a policy asked for a gradient where none is computed (in a plan, or after divergence); a part that looks at "
                "gradients, parameters or losses declares it: `needs = Need.VALUES` (from asyncsim.needs import Need)"
            )
        return self.payload.result().gradient

    def take(self) -> Tensor:
        """The gradient for good: the caller may overwrite it, and nobody reads it after."""
        return self.gradient

    def note(self, name: str, value: float | Tensor) -> None:
        """Record a number, or a tensor with one element, of this push: the column ``name`` of the updates table, which the part
        has declared in its ``notes``. A push of which nothing was noted has NaN there."""
        if self.noted is None or name not in self.noted:
            declare = f"give its class `notes = ({name!r},)`"
            raise UserError(f"a policy noted {name!r}, which no part of the method has declared; {declare}")
        self.noted[name] = value if isinstance(value, float | int) else value.detach().clone()

    def penalise(self, factor: float | Tensor) -> None:
        """Divide the update by ``factor`` as well."""
        whole = isinstance(self.penalty, float) and self.penalty == 1.0
        self.penalty = factor if whole else self.penalty * factor


class ServerView(Protocol):
    """What a transform or step rule may read of the server at an arrival (before the update)."""

    params: Tensor  # (P,)
    version: int
    lr: float  # learning rate of this arrival (schedule included)
    lr_max: float  # largest learning rate so far
    layers: tuple[slice, ...]  # one slice of the flat vector per parameter tensor
    shapes: tuple[tuple[int, ...], ...]  # of each of them
    tables: tuple[tuple[slice, int], ...]  # those of embeddings, and the length of a row, of whole models
    now: int  # virtual nanoseconds of what happens
    stage: int  # of the pipeline whose parameters these are, from 0; 0 for a whole model
    num_stages: int
    streams: Streams  # random numbers by purpose and key, of the run's seed

    @property
    def num_workers(self) -> int: ...

    @property
    def members(self) -> int:
        """The number of workers that have not stopped or left; one that has crashed is a member."""

    @property
    def departed(self) -> frozenset[int]:
        """The workers that have stopped or left."""

    def view(self, worker: int) -> Tensor:
        """What ``worker`` would be handed if it read now, shape ``(P,)``: the parameters, or a look-ahead of them."""

    def velocity(self) -> Tensor | None:
        """The momentum buffer as the last step left it, shape ``(P,)``, zeros before the first; None without momentum. Not to be
        written to. Not every step rule has one."""

    @property
    def waiting(self) -> list[Push]:
        """The pushes that transforms keep until others have come, in the order of their arrival."""

    def foresees(self, until: int) -> bool:
        """Will a push that is computed or sent now arrive by the virtual time ``until`` (ns), if no crash prevents it? For a
        transform that declares ``Need.FORESEES``."""

    def rate_ahead(self, updates: int, pushes: int) -> float:
        """The learning rate of the update that is ``updates`` from now (1: the next), when ``pushes`` more will have come. A
        schedule that goes by virtual time is asked at the time of the last update."""

    def ahead(self, gradient: Tensor) -> Tensor:
        """The parameters, shape ``(P,)``, to which one more update with ``gradient``, shape ``(P,)``, would lead at the rate of
        the last one: a shadow step, after which everything is as it was."""

    def data_weight(self, worker: int) -> float:
        """Training samples of the worker's own shard over the mean of all workers'; 1 where nobody has a shard of its own."""

    def moved(self, snapshot: Snapshot) -> Tensor:
        """``params - snapshot``, shape ``(P,)``, for the caller to overwrite."""

    def path(self, snapshot: Snapshot, most: int) -> list[Tensor]:
        """What ``snapshot`` handed out, the parameters at each version after it, the newest last: ``(P,)`` each, at most ``most``
        steps. The first leads over versions that are not kept any more. It takes ``Need.HISTORY``."""
