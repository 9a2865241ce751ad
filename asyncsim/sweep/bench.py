"""Find out which engine is fastest for a scenario on this machine."""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

from asyncsim.run import simulate
from asyncsim.scenario import Scenario

ROUNDS = 3


class Timing(NamedTuple):
    """The whole runs of one engine. ``seconds`` is the wall time of an update: the median over the rounds."""

    engine: dict[str, Any]
    kernel: str
    seconds: float
    trajectory: str


def measure_engines(scenario: Scenario, updates: int, cores: int) -> list[Timing]:
    """Time short runs of ``scenario`` on every engine that it can take (the serial one alone for a model in stages), in
    interleaved rounds after one round of warming up. The serial engine comes first."""
    run = {"updates": updates}
    engines: list[dict[str, Any]] = [{"kind": "serial"}]
    if not scenario.staged:
        engines += [{"kind": "batched", "width": width} for width in (1, 4, 8, 16, 32)]
    if cores > 1 and not scenario.staged:
        engines.append({"kind": "threaded", "cores": cores})
    if not scenario.staged and scenario.device.startswith("cuda"):
        engines.append({"kind": "graphed"})
    plain = {key: value for key, value in scenario.document().items() if key not in ("run", "evaluate", "engine")}
    runs = [Scenario.model_validate({**plain, "run": run, "evaluate": run, "engine": engine}) for engine in engines]
    results = [simulate(each) for each in runs]
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for each, times in zip(runs, seconds, strict=True):
            started = time.perf_counter()
            simulate(each)
            times.append((time.perf_counter() - started) / updates)
    return [
        Timing(engine, result.manifest["engine"]["kernel"], statistics.median(times), result.fingerprints["trajectory"])
        for engine, result, times in zip(engines, results, seconds, strict=True)
    ]
