"""Consistency rules: which worker may read now, how much of the model it is given, and whose work in flight is called back.

Rules see counts, versions and times, never tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from asyncsim.consistency.progress import Progress
from asyncsim.needs import Need
from asyncsim.registry import PAPERS, Registry, Spec

if TYPE_CHECKING:
    from asyncsim.streams import Streams

consistencies: Registry[Consistency] = Registry("consistency", home=PAPERS)


class Consistency(Spec):
    """A rule with two questions. ``admits``: may this worker read now? ``recalls``: should it abandon what it computes now?

    ``admits`` is asked if the rule declares ``Need.WAITS``. Workers that wait are asked again, in the order in which they
    came, whenever the value of ``watches`` changes: it stands for everything that the answer depends on. ``recalls`` is asked
    after every update if the rule declares ``Need.RECALLS``, from the oldest snapshot on until one is not recalled.
    ``expects`` says in words what a waiting worker waits for; it is part of the message about a deadlock.

    What a rule remembers lives in ``progress.state``, which ``init`` makes and ``arrived`` may change. Chance comes from the
    streams that ``init`` is given, so that another seed samples other clients. A rule that looks at numbers declares
    ``Need.VALUES`` in addition to ``Need.WAITS`` or ``Need.RECALLS``: then the timeline depends on numbers, and cannot be
    planned. It ``sees`` one of each push: its loss, known as it arrives, or what a part of the policy notes, known thereafter.

    A rule that goes by the clock has a ``clocked`` time between its decisions. It is asked by ``decides``, and not by ``admits``,
    at time 0 and every so many nanoseconds thereafter, when all else that is due then has happened.
    """

    needs: ClassVar[Need] = Need.WAITS
    notes: ClassVar[tuple[str, ...]] = ()
    """Names of the numbers that it notes for each push as it arrives (``progress.note``): columns of the updates table."""

    @property
    def sees(self) -> str:
        """The number of each push that a rule with ``Need.VALUES`` looks at: its `loss`, or one of the policy's ``notes``."""
        return "loss"

    @property
    def clocked(self) -> int | None:
        """Virtual nanoseconds between two decisions of a rule that goes by the clock; None: it goes by what happens."""
        return None

    def init(self, num_workers: int, streams: Streams) -> Any:
        """Fresh state for workers that share a shard. ``streams("purpose", *key)`` gives NumPy generators that depend on the
        scenario's seed and these words alone."""
        return None

    def arrived(self, worker: int, progress: Progress) -> None:
        """A push of ``worker`` has reached the server, and is counted; what the policy makes of it comes next."""

    def admits(self, worker: int, progress: Progress) -> bool:
        return True

    def share(self, worker: int, progress: Progress) -> float:
        """The share of the neurons of every hidden layer that this worker is to train, above 0 and at most 1. Asked once at every
        read, if the rule declares ``Need.SUB_MODELS``; what becomes of it is the business of a transform (``sub_models``)."""
        return 1.0

    def launches(self, worker: int, progress: Progress) -> bool:
        """Does this worker go on while the result that it has computed is sent? Asked of programs with ``overlap``; one that does
        not sends it like any other program."""
        return True

    def sends(self, worker: int, progress: Progress) -> bool:
        """May this worker send the result that it has computed? Asked where a push overlaps with the next computation; a worker
        that may not waits like one that may not read."""
        return True

    def recalls(self, worker: int, progress: Progress) -> bool:
        return False

    def watches(self, progress: Progress) -> Hashable:
        return 0

    def expects(self, worker: int, progress: Progress) -> str:
        return "nothing"

    def decides(self, waiting: Sequence[int], progress: Progress) -> Collection[int]:
        """Those of the workers that wait (in the order in which they came) that may read now: asked by the clock."""
        return ()

    def totals(self, progress: Progress) -> dict[str, float]:
        """Numbers for the summary of a run at its end, by name."""
        return {}


@consistencies.register("asp")
class ASP(Consistency):
    """Asynchronous: nobody waits. With ``recall_after = R``, work whose staleness reaches ``R`` versions is abandoned and the
    worker reads anew (Ringmaster ASGD "with stops", Maranjyan et al. 2025)."""

    recall_after: int | None = Field(default=None, ge=1)

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return Need.NOTHING if self.recall_after is None else Need.RECALLS

    def recalls(self, worker: int, progress: Progress) -> bool:
        return self.recall_after is not None and progress.version - progress.reading(worker) >= self.recall_after


@consistencies.register("bsp")
class BSP(Consistency):
    """Rounds: a worker that delivered waits for the next version, also if that takes a crashed worker's return. With ``cancel``,
    whoever has not delivered when the round ends drops its work and joins the next round at once (K-sync, backup workers);
    without, it finishes first.

    With ``lag`` 1 the push of a round travels while the next round is computed (Pipe-SGD, Li et al. 2018; LAGA), which takes a
    program with ``overlap``: a worker sends its result of a round once the round before has been applied, and then reads, so

        x_{k+1} = x_k - lr * mean_s g_s(x_{k-1})        x_1 = x_0 - lr * mean_s g_s(x_0)

    and a round takes the longer of computing and sending instead of both. The first ``warmup`` rounds are without the lag."""

    cancel: bool = False
    lag: int = Field(default=0, ge=0, le=1)
    warmup: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _whole_rounds(self) -> BSP:
        if self.lag and self.cancel:
            raise ValueError("`lag` and `cancel` exclude each other: the round that `cancel` ends is computed one behind")
        if self.warmup and not self.lag:
            raise ValueError("`warmup` counts the rounds before a `lag` begins, and there is none")
        return self

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return Need.WAITS | Need.ROUNDS | Need.WHOLE_MODELS | (
            Need.RECALLS if self.cancel else Need.LAGS if self.lag else Need.NOTHING
        )

    def admits(self, worker: int, progress: Progress) -> bool:
        return progress.version > progress.delivered(worker) or (self.lag > 0 and self.launches(worker, progress))

    def launches(self, worker: int, progress: Progress) -> bool:
        return progress.version >= self.warmup

    def sends(self, worker: int, progress: Progress) -> bool:
        return not self.lag or progress.pushes(worker) == 0

    def recalls(self, worker: int, progress: Progress) -> bool:
        return self.cancel and progress.reading(worker) < progress.version

    def watches(self, progress: Progress) -> Hashable:
        return progress.version

    def expects(self, worker: int, progress: Progress) -> str:
        return f"version {progress.version + 1 if self.lag else progress.delivered(worker) + 1}"


@consistencies.register("ssp")
class SSP(Consistency):
    """Stale synchronous parallel (Ho et al. 2013): a worker at clock ``c`` starts a new round only if ``c - slowest <= bound``.

    The slowest clock is that of the workers that are up: one that has crashed stays a member, but nobody waits for it, and it
    starts again at the slowest clock when it comes back. Without ``bound`` nobody ever waits.
    """

    needs: ClassVar[Need] = Need.WAITS | Need.WHOLE_MODELS
    bound: int | None = Field(ge=0)

    def admits(self, worker: int, progress: Progress) -> bool:
        return self.bound is None or progress.clock(worker) - progress.slowest() <= self.bound

    def watches(self, progress: Progress) -> Hashable:
        return progress.slowest()

    def expects(self, worker: int, progress: Progress) -> str:
        return f"the slowest clock to reach {progress.clock(worker) - (self.bound or 0)}"


@consistencies.register("lockstep")
class Lockstep(Consistency):
    """A worker reads unless it has delivered ``every`` pushes since the last update: the barrier between the groups of a
    pipeline, each of which gives so many to every update."""

    every: int = Field(default=1, ge=1)

    def admits(self, worker: int, progress: Progress) -> bool:
        return progress.pushes(worker) < self.every

    def watches(self, progress: Progress) -> Hashable:
        return progress.version

    def expects(self, worker: int, progress: Progress) -> str:
        return f"version {progress.version + 1}"


@consistencies.register("heard")
class Heard(Consistency):
    """For workers that exchange with each other: one begins round ``t`` when all messages for it of round ``t - 1 - lag`` and
    before have arrived. It waits for those whom it hears, not for all; who crashed without leaving for good is waited for.

    ``lag`` 0 is the synchronous exchange. With a lag (and ``overlap`` of the program) a message travels while its sender
    computes, and may be so many rounds late before its receiver waits for it.
    """

    lag: int = Field(default=0, ge=0)

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return Need.WAITS | Need.HEARS | Need.WHOLE_MODELS | (Need.LAGS if self.lag else Need.NOTHING)

    def admits(self, worker: int, progress: Progress) -> bool:
        due = progress.received(worker) - self.lag
        return due <= 0 or all(progress.exchanged(other) >= due for other in progress.hears(worker, due - 1))

    def watches(self, progress: Progress) -> Hashable:
        return progress.exchanges, progress.members

    def expects(self, worker: int, progress: Progress) -> str:
        due = progress.received(worker) - self.lag
        late = [other for other in progress.hears(worker, due - 1) if progress.exchanged(other) < due]
        return f"the messages of round {due - 1} from {', '.join(map(str, late))}"
