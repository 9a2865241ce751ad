"""AD-PSGD: every worker has a model of its own, and averages it with that of one neighbour at a time; nobody waits for a round::

    worker i:  g = gradient at x_i as it was when i began               others may change x_i meanwhile
               j = a random neighbour of i
               x_i, x_j <- (x_i + x_j) / 2                              at one instant
               x_i <- x_i - lr * d(g)                                   momentum and weight decay are the worker's own

X. Lian, W. Zhang, C. Zhang, J. Liu 2018, *Asynchronous Decentralized Parallel Stochastic Gradient Descent* (arXiv 1710.06952).
The rule above is as we remember the paper; its text was not at hand.

Order: a worker reads its own model, computes, and sends the model to the neighbour; the neighbour answers; as the answer arrives
both models become their mean, as they are at that instant, and then the gradient is applied. With ``form: adapt_then_combine``
the gradient is applied to the current model when it is computed, and the exchange comes after; so it is in the public code
(github.com/facebookresearch/stochastic_gradient_push). With ``overlap`` of the program the worker begins to compute again on what
it has while it exchanges, and what it reads then lacks its own last gradient.
Differs from that code, where a process of its own exchanges without pause, so that links set how often: here once a gradient.
Nobody is passive and the graph needs no two sides, as an exchange here cannot lock anybody up. Neighbours are drawn uniformly,
whether they are up or not; one that is down does not answer, and the worker goes on alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from asyncsim.consistency import ASP
from asyncsim.exchange import Exchange, OnGraph, Weights, exchanges
from asyncsim.gossip import Complete, Form, Gossip, gossips
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import StepRule
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from asyncsim.streams import Streams


class Settings(OnGraph):
    """Whom a worker may exchange with: its neighbours on a ``graph`` of those that have not left. ``form``: whether both average
    first, or the worker steps first."""

    instead: ClassVar[str] = "is a setting of the exchange, not of its graph"
    graph: Annotated[Gossip, gossips] = Complete()
    form: Form = "combine_then_adapt"


@exchanges.register("pairs")
class Pairs(Settings, Exchange):
    """A worker and one random neighbour both take the mean of their parameters, at the instant at which the neighbour's answer
    has arrived (Lian et al. 2018)."""

    answered: ClassVar[bool] = True

    @property
    def combines_first(self) -> bool:
        return self.form == "combine_then_adapt"

    def fits(self, num_workers: int) -> None:
        self.graph.neighbours(0, num_workers)

    def partners(self, worker: int, number: int, members: Sequence[int], streams: Streams) -> tuple[int, ...]:
        place = members.index(worker)
        near = sorted(self.graph.neighbours(place, len(members)) - {place})
        return (members[near[int(streams("partner", worker, number).integers(len(near)))]],) if near else ()

    def mixes(self, worker: int, partner: int) -> Weights:
        return {worker: {worker: 0.5, partner: 0.5}, partner: {partner: 0.5, worker: 0.5}}


@methods.register("ad_psgd")
class AdPsgd(Settings, Method):
    """AD-PSGD (Lian et al. 2018): every worker averages its own model with a random neighbour's after each gradient."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, ASP(), Replica(), self.part(Pairs))
