"""Deep gradient compression: sparse pushes with the momentum at the worker, in front of what is left for later::

    g   <- clip / sqrt(N) * g / |g|   if that is shorter         N: the workers; only with ``clip``
    u_i <- momentum * u_i + g + weight_decay * s                 i: the worker, s: what it read; both begin at zero
    a_i <- a_i + u_i                                             Nesterov: a_i + (g + weight_decay * s) + momentum * u_i
    send a_i where |a_i| is among the largest;   a_i <- 0 there;   u_i <- 0 there (``masking``)
    server:  theta <- theta - lr * (what was sent)

Y. Lin, S. Han, H. Mao, Y. Wang, W. J. Dally 2018, *Deep Gradient Compression* (arXiv 1712.01887). The rule, the clipping and the
warm-up are as we remember the paper; the momentum correction and the masking were read in the public code of DGS, which has the
asynchronous form (github.com/yanring/GradientServer).

Order: clip, decay, momentum, sum, choose, send, mask. In the warm-up the worker's n-th push (from 0) has the share
``0.25 ** (1 + n // warmup)`` of the entries, until that is less than ``ratio``: 25 %, 6.25 %, 1.56 %, 0.39 %, then 0.1 %.
Differs from the code: it multiplies by the learning rate before it sends, here the server does so (the same for a constant rate);
it sends k - 1 entries of k, here exactly k. Ours: weight decay at the worker, of what it read, and after the clipping.
What a worker keeps is lost when it goes down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import SGD, State, StepRule
from asyncsim.policies.momentum import decayed_at_worker
from asyncsim.policies.sparse import LEAST_RATIO, Sparse, Sparsity
from asyncsim.policies.transform import policies
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor

FIRST_SHARE = 0.25


class CompressionSettings(Sparsity):
    """``masking``: what is sent loses its momentum. ``clip``: the longest gradient of one worker times the root of their number.
    ``warmup``: pushes of a worker at each share of the warm-up; 0: there is none."""

    ratio: float = Field(default=0.001, ge=LEAST_RATIO, le=1)
    masking: bool = True
    clip: float | None = Field(default=None, gt=0)
    warmup: int = Field(default=0, ge=0)


@dataclass(slots=True)
class Corrected(State):
    """A worker's momentum and what it has not sent yet, shape ``(P,)`` each; None before its first push."""

    velocity: Tensor | None = None
    residual: Tensor | None = None


@policies.register("dgc")
class DeepCompression(CompressionSettings, Sparse):
    """Momentum at the worker, and of its sum the largest entries are sent; Lin et al. 2018 (arXiv 1712.01887).

    With a ``warmup`` the size of a push depends on how far its worker is, so the method cannot be planned.
    """

    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0)

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return Need.VALUES | Need.WORKER_STATE | (Need.SIZES if self.warmup else Need.NOTHING)

    def init(self, params: Tensor | None, num_workers: int) -> Corrected:
        return Corrected()

    def share(self, step: int) -> float:
        """The share of the entries that a worker's push of that number has."""
        return max(self.ratio, FIRST_SHARE ** (1 + step // self.warmup)) if self.warmup else self.ratio

    def update(self, push: Push, state: Corrected, server: ServerView) -> Push | Verdict:
        d = decayed_at_worker(self._clipped(push.gradient, server), push, self.weight_decay)
        velocity = d.clone() if state.velocity is None else state.velocity.mul(self.momentum).add_(d)
        step = d.add(velocity, alpha=self.momentum) if self.nesterov else velocity
        whole = step if state.residual is None else state.residual + step
        chosen = self.largest(whole, server, self.share(push.step))
        state.velocity = velocity.masked_fill(chosen, 0) if self.masking else velocity
        state.residual = whole.masked_fill(chosen, 0)
        push.replaced = whole.masked_fill(~chosen, 0)
        return push

    def _clipped(self, gradient: Tensor, server: ServerView) -> Tensor:
        if self.clip is None:
            return gradient
        norm, most = float(gradient.norm()), self.clip / server.num_workers**0.5
        return gradient * (most / norm) if most < norm < float("inf") else gradient


@methods.register("dgc")
class Dgc(CompressionSettings, Method):
    """Deep gradient compression, Lin et al. 2018: sparse pushes, momentum correction, masking, local clipping, warm-up."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if not isinstance(optimizer, SGD):
            raise ValueError(f"DGC has its momentum at the workers and needs the optimizer sgd, not {optimizer.kind}")
        taken = {name: getattr(optimizer, name) for name in ("momentum", "nesterov", "weight_decay")}
        return Bundle((), SGD(lr=optimizer.lr), ASP(), Replica(), uplink=(self.part(DeepCompression, **taken),))
