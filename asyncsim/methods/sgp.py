"""SGP: stochastic gradient push. Workers push shares of their models along a directed graph, and divide by what they hold of it::

    worker i holds x_i and a weight w_i = 1;   round t:
        z_i = x_i / w_i                                             the model without bias: what gradients are computed at
        x_i <- x_i - lr * d(gradient at z_i)                        momentum and weight decay are the worker's own, on x_i
        send p (x_i, w_i) to the partners of round t, keep the rest                 p = 1 / (1 + peers)
        (x_i, w_i) <- what it kept + what has been sent to it       sum of x_i and sum of w_i stay the same

M. Assran, N. Loizou, N. Ballas, M. Rabbat 2019, *Stochastic Gradient Push for Distributed Deep Learning* (arXiv 1811.10792).
Order, shares, weights and graph are those of the authors' code (github.com/facebookresearch/stochastic_gradient_push); the bound
on the lag is as we remember the paper, whose text was not at hand.

Order: read z, compute, step, send. A worker begins round ``t + 1`` when its own message of round t and all messages to it of
round t have arrived; it waits for those whom it hears, not for all. ``peers`` partners a round are taken in turn from the
worker's neighbours on the ``graph`` in the order of their distance ahead: in the exponential graph 1, 2, 4, ... places.
With ``lag`` a message travels while its sender computes the next round, and the receiver begins round ``t + 1`` without those of
the last ``lag`` rounds if they are late (overlap SGP). A worker has one message on its way at a time.
Differs from the code: there distances alternate (+1, -1, +2, -2, ...), regular graphs leave the weight away, and receivers count
rounds without any message. Every round sends, whatever the lag. Who leaves takes what it holds with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from asyncsim.consistency import Heard
from asyncsim.exchange import Exchange, OnGraph, exchanges
from asyncsim.gossip import Exponential, Gossip, gossips
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import StepRule
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from asyncsim.streams import Streams


class Settings(OnGraph):
    """To whom a worker sends: ``peers`` of its neighbours on the ``graph`` in a round, one after the other; more than there are:
    to all of them."""

    instead: ClassVar[str] = "is for rounds in which all mix at once; here every worker steps first and then sends"
    graph: Annotated[Gossip, gossips] = Exponential()
    peers: int = Field(default=1, ge=1)


@exchanges.register("push_sum")
class PushSum(Settings, Exchange):
    """A worker keeps a share of its parameters and their weight, and sends as much to each of its partners; it reads the sum that
    it holds divided by the weight that it holds (push-sum; Assran et al. 2019)."""

    @property
    def most_partners(self) -> int:
        return self.peers

    def fits(self, num_workers: int) -> None:
        self.graph.neighbours(0, num_workers)

    def partners(self, worker: int, number: int, members: Sequence[int], streams: Streams) -> tuple[int, ...]:
        count, place = len(members), members.index(worker)
        ahead = sorted((each - place) % count for each in self.graph.neighbours(place, count) - {place})
        peers = min(self.peers, len(ahead))
        turn = [ahead[(number * peers + index) % len(ahead)] for index in range(peers)]
        return tuple(members[(place + distance) % count] for distance in turn)

    def shares(self, partners: tuple[int, ...]) -> dict[int, float]:
        return dict.fromkeys(partners, 1 / (1 + len(partners)))

    def nbytes(self, nbytes: float, numbers: int) -> float:
        return nbytes * (numbers + 1) / numbers  # the weight goes along


@methods.register("sgp")
class Sgp(Settings, Method):
    """Stochastic gradient push (Assran et al. 2019): shares of models are pushed along a directed graph. With ``lag`` it is
    overlap SGP: messages travel while the next gradient is computed."""

    lag: int = Field(default=0, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, Heard(lag=self.lag), Replica(overlap=self.lag > 0), self.part(PushSum))
