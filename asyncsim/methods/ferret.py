"""Ferret: pipelines that take turns at a stream, with less memory for less of what is learnt::

    item i goes to pipeline i mod N, N = ceil((t_f + t_b) / t_d)        t_f, t_b: of the slowest stage; t_d: between two items
    P stages in asynchronous 1F1B; the gradients of all pipelines are applied as they come, each carried along by Iter-Fisher
    T1  a stage repeats its forward pass before the backward pass, and keeps no activations
    T2  a stage makes one update of c_a gradients of a pipeline:      1 + ceil((P-j-1) / c_a) versions in place of P - j
    T3  with c_a = 1 it does no backward pass of c_o of every c_o + 1 items:     one version for c_o = P-1-j     j = 0, ..., P-1
    T4  a pipeline is removed, and its items are not learnt

Y. Zhou et al., "Ferret", CVPR 2025, by the paper's main text; neither its appendix nor its Algorithm 1 was at hand. What a memory
makes of T1 to T4: `asyncsim.theory.ferret_plan`. Items, turns and T4 are the scenario's ``stream`` and number of workers.

Reconstructions of ours: ``t_f`` and ``t_b`` are those of one stage; a stage does a backward pass of an item only if all above it
do (an error signal has to come from there), so the least common multiple of their ``c_o + 1`` counts; the gradients of an update
are averaged; knobs are the same in all pipelines.
Order: a gradient is carried along as it arrives, then kept back until there are ``c_a`` of its pipeline.
Differs from the paper: versions of all pipelines count for the staleness, which may exceed P - 1 where they are several; and a
backward pass waits for its place in 1F1B, also if the stream is slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import lcm
from typing import Annotated, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.iter_fisher import IterFisher, IterFisherSettings
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import State, StepRule, Transform
from asyncsim.policies.mean import mean_push
from asyncsim.policies.transform import policies
from asyncsim.simulation.orders import Action, OneForwardOneBackward, Pass, orders
from asyncsim.simulation.stage_program import Stage

Counts = tuple[Annotated[int, Field(ge=1)], ...]
Omitted = tuple[Annotated[int, Field(ge=0)], ...]


@orders.register("omitting_1f1b")
class OmittingOneForwardOneBackward(OneForwardOneBackward):
    """``1f1b`` in which stage ``j`` does no backward pass of ``omit[j]`` of every ``omit[j] + 1`` batches, nor of one that a
    stage above it omits (technique T3 of Ferret, Zhou et al., CVPR 2025)."""

    omit: Omitted

    def fits(self, num_stages: int) -> None:
        if len(self.omit) != num_stages:
            raise ValueError(f"`omit` has {len(self.omit)} entries for {num_stages} stages")
        if self.omit[-1]:
            raise ValueError("`omit` of the last stage is 0: it does both passes in one go, and keeps nothing between them")

    def every(self, stage: int) -> int:
        """The stage does the backward pass of every such batch."""
        return lcm(*(count + 1 for count in self.omit[stage:]))

    def omits(self, stage: int, batch: int) -> bool:
        return stage >= 0 and batch % self.every(stage) > 0

    def actions(self, stage: int, num_stages: int, micro_batches: int) -> Iterator[Action]:
        passes = super().actions(stage, num_stages, micro_batches)
        return (each for each in passes if each.what is not Pass.BACKWARD or not self.omits(stage, each.batch))


@dataclass(slots=True)
class Kept(State):
    """The pushes of each worker that wait for others of it, in the order of their arrivals."""

    buffers: dict[int, list[Push]] = field(default_factory=dict)


@policies.register("accumulate_by_stage")
class AccumulateByStage(Transform):
    """One update of the mean of ``counts[j]`` pushes of one worker at stage ``j``, of one push at a stage beyond the list
    (technique T2 of Ferret, Zhou et al., CVPR 2025). What is kept of a worker that leaves is not applied."""

    needs: ClassVar[Need] = Need.BUFFERS | Need.MEANS
    counts: Counts = ()

    def init(self, params: object, num_workers: int) -> Kept:
        return Kept()

    def update(self, push: Push, state: Kept, server: ServerView) -> Push | Verdict:
        waiting = state.buffers.setdefault(push.worker, [])
        waiting.append(push)
        if server.stage < len(self.counts) and len(waiting) < self.counts[server.stage]:
            return Verdict.BUFFERED
        del state.buffers[push.worker]
        return push if len(waiting) == 1 else mean_push(waiting)


@methods.register("ferret")
class Ferret(IterFisherSettings, Method):
    """Ferret, Zhou et al. 2025: pipelines in asynchronous 1F1B that learn from a stream in turn, with Iter-Fisher.

    - ``accumulate``: ``c_a`` of each stage; ``omit``: ``c_o`` of each stage, which takes ``accumulate`` 1 there. Empty: none.
    - ``recompute``: of all stages, or of each.
    """

    accumulate: Counts = ()
    omit: Omitted = ()
    recompute: bool | tuple[bool, ...] = False

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return self.staged_parts(num_workers, 1, optimizer)

    def staged_parts(self, num_workers: int, stages: int, optimizer: StepRule) -> Bundle:
        if self.accumulate and len(self.accumulate) != stages:
            raise ValueError(f"`accumulate` has {len(self.accumulate)} entries for {stages} stages")
        for stage, (count, left_out) in enumerate(zip(self.accumulate, self.omit, strict=False)):
            if count > 1 and left_out:
                raise ValueError(f"stage {stage + 1} has both `accumulate` {count} and `omit` {left_out}; one of them is enough")
        transforms: tuple[Transform, ...] = (self.part(IterFisher),)
        if any(count > 1 for count in self.accumulate):
            transforms += (AccumulateByStage(counts=self.accumulate),)
        order = OmittingOneForwardOneBackward(omit=self.omit) if any(self.omit) else OneForwardOneBackward()
        return Bundle(transforms, optimizer, ASP(), Stage(order=order, recompute=self.recompute))
