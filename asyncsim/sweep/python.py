"""Sweeps from Python, in one call::

    import asyncsim

    scenario = asyncsim.make_scenario(task={"kind": "digits", "model": "softmax"}, cluster={"workers": 4}, run={"updates": 100})
    swept = asyncsim.run_sweep(scenario, {"cluster.workers": [1, 4, 16], "method": ["asgd", "gap_aware"]}, seeds=2)
    print(swept.table[["workers", "method", "test_accuracy"]])
    print(swept.best("test_accuracy"))

What a file describes is read by `asyncsim.load_study` and run by `asyncsim.sweep.simulate_sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asyncsim.run import ScenarioLike, as_scenario
from asyncsim.scenario import Document
from asyncsim.scenario.expansion import expand
from asyncsim.sweep.result import SweepResult, simulate_sweep
from asyncsim.sweep.runner import Executor, Report


def run_sweep(
    scenario: ScenarioLike,
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: int | Sequence[int] = 1,
    baseline: str | None = None,
    out: str | Path | None = None,
    processes: int = 1,
    force: bool = False,
    report: Callable[[Report], None] | None = None,
) -> SweepResult:
    """Run a scenario (or the file of one, or its sections as a mapping) at every combination of the values of ``grid`` (dotted
    fields), for every one of ``variants`` (changes by name) and of ``seeds`` (how many, or which).

    With ``out``, every run has a folder there, and finished ones are reused unless ``force``. ``report`` is told of every run.
    Raises ``UserError`` with one line for each problem before anything runs; a run that fails is in ``errors`` of the result.
    """
    scenario = as_scenario(scenario)
    beside = {"variants": variants, "baseline": baseline}
    data = {**scenario.document(), **{key: value for key, value in beside.items() if value is not None}}
    chosen = {"grid": grid, "seeds": seeds}
    given = {key: value for key, value in chosen.items() if value is not None and value != 1}
    study = expand(Document(data, "run_sweep"), {}, None, scenario.name, given)
    return simulate_sweep(study, out, Executor(processes=processes), force, report)
