"""The uplink: what a worker does to its push before it sends it, as a chain of transforms whose state lives at the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncsim.errors import UserError
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.policies.chain import Rule, send_through
from asyncsim.policies.transform import State, Transform

if TYPE_CHECKING:
    from torch import Tensor


class Uplink:
    """The uplink transforms of all workers of a shard, with one state for each worker that has sent something.

    They are evaluated when a push arrives. For each worker that is the order in which it sent its pushes, so the result is
    the same as if they had been evaluated at the worker. A push that a crash loses on its way has not been treated yet, but
    the worker's state is lost with it (``forget``); a push that is recalled on its way leaves the state as it was before.
    """

    def __init__(self, transforms: tuple[Transform, ...], params: Tensor | None, num_workers: int) -> None:
        self.transforms = transforms
        self.states: dict[int, list[State]] = {}
        self._rules = [Rule(transform) for transform in transforms]
        self._fresh: tuple[Any, int] = params, num_workers

    def send(self, push: Push, server: ServerView) -> Push:
        """The push as it leaves its worker, after the transforms."""
        states = self.states.get(push.worker)
        if states is None:
            states = self.states[push.worker] = [transform.init(*self._fresh) for transform in self.transforms]
        result = send_through(push, self._rules, states, server)
        if isinstance(result, Verdict):
            raise UserError(f"a transform of the uplink returned {result}; only the server may drop or buffer a push")
        return result

    def forget(self, worker: int) -> None:
        """Discard the state of a worker that has gone down."""
        self.states.pop(worker, None)


def message_bytes(transforms: tuple[Transform, ...], nbytes: float, numbers: int) -> float:
    """The bytes of a message of ``numbers`` numbers after ``transforms``, which had ``nbytes`` before them."""
    for transform in transforms:
        nbytes = transform.nbytes(nbytes, numbers)
    return nbytes
