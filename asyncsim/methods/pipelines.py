"""Methods whose workers each compute one stage of a model: decoupled backpropagation and pipelines.

Sources, schedules and staleness: `docs/pipelines.md`. S groups of K stages are S * K workers; what the groups share is
the same choice for every method.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from asyncsim.consistency import ASP, BSP, Lockstep
from asyncsim.gossip import Gossip, Ring, gossips
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import (
    SGD,
    Accumulate,
    DiscrepancyCorrection,
    LookAheadMomentum,
    NAdam,
    Rescheduling,
    StepRule,
    Transform,
    WeightPrediction,
)  # fmt: skip
from asyncsim.policies.prediction import Horizon
from asyncsim.simulation.orders import Flush, ForwardLocked, OneForwardOneBackward, Ticks
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
        every *= program.parts
        together = num_workers > 1 and self.sharing == "all_reduce" and self.gossip is None
        transforms = self.treatments
        if together or every > 1:
            gather = {"members": True, "each": every} if together else {"count": every}
            transforms += (Accumulate(**gather, total=total),)
        if self.gossip is not None:
            self.gossip.matrix(num_workers)
        elif program.versions != "latest" and num_workers > 1 and not together:
            raise ValueError("groups that push as they come make no common versions; use `sharing: all_reduce`, or gossip")
        if together and stages == 1 and Need.PASSES not in program.needs and every == 1:
            consistency = BSP()
        elif together or self.gossip is not None:
            consistency = Lockstep(every=every)
        else:
            consistency = ASP()
        return Bundle(transforms, self.step(optimizer), consistency, program, self.gossip)


class TicksMethod(PipelineMethod):
    """Forward and backward passes of all stages at once, tick by tick.

    - ``update_first`` (the public code's default): backward, update, forward in every tick; staleness of stage k of K is
      ``max(0, 2(K - k) - 1)``. Otherwise forward first, as in the paper's figures: ``2(K - k)``.
    - ``beta`` shrinks every error signal. ``backward_weights``: see the stage program.
    - ``clocked: false``: stages wait for their messages, not for the end of the tick.
    """

    update_first: bool = True
    beta: float = Field(1.0, ge=0, le=1)
    backward_weights: Weights = "stashed"
    clocked: bool = True

    def stage(self, stages: int) -> Stage:
        order = Ticks(update_first=self.update_first, clocked=self.clocked)
        return Stage(order=order, backward=self.backward_weights, shrink=self.beta)


@methods.register("fdg")
class Fdg(TicksMethod):
    """Fully decoupled training with delayed gradients, Zhuang et al. 2019 (arXiv 1906.09108)."""


@methods.register("adl")
class Adl(TicksMethod):
    """Accumulated decoupled learning, Zhuang et al. 2020 (arXiv 2012.03747): every stage updates after ``accumulate`` gradients.

    ``total``: their sum is applied, as in the public code; otherwise their mean.
    """

    accumulate: int = Field(4, ge=1)
    total: bool = True

    @property
    def gathers(self) -> tuple[int, bool]:
        return self.accumulate, self.total


@methods.register("decoupled_data_parallel")
class DecoupledDataParallel(TicksMethod):
    """Data parallelism x fully decoupled parallel backpropagation, Pham and Ahn 2025 (arXiv 2509.05679).

    Our reconstruction from the abstract: every group runs an FDG pipeline on batches of its own, and after each step the groups'
    workers for one stage mix their parameters (a ring by default).
    """

    gossip: Annotated[Gossip, gossips] | None = Ring()


@methods.register("ddg")
class Ddg(PipelineMethod):
    """Decoupled parallel backpropagation with delayed gradients, Huo et al. 2018 (arXiv 1804.10574), with a locked forward."""

    beta: float = Field(1.0, ge=0, le=1)
    backward_weights: Weights = "stashed"

    def stage(self, stages: int) -> Stage:
        return Stage(order=ForwardLocked(), backward=self.backward_weights, shrink=self.beta)


@methods.register("features_replay")
class FeaturesReplay(PipelineMethod):
    """Features Replay, Huo et al. 2018 (arXiv 1807.04511): DDG that keeps inputs only and forwards them again with current
    parameters before the backward pass."""

    def stage(self, stages: int) -> Stage:
        return Stage(order=ForwardLocked(), backward="replayed")


class OneF1BMethod(PipelineMethod):
    """One forward, one backward: ``backward_weights`` and ``versions`` as in the stage program."""

    backward_weights: Weights = "stashed"

    def stage(self, stages: int) -> Stage:
        return Stage(order=OneForwardOneBackward(), backward=self.backward_weights)


@methods.register("pipedream")
class PipeDream(OneF1BMethod):
    """PipeDream, Narayanan et al. 2019 (SOSP): stage k of K computes on parameters ``K - k`` updates old, stashed for the
    backward pass. ``vertical_sync``: all stages use the version that the first one read, ``K - 1`` updates old."""

    vertical_sync: bool = False

    def stage(self, stages: int) -> Stage:
        versions = "first" if self.vertical_sync else "latest"
        return Stage(order=OneForwardOneBackward(), backward=self.backward_weights, versions=versions)


@methods.register("pipemare")
class PipeMare(PipelineMethod):
    """PipeMare, Yang et al. 2021 (arXiv 1910.05124): one forward, one backward without a stash.

    - T1: updates are divided by ``tau ** p``, ``p`` annealed from 1 to 0 over ``anneal`` updates (0: never divided); ``tau`` as
      in the policy ``rescheduling``.
    - T2 (``correct``): backward passes use a guess of the forward pass's parameters, with the constant ``decay``.
    - ``micro_batches`` make an update.
    """

    anneal: int = Field(1000, ge=0)
    tau: Literal["observed", "paper"] = "observed"
    correct: bool = True
    decay: float = Field(0.135, gt=0, lt=1)
    micro_batches: int = Field(1, ge=1)

    @property
    def treatments(self) -> tuple[Transform, ...]:
        rate = (Rescheduling(updates=self.anneal, tau=self.tau, micro_batches=self.micro_batches),) if self.anneal else ()
        return (*rate, DiscrepancyCorrection(decay=self.decay)) if self.correct else rate

    def stage(self, stages: int) -> Stage:
        return Stage(order=OneForwardOneBackward(), backward="current", micro_batches=self.micro_batches)


@methods.register("spectrain")
class SpecTrain(PipelineMethod):
    """SpecTrain, Chen et al. 2018 (arXiv 1809.02839): one forward, one backward on parameters that momentum predicts.

    ``horizon`` as in the step rule ``weight_prediction``: ``spectrain`` predicts for both passes, the others once for both. The
    momentum is the optimizer's (``sgd``).
    """

    horizon: Horizon = "spectrain"

    def stage(self, stages: int) -> Stage:
        return Stage(order=OneForwardOneBackward(), backward="current" if self.horizon == "spectrain" else "stashed")

    def step(self, optimizer: StepRule) -> StepRule:
        settings = _momentum(optimizer, "the prediction")
        return WeightPrediction(**settings, horizon=self.horizon)


@methods.register("pipedream_2bw")
class PipeDream2bw(PipelineMethod):
    """PipeDream-2BW, Narayanan et al. 2021 (ICML): ``micro_batches`` (as many as stages at least, and by default) make an update,
    and two versions are kept: every gradient is one update old, whatever the depth."""

    micro_batches: int | None = Field(None, ge=1)

    def stage(self, stages: int) -> Stage:
        count = self.micro_batches or stages
        if count < stages:
            raise ValueError(f"2BW needs as many micro-batches as stages at least ({stages}), not {count}")
        return Stage(order=OneForwardOneBackward(), versions="double", micro_batches=count)


@methods.register("gpipe")
class GPipe(PipelineMethod):
    """GPipe, Huang et al. 2019: ``micro_batches`` fill the pipeline, which is emptied before the update: synchronous SGD.

    ``interleaved``: PipeDream-Flush, the same with fewer activations kept.
    """

    micro_batches: int = Field(4, ge=1)
    interleaved: bool = False

    def stage(self, stages: int) -> Stage:
        return Stage(order=Flush(interleaved=self.interleaved), micro_batches=self.micro_batches)


@methods.register("bp")
class Bp(PipelineMethod):
    """Plain backpropagation over K machines: one batch at a time goes up and down, and all but one stage wait."""

    def stage(self, stages: int) -> Stage:
        return Stage(order=Flush())


@methods.register("nesterov_pipeline")
class NesterovPipeline(OneF1BMethod):
    """Nesterov's method for asynchronous pipelines, Ajanthan et al. 2025 (arXiv 2505.01099): PipeDream whose forward passes read
    a look-ahead, with the gradient weighted by ``1 - momentum``. The momentum is the optimizer's (``sgd``). With the optimizer
    ``nadam`` it is PipeDream with that, as in their experiments."""

    def step(self, optimizer: StepRule) -> StepRule:
        if isinstance(optimizer, NAdam):
            return optimizer
        return LookAheadMomentum(**_momentum(optimizer, "the Nesterov pipeline"))


def _momentum(optimizer: StepRule, who: str) -> dict[str, float]:
    """Rate, decay and momentum of an optimizer that has one, for a rule that looks ahead by it."""
    if not isinstance(optimizer, SGD) or optimizer.nesterov:
        given = "nesterov" if isinstance(optimizer, SGD) else optimizer.kind
        raise ValueError(f"{who} takes the heavy-ball momentum of the optimizer sgd, not {given}")
    return {"lr": optimizer.lr, "weight_decay": optimizer.weight_decay, "momentum": optimizer.momentum}
