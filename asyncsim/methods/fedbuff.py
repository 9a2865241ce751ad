"""FedBuff: the server averages ``B`` model differences, each weighted by its staleness, into one update::

    worker:  x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x
    server:  theta <- theta - lr * (1 / B) * sum of (1 + tau)^(-power) * D              after every B pushes, B = buffer

J. Nguyen et al. 2022. The rule is recalled (high confidence), ``power: 0.5`` included. FLSim, a public code, differs: it sums by
default, and its weight is constant unless an exponent is given.

Order: a difference is weighted by the staleness of its own arrival, then buffered; the ``B``-th completes the update. A worker
reads again at once. With ``concurrency`` below the number of workers it is a client, whose place is free as its difference has
arrived: the server draws who takes it, uniformly among all clients that have no place, this one included.
``factor`` is the schedule's at the read, ``lr`` the optimiser's and constant.
Differs from the paper: with Adam at the server the weights divide the finished update (a rule of ours).
Left out: secure aggregation, clipping, weights by data size, applying a part-filled buffer at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from asyncsim.consistency import ASP, Consistency, Progress, consistencies
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.needs import Need
from asyncsim.policies import Accumulate, StalenessAware, StepRule
from asyncsim.streams import Streams


@dataclass(slots=True)
class Places:
    """Who has a place, how many draws there have been and what they are drawn from, and how many members there were then."""

    streams: Streams
    taken: set[int]
    draws: int = 0
    members: int = 0


@consistencies.register("sampled")
class Sampled(Consistency):
    """At most ``concurrency`` workers compute at any time. When one has delivered, its place goes to one drawn uniformly from
    those that have none, itself included.

    One that crashes keeps its place until it is back, and one that is down may be drawn; one that leaves gives it up.
    """

    needs: ClassVar[Need] = Need.WAITS | Need.WHOLE_MODELS
    concurrency: int = Field(ge=1)

    def init(self, num_workers: int, streams: Streams) -> Places:
        return Places(streams, set())

    def arrived(self, worker: int, progress: Progress) -> None:
        progress.state.taken.discard(worker)
        self._fill(progress)

    def admits(self, worker: int, progress: Progress) -> bool:
        self._fill(progress)
        return worker in progress.state.taken

    def watches(self, progress: Progress) -> tuple[int, int]:
        return progress.state.draws, progress.members

    def expects(self, worker: int, progress: Progress) -> str:
        return f"one of the places that workers {', '.join(map(str, sorted(progress.state.taken)))} have"

    def _fill(self, progress: Progress) -> None:
        """Give away the places that are free."""
        places: Places = progress.state
        if places.members == progress.members and len(places.taken) == self.concurrency:
            return
        places.members = progress.members
        places.taken.intersection_update(progress.present())
        free = [worker for worker in progress.present() if worker not in places.taken]
        while free and len(places.taken) < self.concurrency:
            place = int(places.streams("client", places.draws).integers(len(free)))
            places.taken.add(free.pop(place))
            places.draws += 1


@methods.register("fedbuff")
class FedBuff(LocalMethod):
    """FedBuff, Nguyen et al. 2022: average ``buffer`` model differences, each weighted by ``(1 + tau) ** -power``.

    ``concurrency``: so many workers at a time, drawn by chance; by default all.
    """

    buffer: int = Field(default=4, ge=1)
    power: float = Field(default=0.5, ge=0)
    concurrency: int | None = Field(default=None, ge=1)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        weigh = StalenessAware(rule="polynomial", power=self.power)
        if self.concurrency is not None and self.concurrency > num_workers:
            raise ValueError(f"`concurrency` is at most the number of workers ({num_workers}), not {self.concurrency}")
        rule = ASP() if self.concurrency is None else Sampled(concurrency=self.concurrency)
        return Bundle((weigh, Accumulate(count=self.buffer)), optimizer, rule, self.local())
