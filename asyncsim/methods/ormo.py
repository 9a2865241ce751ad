"""OrMo: ordered momentum, which puts a late gradient into the momentum as if it had come in the block that it belongs to::

    t = updates so far, r = updates when the worker read;   a = ceil(r / N),  b = ceil(t / N)
    t >= 1 and (t - 1) mod N = 0, a block begins:   theta <- theta - lr * momentum * u;   u <- momentum * u
    e = b - a;   d = g + weight_decay * theta
    u     <- u + momentum^e * d
    theta <- theta - lr * (1 - momentum^(e + 1)) / (1 - momentum) * d

For a constant rate ``theta`` and ``u`` are those of synchronous SGD with momentum that was given every gradient in its own block.

C.-Y. Shi, Y.-R. Yang, W.-J. Li, "Ordered Momentum for Asynchronous SGD", NeurIPS 2024 (arXiv 2407.19234). The rule is recalled
(medium confidence); its algebra was checked, and the paper's figure has these blocks (a secondary source).

Order: a block that begins takes its momentum step first, in one sum with the gradient that begins it; weight decay uses the
parameters as the arrival finds them. Blocks have ``N`` updates, the number of workers, but for the first, which has one.
Differs from the paper: the rate stands outside ``u``, as in PyTorch, so a momentum step uses the rate of its arrival.
Left out: OrMo-DA, whose step adapts to the delay, since its rule could not be read. A penalty of a transform in ``before``
divides ``d``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import HeavyBall, StepRule, Velocity, heavy_ball
from asyncsim.policies.step_rule import buffer, optimizers
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


def block(version: int, workers: int) -> int:
    """The block that a gradient of the parameters of this version belongs to: 0 for the first version alone."""
    return -(-version // workers)


@optimizers.register("ordered_momentum")
class OrderedMomentum(HeavyBall):
    """Heavy-ball SGD that gives a gradient of ``e`` blocks ago the weight that it would have by now: OrMo, Shi, Yang, Li 2024
    (arXiv 2407.19234). With one worker it is heavy-ball SGD, without momentum plain SGD.
    """

    def momentum_step(self, d: Tensor, push: Push, state: Velocity, server: ServerView) -> Tensor:
        now, workers = server.version, server.num_workers
        late = max(0, block(now, workers) - block(push.snapshot.version, workers))  # below 0 for a server that has gone back
        weight = (1.0 - self.momentum ** (late + 1)) / (1.0 - self.momentum)
        if state.velocity is None:
            state.velocity = d * self.momentum**late
            return d * weight
        begins = (now - 1) % workers == 0
        step = state.velocity.mul_(self.momentum).add(d, alpha=weight) if begins else d * weight
        state.velocity.add_(d, alpha=self.momentum**late)
        return step

    def velocity(self, state: Velocity, server: ServerView) -> Tensor | None:
        return buffer(self.momentum, state.velocity, server)


@methods.register("ormo")
class OrMo(Method):
    """OrMo, Shi, Yang, Li 2024: momentum SGD where a late gradient enters the momentum with the weight that it would have by now.
    The momentum is the optimizer's (``sgd``)."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), OrderedMomentum(**heavy_ball(optimizer, "OrMo")), ASP(), Replica())
