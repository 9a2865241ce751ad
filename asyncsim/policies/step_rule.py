"""The role of a step rule: what ends a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.needs import Need
from asyncsim.policies.state import State
from asyncsim.registry import PAPERS, Registry, Spec

if TYPE_CHECKING:
    from torch import Tensor

optimizers: Registry[StepRule] = Registry("optimizer", default="sgd", home=PAPERS)


class StepRule(Spec):
    """An optimiser on flat parameters. Weight decay uses the server's current parameters, not the stale snapshot.

    It always sees numbers, and decides nothing; ``needs`` declares what else it asks for.
    """

    needs: ClassVar[Need] = Need.NOTHING
    notes: ClassVar[tuple[str, ...]] = ()
    lr: float = Field(default=0.1, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)

    @property
    def amplifies_rounding(self) -> bool:
        """Does the rule make differences as small as a rounding large in the course of a run, whatever the task? As for a
        transform: runs on different engines, devices or builds are then comparable by statistics over seeds only."""
        return False

    def init(self, params: Tensor | None, num_workers: int) -> State:
        """Fresh state for parameters of shape ``(P,)``."""
        return State()

    def direction(self, push: Push, state: Any, server: ServerView) -> Tensor:
        """The step to take, shape ``(P,)``; valid until the next call. Divided by ``push.penalty`` as the rule sees fit."""
        raise NotImplementedError

    def view(self, params: Tensor, state: Any, server: ServerView, worker: int) -> Tensor:
        """What ``worker`` is handed if it reads now, shape ``(P,)``. It is made once a version, for all workers (``worker`` is
        -1), unless the rule declares ``Need.WORKER_VIEW``."""
        return params

    def late_view(self, params: Tensor, state: Any, server: ServerView) -> Tensor:
        """What a late backward pass uses instead of the parameters of its forward pass, shape ``(P,)``."""
        return params

    def velocity(self, state: Any, server: ServerView) -> Tensor | None:
        """The momentum buffer as the last step left it, shape ``(P,)``, zeros before the first; None without momentum.

        Rules that leave this out cannot go with transforms that ask for it.
        """
        raise NotImplementedError

    def decayed(self, push: Push, server: ServerView) -> Tensor:
        """``(g + weight_decay * theta) / penalty``: the gradient as it enters the momentum."""
        gradient = push.take()
        if self.weight_decay:
            gradient.add_(server.params, alpha=self.weight_decay)
        return gradient if is_one(push.penalty) else gradient.div_(push.penalty)


def buffer(momentum: float, velocity: Tensor | None, server: ServerView) -> Tensor | None:
    """A velocity that is made at the first step, as the buffer of zeros that it is before; None without momentum."""
    if not momentum:
        return None
    return server.params.new_zeros(server.params.shape) if velocity is None else velocity


def divided(push: Push) -> Tensor:
    """The gradient of a push over its penalty, shape ``(P,)``; not to be written to."""
    return push.gradient if is_one(push.penalty) else push.gradient / push.penalty


def is_one(penalty: float | Tensor) -> bool:
    """Does a penalty leave the update as it is? Tells without looking into a tensor."""
    return isinstance(penalty, float) and penalty == 1.0
