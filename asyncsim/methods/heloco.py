"""HeLoCo: momentum look-ahead, with every late push turned towards the server's momentum, tensor by tensor::

    worker:  x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x
    server, for each parameter tensor, with its momentum m:
        c    = cos(D, m);   confidence = |D| / (|D| + kappa * |m| + eps)
        c >= aligned:   G = D
        c <  0:         G = D - min(opposed * (-c) * confidence, most) * c * |D| * m / |m|
        else:           w = min(diverging * (1 - c) * confidence, 1);   n = (1 - w) * D / |D| + w * m / |m|;   G = |D| * n / |n|
    m   <- momentum * m + (1 - momentum) * G
    phi <- phi - lr * (G + momentum * m);   handed out is  s = phi

HeLoCo 2026 (arXiv 2606.00271), from an equation sheet of a third party (a secondary source): the equations are that sheet's.

Order: a push is corrected with the momentum as its arrival finds it, weight decay is added after that, the step is that of
``momentum_look_ahead`` with ``keep: look_ahead``, and the worker reads. A tensor that is zero, in the push or in the momentum, is
left alone.
Ours: the defaults of ``aligned``, ``opposed``, ``diverging``, ``most``, ``kappa`` and ``eps``, and the names (``c_ok``, ``k_s``,
``k_d``, ``beta_max`` in the sheet). Differs from the setting it was made for: workers take SGD steps (there: AdamW).
The rule jumps at ``c = 0`` and ``c = aligned``, so a rounding there can send two engines apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.methods.momentum_look_ahead import AveragedLookAhead
from asyncsim.needs import Need
from asyncsim.policies import State, StepRule, Transform, heavy_ball
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec

if TYPE_CHECKING:
    from torch import Tensor


class CorrectionSettings(Spec):
    """The fields of the transform, and of the method that holds one."""

    aligned: float = Field(default=0.5, ge=0, le=1)
    opposed: float = Field(default=1.0, ge=0)
    diverging: float = Field(default=1.0, ge=0)
    most: float = Field(default=1.0, ge=0)
    kappa: float = Field(default=1.0, ge=0)
    eps: float = Field(default=1e-8, gt=0)


@policies.register("momentum_alignment")
class MomentumAlignment(CorrectionSettings, Transform):
    """Turn each tensor of a push towards the server's momentum, or take what opposes it out of it: HeLoCo's correction
    (arXiv 2606.00271). Without momentum it does nothing."""

    needs: ClassVar[Need] = Need.VALUES

    def fits(self, step: StepRule) -> None:
        if type(step).velocity is StepRule.velocity:
            raise ValueError(f"`momentum_alignment` corrects with the momentum buffer, and the optimizer {step.kind} has none")

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        momentum = server.velocity()
        if momentum is None or not (self.opposed or self.diverging):
            return push
        corrected = push.gradient.clone()
        for layer in server.layers:
            self.correct(corrected[layer], momentum[layer])
        push.replaced = corrected
        return push

    def correct(self, push: Tensor, momentum: Tensor) -> None:
        """Correct one tensor of a push in place, by the same tensor of the momentum."""
        length, other = float(push.norm()), float(momentum.norm())
        if not length or not other:
            return
        cosine = float(push.dot(momentum)) / (length * other)
        confidence = length / (length + self.kappa * other + self.eps)
        if cosine < 0.0:
            share = min(-self.opposed * cosine * confidence, self.most)
            push.sub_(momentum, alpha=share * cosine * length / other)
        elif cosine < self.aligned:
            weight = min(self.diverging * (1.0 - cosine) * confidence, 1.0)
            if weight:
                push.mul_((1.0 - weight) / length).add_(momentum, alpha=weight / other)
                push.mul_(length / float(push.norm()))


@methods.register("heloco")
class HeLoCo(CorrectionSettings, LocalMethod):
    """HeLoCo (arXiv 2606.00271): momentum look-ahead that turns every push towards the server's momentum, tensor by tensor.
    The momentum is the optimizer's (``sgd``)."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        step = AveragedLookAhead(**heavy_ball(optimizer, "HeLoCo"), keep="look_ahead")
        return Bundle((self.part(MomentumAlignment),), step, ASP(), self.local())
