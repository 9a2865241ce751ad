"""Shared pipes: the messages under way divide a pipe fairly, or pass it one after the other.

All arithmetic is in integers. Work is counted in units of 2**-64 bytes, and rates in units a nanosecond, so the rounding of
a rate moves the completion of a message by far less than a nanosecond. Completions are those of the fluid model, rounded to
the nearest nanosecond.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING, Any

import simpy

from asyncsim.units import NANOSECONDS

if TYPE_CHECKING:
    from asyncsim.simulation.clock import Clock

UNITS = 2**64


def rate(bytes_per_second: float) -> int:
    """A bandwidth in units a nanosecond."""
    return max(1, int(Fraction(bytes_per_second) * UNITS / NANOSECONDS))


def work(nbytes: float) -> int:
    """A number of bytes in units."""
    return round(Fraction(nbytes) * UNITS)


class Flow:
    """One message, or a part of one, under way. The event ``done`` happens when all of it has passed."""

    __slots__ = ("alike", "amount", "done", "live", "order", "target")

    def __init__(self, done: simpy.Event, alike: Alike | None, amount: int, order: int) -> None:
        self.done = done
        self.alike = alike
        self.amount = amount
        self.order = order
        self.target = 0
        self.live = True

    def __lt__(self, other: Flow) -> bool:
        return (self.target, self.order) < (other.target, other.order)


class Alike:
    """All flows through the same pipes with the same cap. They always have the same rate, so one counter of the work done
    serves them all."""

    __slots__ = ("cap", "flows", "pipes", "rate", "size", "work")

    def __init__(self, pipes: tuple[int, ...], cap: int | None) -> None:
        self.pipes = pipes
        self.cap = cap
        self.rate = 0
        self.work = 0  # work done for each flow since there was last no flow
        self.size = 0  # flows that are alive
        self.flows: list[Flow] = []  # a heap by target


class Fair:
    """Max-min fair sharing: the rate of no message can rise without that of a slower one falling.

    Pipes have capacities in units a nanosecond. A flow that joins or leaves costs O(kinds of flows), not O(flows).
    """

    def __init__(self, env: Clock, capacities: Sequence[int]) -> None:
        self.env = env
        self.capacities = capacities
        self._alike: dict[tuple[tuple[int, ...], int | None], Alike] = {}
        self._active: dict[Alike, None] = {}  # in the order in which they became active
        self._since = 0
        self._wake: int | None = None  # the earliest time at which a look is due
        self._orders = count()

    def begin(self, pipes: tuple[int, ...], cap: int | None, amount: int) -> Flow:
        """Start a message of ``amount`` units through ``pipes``, at a rate of at most ``cap`` units a nanosecond."""
        alike = self._alike.get((pipes, cap))
        if alike is None:
            alike = self._alike[pipes, cap] = Alike(pipes, cap)
        self._advance()
        flow = Flow(self.env.event(), alike, amount, next(self._orders))
        if not alike.size:
            alike.work, alike.flows = 0, []
            self._active[alike] = None
        alike.size += 1
        flow.target = alike.work + amount
        heapq.heappush(alike.flows, flow)
        self._share()
        return flow

    def abort(self, flow: Flow) -> None:
        """Stop sending a message. Nothing happens if all of it has passed."""
        if flow.live and flow.alike is not None:
            self._advance()
            self._drop(flow, flow.alike)
            self._share()

    def _drop(self, flow: Flow, alike: Alike) -> None:
        flow.live = False
        alike.size -= 1
        if not alike.size:
            del self._active[alike]

    def _advance(self) -> None:
        """Add the work that has been done until now."""
        passed, self._since = self.env.now - self._since, self.env.now
        if passed:
            for alike in self._active:
                alike.work += alike.rate * passed

    def _share(self) -> None:
        """Compute new rates by progressive filling, and when the next message will have passed."""
        left = list(self.capacities)
        flows = [0] * len(left)
        for alike in self._active:
            for pipe in alike.pipes:
                flows[pipe] += alike.size
        filling = list(self._active)
        while filling:
            levels = {pipe: left[pipe] // flows[pipe] for alike in filling for pipe in alike.pipes}
            level = min(levels.values(), default=None)
            full = [alike for alike in filling if alike.cap is not None and (level is None or alike.cap <= level)]
            if not full:
                full = [alike for alike in filling if any(levels[pipe] == level for pipe in alike.pipes)]
            for alike in full:
                if alike.cap is not None and (level is None or alike.cap <= level):
                    alike.rate = alike.cap
                else:
                    assert level is not None, "without a pipe it has a cap"
                    alike.rate = level
                for pipe in alike.pipes:
                    left[pipe] -= alike.rate * alike.size
                    flows[pipe] -= alike.size
            fixed = set(full)
            filling = [alike for alike in filling if alike not in fixed]
        self._look_again()

    def _look_again(self) -> None:
        waits = []
        for alike in self._active:
            while not alike.flows[0].live:
                heapq.heappop(alike.flows)
            waits.append(_rounded(alike.flows[0].target - alike.work, alike.rate))
        if not waits:
            return
        due = self.env.now + max(0, min(waits))
        if self._wake is None or due < self._wake:
            self._wake = due
            self.env.timeout(due - self.env.now).callbacks.append(self._look)

    def _look(self, _: Any) -> None:
        """Complete the messages that have passed by now."""
        if self._wake is not None and self.env.now >= self._wake:
            self._wake = None
        self._advance()
        passed: list[Flow] = []
        for alike in list(self._active):
            while alike.size and (not alike.flows[0].live or _rounded(alike.flows[0].target - alike.work, alike.rate) <= 0):
                flow = heapq.heappop(alike.flows)
                if flow.live:
                    passed.append(flow)
                    self._drop(flow, alike)
        for flow in sorted(passed, key=lambda flow: flow.order):
            flow.done.succeed()
        self._share()


class Fifo:
    """Store and forward: a message passes the worker's own link at the rate ``cap``, and then one pipe after the other. Each
    pipe sends one message at a time at its full rate, first come, first served."""

    def __init__(self, env: Clock, capacities: Sequence[int]) -> None:
        self.env = env
        self.capacities = capacities
        self._lines: list[deque[tuple[Flow, tuple[int, ...]]]] = [deque() for _ in capacities]  # the first is being sent

    def begin(self, pipes: tuple[int, ...], cap: int | None, amount: int) -> Flow:
        """Start a message of ``amount`` units over a link of ``cap`` units a nanosecond, and then through ``pipes`` in their
        order."""
        flow = Flow(self.env.event(), None, amount, 0)
        wait = 0 if cap is None else _rounded(amount, cap)
        if wait:
            self.env.timeout(wait).callbacks.append(lambda _: self._enter(flow, pipes))
        else:
            self._enter(flow, pipes)
        return flow

    def abort(self, flow: Flow) -> None:
        """Stop sending a message. Nothing happens if all of it has passed."""
        if not flow.live:
            return
        flow.live = False
        for pipe, line in enumerate(self._lines):
            if line and line[0][0] is flow:
                line.popleft()
                self._send(pipe)

    def _enter(self, flow: Flow, pipes: tuple[int, ...]) -> None:
        if not flow.live:
            return
        if not pipes:
            flow.live = False
            flow.done.succeed()
            return
        line = self._lines[pipes[0]]
        line.append((flow, pipes[1:]))
        if len(line) == 1:
            self._send(pipes[0])

    def _send(self, pipe: int) -> None:
        """Begin to send the next message that is still wanted."""
        line = self._lines[pipe]
        while line and not line[0][0].live:
            line.popleft()
        if line:
            first = line[0]
            wait = self.env.timeout(_rounded(first[0].amount, self.capacities[pipe]))
            wait.callbacks.append(lambda _: self._sent(pipe, first))

    def _sent(self, pipe: int, first: tuple[Flow, tuple[int, ...]]) -> None:
        line = self._lines[pipe]
        if line and line[0] is first:
            line.popleft()
            self._send(pipe)
            self._enter(*first)


def _rounded(amount: int, per: int) -> int:
    """The quotient in nanoseconds, rounded to the nearest."""
    return (2 * amount + per) // (2 * per)
