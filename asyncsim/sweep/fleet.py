"""Many simulations in one process, which share the evaluation of their gradients."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from asyncsim.ambient import sheltered, undrawn
from asyncsim.errors import UserError
from asyncsim.records import Result
from asyncsim.run import simulate
from asyncsim.run.moments import Progress
from asyncsim.scenario import Scenario

if TYPE_CHECKING:
    from asyncsim.messages import Future

AT_ONCE = 8
"""The number of runs of a sweep that are under way at the same time; each holds its parameters, optimiser state and records in
memory."""

Wait = Callable[[list[Any]], None]


def simulate_many(
    scenarios: Sequence[Scenario], outs: Sequence[str | Path | None] | None = None, progress: Sequence[Progress] | None = None
) -> list[Result | UserError]:
    """Run several scenarios at once; results (or the error that ended one) in their order, bit for bit those of ``simulate``.

    Each simulation runs until it needs a gradient. When all of them are blocked, one flush serves all: what they wait for, and
    what else is pending. That fills the calls of the batched engine where one run alone does not (heterogeneous workers); runs on
    other engines take part without sharing.
    """

    def run(index: int, wait: Wait) -> Result | UserError:
        out = None if outs is None else outs[index]
        try:
            return simulate(scenarios[index], out, None if progress is None else progress[index], wait=wait)
        except UserError as error:
            return error

    results: list[Result | UserError] = [UserError("not run")] * len(scenarios)
    for index, result in interleave(scenarios, range(len(scenarios)), run, max(1, len(scenarios))):
        results[index] = result
    return results


def interleave(
    scenarios: Sequence[Scenario], indices: Sequence[int], run: Callable[[int, Wait], Any], at_once: int = AT_ONCE
) -> Iterator[tuple[int, Any]]:
    """``run(index, wait)`` for all ``indices``, up to ``at_once`` of them in turns; (index, what it returned) as they end.

    Runs under way together agree in their threads and device, as PyTorch's switches are those of the process.
    """
    groups: dict[Any, list[int]] = {}
    for index in indices:
        groups.setdefault((scenarios[index].threads, scenarios[index].device), []).append(index)
    for group in groups.values():
        first = scenarios[group[0]]
        with sheltered(first.device, first.threads):  # a run that ends must not restore settings that the others need
            yield from _together(group, run, at_once)


def _together(indices: Sequence[int], run: Callable[[int, Wait], Any], at_once: int) -> Iterator[tuple[int, Any]]:
    """Run the runs of one group. A run that calls ``wait`` stands still until all others wait, too, and one flush has served
    all of them.

    On Ctrl-C every run that has begun is told, and can save its records.
    """
    waiting = deque(indices)
    ended: deque[tuple[int, Any]] = deque()
    blocked: list[greenlet] = []

    def whole(index: int) -> None:
        ended.append((index, run(index, _wait)))

    try:
        while waiting or blocked:
            ready: list[tuple[greenlet, tuple[int, ...]]] = [(run_let, ()) for run_let in blocked]
            needed: list[Future] = []
            while ready or (waiting and len(blocked) < at_once):
                run_let, arguments = ready.pop(0) if ready else (greenlet(whole), (waiting.popleft(),))
                if run_let not in blocked:
                    blocked.append(run_let)
                wanted = run_let.switch(*arguments)
                if run_let.dead:
                    blocked.remove(run_let)
                    while ended:
                        yield ended.popleft()
                else:
                    needed += wanted
            if needed:
                _serve(needed)
    except BaseException:  # Ctrl-C: let the runs write what they have
        for run_let in blocked:
            if not run_let.dead:
                with suppress(KeyboardInterrupt, Exception):
                    run_let.throw(KeyboardInterrupt)
        raise


def _wait(needed: list[Future]) -> None:
    """Called inside a run: let the others go on until these futures are computed."""
    whole = getcurrent().parent
    assert whole is not None, "runs are called by the fleet"
    whole.switch(needed)


def _serve(needed: list[Future]) -> None:
    from asyncsim.engine.batched import BatchedEngine, flush

    engines: dict[int, Any] = {id(future.engine): future.engine for future in needed}
    by_width: dict[int, list[BatchedEngine]] = {}
    for engine in engines.values():
        by_width.setdefault(engine.width, []).append(engine)
    for width, members in by_width.items():
        mine = set(map(id, members))
        pending = [future for engine in members for future in engine.pending]
        mine_needed = [future for future in needed if id(future.engine) in mine]
        device = str(members[0].task.parameters[0].device)
        undrawn("a model or loss of these runs", device, flush, mine_needed, pending, width)
