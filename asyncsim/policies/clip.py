"""Bound the length of a gradient."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.state import State
from asyncsim.policies.transform import Transform, policies


@policies.register("clip")
class Clip(Transform):
    """``g <- g * min(1, max_norm / ||g||)`` (Pascanu et al. 2013), L2 norm over the whole vector.

    A gradient with a non-finite norm is passed on as it is, so that divergence shows where it happens.
    """

    needs: ClassVar[Need] = Need.VALUES
    max_norm: float = Field(gt=0)

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        gradient = push.gradient
        norm = float(gradient.norm())
        if self.max_norm < norm < float("inf"):
            push.replaced = gradient * (self.max_norm / norm)
        return push
