"""ABS: adaptive bounded staleness. An update takes more pushes as the loss falls, and whoever becomes too stale restarts::

    worker:  x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x,  and wait for the next update
    server:  of the first K pushes      theta <- theta - lr * (1 / K) * sum of D
             bound <- max(1, ceil(margin * (N - K) / K))
             K <- min(N, max(K, ceil(k * sqrt(F_0 / F))))           F_0, F: training loss at the start, and its running average
             who computes on a snapshot more than bound versions old is called back, and reads theta

Tan, Zhu, Zhang 2023 (arXiv 2301.08895). What was read is the abstract: the server waits for K workers, K does not fall, the
bound of the staleness changes, those beyond it restart, and there are local steps. Both formulas are a reconstruction of ours: K
is AdaSync's (recalled), and the bound is ``margin`` times what a worker reaches if all are equally fast.

Order: a push enters the average of the losses and then the group; the ``K``-th completes the update; the bound and the next
``K`` are set; stale work is called back; then those who wait read, and those called back. A bound that is given stays as it is.
A recall takes away what a worker computes or uploads; what has reached the server counts, also if it grows staler in a queue
there. ``K`` is not more than the workers that have not left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from asyncsim.consistency import Consistency, Progress, consistencies
from asyncsim.methods.adasync import GrowthSettings, gather
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.needs import Need
from asyncsim.policies import StepRule
from asyncsim.registry import Spec
from asyncsim.streams import Streams


class BoundSettings(Spec):
    """The fields of the rule, and of the method that holds one: the bound of the staleness (versions) is a number, follows the
    number of pushes that an update takes, or is none."""

    bound: Annotated[int, Field(ge=1)] | Literal["adaptive"] | None = "adaptive"
    margin: float = Field(default=2.0, gt=0)


@dataclass(slots=True)
class Gathering:
    """The version at the last arrival, how many pushes have arrived at it, and the bound; None before the first update."""

    bound: int | None
    version: int = 0
    pushes: int = 0


@consistencies.register("bounded_work")
class BoundedWork(BoundSettings, Consistency):
    """A worker that has delivered waits for the next update; one that computes on a snapshot of more than ``bound`` versions ago
    is called back. ``adaptive``: ``max(1, ceil(margin * (N - K) / K))`` after an update for which ``K`` pushes arrived, of ``N``
    workers that have not left (our reconstruction of ABS)."""

    notes: ClassVar[tuple[str, ...]] = ("bound",)

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return Need.WAITS | Need.WHOLE_MODELS | (Need.NOTHING if self.bound is None else Need.RECALLS)

    def init(self, num_workers: int, streams: Streams) -> Gathering:
        return Gathering(self.bound if isinstance(self.bound, int) else None)

    def arrived(self, worker: int, progress: Progress) -> None:
        state = self._now(progress)
        state.pushes += 1
        if state.bound is not None:
            progress.note("bound", state.bound)

    def admits(self, worker: int, progress: Progress) -> bool:
        return progress.pushes(worker) == 0

    def recalls(self, worker: int, progress: Progress) -> bool:
        bound = self._now(progress).bound
        return bound is not None and progress.version - progress.reading(worker) > bound

    def watches(self, progress: Progress) -> int:
        return progress.version

    def expects(self, worker: int, progress: Progress) -> str:
        return f"version {progress.version + 1}"

    def _now(self, progress: Progress) -> Gathering:
        """The state as of this version: an update begins anew to count, and sets the bound."""
        state: Gathering = progress.state
        if progress.version > state.version:
            if self.bound == "adaptive" and state.pushes:  # a server that restarts makes a version without pushes
                state.bound = max(1, math.ceil(self.margin * (progress.members - state.pushes) / state.pushes))
            state.version, state.pushes = progress.version, 0
        return state


@methods.register("abs")
class Abs(GrowthSettings, BoundSettings, LocalMethod):
    """Adaptive bounded staleness, Tan et al. 2023, our reconstruction from the abstract: an update takes more local results as
    the loss falls, and work that becomes too stale is called back."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((gather(self, num_workers),), optimizer, self.part(BoundedWork), self.local())
