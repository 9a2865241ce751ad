"""Step rules, which end a chain of transforms: ``params <- params - lr * direction``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from asyncsim.needs import Need
from asyncsim.policies.push import Push, ServerView
from asyncsim.policies.scalars import scalar
from asyncsim.policies.transform import State
from asyncsim.registry import Registry, Spec

if TYPE_CHECKING:
    from torch import Tensor

optimizers = Registry("optimizer", default="sgd")


class StepRule(Spec):
    """An optimiser on flat parameters. Weight decay uses the server's current parameters, not those of the stale snapshot.

    A step rule always sees numbers, and decides nothing about the timeline. ``needs`` declares what else it asks for.
    """

    needs: ClassVar[Need] = Need.NOTHING
    notes: ClassVar[tuple[str, ...]] = ()
    lr: float = Field(0.1, ge=0)
    weight_decay: float = Field(0.0, ge=0)

    def init(self, params: Tensor | None, num_workers: int) -> State:
        """The state at the start, for parameters of shape ``(P,)``."""
        return {}

    def direction(self, push: Push, state: State, server: ServerView) -> Tensor:
        """The direction of the step, shape ``(P,)``; it is valid until the next call. The rule divides it by ``push.penalty``
        where its mathematics says so."""
        raise NotImplementedError

    def view(self, params: Tensor, state: State, server: ServerView, worker: int) -> Tensor:
        """What ``worker`` is handed if it reads now, shape ``(P,)``. It is made once a version, for all workers (``worker`` is
        -1), unless the rule declares ``Need.WORKER_VIEW``."""
        return params

    def late_view(self, params: Tensor, state: State, server: ServerView) -> Tensor:
        """The parameters, shape ``(P,)``, that a late backward pass uses instead of those of its forward pass."""
        return params

    def velocity(self, state: State, server: ServerView) -> Tensor | None:
        """The momentum buffer as the last step left it, shape ``(P,)``, zeros before the first; None without momentum.

        Rules that leave this out cannot go with transforms that ask for it.
        """
        raise NotImplementedError

    def decayed(self, push: Push, server: ServerView) -> Tensor:
        """``(g + weight_decay * theta) / penalty``: the gradient as it enters the momentum."""
        gradient = push.take()
        if self.weight_decay:
            gradient.add_(server.params, alpha=self.weight_decay)
        return gradient if _is_one(push.penalty) else gradient.div_(push.penalty)


@optimizers.register("sgd")
class SGD(StepRule):
    """``d = (g + wd * theta) / penalty``, ``v <- momentum * v + d``; direction ``v`` (heavy ball) or ``d + momentum * v``
    (Nesterov), PyTorch's convention. Without penalty the bits are those of ``torch.optim.SGD``.
    """

    momentum: float = Field(0.0, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGD:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def init(self, params: Tensor | None, num_workers: int) -> State:
        return {"velocity": None}  # (P,), from the first step on

    def direction(self, push: Push, state: State, server: ServerView) -> Tensor:
        d = self.decayed(push, server)
        if not self.momentum:
            return d
        velocity = state["velocity"]
        if velocity is None:
            velocity = state["velocity"] = d.clone()
        else:
            velocity.mul_(scalar(self.momentum, d)).add_(d)
        return d.add(velocity, alpha=self.momentum) if self.nesterov else velocity

    def velocity(self, state: State, server: ServerView) -> Tensor | None:
        return buffer(self.momentum, state["velocity"], server)


@optimizers.register("adam")
class Adam(StepRule):
    """Adam (Kingma and Ba 2015), or AdamW with ``decoupled`` weight decay (Loshchilov and Hutter 2019).

    Adam divides a constant factor of the gradient out again, so the penalty scales the *update*: moments see the plain
    gradient, and the finished direction is divided by the penalty.
    """

    lr: float = Field(1e-3, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    decoupled: bool = False

    def init(self, params: Tensor | None, num_workers: int) -> State:
        return {"steps": 0, "first": None, "second": None}  # two moments, (P,) each, from the first step on

    def direction(self, push: Push, state: State, server: ServerView) -> Tensor:
        gradient = push.gradient
        if self.weight_decay and not self.decoupled:
            gradient = gradient.add(server.params, alpha=self.weight_decay)
        if state["first"] is None:
            state["first"], state["second"] = gradient.new_zeros(gradient.shape), gradient.new_zeros(gradient.shape)
        state["steps"] += 1
        first = state["first"].lerp_(gradient, 1.0 - self.beta1)
        second = state["second"].mul_(self.beta2).addcmul_(gradient, gradient, value=1.0 - self.beta2)
        root = second.sqrt().div_((1.0 - self.beta2 ** state["steps"]) ** 0.5).add_(self.eps)
        update = first.div(root).div_(1.0 - self.beta1 ** state["steps"])
        if self.weight_decay and self.decoupled:
            update.add_(server.params, alpha=self.weight_decay)
        return update if _is_one(push.penalty) else update.div_(push.penalty)


def buffer(momentum: float, velocity: Tensor | None, server: ServerView) -> Tensor | None:
    """The velocity that a step rule creates at its first step: a buffer of zeros before that; None without momentum."""
    if not momentum:
        return None
    return server.params.new_zeros(server.params.shape) if velocity is None else velocity


def _is_one(penalty: Any) -> bool:
    return isinstance(penalty, float) and penalty == 1.0
