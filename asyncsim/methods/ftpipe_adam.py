"""FTPipe's Adam and AdamW: Gap-Aware inside a pipeline, and weight prediction::

    G = 1 + |theta - s| / (sqrt(E) + eps)     where the staleness is above 0; s: what the forward pass was handed
    g <- g / G;      m, v: Adam's moments of it;      u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
    theta <- theta * (1 - a (1/G - 1)) * (1 - a) - lr * u           a = lr * weight_decay, where it is decoupled
    E <- beta2 E + (1-beta2) (lr * u)^2

    a forward pass is handed theta after n steps without gradients; n: steps among the batches in flight
    msnag:     for s = 1..n:  theta <- theta * (1 - a) - lr / (1 - beta1^(t+s)) * beta1^s m / (sqrt(v / (1 - beta2^(t+s))) + eps)
    aggmsnag:  the same, and m and v of the first step have the gradient accumulated so far

Eliad et al., "FTPipe", USENIX ATC 2021, by its public code saareliad/FTPipe: see `asyncsim.methods.ftpipe`.

Order: ``G`` is computed with the ``E`` that the gradient finds, and ``E`` takes in the update just made, also where nothing is
divided. ``E`` is not corrected for its start at zero, so the first steps count as longer gaps than they are.
Read by us: ``aggmsnag`` keeps the ``v`` of its first step in later ones; a coupled decay is divided with the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asyncsim.messages import Push, ServerView
from asyncsim.methods.ftpipe_sgd import FTPipeRule
from asyncsim.policies import Adam, Moments
from asyncsim.policies.step_rule import is_one, optimizers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class GapMoments(Moments):
    """Adam's moments, and the running mean of the squared changes of the parameters, shape ``(P,)``."""

    square: Tensor | None = None


@optimizers.register("ftpipe_adam")
class FTPipeAdam(FTPipeRule, Adam):  # type: ignore[override]  # `needs` follows from the settings
    """Adam and AdamW of FTPipe (Eliad et al. 2021, USENIX ATC): Gap-Aware inside a pipeline, and weight prediction.

    ``C`` is the length of a step without bias correction, as in their code, so it is too short in the first updates.
    """

    def init(self, params: Tensor | None, num_workers: int) -> GapMoments:
        return GapMoments()

    def direction(self, push: Push, state: Any, server: ServerView) -> Tensor:
        decay, gradient, gap = self.weight_decay, push.gradient, self._penalty(push, state, server)
        given = push.penalty  # by transforms: it divides the finished update, as for `adam`
        if gap is not None:
            push.penalise(gap)
        early = gap if self.penalise == "gradient" else None
        late = given if self.penalise == "gradient" else push.penalty
        if decay and not self.decoupled:
            gradient = gradient.add(server.params, alpha=decay)
        if early is not None:
            gradient = gradient / early
        state.accumulate(self.beta1, self.beta2, gradient)
        update = state.direction(self.beta1, self.beta2, self.eps)
        if self.treats(server):
            step = update if is_one(late) else update / late
            kept = update.new_zeros(update.shape) if state.square is None else state.square
            state.square = kept.mul_(self.beta2).addcmul_(step, step, value=(1.0 - self.beta2) * server.lr**2)
        if decay and self.decoupled:
            params = server.params
            if early is not None:
                share = 1.0 / early
                params = params * (share + server.lr * decay * (1.0 - share))
            update.add_(params, alpha=decay)
        return update if is_one(late) else update.div_(late)

    def _penalty(self, push: Push, state: GapMoments, server: ServerView) -> Tensor | None:
        """``G``, shape ``(P,)``; None where nothing is divided."""
        if not push.staleness or state.square is None or not self.treats(server):
            return None
        return self.gap(push, server).div_(state.square.sqrt().add_(self.eps)).add_(1.0)

    def view(self, params: Tensor, state: GapMoments, server: ServerView, worker: int) -> Tensor:
        rates = self.rates(server, worker) if self.predict != "none" else []
        if not rates:
            return params
        partial, first, second = self.partial(server, worker), state.first, state.second
        if first is None or second is None:
            first = second = params.new_zeros(params.shape)
        for step, rate in enumerate(rates, 1):
            first = first * self.beta1
            if step == 1 and self.predict == "aggmsnag":
                second = second * self.beta2
                if partial is not None:
                    first.add_(partial, alpha=1.0 - self.beta1)
                    second.addcmul_(partial, partial, value=1.0 - self.beta2)
            count = state.steps + step
            root = second.div(1.0 - self.beta2**count).sqrt_().add_(self.eps)
            params = params.mul(1.0 - rate * self.weight_decay).addcdiv_(first, root, value=-rate / (1.0 - self.beta1**count))
        return params
