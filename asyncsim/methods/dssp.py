"""DSSP: stale synchronous parallel whose bound moves between two, to where the fastest is expected to wait least::

    a worker at clock c may read for its next round only if  c - slowest clock <= s         s of the worker, at first least
    a push leaves its worker at the lead L = c - slowest:
        L <= least                          s <- least
        L > s, and nobody is faster         s <- L - 1 + r,   r = argmin of W(r) over  0 <= r <= most - L + 1
    W(r): from its push r rounds later to the next of the slowest, if both go on at the pace of their last two pushes

X. Zhao et al. 2019. Recalled (medium confidence): the range of the bound, that the server decides as the fastest would block, and
that it goes by the last two instants of the fastest and the slowest. A reconstruction of ours: ``W``, of several that may be
meant, and that a bound beyond ``least`` stays until its worker is within ``least`` again, or would block again.

Order: a push is counted, the bound of its worker is set, and the push is applied; then the worker may read, or waits. Among those
at the slowest clock the one that is expected last counts. Of two numbers of rounds with equal waiting the smaller is taken; who
has pushed less than twice is given none, nor is anybody by it. The rest is as in SSP: every gradient is applied as it arrives,
the slowest is the slowest of those that are up, and a read gets everything that has been applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field, model_validator

from asyncsim.consistency import Consistency, Progress, consistencies
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import StepRule
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica
from asyncsim.streams import Streams


class RangeSettings(Spec):
    """The fields of the rule, and of the method that holds one: the smallest bound and the largest (rounds ahead of the slowest).
    """

    least: int = Field(default=3, ge=0)
    most: int = Field(default=15, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> RangeSettings:
        if self.least > self.most:
            raise ValueError(f"`least` ({self.least}) is above `most` ({self.most})")
        return self


@dataclass(slots=True)
class Paces:
    """The bound of every worker, and the instants (ns) of its last push and of the one before; -1 for none."""

    bounds: list[int]
    instants: list[tuple[int, int]]


@consistencies.register("dssp")
class DSSP(RangeSettings, Consistency):
    """SSP whose bound is between ``least`` and ``most``: where the fastest would block it is set anew, so that it waits least by
    the instants of the last two pushes (after Zhao et al. 2019, in part our reconstruction)."""

    needs: ClassVar[Need] = Need.WAITS | Need.WHOLE_MODELS
    notes: ClassVar[tuple[str, ...]] = ("bound",)

    def init(self, num_workers: int, streams: Streams) -> Paces:
        return Paces([self.least] * num_workers, [(-1, -1)] * num_workers)

    def arrived(self, worker: int, progress: Progress) -> None:
        paces: Paces = progress.state
        paces.instants[worker] = progress.now, paces.instants[worker][0]
        lead = progress.clock(worker) - progress.slowest()
        if lead <= self.least:
            paces.bounds[worker] = self.least
        elif lead > paces.bounds[worker] and progress.clock(worker) >= progress.fastest():
            paces.bounds[worker] = lead - 1 + self.granted(worker, lead, progress)
        progress.note("bound", paces.bounds[worker])

    def granted(self, worker: int, lead: int, progress: Progress) -> int:
        """How many rounds a worker goes on that would block at this lead."""
        instants: list[tuple[int, int]] = progress.state.instants
        slowest = [each for each in range(progress.num_workers) if progress.clock(each) == progress.slowest()]
        last, pace = max(((instants[each][0], _pace(instants[each])) for each in slowest), key=sum, default=(0, 0))
        own = _pace(instants[worker])
        if not (own and pace):
            return 0

        def waiting(rounds: int) -> int:
            there = instants[worker][0] + rounds * own
            return last + pace * max(1, -((last - there) // pace)) - there

        return min(range(max(0, self.most - lead + 1) + 1), key=waiting)

    def admits(self, worker: int, progress: Progress) -> bool:
        return progress.clock(worker) - progress.slowest() <= progress.state.bounds[worker]

    def watches(self, progress: Progress) -> int:
        return progress.slowest()

    def expects(self, worker: int, progress: Progress) -> str:
        return f"the slowest clock to reach {progress.clock(worker) - progress.state.bounds[worker]}"


def _pace(instants: tuple[int, int]) -> int:
    """The time (ns) between the last two pushes; 0 where there have not been two."""
    last, before = instants
    return last - before if before >= 0 else 0


@methods.register("dssp")
class DsspMethod(RangeSettings, Method):
    """Dynamic stale synchronous parallel, after Zhao et al. 2019, in part our reconstruction: the bound of SSP moves between
    ``least`` and ``most``, to where the fastest waits least."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, self.part(DSSP), Replica())
