"""Weight what a worker sends by the amount of its data."""

from __future__ import annotations

from typing import ClassVar

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.state import State
from asyncsim.policies.transform import Transform, policies


@policies.register("data_weights")
class DataWeights(Transform):
    """Multiply the update by ``n_w / mean(n)``, where ``n_w`` is the number of training samples of the worker's own shard.

    In front of a mean over all workers this is federated averaging, ``sum(n_w D_w) / sum(n_w)`` (McMahan, Moore, Ramage, Hampson,
    Aguera y Arcas 2017, arXiv 1602.05629, algorithm 1). In front of a buffer of some of them the weights have mean 1 over the
    fleet, not over the buffer. Where the task's ``partition`` gives every worker all samples, all weights are 1.

    How the data are split is not known in a plan, which leaves it out.
    """

    needs: ClassVar[Need] = Need.VALUES

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        weight = server.data_weight(push.worker)
        if weight != 1.0:
            push.penalise(1.0 / weight)
        return push
