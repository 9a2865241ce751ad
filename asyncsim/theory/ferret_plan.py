"""Ferret's planner: how a model is cut, and which of T1 to T4 are used, so that its pipelines fit a memory.

    memory of a pipeline = sum over stages j of  versions_j * parameters_j + batches_j * activations_j         j = 0, ..., P-1
        versions_j = 1 + ceil((P-j-1) / c_a), or with omission ceil((P-j) / e_j)         e_j: least common multiple of c_o + 1
        batches_j  = ceil((P-j) / e_j)           from j on: a backward pass of every e_j-th item
        recomputed: of every batch the stage's input alone, and the activations of one batch
    R = n / N * mean over stages of  1 / e_j * mean over k < c_a of exp(-c (L_j + k N t_d))
        L_j = (P-j-1) N t_d + (j+1) t_f + t_b    from an item's arrival to its update, for which P-j-1 more have to come;
                                                 t_f more where it is recomputed
        N   = ceil((t_f + t_b) / t_d)        of them n are there; t_f once more if any stage recomputes

    S1 recompute, S2 accumulate, S3 omit (in place of accumulate), S4 remove: each on the stage (S4: a pipeline) where a number
    of memory costs least of R, until the memory is enough

Y. Zhou et al., "Ferret", CVPR 2025: the steps, their order, the versions of T2 and T3 and the search over stage limits are the
paper's (main text). The memory's formula, ``R`` as a function of a plan, and what costs least are our reconstruction: the paper's
Algorithm 1 was not at hand. ``R`` is that of `docs/streams.md`, and what the simulator measures for stages of equal time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Layer(NamedTuple):
    """What a layer costs: seconds of both passes, and numbers: its parameters, and what a batch leaves of ``activations``,
    of which its ``output`` is what goes to the next."""

    forward: float
    backward: float
    parameters: float
    activations: float
    output: float


class Plan(NamedTuple):
    """A way to learn from a stream. ``split``: layers of each stage; ``pipelines`` of ``turns`` are there; ``recompute``,
    ``accumulate`` and ``omit`` are those of the method `ferret`. ``memory`` (numbers) and ``rate`` (R) follow from them."""

    split: tuple[int, ...]
    pipelines: int
    turns: int
    recompute: tuple[bool, ...]
    accumulate: tuple[int, ...]
    omit: tuple[int, ...]
    memory: float = math.nan
    rate: float = math.nan


class Pipelines:
    """The pipelines of a model whose ``layers`` are split into these stages, at a stream of this ``period`` (s) and ``decay``."""

    def __init__(self, layers: Sequence[Layer], split: Sequence[int], period: float, decay: float) -> None:
        ends = [0, *accumulate(split)]
        stages = [layers[start:end] for start, end in pairwise(ends)]
        self.split, self.period, self.decay, self.count = tuple(split), period, decay, len(stages)
        self.forward = max(sum(layer.forward for layer in stage) for stage in stages)
        self.backward = max(sum(layer.backward for layer in stage) for stage in stages)
        self.parameters = [sum(layer.parameters for layer in stage) for stage in stages]
        self.activations = [sum(layer.activations for layer in stage) for stage in stages]
        self.inputs = [0.0, *(stage[-1].output for stage in stages[:-1])]

    def unlimited(self) -> Plan:
        """M+: nothing is saved."""
        none = (False,) * self.count, (1,) * self.count, (0,) * self.count
        return self.judged(Plan(self.split, 0, 0, *none))

    def judged(self, plan: Plan) -> Plan:
        """The plan with its turns, memory and rate. A pipeline that is not removed (``turns`` of the plan equal its pipelines) is
        there for every turn."""
        backward = self.backward + (self.forward if any(plan.recompute) else 0.0)
        turns = max(1, math.ceil(round((self.forward + backward) / self.period, 9)))
        pipelines = max(1, turns - (plan.turns - plan.pipelines))
        memory, worth = 0.0, 0.0
        for stage in range(self.count):
            lag, kept = self.count - 1 - stage, plan.accumulate[stage]
            every = math.lcm(*(omitted + 1 for omitted in plan.omit[stage:]))
            batches = -(-(lag + 1) // every)
            versions = batches if every > 1 else 1 + -(-lag // kept)
            whole = self.activations[stage]
            held = batches * self.inputs[stage] + whole if plan.recompute[stage] else batches * whole
            memory += versions * self.parameters[stage] + held
            own = self.backward + (self.forward if plan.recompute[stage] else 0.0)
            late = lag * turns * self.period + (stage + 1) * self.forward + own
            waits = (late + count * turns * self.period for count in range(kept))
            worth += sum(math.exp(-self.decay * wait) for wait in waits) / kept / every
        rate = pipelines / turns * worth / self.count
        return plan._replace(pipelines=pipelines, turns=turns, memory=pipelines * memory, rate=rate)

    def within(self, budget: float) -> Plan | None:
        """The plan that S1 to S4 come to; None if the memory is not enough for any."""
        plan = self._saved(budget)
        return plan if plan.memory <= budget else None

    def _saved(self, budget: float) -> Plan:
        """The plan at which S1 to S4 stop: within the budget, or where nothing more can be saved."""
        plan = self.unlimited()
        for step in (self._recompute, self._accumulate, self._omit, self._remove):
            while plan.memory > budget:
                saving = [each for each in map(self.judged, step(plan)) if each.memory < plan.memory]
                if not saving:
                    break
                before = plan
                plan = min(saving, key=lambda each: (before.rate - each.rate) / (before.memory - each.memory))
        return plan

    def least(self) -> Plan:
        """M-: the smallest memory that S1 to S4 come to."""
        return self._saved(0.0)

    def _recompute(self, plan: Plan) -> Iterator[Plan]:
        for stage in range(self.count - 1):  # the last does both passes in one go
            if not plan.recompute[stage]:
                yield plan._replace(recompute=_set(plan.recompute, stage, True))

    def _accumulate(self, plan: Plan) -> Iterator[Plan]:
        for stage in range(self.count - 1):
            lag, now = self.count - 1 - stage, plan.accumulate[stage]
            if now < lag:
                yield plan._replace(accumulate=_set(plan.accumulate, stage, useful(lag, now)))

    def _omit(self, plan: Plan) -> Iterator[Plan]:
        for stage in range(self.count - 1):
            if not plan.omit[stage]:
                omit = _set(plan.omit, stage, self.count - 1 - stage)
                yield plan._replace(omit=omit, accumulate=_set(plan.accumulate, stage, 1))

    def _remove(self, plan: Plan) -> Iterator[Plan]:
        if plan.pipelines > 1:
            yield plan._replace(pipelines=plan.pipelines - 1)


def useful(lag: int, now: int) -> int:
    """The smallest ``c_a`` above ``now`` that keeps a version less: ``ceil(lag / (ceil(lag / now) - 1))``."""
    return math.ceil(lag / (math.ceil(lag / now) - 1))


def splits(layers: Sequence[Layer]) -> list[tuple[int, ...]]:
    """The cuts in which no stage takes longer than a limit and each has as many layers as fit: one for every limit that is the
    time of neighbouring layers, ``(L^2 + L) / 2`` at most, each cut once."""
    times = [layer.forward + layer.backward for layer in layers]
    sums = [0.0, *accumulate(times)]
    limits = {end - start for place, start in enumerate(sums) for end in sums[place + 1 :]}
    found: dict[tuple[int, ...], None] = {}
    for limit in sorted(limits):
        if limit >= max(times):
            found[_packed(times, limit * (1 + 1e-12))] = None
    return list(found)


def best(layers: Sequence[Layer], period: float, decay: float, budget: float = math.inf) -> Plan | None:
    """Of the plans of all cuts within a budget that of the greatest rate, of those the one of the smallest memory; without a
    budget M+. None if no plan is within it."""
    plans = (Pipelines(layers, split, period, decay).within(budget) for split in splits(layers))
    return max((plan for plan in plans if plan is not None), key=lambda each: (each.rate, -each.memory), default=None)


def least(layers: Sequence[Layer], period: float, decay: float) -> Plan:
    """M-: of the plans of all cuts that of the smallest memory, of those the one of the greatest rate."""
    plans = (Pipelines(layers, split, period, decay).least() for split in splits(layers))
    return min(plans, key=lambda each: (each.memory, -each.rate))


def _packed(times: Sequence[float], limit: float) -> tuple[int, ...]:
    counts, total = [0], 0.0
    for time in times:
        if counts[-1] and total + time > limit:
            counts.append(0)
            total = 0.0
        counts[-1] += 1
        total += time
    return tuple(counts)


def _set(values: tuple[T, ...], place: int, value: T) -> tuple[T, ...]:
    return (*values[:place], value, *values[place + 1 :])
