"""Orders: the sequence in which a stage of a pipeline does its passes. Stages ``k`` and batches count from 0 here."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from pydantic import Field

from asyncsim.registry import PAPERS, Registry, Spec

orders: Registry[Order] = Registry("order", home=PAPERS)


class Pass(enum.Enum):
    """The kinds of steps in an order."""

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "forward and backward in one go"
    MEET = "wait until every stage of the group has come as far"


class Action(NamedTuple):
    """One step of an order: what to do, and for which (micro-)batch."""

    what: Pass
    batch: int = -1


MEET = Action(Pass.MEET)


class Order(Spec):
    """An endless sequence of passes for every stage of a pipeline."""

    def lag(self, stage: int, num_stages: int) -> int:
        """How many forward passes a stage is ahead of its backward passes in the steady state."""
        return 0

    def actions(self, stage: int, num_stages: int, micro_batches: int) -> Iterator[Action]:
        raise NotImplementedError

    def delays(self, stage: int, num_stages: int) -> bool:
        """Does the stage hold its update back until it proceeds to the next pass?"""
        return False

    def fits(self, num_stages: int) -> None:
        """Raise ``ValueError`` if the order cannot be that of so many stages."""

    def omits(self, stage: int, batch: int) -> bool:
        """Does the stage forward this (micro-)batch without a backward pass? Then those below it do so too."""
        return False


def paired(lag: int) -> Iterator[Action]:
    """The sequence "forward pass of batch ``n``, then backward pass of batch ``n - lag``"."""
    for batch in count():
        if lag == 0:
            yield Action(Pass.BOTH, batch)
            continue
        yield Action(Pass.FORWARD, batch)
        if batch >= lag:
            yield Action(Pass.BACKWARD, batch - lag)


@orders.register("ticks")
class Ticks(Order):
    """Fully decoupled: in every tick each stage forwards a batch and backwards an older one, then all exchange (FDG).

    Stage ``k`` of ``K`` (from 1) lags ``2(K - k)`` ticks. Two orders inside a tick: ``update_first`` (the public code: backward,
    update, then forward; staleness one less than the lag), or forward first (the paper's figures; staleness equals the lag).
    ``clocked``: nobody begins a tick before all stages of the group have ended the one before; otherwise a stage waits
    for its messages only.
    """

    update_first: bool = True
    clocked: bool = True

    def lag(self, stage: int, num_stages: int) -> int:
        return 2 * (num_stages - 1 - stage)

    def delays(self, stage: int, num_stages: int) -> bool:
        return self.update_first and stage == num_stages - 1 and num_stages > 1

    def actions(self, stage: int, num_stages: int, micro_batches: int) -> Iterator[Action]:
        lag = self.lag(stage, num_stages)
        for tick in count():
            if self.clocked and num_stages > 1:
                yield MEET
            forward, backward = tick - stage, tick - stage - lag
            if forward < 0:
                continue
            if lag == 0:
                yield Action(Pass.BOTH, forward)
                continue
            if not self.update_first:
                yield Action(Pass.FORWARD, forward)
            if backward >= 0:
                yield Action(Pass.BACKWARD, backward)
            if self.update_first:
                yield Action(Pass.FORWARD, forward)


@orders.register("1f1b")
class OneForwardOneBackward(Order):
    """PipeDream: ``K - k`` forward passes to warm up, then one forward and one backward in turn."""

    def lag(self, stage: int, num_stages: int) -> int:
        return num_stages - 1 - stage

    def actions(self, stage: int, num_stages: int, micro_batches: int) -> Iterator[Action]:
        return paired(self.lag(stage, num_stages))


@orders.register("forward_locked")
class ForwardLocked(Order):
    """One batch is forwarded through all stages in turn, then all stages do a backward pass at once: stage ``k`` that of the
    batch ``K - k`` iterations ago (DDG, Features Replay)."""

    def lag(self, stage: int, num_stages: int) -> int:
        return num_stages - 1 - stage

    def actions(self, stage: int, num_stages: int, micro_batches: int) -> Iterator[Action]:
        lag = self.lag(stage, num_stages)
        for batch in count():
            yield MEET
            yield Action(Pass.FORWARD, batch)
            yield MEET
            if batch >= lag:
                yield Action(Pass.BACKWARD, batch - lag)


@orders.register("flush")
class Flush(Order):
    """Synchronous: the pipeline is emptied after every batch of ``micro_batches``. All forwards first (GPipe), or ``interleaved``
    one forward, one backward (PipeDream-Flush, which keeps fewer activations). One micro-batch is locked backpropagation."""

    interleaved: bool = Field(default=False)

    def lag(self, stage: int, num_stages: int) -> int:
        return num_stages - 1 - stage

    def actions(self, stage: int, num_stages: int, micro_batches: int) -> Iterator[Action]:
        ahead = min(self.lag(stage, num_stages), micro_batches - 1) if self.interleaved else micro_batches - 1
        for first in count(0, micro_batches):
            if ahead == 0:  # no other pass lies between the two passes of the last stage
                alone = stage == num_stages - 1
                for batch in range(first, first + micro_batches):
                    for what in (Pass.BOTH,) if alone else (Pass.FORWARD, Pass.BACKWARD):
                        yield Action(what, batch)
                continue
            for batch in range(micro_batches + ahead):
                if batch < micro_batches:
                    yield Action(Pass.FORWARD, first + batch)
                if batch >= ahead:
                    yield Action(Pass.BACKWARD, first + batch - ahead)


@orders.register("flush_first")
class FlushFirst(Order):
    """A synchronous warm-up: the first ``batches`` batches as in ``flush``, then ``1f1b`` (technique T3 of PipeMare, Yang et al.
    2021, arXiv 1910.05124)."""

    batches: int = Field(default=100, ge=0)

    def lag(self, stage: int, num_stages: int) -> int:
        return OneForwardOneBackward().lag(stage, num_stages)

    def actions(self, stage: int, num_stages: int, micro_batches: int) -> Iterator[Action]:
        done, first = 0, self.batches * micro_batches
        for action in Flush().actions(stage, num_stages, micro_batches):
            if done == first:
                break
            done += action.what in (Pass.BACKWARD, Pass.BOTH)
            yield action
        for action in OneForwardOneBackward().actions(stage, num_stages, micro_batches):
            yield action._replace(batch=first + action.batch)
