"""What methods share whose workers each compute one stage of a model: decoupled backpropagation and pipelines.

Schedules, staleness and what groups share: `docs/pipelines.md`. S groups of K stages are S * K workers; what the groups share is
the same choice for every method.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from asyncsim.consistency import ASP, BSP, Consistency, Lockstep
from asyncsim.exchange import StageRounds
from asyncsim.gossip import Gossip, gossips
from asyncsim.methods.method import Bundle, Method
from asyncsim.needs import Need
from asyncsim.policies import Accumulate, StepRule, Transform
from asyncsim.simulation.orders import OneForwardOneBackward, Ticks
from asyncsim.simulation.stage_program import Stage

Weights = Literal["stashed", "current", "replayed"]


class PipelineMethod(Method):
    """What groups share. ``all_reduce``: one shard a stage, and the mean gradient of all groups in every step.
    ``asynchronous``: one shard a stage, each group's gradient as it comes, so gradients are stale on both axes. With ``gossip``
    every group has parameters of its own and mixes them with its neighbours'.

    With one stage it is the data-parallel method that is left.
    """

    sharing: Literal["all_reduce", "asynchronous"] = "all_reduce"
    gossip: Annotated[Gossip, gossips] | None = None

    def stage(self, stages: int) -> Stage:
        """The program of one stage."""
        raise NotImplementedError

    def step(self, optimizer: StepRule) -> StepRule:
        """The rule that ends the chain."""
        return optimizer

    @property
    def treatments(self) -> tuple[Transform, ...]:
        """What happens to every gradient by itself."""
        return ()

    @property
    def gathers(self) -> tuple[int, bool]:
        """Pushes of one worker for an update, and whether their sum is applied (or their mean)."""
        return 1, False

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return self.staged_parts(num_workers, 1, optimizer)

    def staged_parts(self, num_workers: int, stages: int, optimizer: StepRule) -> Bundle:
        program = self.stage(stages)
        every, total = self.gathers
        every *= program.num_micro_batches
        together = num_workers > 1 and self.sharing == "all_reduce" and self.gossip is None
        transforms = self.treatments
        if together or every > 1:
            gather = {"members": True, "each": every} if together else {"count": every}
            transforms += (Accumulate(**gather, total=total),)
        if self.gossip is None and program.versions != "latest" and num_workers > 1 and not together:
            raise ValueError("groups that push as they come make no common versions; use `sharing: all_reduce`, or gossip")
        consistency: Consistency
        if together and stages == 1 and Need.PASSES not in program.needs and every == 1:
            consistency = BSP()
        elif together or self.gossip is not None:
            consistency = Lockstep(every=every)
        else:
            consistency = ASP()
        exchange = None if self.gossip is None else StageRounds(graph=self.gossip)
        return Bundle(transforms, self.step(optimizer), consistency, program, exchange)


class TicksMethod(PipelineMethod):
    """Forward and backward passes of all stages at once, tick by tick.

    - ``update_first`` (the public code's default): backward, update, forward in every tick; staleness of stage k of K is
      ``max(0, 2(K - k) - 1)``. Otherwise forward first, as in the paper's figures: ``2(K - k)``.
    - ``beta`` shrinks every error signal. ``backward_weights``: see the stage program.
    - ``clocked: false``: stages wait for their messages, not for the end of the tick.
    """

    update_first: bool = True
    beta: float = Field(default=1.0, ge=0, le=1)
    backward_weights: Weights = "stashed"
    clocked: bool = True

    def stage(self, stages: int) -> Stage:
        order = Ticks(update_first=self.update_first, clocked=self.clocked)
        return Stage(order=order, backward=self.backward_weights, shrink=self.beta)


class OneF1BMethod(PipelineMethod):
    """One forward, one backward: ``backward_weights`` and ``versions`` as in the stage program."""

    backward_weights: Weights = "stashed"

    def stage(self, stages: int) -> Stage:
        return Stage(order=OneForwardOneBackward(), backward=self.backward_weights)
