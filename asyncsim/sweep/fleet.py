"""Many simulations in one process, sharing the evaluation of their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from asyncsim.errors import UserError
from asyncsim.records import Result
from asyncsim.run import Progress, simulate
from asyncsim.scenario import Scenario

if TYPE_CHECKING:
    from asyncsim.engine.futures import Future


def simulate_many(
    scenarios: Sequence[Scenario], outs: Sequence[str | Path | None] | None = None, progress: Sequence[Progress] | None = None
) -> list[Result | UserError]:
    """Run several scenarios at once; results (or the error that ended one) in their order, bit for bit those of ``simulate``.

    Each simulation runs until it needs a gradient. When all of them are blocked, one flush serves all: what they wait for, and
    what else is pending. That fills the calls of the batched engine where one run alone does not (heterogeneous workers); runs on
    other engines take part without sharing.
    """
    results: list[Result | UserError] = [UserError("not run")] * len(scenarios)

    def run(index: int) -> None:
        out = None if outs is None else outs[index]
        try:
            results[index] = simulate(scenarios[index], out, None if progress is None else progress[index], wait=_wait)
        except UserError as error:
            results[index] = error

    ready = [(greenlet(run), (index,)) for index in range(len(scenarios))]
    try:
        while ready:
            blocked: list[tuple[greenlet, list[Future]]] = []
            for run_let, arguments in ready:
                needed = run_let.switch(*arguments)
                if not run_let.dead:
                    blocked.append((run_let, needed))
            if blocked:
                _serve([future for _, needed in blocked for future in needed])
            ready = [(run_let, ()) for run_let, _ in blocked]
    except BaseException:  # Ctrl-C: let the runs write what they have
        for run_let, _ in ready:
            if not run_let.dead:
                run_let.throw(KeyboardInterrupt)
        raise
    return results


def _wait(needed: list[Future]) -> None:
    """Called inside a run: let the others go on until these futures are computed."""
    getcurrent().parent.switch(needed)


def _serve(needed: list[Future]) -> None:
    from asyncsim.engine.batched import BatchedEngine, flush

    engines: dict[int, Any] = {id(future.engine): future.engine for future in needed}
    by_width: dict[int, list[BatchedEngine]] = {}
    for engine in engines.values():
        by_width.setdefault(engine.width, []).append(engine)
    for width, members in by_width.items():
        mine = set(map(id, members))
        pending = [future for engine in members for future in engine.pending]
        flush([future for future in needed if id(future.engine) in mine], pending, width)
