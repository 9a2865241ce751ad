"""The role of a transform: one treatment of an arriving push."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from asyncsim.policies.push import Push, ServerView, Verdict
from asyncsim.registry import Registry, Spec

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.policies.steps import StepRule

policies = Registry("policy")

State = dict[str, Any]
"""State of one transform: tensors, numbers and lists by name. Passed in, changed in place, never hidden in the transform."""


class Transform(Spec):
    """Hyper-parameters are the fields; everything that changes during a run lives in the ``state`` that ``init`` makes.

    A transform that only changes numbers is ``numeric`` and is skipped when the timeline alone is simulated; one that
    buffers or drops decides what happens in virtual time and may look at staleness, version and counts, not at tensors.
    """

    numeric: ClassVar[bool] = False
    drops: ClassVar[bool] = False
    """May it drop pushes? Then engines look ahead and do not compute what will be dropped."""
    averages: ClassVar[bool] = False
    """Does it ask for means of pushes only?"""

    def fits(self, step: StepRule) -> None:
        """Raises ``ValueError`` if this transform cannot go in front of that step rule."""

    def amplifies_rounding(self, step: StepRule) -> bool:
        """Does it make differences as small as a rounding grow exponentially along a run in front of that step rule, whatever the
        task? Then runs of one scenario on different engines, devices or builds are comparable by statistics over seeds only."""
        return False

    def init(self, params: Tensor | None, num_workers: int) -> State:
        """Fresh state for parameters of shape ``(P,)``."""
        return {}

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        """Pass the push on (changed or replaced), or say why it ends here."""
        raise NotImplementedError

    def applied(self, direction: Tensor, state: State, server: ServerView) -> None:
        """Called after every update ``params <- params - lr * direction``; ``direction`` has shape ``(P,)``."""

    def late_view(self, params: Tensor, state: State, server: ServerView) -> Tensor:
        """What a late backward pass uses instead of the parameters of its forward pass, shape ``(P,)``."""
        return params

    def settle(self, state: State, server: ServerView) -> Push | None:
        """Called when a worker left for good: a buffer that was waiting for it may be complete now."""
        return None
