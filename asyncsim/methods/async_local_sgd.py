"""Asynchronous local SGD: what arrives shortly after a push is merged with it before new models are handed out; DyLU::

    worker w:  x <- s;   H_w times:  x <- x - local_lr * factor * g(x);   push  D = s - x;   wait for a new model
               H_w = local_steps, or with ``least_steps`` by the measured speed (DyLU): `dylu`
    server:    K pushes D_1 .. D_K that have come within ``grace`` after the first of them, the last of them at time t:
               G = sum of (1 + tau_k)^(-power) * D_k / sqrt(K)                     ``weights: mean``: / K
               theta <- outer step with G;   handed out at the end of the grace, or at t

B. Liu et al., "Asynchronous Local-SGD Training for Language Modeling", 2024 (arXiv 2401.09135). Grace and merging were read in
the authors' toy code (github.com/google-deepmind/asyncdiloco).

Order: a push is weighted by its staleness, then merged; all whose pushes were merged read the new version together. The toy
hands out at ``t`` (``until: last_arrival``), which only somebody can who knows that nobody else will come in time: a
simulation does. The default waits to the end of the grace, as a server has to. Outer steps: Nesterov, 0.1 or 0.07, 0.9.
Ours: a window closes at once when every member has pushed in it, as nobody is left to come.
Differs from the toy: SGD steps (there: fresh AdamW with a cosine by the progress of a shard of data; ``program: {kind:
local_adamw, fresh: true}`` but for the cosine); every worker has data of its own (there: the shard least visited).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asyncsim.consistency import Lockstep
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.dylu import PacedSGD, check_least_steps
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.needs import Need
from asyncsim.policies import StalenessAware, State, StepRule, Transform
from asyncsim.policies.accumulate import everybody
from asyncsim.policies.mean import mean_push
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec
from asyncsim.units import PositiveSeconds, nanoseconds

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Window(State):
    """The pushes of the open window, in the order of their arrivals; when to look whether it closes; when it closes at the latest
    (virtual ns)."""

    pushes: list[Push] = field(default_factory=list)
    look: int = 0
    end: int = 0


class GraceSettings(Spec):
    """The fields of the transform, and of the method that holds one."""

    grace: PositiveSeconds = 0.5
    until: Literal["end", "last_arrival"] = "end"
    weights: Literal["root", "mean"] = "root"


@policies.register("grace")
class Grace(GraceSettings, Transform):
    """Merge the pushes that arrive within ``grace`` after the first of them: their sum over the square root of their number, or
    their mean (Liu et al. 2024, toy code). ``until``: the window ends with the grace, or with the last arrival in it."""

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        foresees = Need.FORESEES if self.until == "last_arrival" else Need.NOTHING
        return Need.BUFFERS | Need.MEANS | Need.CLOSES | foresees

    def init(self, params: Tensor | None, num_workers: int) -> Window:
        return Window()

    def update(self, push: Push, state: Window, server: ServerView) -> Push | Verdict:
        if not state.pushes:
            state.end = push.time + nanoseconds(self.grace)
        state.pushes.append(push)
        state.look = push.time if self.until == "last_arrival" else state.end
        return self.merged(state) if everybody(state.pushes, server) else Verdict.BUFFERED

    def settle(self, state: Window, server: ServerView) -> Push | None:
        if not state.pushes:
            return None
        if not everybody(state.pushes, server):
            if server.now < state.look:
                return None
            if server.now < state.end and server.foresees(state.end):
                state.look = state.end
                return None
        return self.merged(state)

    def merged(self, state: Window) -> Push:
        """Close the window: all of its pushes as one."""
        pushes, state.pushes = state.pushes, []
        if len(pushes) == 1:
            return pushes[0]
        mean = mean_push(pushes)
        if self.weights == "root" and mean.payload is not None:
            mean.replaced = mean.gradient * len(pushes) ** 0.5
        return mean

    def closes(self, state: Window) -> int | None:
        return state.look if state.pushes else None


@methods.register("async_local_sgd")
class AsyncLocalSgd(GraceSettings, LocalMethod):
    """Asynchronous local SGD with a grace window (Liu et al. 2024, toy code): pushes that come shortly after another are merged
    with it, each weighted by its staleness, and all of their workers wait for the new model. ``least_steps``: DyLU."""

    power: float = Field(default=0.5, ge=0)
    least_steps: int | None = Field(default=None, ge=1)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        weigh = (StalenessAware(rule="polynomial", power=self.power),) if self.power else ()
        program = self.local()
        if self.least_steps is not None:
            check_least_steps(self.least_steps, self.local_steps, "local_steps")
            program = PacedSGD(**dict(program), least_steps=self.least_steps)
        return Bundle((*weigh, self.part(Grace)), optimizer, Lockstep(), program)
