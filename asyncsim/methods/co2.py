"""CO2: the average after local steps travels while the next local steps are taken, and enters an outer momentum a round late::

    round t, worker i:  x_i <- theta(t);   local_steps times:  x_i <- x_i - local_lr * factor * g(x_i)
                        launch the reduction of  mean(t) = mean of the x_i, and wait for that of mean(t - 1)
                        m            <- momentum * m + (theta(t) - mean(t - 1)) / Lambda(t)
                        theta(t + 1) <- theta(t) - lr * min(max(m, -clip), clip)              elementwise

    Lambda(t) = 1 + |theta(t) - theta(t - 1)| / C(t),  C(t): the root of the mean square of the outer steps so far

W. Sun et al., ICLR 2024 (arXiv 2401.16265), from notes, reviews and the authors' code (github.com/weigao266/fairscale-CO2); the
paper was not at hand. The staleness-gap penalty ``Lambda`` is a reconstruction: the formula could not be read, and Gap-Aware's
takes its place. In the code it is a constant, 1 by default.

Order: launch, wait, outer step, read. What a worker comes to in a round is not gone on from. In the first round nothing has been
reduced, and theta(1) = theta(0), which is our choice. ``factor`` is the schedule's at the read; ``lr`` is constant. The outer
step is the optimizer's (``sgd``), whose weight decay is added before ``Lambda`` divides. With ``overlap: false`` a round waits
for its own average: SlowMo, with the same ``lr`` and ``momentum``.
Differs from the code: there the clipping has no effect, as its result is not used, and by default the reduction does not overlap.
Left out: AdamW as local optimiser (here SGD, whose momentum begins at zero in every round), and sharded states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from asyncsim.consistency import BSP
from asyncsim.methods.fedasync import Mixing
from asyncsim.methods.gap_aware import GapAware
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.policies import Accumulate, HeavyBall, StepRule, Transform, Velocity, heavy_ball
from asyncsim.policies.step_rule import buffer, optimizers
from asyncsim.registry import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Push, ServerView


class Clipping(Spec):
    """``clip``: the largest entry of the momentum that steps; the momentum itself is kept as it is."""

    clip: float | None = Field(default=None, gt=0)


@optimizers.register("outer_momentum")
class OuterMomentum(Clipping, HeavyBall):
    """``d = (g + wd * theta) / penalty / gap_penalty``, ``v <- momentum * v + d``; direction ``v`` with every entry clipped to
    ``[-clip, clip]``; Sun et al. 2024 (arXiv 2401.16265). Without both it is heavy ball."""

    gap_penalty: float = Field(default=1.0, gt=0)

    def direction(self, push: Push, state: Velocity, server: ServerView) -> Tensor:
        if self.gap_penalty != 1.0:
            push.penalise(self.gap_penalty)
        direction = super().direction(push, state, server)
        if self.clip is None:
            return direction
        return direction.clamp(-self.clip, self.clip).where(direction.isfinite(), direction)  # what diverges shows that it does

    def velocity(self, state: Velocity, server: ServerView) -> Tensor | None:
        return buffer(self.momentum, state.velocity, server)


@methods.register("co2")
class Co2(Clipping, LocalMethod):
    """CO2, Sun et al. 2024 (arXiv 2401.16265): local steps whose average travels while the next ones are taken.

    ``gap_penalty`` divides what enters the momentum: ``adaptive`` (a reconstruction), or a number. ``decay`` is that of the
    adaptive one's mean square. ``overlap: false`` makes it SlowMo.
    """

    gap_penalty: Literal["adaptive"] | Annotated[float, Field(gt=0)] = "adaptive"
    decay: float = Field(default=0.999, ge=0, lt=1)
    overlap: bool = True

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        adaptive = self.gap_penalty == "adaptive"
        constant = 1.0 if isinstance(self.gap_penalty, str) else self.gap_penalty
        step = self.part(OuterMomentum, gap_penalty=constant, **heavy_ball(optimizer, "CO2"))
        transforms: tuple[Transform, ...] = (Mixing(rate=1, power=0), Accumulate(members=True))
        if adaptive:
            transforms += (GapAware(decay=self.decay),)
        program = self.local().model_copy(update={"overlap": self.overlap})
        return Bundle(transforms, step, BSP(lag=int(self.overlap)), program)
