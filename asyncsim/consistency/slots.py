"""The rule of co-running: a phone decides slot by slot whether to train::

    in every slot, a phone i that does nothing begins a task iff  Q_i > 0  and
        V * slot * (P_train - P_not) - Q_i + H * (g_train - g_not) + Z_i * [an app is in the foreground]  <=  0
    Q_i <- Q_i - [begins] + [a task is demanded]            Z_i <- max(Z_i + [trains beside an app] - slowdown_bound, 0)
    H   <- max(H + sum of g_i - gap_bound, 0)
        g_not = g_i + idle_gap       g_train = lr * (1 - beta^l) / (1 - beta) * |v|       l: others expected to end before it

C. Wang, H. Wu et al., ICDCS 2022 (read in full); P: watts with or without the app that runs. ``Z`` is a reconstruction of ours of
what its extension (TMC 2024, 10.1109/tmc.2024.3379236, abstract) adds: a trade-off against what the user notices.

Order: at a slot's start, when all that is due has happened, what was demanded in the slot before enters Q; those that wait decide
in the order in which they came, each knowing of those before it; then gaps, H and Z are updated. Q = H = Z = 0 at first. While a
phone trains its gap stays as it was predicted.
Not told, and ours: how demand comes (Bernoulli, or a task in every slot), that a task that is lost is not demanded again, and
that no gap is predicted from a model that has diverged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from asyncsim.consistency.progress import Progress
from asyncsim.consistency.rules import Consistency, consistencies
from asyncsim.needs import Need
from asyncsim.registry import Spec, located
from asyncsim.streams import Draws, Streams
from asyncsim.units import PositiveSeconds, nanoseconds

if TYPE_CHECKING:
    import numpy as np


class MomentumSettings(Spec):
    """The momentum (beta) of the updates, by which a gap is predicted."""

    beta: float = Field(default=0.9, ge=0, lt=1)


class SlotSettings(MomentumSettings):
    """The fields of the rule, and of the method that holds one: the length of a slot, the weight of energy (V, tasks a joule), a
    mean time between two tasks that one phone is asked for (None: one in every slot), the bound of the sum of all gaps (None:
    any), what a gap grows by in an idle slot, and the share of slots in which a phone may train beside an app (None: any)."""

    slot: PositiveSeconds = 1.0
    energy_weight: float = Field(default=0.0, ge=0)
    demand: PositiveSeconds | None = None
    gap_bound: float | None = Field(default=None, ge=0)
    idle_gap: float = Field(default=0.0, ge=0)
    slowdown_bound: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _one_task_a_slot(self) -> SlotSettings:
        if self.demand is not None and self.demand < self.slot:
            message = f"a task in each slot is the most that is demanded; allowed is `slot` ({self.slot:g} s) or more"
            raise located("co_running", [(("demand",), self.demand, message)])
        return self


@dataclass(slots=True)
class Queues:
    """Of every phone the tasks that wait (Q), the slot of its next demand and its number, its gap, and what its user has noticed
    (Z); of all together the queue of gaps (H), and when those that train are expected to end (ns)."""

    demands: list[Draws]
    tasks: list[int]
    due: list[int]
    count: list[int]
    gaps: list[float]
    noticed: list[float]
    gap_queue: float = 0.0
    drift: float = 0.0
    ends: dict[int, int] = field(default_factory=dict)
    slots: int = 0
    waited: int = 0  # tasks, summed over slots
    gap_sum: float = 0.0  # the queue of gaps, summed over slots
    shared: int = 0  # slots of all phones in which they trained beside an application


@consistencies.register("co_running")
class CoRunningSlots(SlotSettings, Consistency):
    """In every slot a worker that waits begins if its queue of tasks outweighs the energy that training takes beyond what its
    machine draws anyway (Lyapunov's drift plus penalty; Wang, Wu et al. 2022)."""

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        weighs = self.energy_weight > 0 or self.slowdown_bound is not None
        values = Need.NOTHING if self.gap_bound is None else Need.VALUES
        return Need.WAITS | Need.WHOLE_MODELS | values | (Need.POWER if weighs else Need.NOTHING)

    @property
    def sees(self) -> str:
        return "drift"

    @property
    def clocked(self) -> int:
        return nanoseconds(self.slot)

    def init(self, num_workers: int, streams: Streams) -> Queues:
        probability = 1.0 if self.demand is None else self.slot / self.demand

        def slots(rng: np.random.Generator, size: int) -> np.ndarray:
            return rng.geometric(probability, size)

        demands = [Draws(streams, "demand", (worker,), slots) for worker in range(num_workers)]
        first = [int(each[0]) for each in demands]  # demanded in the slot before, it is there at the start of this one
        return Queues(demands, [0] * num_workers, first, [1] * num_workers, [0.0] * num_workers, [0.0] * num_workers)

    def admits(self, worker: int, progress: Progress) -> bool:
        return False

    def expects(self, worker: int, progress: Progress) -> str:
        return "a slot in which its tasks outweigh the energy of training"

    def decides(self, waiting: Sequence[int], progress: Progress) -> set[int]:
        state: Queues = progress.state
        self.demanded(state)
        if math.isfinite(progress.seen):
            state.drift = progress.seen
        for worker in state.ends.keys() - set(progress.present()):
            del state.ends[worker]
        begun: set[int] = set()
        for worker in waiting:
            state.ends.pop(worker, None)
            if state.tasks[worker] and self.begins(worker, progress):
                state.tasks[worker] -= 1
                begun.add(worker)
            elif self.gap_bound is not None:
                state.gaps[worker] += self.idle_gap
        if self.gap_bound is not None:
            gaps = math.fsum(state.gaps[worker] for worker in progress.present())
            state.gap_queue = max(state.gap_queue + gaps - self.gap_bound, 0.0)
        if self.slowdown_bound is not None:
            self.notice(begun.union(progress.present()).difference(set(waiting) - begun), progress)
        return begun

    def demanded(self, state: Queues) -> None:
        """What was demanded in the slot before enters the queues."""
        for worker, due in enumerate(state.due):
            if due == state.slots:
                state.tasks[worker] += 1
                state.due[worker] += int(state.demands[worker][state.count[worker]])
                state.count[worker] += 1
        state.slots += 1
        state.waited += sum(state.tasks)
        state.gap_sum += state.gap_queue

    def begins(self, worker: int, progress: Progress) -> bool:
        """Is the best that this worker can do in this slot to begin a task?"""
        state: Queues = progress.state
        power = progress.power(worker)
        cost = self.energy_weight * self.slot * (power.busy - power.idle) - state.tasks[worker]
        if self.slowdown_bound is not None and power.in_use:
            cost += state.noticed[worker]
        if self.gap_bound is None:
            return cost <= 0
        end = progress.now + nanoseconds(progress.expected_round(worker))
        lag = sum(each <= end for other, each in state.ends.items() if other != worker)
        gap = (1 - self.beta**lag) / (1 - self.beta) * state.drift
        if cost + state.gap_queue * (gap - state.gaps[worker] - self.idle_gap) > 0:
            return False
        state.gaps[worker], state.ends[worker] = gap, end
        return True

    def notice(self, training: set[int], progress: Progress) -> None:
        """Count the slot of those that train beside an application, and let it fade for all others."""
        state, bound = progress.state, self.slowdown_bound or 0.0
        for worker in progress.present():
            shared = worker in training and progress.power(worker).in_use
            state.shared += shared
            state.noticed[worker] = max(state.noticed[worker] + shared - bound, 0.0)

    def arrived(self, worker: int, progress: Progress) -> None:
        progress.state.ends.pop(worker, None)

    def totals(self, progress: Progress) -> dict[str, float]:
        state: Queues = progress.state
        slots = max(1, state.slots)
        values = {"queue_mean": state.waited / slots / progress.num_workers}
        if self.gap_bound is not None:
            values["gap_queue_mean"] = state.gap_sum / slots
        if self.slowdown_bound is not None:
            values["shared_mean"] = state.shared / slots / progress.num_workers
        return values
