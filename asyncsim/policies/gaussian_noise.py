"""Normal noise on clipped pushes, for differential privacy."""

from __future__ import annotations

from math import isfinite
from typing import ClassVar

from pydantic import Field

from asyncsim.errors import UserError
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.state import State
from asyncsim.policies.step_rule import divided
from asyncsim.policies.transform import Transform, policies


@policies.register("gaussian_noise")
class GaussianNoise(Transform):
    """Normal noise of deviation ``multiplier * norm`` on the sum of pushes that were each clipped to ``norm``: the Gaussian
    mechanism of differential privacy, with ``epsilon`` at ``delta`` in the summary. Stands behind what merges pushes."""

    needs: ClassVar[Need] = Need.VALUES
    norm: float = Field(gt=0)
    multiplier: float = Field(gt=0)
    delta: float = Field(default=1e-5, gt=0, lt=1)

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        if server.num_stages > 1:
            raise UserError("gaussian_noise: its epsilon is that of a whole model; it cannot stand in a pipeline")
        mean = divided(push)
        length = float(mean.norm())
        if isfinite(length) and length > self.norm * (1 + 1e-4):
            raise UserError(
                f"gaussian_noise: a mean of norm {length:g} comes in, and the privacy that is told holds for pushes of norm "
                f"{self.norm:g} at most; put {{kind: clip, max_norm: {self.norm:g}}} before what merges them"
            )
        draws = server.streams("privacy", server.version).standard_normal(len(mean))
        push.replaced = mean.add(mean.new_tensor(draws), alpha=self.multiplier * self.norm / len(push.sources))
        push.penalty = 1.0
        return push

    def totals(self, updates: int) -> dict[str, float]:
        from asyncsim.theory.zcdp import zcdp_epsilon

        return {"epsilon": zcdp_epsilon(self.multiplier, updates, self.delta) if updates else 0.0}
