"""A policy: a chain of transforms ended by one step rule, with their states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.policies.push import Push, ServerView, Verdict
from asyncsim.policies.steps import StepRule
from asyncsim.policies.transform import State, Transform

if TYPE_CHECKING:
    from torch import Tensor


class Policy:
    """What an arrival does.

    ``state`` is ``{"transforms": [State, ...], "step": State}``: everything that changes during a run.
    """

    def __init__(self, transforms: tuple[Transform, ...], step: StepRule, params: Tensor | None, num_workers: int) -> None:
        self.transforms = transforms
        self.step = step
        self.state: dict = {
            "transforms": [transform.init(params, num_workers) for transform in self.transforms],
            "step": step.init(params, num_workers),
        }

    def arrive(self, push: Push, server: ServerView, after: int = 0) -> Push | Verdict:
        """Send a push through the transforms from index ``after`` on: what comes out is to be applied, or why nothing does.

        A push without payload (the timeline alone is simulated, or the run has diverged) passes the numeric ones by.
        """
        if len(self.transforms) == after:
            return push
        states: list[State] = self.state["transforms"]
        for transform, state in zip(self.transforms[after:], states[after:], strict=True):
            if transform.numeric and push.payload is None:
                continue
            result = transform.update(push, state, server)
            if isinstance(result, Verdict):
                return result
            push = result
        return push

    def settle(self, server: ServerView) -> Push | None:
        """A worker left for good: the push that a buffer now gives up, if any."""
        for index, transform in enumerate(self.transforms):
            push = transform.settle(self.state["transforms"][index], server)
            if push is not None:
                result = self.arrive(push, server, after=index + 1)
                return None if isinstance(result, Verdict) else result
        return None

    def apply(self, push: Push, server: ServerView) -> Tensor:
        """The parameters after the update, a new tensor of shape ``(P,)``."""
        direction = self.step.direction(push, self.state["step"], server)
        params = server.params.add(direction, alpha=-server.lr)
        for transform, state in zip(self.transforms, self.state["transforms"], strict=True):
            transform.applied(direction, state, server)
        return params

    def view(self, params: Tensor, server: ServerView) -> Tensor:
        """What a worker that reads now is handed, shape ``(P,)``."""
        return self.step.view(params, self.state["step"], server)

    def velocity(self, server: ServerView) -> Tensor | None:
        """The momentum buffer as the last step left it, shape ``(P,)``; None without momentum."""
        return self.step.velocity(self.state["step"], server)

    def late_view(self, params: Tensor, server: ServerView) -> Tensor:
        """What a backward pass uses that does not use the parameters of its forward pass, shape ``(P,)``."""
        for transform, state in zip(self.transforms, self.state["transforms"], strict=True):
            params = transform.late_view(params, state, server)
        return self.step.late_view(params, self.state["step"], server)
