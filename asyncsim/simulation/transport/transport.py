"""The one way in which bytes move, whatever the network is."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from asyncsim.simulation.worker import Worker

UP, DOWN, ACTIVATION, ERROR, PEER, ANSWER = PURPOSES = "uplink", "downlink", "activation", "error", "exchange", "answer"
"""What a message is for: a push, parameters for a worker, what stages send to each other, a worker's message to a partner in an
exchange, and the partner's answer. It names the random streams."""

Passage = int | Generator[Any, Any, None]
"""How long a message takes: nanoseconds, where that is known when it begins; or events to wait for one after the other, where it
depends on what else is under way."""


class Transport(Protocol):
    """Private links, shared pipes, or an all-reduce."""

    free: bool
    """No message takes any time, so that ``carry`` need not be asked."""

    def carry(self, worker: Worker, step: int, purpose: str, nbytes: float, partner: Worker | None = None) -> Passage | None:
        """Begin to carry a message of ``nbytes`` of a step, from the worker (``DOWN``: to it; ``PEER``: to a ``partner``;
        ``ANSWER``: from that to it); None: it takes no time at all."""
        ...
