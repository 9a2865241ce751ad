"""Gap-Aware: divide the update by how far the server has really moved since the read::

    G = 1 + |theta - s| / C                                 elementwise by default
    d = (g + weight_decay * theta) / G                      then the optimiser: v <- momentum * v + d, ...

    r <- decay * r + (1 - decay) * u^2                      u: the steps whose mean length C is
    C  = lr_max * (sqrt(r / (1 - decay^t)) + eps)           t: updates of r so far, lr_max: largest rate so far

S. Barkai, I. Hakimi, A. Schuster, "Gap-Aware Mitigation of Gradient Staleness", ICLR 2020 (arXiv 1909.10802). The idea, a penalty
linear in the gap, is the paper's; the elementwise form, ``C`` and the constants are those of FTPipe, the code of the same group.
That ``C`` is the length of one step is recalled from the paper (high confidence), that it is the step as it was applied is our
reading.

Order, by ``step_length``:

- ``applied``: ``G`` is computed with the ``r`` that the arrival finds, the update is made, and its direction, divided by its own
  ``G``, with momentum and weight decay, is the next ``u``. At the k-th update ``r`` holds ``u_1 ... u_(k-1)`` and ``t = k - 1``.
- ``code``, as published: ``r`` is updated at every arrival, before ``G`` is computed. With momentum ``u`` is the momentum buffer
  as the arrival finds it, zero at first: ``r`` holds ``0, v_1 ... v_(k-1)`` and ``t = k``, one more. Without momentum ``u`` is
  the raw gradient that has arrived: ``r`` holds ``g_1 ... g_k`` and ``t = k``. With a momentum per worker (DANA) it is the buffer
  that stepped last; which one the authors take is not known.

The first non-zero gap meets a ``C`` of about one step (``code`` with momentum: ``1 / sqrt(2)`` of it). Before the first step
``G`` is 1, also where others have moved the parameters (gossip). Differs from FTPipe: by default in ``u`` and its count; it skips
the first batch, and divides by its pipeline's delay where it compares with stashed parameters; its Adam variant is in `ftpipe`,
here the penalty divides Adam's finished update. ``layer`` and ``model`` are offered here; that the paper tried them is recalled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import State, StepRule, Transform
from asyncsim.policies.granularity import norms, spread
from asyncsim.policies.scalars import scalar
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


class GapSettings(Spec):
    """The fields of the transform, and of the methods that hold one."""

    per: Literal["parameter", "layer", "model"] = "parameter"
    decay: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    between: Literal["views", "parameters"] = "views"
    step_length: Literal["applied", "code"] = "applied"


@dataclass(slots=True)
class StepLengths(State):
    """Mean square of the ``steps`` so far, shape ``(P,)``, ``(layers,)`` or ``(1,)``; and has the model had an update at all?"""

    begun: bool = False
    steps: int = 0
    square: Tensor | None = None


@policies.register("gap_aware")
class GapAware(GapSettings, Transform):
    """``G = 1 + |theta - s| / C``, and the update is divided by ``G`` before it enters the momentum.

    ``step_length`` chooses the steps ``u`` whose mean length is ``C`` (above); ``code`` only for step rules that have a
    ``velocity``: ``sgd`` and ``worker_momentum``. ``per`` chooses the granularity: ``parameter`` (elementwise), ``layer`` (each
    parameter tensor by its L2 norms) or ``model``. ``between`` chooses the two points of the gap where workers read a look-ahead
    (DANA): ``views`` compares what the worker was handed with what it would be handed now, so one worker alone has no gap;
    ``parameters`` compares it with the server's parameters. Without look-ahead both are the same.

    Elementwise, ``applied`` amplifies rounding exponentially, in any precision: see ``docs/methods/gap_aware.md``.
    """

    needs: ClassVar[Need] = Need.VALUES

    def init(self, params: Tensor | None, num_workers: int) -> StepLengths:
        return StepLengths()

    def fits(self, step: StepRule) -> None:
        if self.step_length == "code" and type(step).velocity is StepRule.velocity:
            raise ValueError(
                "`step_length: code` takes SGD's momentum buffer or raw gradient; with the optimizer "
                f"{step.kind} use `step_length: applied`"
            )

    def amplifies_rounding(self, step: StepRule) -> bool:
        """True for elementwise gaps where ``C`` is made of steps that were themselves divided by ``G``."""
        return self.per == "parameter" and (self.step_length == "applied" or getattr(step, "momentum", 1.0) > 0)

    def update(self, push: Push, state: StepLengths, server: ServerView) -> Push | Verdict:
        if self.step_length == "code":
            velocity = server.velocity()
            self._average(push.gradient if velocity is None else velocity, state, server)
        now = server.view(push.worker) if self.between == "views" else server.params
        handed = push.snapshot.params
        if handed is not None and handed is not now and server.lr_max > 0:
            moved = server.moved(push.snapshot) if now is server.params else now - handed
            push.penalise(self.penalty(moved, state, server))
        return push

    def penalty(self, moved: Tensor, state: StepLengths, server: ServerView) -> Tensor:
        """``G`` for a displacement ``moved`` of shape ``(P,)``, which is overwritten; same shape, every element at least 1."""
        if not state.begun:  # then a gap can only come from a look-ahead of another rule, or from gossip
            return moved.new_ones(())
        assert state.square is not None, "a step has been made"
        correction = 1.0 - self.decay**state.steps
        scale = (state.square / correction).sqrt_()
        scale.add_(scalar(self.eps, moved)).mul_(scalar(server.lr_max, moved))
        if self.per == "parameter":
            return moved.abs_().div_(scale).add_(scalar(1.0, moved))
        groups = self._groups(server)
        return spread(norms(moved, groups).div_(scale).add_(1.0), moved, groups)

    def applied(self, direction: Tensor, state: StepLengths, server: ServerView) -> None:
        state.begun = True
        if self.step_length == "applied":
            self._average(direction, state, server)

    def _average(self, step: Tensor, state: StepLengths, server: ServerView) -> None:
        """Take one more step, of shape ``(P,)``, into the mean of squares."""
        state.steps += 1
        if self.per == "parameter":
            if state.square is None:
                state.square = step.square().mul_(1.0 - self.decay)
            else:
                square = state.square.mul_(scalar(self.decay, step))
                square.addcmul_(step, step, value=1.0 - self.decay)
            return
        square = norms(step, self._groups(server)).square_().mul_(1.0 - self.decay)
        state.square = square if state.square is None else state.square * self.decay + square

    def _groups(self, server: ServerView) -> tuple[slice, ...]:
        return (slice(None),) if self.per == "model" else server.layers


@methods.register("gap_aware")
class GapAwareMethod(GapSettings, Method):
    """Gap-Aware, Barkai et al. 2020: the update is divided by ``1 + gap / C``, elementwise by default."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((self.part(GapAware),), optimizer, ASP(), Replica())
