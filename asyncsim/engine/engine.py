"""The role of an engine: what evaluates kernels, now or later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from asyncsim.messages import Evaluator, Future

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.kernels import Kernel


class Engine(Evaluator, Protocol):
    """What evaluates kernels. ``submit`` does no work that anybody waits for; ``Future.result`` is the only place where numerics
    block. ``SerialEngine`` says what each method does."""

    kind: str
    kernel: str
    computed: int

    def submit(
        self, kernel: Kernel, params: Tensor | None, worker: int, step: int, previous: Future | None = None
    ) -> Future | None:
        """The future of a kernel's result. What stands in for an engine while a timeline is replayed may be given no parameters,
        and has no future where nobody will ask for one."""
        ...

    def compute(self, needed: list[Future]) -> None: ...

    def close(self) -> None: ...
