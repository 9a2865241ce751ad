"""The role of an engine: what evaluates kernels, now or later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from asyncsim.messages import Evaluator, Future

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.kernels import Kernel


class Useful(Protocol):
    """The set of (worker, step) whose results will be asked for."""

    def __contains__(self, work: tuple[int, int], /) -> bool: ...


class Engine(Evaluator, Protocol):
    """What evaluates kernels. ``submit`` does no work that anybody waits for; ``Future.result`` is the only place where numerics
    block. ``SerialEngine`` says what each method does."""

    kind: str
    kernel: str
    computed: int

    def submit(
        self, kernel: Kernel, params: Tensor | None, worker: int, step: int, previous: Future | None = None
    ) -> Future: ...

    def compute(self, needed: list[Future]) -> None: ...

    def close(self) -> None: ...
