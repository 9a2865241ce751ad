"""Streaming DiLoCo: the parameters are cut into fragments, of which one is exchanged in a round, while workers keep the rest::

    worker i, its round t:   for every fragment q whose global values are new to it:
                                 x_i[q] <- (1 - share) * x_i[q] + share * theta[q];   a_i[q] <- theta[q]
                             local_steps times:  x_i <- x_i - local_lr * factor * g(x_i)                 all fragments
                             push  D_i = a_i[p] - x_i[p],   p = t mod fragments
    server, for each p:      theta[p] <- outer step with  sum of w_i D_i / sum of w_i;   every fragment has a momentum of its own

A. Douillard et al. 2025, Streaming DiLoCo (arXiv 2501.18512), recalled (medium confidence), ``share`` (1 - alpha) and its default
included; its text was not at hand. Quorum, grace and the weights w_i are Decoupled DiLoCo's: `decoupled_diloco`.

Order: take in, steps, push. All wait until every member has pushed, or with a ``quorum`` until the group of their push is closed;
who is late is in the next one. With ``overlap`` a fragment travels while the next round is computed.
Ours: fragments are equal pieces of the flat vector in its order (there: of layers); one whose mean is zero everywhere has no
step. A message of either direction has the bytes of the largest fragment; who has missed updates takes all that is new and is
charged for one. A worker that goes down loses its model and begins at what it reads; a round that is lost uses up its turn.
Workers take SGD steps (there: AdamW). With ``least_steps`` slower ones take fewer: `dylu`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from asyncsim.consistency import BSP, Lockstep
from asyncsim.messages import Gradient, Push, ServerView, Verdict
from asyncsim.methods.decoupled_diloco import FragmentMeans, Fragments, FragmentSGD, QuorumSettings, pieces
from asyncsim.methods.dylu import Paced, check_least_steps
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.needs import Need
from asyncsim.policies import SGD, State, StepRule, Transform
from asyncsim.policies.transform import policies
from asyncsim.simulation.programs import LocalSGD, programs

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Snapshot
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


@policies.register("fragment")
class OneFragment(Fragments, Transform):
    """In an ``uplink``: send one fragment of a push, in turn. In a ``downlink``: what is read has the bytes of one."""

    needs: ClassVar[Need] = Need.VALUES

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        whole = push.gradient
        piece = pieces(len(whole), self.fragments)[push.step % self.fragments]
        push.replaced = whole.new_zeros(whole.shape)
        push.replaced[piece] = whole[piece]
        return push

    def view(self, params: Tensor, state: State, server: ServerView, worker: int) -> Tensor:
        return params

    def nbytes(self, nbytes: float, numbers: int) -> float:
        return nbytes * math.ceil(numbers / self.fragments) / numbers


@dataclass(frozen=True)
class StreamedSteps:
    """A kernel: take in what is new of the snapshot ``s``, and take ``steps`` steps with the worker's own model; the result is
    ``s - x``, shape ``(P,)``. Carried on are the model and the snapshot, shape ``(2, P)``."""

    share: float
    fragments: int
    steps: int
    lr: float
    momentum: float
    first: int
    carries: ClassVar[bool] = True

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int, carry: Tensor | None) -> Gradient:
        from asyncsim.engine.kernels import gradient

        x, read = (params.clone(), params) if carry is None else (carry[0].clone(), carry[1])
        for piece in pieces(len(x), self.fragments):
            if bool((params[piece] != read[piece]).any()):
                x[piece] = x[piece] * (1.0 - self.share) + params[piece] * self.share
        velocity, loss, statistics = params.new_zeros(params.shape), params.new_zeros(()), None
        for index in range(self.first, self.first + self.steps):
            result = gradient(task, streams, x, worker, index)
            velocity = velocity * self.momentum + result.gradient
            x = x.add(velocity, alpha=-self.lr)
            loss, statistics = loss + result.loss, result.statistics
        left = x.new_empty(2, len(x))
        left[0], left[1] = x, params
        return Gradient(params - x, loss / self.steps, statistics, left)


class Streaming(Fragments):
    """``share``: the weight of the global values when a worker takes a fragment in."""

    share: float = Field(default=0.5, ge=0, le=1)


@programs.register("streamed_sgd")
class StreamedSGD(Streaming, Paced, LocalSGD):
    """Local steps with a model of the worker's own, which takes in fragments of the parameters as they are new (Streaming
    DiLoCo). ``least_steps`` as in ``dylu``; with as many as ``steps`` all workers take the same number."""

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return super().needs | Need.WORKER_STATE

    def kernel(self, snapshot: Snapshot) -> Any:
        first, steps = snapshot.pace or (0, self.steps)
        return StreamedSteps(self.share, self.fragments, steps, self.lr * snapshot.lr_factor, self.momentum, first)


@methods.register("streaming_diloco")
class StreamingDiloco(Streaming, QuorumSettings, LocalMethod):
    """Streaming DiLoCo, 2025: fragments of the parameters are exchanged in turn, one in a round of ``local_steps`` steps. The
    optimizer is the outer one, for every fragment by itself: ``{kind: sgd, lr: 0.7, momentum: 0.9, nesterov: true}``."""

    overlap: bool = False
    least_steps: int | None = Field(default=None, ge=1)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if not isinstance(optimizer, SGD):
            raise ValueError(f"fragments have the momentum of the outer optimizer sgd, not that of {optimizer.kind}")
        if self.overlap and self.quorum is not None:
            raise ValueError("`overlap` is for rounds of all members, and excludes a `quorum`")
        least = self.local_steps if self.least_steps is None else self.least_steps
        check_least_steps(least, self.local_steps, "local_steps")
        step = self.part(FragmentSGD, **{name: getattr(optimizer, name) for name in SGD.model_fields})
        local = {"steps": self.local_steps, "lr": self.local_lr, "momentum": self.local_momentum}
        program = self.part(StreamedSGD, **local, least_steps=least)
        rule = Lockstep() if self.quorum is not None else BSP(lag=int(self.overlap))
        sent = (self.part(OneFragment),)
        return Bundle((self.part(FragmentMeans),), step, rule, program, uplink=sent, downlink=sent)
