"""A policy: a chain of transforms ended by one step rule, with their states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from asyncsim.errors import UserError
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need, joined
from asyncsim.policies.state import State, initial_state
from asyncsim.policies.step_rule import StepRule
from asyncsim.policies.transform import Transform

if TYPE_CHECKING:
    from torch import Tensor

DECLARED = {Verdict.DROPPED: Need.DROPS, Verdict.BUFFERED: Need.BUFFERS}
"""The property that a transform has to declare before it may return a verdict."""


def undeclared(transform: Transform, verdict: Verdict) -> UserError:
    """The error for a transform that returns a verdict without having declared that it may."""
    need = DECLARED[verdict]
    return UserError(
        f"policy `{transform.kind or type(transform).__name__}` returned {verdict} but has not declared Need.{need.name}; "
        f"engines and plans rely on what is declared: give its class `needs = Need.{need.name}` (from asyncsim.needs import Need)"
    )


class Rule:
    """A transform, together with what it has declared."""

    def __init__(self, transform: Transform) -> None:
        needs = transform.needs
        self.transform = transform
        self.numeric = needs.numeric
        self.verdicts = {verdict for verdict, need in DECLARED.items() if need in needs}


def send_through(push: Push, rules: list[Rule], states: list[State], server: ServerView) -> Push | Verdict:
    """Send a push through transforms in order. Returns the push that comes out of the last one, or the verdict that ended it.

    A push without payload (the timeline alone is simulated, or the run has diverged) skips the transforms that need numbers
    and decide nothing. Raises ``UserError`` if a transform does what it has not declared.
    """
    for rule, state in zip(rules, states, strict=True):
        if rule.numeric and push.payload is None:
            continue
        result = rule.transform.update(push, state, server)
        if isinstance(result, Verdict):
            if result not in rule.verdicts:
                raise undeclared(rule.transform, result)
            return result
        push = result
    return push


@dataclass(slots=True)
class PolicyState(State):
    """Everything in a policy that changes during a run: the states of its transforms, of those of the downlink, and of its step
    rule."""

    transforms: list[State]
    downlink: list[State]
    step: State


class Policy:
    """The policy of a server: what it does with an arriving push (``transforms``, ended by ``step``), and what it hands out
    (``step``, then the transforms, then those of the ``downlink``). All that changes during a run is in ``state``.
    """

    def __init__(
        self,
        transforms: tuple[Transform, ...],
        step: StepRule,
        params: Tensor | None,
        num_workers: int,
        downlink: tuple[Transform, ...] = (),
    ) -> None:
        self.transforms = transforms
        self.downlink = downlink
        self.step = step
        self._rules = [Rule(transform) for transform in transforms]
        self._viewing = [index for index, each in enumerate(transforms) if type(each).view is not Transform.view]
        parts: tuple[Transform | StepRule, ...] = (*transforms, *downlink, step)
        self.worker_view = Need.WORKER_VIEW in joined(part.needs for part in parts)
        self.state = PolicyState(
            [initial_state(transform, params, num_workers) for transform in transforms],
            [initial_state(transform, params, num_workers) for transform in downlink],
            initial_state(step, params, num_workers),
        )

    def arrive(self, push: Push, server: ServerView, after: int = 0) -> Push | Verdict:
        """Send a push through the transforms from the index ``after`` on. Returns the push to apply, or the verdict that ended
        it."""
        if len(self.transforms) == after:
            return push
        rules, states = self._rules, self.state.transforms
        return send_through(push, rules[after:] if after else rules, states[after:] if after else states, server)

    def settle(self, server: ServerView) -> Push | None:
        """Called when a worker has left for good, or a time has come that a transform asked for: the push that a buffer passes
        on because of that, or None."""
        for index, transform in enumerate(self.transforms):
            push = transform.settle(self.state.transforms[index], server)
            if push is not None:
                result = self.arrive(push, server, after=index + 1)
                return None if isinstance(result, Verdict) else result
        return None

    def launched(self, push: Push, server: ServerView) -> Push | None:
        """Tell the transforms that ask for it that a push has been launched. Returns the push that is to be applied now."""
        update = None
        for index, (rule, state) in enumerate(zip(self._rules, self.state.transforms, strict=True)):
            if Need.LAUNCHES not in rule.transform.needs or (rule.numeric and push.payload is None):
                continue
            made = rule.transform.launched(push, state, server)
            if made is not None:
                update = self.arrive(made, server, after=index + 1)
        return update if isinstance(update, Push) else None

    def forget(self, worker: int) -> None:
        """Tell the transforms that ``worker`` has gone down."""
        for transform, state in zip(self.transforms, self.state.transforms, strict=True):
            transform.forget(worker, state)

    def closes(self) -> int | None:
        """The earliest virtual time (ns) at which a transform asks to be settled."""
        times = [each.closes(state) for each, state in zip(self.transforms, self.state.transforms, strict=True)]
        return min((time for time in times if time is not None), default=None)

    def apply(self, push: Push, server: ServerView) -> Tensor:
        """The parameters after the update, a new tensor of shape ``(P,)``."""
        direction = self.step.direction(push, self.state.step, server)
        params = server.params.add(direction, alpha=-server.lr)
        for transform, state in zip(self.transforms, self.state.transforms, strict=True):
            transform.applied(direction, state, server)
        return params

    def view(self, params: Tensor, server: ServerView, worker: int) -> Tensor:
        """What ``worker`` is handed if it reads now, shape ``(P,)``: what the step rule hands out, changed by the transforms."""
        view = self.step.view(params, self.state.step, server, worker)
        for index in self._viewing:
            view = self.transforms[index].view(view, self.state.transforms[index], server, worker)
        for transform, state in zip(self.downlink, self.state.downlink, strict=True):
            view = transform.view(view, state, server, worker)
        return view

    def sub_model(self, share: float, server: ServerView, worker: int) -> Tensor:
        """The parameters of the sub-model, shape ``(P,)`` bool, that ``worker`` is handed as it is to train this ``share``."""
        parts = zip(self.transforms, self.state.transforms, strict=True)
        made = (transform.sub_model(share, state, server, worker) for transform, state in parts)
        return next(trained for trained in made if trained is not None)  # a method with shares has one that makes sub-models

    def handed(self, view: Tensor, server: ServerView, worker: int) -> None:
        """Tell the transforms that ``worker`` has been handed ``view``."""
        states = (*self.state.transforms, *self.state.downlink)
        for transform, state in zip((*self.transforms, *self.downlink), states, strict=True):
            transform.handed(view, state, server, worker)

    def velocity(self, server: ServerView) -> Tensor | None:
        """The momentum buffer as the last step left it, shape ``(P,)``; None without momentum."""
        return self.step.velocity(self.state.step, server)

    def late_view(self, params: Tensor, server: ServerView) -> Tensor:
        """The parameters, shape ``(P,)``, for a late backward pass that does not use those of its forward pass."""
        for transform, state in zip(self.transforms, self.state.transforms, strict=True):
            params = transform.late_view(params, state, server)
        return self.step.late_view(params, self.state.step, server)
