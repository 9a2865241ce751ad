"""The uplink: what a worker does to its push before it sends it, as a chain of transforms whose state lives at the worker."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncsim.errors import UserError
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.chain import Rule, send_through
from asyncsim.policies.state import State, initial_state
from asyncsim.policies.transform import Shapes, Transform

if TYPE_CHECKING:
    from torch import Tensor


class Message(NamedTuple):
    """The size of a message before any transform: bytes, and the shapes of the parameter tensors in it; one vector of all where
    nobody asks for more."""

    nbytes: float
    shapes: Shapes

    @property
    def numbers(self) -> int:
        return sum(map(math.prod, self.shapes))


class Uplink:
    """The uplink transforms of all workers of a shard, with one state for each worker that has sent something.

    They are evaluated when the push arrives, in the order of arrivals, which for one worker is the order in which it sent. What a
    crash loses on its way had not been treated yet, and the worker's state is lost with it (``forget``), so that nobody can tell
    the difference from treating it at the worker. A push that is recalled on its way leaves the state as it was before.

    Where the size of a message depends on what is in it (``sized``: a transform declares ``Need.SIZES``), the push is treated as
    it is sent (``depart``), and waits in ``sent`` until it arrives. ``message`` is its size untreated; None: its size is
    given otherwise, or has no effect.
    """

    def __init__(
        self, transforms: tuple[Transform, ...], params: Tensor | None, num_workers: int, message: Message | None = None
    ) -> None:
        self.transforms = transforms
        self.sized = message is not None and any(Need.SIZES in transform.needs for transform in transforms)
        self.states: dict[int, list[State]] = {}
        self.sent: dict[tuple[int, int], Push] = {}  # under way, by (worker, step)
        self._message = message
        self._rules = [Rule(transform) for transform in transforms]
        self._fresh: tuple[Any, int] = params, num_workers

    def send(self, push: Push, server: ServerView) -> Push:
        """The push as it leaves its worker, after the transforms."""
        states = self.states.get(push.worker)
        if states is None:
            states = self.states[push.worker] = [initial_state(transform, *self._fresh) for transform in self.transforms]
        result = send_through(push, self._rules, states, server)
        if isinstance(result, Verdict):
            raise UserError(f"a transform of the uplink returned {result}; only the server may drop or buffer a push")
        return result

    def arrived(self, push: Push) -> Push:
        """What set out as ``push`` arrives: as its worker sent it, with the staleness and time of now."""
        sent = self.sent.pop((push.worker, push.step))
        sent.staleness, sent.time = push.staleness, push.time
        if push.payload is None:  # the run has diverged meanwhile
            sent.payload = sent.replaced = None
        return sent

    def depart(self, push: Push, server: ServerView) -> float:
        """Treat a push that sets out: how many bytes it has."""
        push = self.sent[push.worker, push.step] = self.send(push, server)
        message = self._message
        assert message is not None, "it is sized"
        nbytes = message.nbytes
        for rule in self._rules:
            transform = rule.transform
            known = Need.SIZES in transform.needs and not (rule.numeric and push.payload is None)
            before = nbytes
            if known:
                nbytes = transform.sent_bytes(push, before, message.numbers)
            else:
                nbytes = transform.layered_bytes(before, message.shapes)
            if not (isinstance(nbytes, int | float) and 0 <= nbytes < math.inf):
                raise UserError(
                    f"policy `{transform.kind}` made a message of {before:g} bytes one of {nbytes!r}; "
                    "`sent_bytes` and `nbytes` give a number, 0 or more"
                )
        return float(nbytes)

    def forget(self, worker: int) -> None:
        """Discard the state of a worker that has gone down."""
        self.states.pop(worker, None)


def message_bytes(transforms: tuple[Transform, ...], message: Message) -> float:
    """The bytes of a message after ``transforms``."""
    nbytes = message.nbytes
    for transform in transforms:
        nbytes = transform.layered_bytes(nbytes, message.shapes)
    return nbytes


def by_layer(transforms: tuple[Transform, ...]) -> bool:
    """Does a size depend on the parameter tensors among which the numbers of a message are spread?"""
    return any(type(transform).layered_bytes is not Transform.layered_bytes for transform in transforms)
