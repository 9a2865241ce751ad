"""Futures: results that are determined but not computed yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.kernels import Kernel
    from asyncsim.policies import Snapshot


class Gradient(NamedTuple):
    """The result of a kernel: gradient, loss, batch statistics, and what the worker carries to its next round."""

    gradient: Tensor  # (P,), or a pseudo-gradient: snapshot minus the worker's parameters after local steps
    loss: Tensor  # 0-d, mean over the samples, at the snapshot (mean over local steps)
    statistics: Tensor | None  # (B,) batch-norm statistics of the batch, where the model has any
    carry: Any = None  # what the worker keeps for its next round, where the kernel carries something


class Engine(Protocol):
    """What evaluates kernels.

    ``submit`` does no work that anybody waits for; ``Future.result`` is the only place where a simulation waits for numbers.
    The methods are described in ``SerialEngine``.
    """

    kind: str
    kernel: str
    computed: int
    cancelled: int

    def submit(self, kernel: Kernel, params: Tensor, worker: int, step: int, previous: Future | None = None) -> Future: ...

    def mean(self, futures: list[Future]) -> Future: ...

    def evaluate(self, future: Future) -> None: ...

    def gather(self, futures: list[Future]) -> None: ...

    def compute(self, needed: list[Future]) -> None: ...

    def forget(self, future: Future) -> None: ...

    def close(self) -> None: ...


class Future:
    """A gradient that is determined by its snapshot, worker and step, but not necessarily computed.

    - pending: it holds the snapshot, and nothing has been computed;
    - done: it has been computed, and holds the ``Gradient``;
    - released: only the loss is left, and what the worker takes to its next round.

    One that is cancelled while it is pending is never computed, and its loss is NaN.
    """

    __slots__ = ("_carry", "_loss", "_result", "engine", "kernel", "params", "parts", "previous", "snapshot", "step", "worker")

    def __init__(
        self,
        engine: Engine,
        kernel: Kernel,
        params: Tensor | None,
        worker: int,
        step: int,
        parts: list[Future] | None = None,
        previous: Future | None = None,
    ) -> None:
        self.engine = engine
        self.kernel = kernel
        self.params = params  # (P,)
        self.worker = worker
        self.step = step
        self.parts = parts  # set when this is the mean of others
        self.previous = previous  # the result that the worker delivered last, if this one is computed from what that left
        self._carry: Any = None
        self.snapshot: Snapshot | None = None  # what the kernel was made for, as long as the result may be asked for
        self._result: Gradient | None = None
        self._loss: Tensor | float = float("nan")

    @property
    def pending(self) -> bool:
        return self._result is None and (self.params is not None or self.parts is not None)

    def result(self) -> Gradient:
        """The gradient; it is computed now if it has not been. The same object is returned every time, until the future is
        released."""
        if self._result is None:
            if not self.pending:
                raise RuntimeError("this future was cancelled or released")
            self.engine.evaluate(self)
        return self._result

    @property
    def carry(self) -> Any:
        """What the worker takes to its next round. It is computed now if it has not been, and is still there after the future
        was released."""
        if self._result is None and self.pending:
            self.engine.evaluate(self)
        return self._carry

    def fulfil(self, result: Gradient) -> None:
        """Take over the result; called by the engine. The parts of a mean that were not computed one by one take the loss of
        the mean."""
        self._result = result
        self._loss = result.loss
        self._carry = result.carry
        self.params = None
        if self.previous is not None:  # no later work begins from what this one leaves
            self.previous._carry = self.previous = None
        for part in self.parts or ():
            if part.pending:
                part._loss = result.loss

    def cancel(self) -> None:
        """Say that nobody will ask for the result. A future that is pending will never be computed."""
        if self.pending:
            self.engine.cancelled += 1
            self.engine.forget(self)
        self.release()

    def discard(self) -> None:
        """Throw a delivered result away. It is never computed, unless its worker goes on from what the computation leaves
        behind (``carry``)."""
        if self.pending and getattr(self.kernel, "carries", False):
            self.engine.evaluate(self)
        for part in self.parts or ():
            part.discard()
        self.cancel()

    def release(self) -> None:
        """Let go of the snapshot and of the gradient. The loss stays."""
        self._result = None
        self.params = None
        self.snapshot = None
        for part in self.parts or ():
            part.release()
        self.parts = None

    def __float__(self) -> float:
        """The training loss of this gradient's batch, NaN if it was never computed."""
        return float(self._loss)
