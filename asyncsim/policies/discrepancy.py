"""PipeMare's discrepancy correction: guess the parameters of the forward pass instead of stashing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.needs import Need
from asyncsim.policies.push import Push, ServerView, Verdict
from asyncsim.policies.transform import State, Transform, policies

if TYPE_CHECKING:
    from torch import Tensor


@policies.register("discrepancy_correction")
class DiscrepancyCorrection(Transform):
    """Late backward passes use a guess of the parameters that their forward passes had used.

    A backward pass that does not use its forward pass's parameters uses ``u = theta - tau * delta``, where::

        delta <- gamma * delta + (1 - gamma) * (theta_new - theta_old)        gamma = decay ** (1 / tau)

    Technique T2 of PipeMare, Yang et al. 2021 (arXiv 1910.05124). ``tau`` is the number of versions between the two passes:
    the staleness of the stage's newest push, or ``delay``. If parameters move at a constant velocity ``delta`` tends to it and
    ``u`` to the parameters of the forward pass. It acts where the stage program says ``backward: current`` or ``replayed``;
    gradients pass unchanged. What counts as movement is the shard's own update, before groups mix.
    """

    needs: ClassVar[Need] = Need.VALUES
    decay: float = Field(0.135, gt=0, lt=1)
    delay: float | None = Field(None, ge=0)

    def init(self, params: Tensor | None, num_workers: int) -> State:
        return {"staleness": 0, "velocity": None}  # (P,), from the first update on

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        state["staleness"] = push.staleness
        return push

    def applied(self, direction: Tensor, state: State, server: ServerView) -> None:
        tau = self._tau(state)
        gamma = self.decay ** (1.0 / tau) if tau else 0.0
        if state["velocity"] is None:
            state["velocity"] = direction * ((gamma - 1.0) * server.lr)
        else:
            state["velocity"].mul_(gamma).add_(direction, alpha=(gamma - 1.0) * server.lr)

    def late_view(self, params: Tensor, state: State, server: ServerView) -> Tensor:
        tau = self._tau(state)
        return params if not tau or state["velocity"] is None else params.sub(state["velocity"], alpha=tau)

    def _tau(self, state: State) -> float:
        """The number of versions between the forward and the backward pass of a batch."""
        return state["staleness"] if self.delay is None else self.delay
