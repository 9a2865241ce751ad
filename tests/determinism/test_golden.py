"""Every shipped scenario is run, cut short, and must give the fingerprints of ``golden.json``.

A timeline is the same on every machine, but for methods that decide by numbers. A trajectory is compared where this
environment's is recorded; elsewhere two fresh runs must agree. A change that is meant to change results is recorded by
``python tests/determinism/record_golden.py``.
"""

from __future__ import annotations

import golden
import pytest

import asyncsim

RUNS = [pytest.param(key, scenario, id=key) for path in golden.SCENARIOS for key, scenario in golden.runs(path)]


@pytest.mark.parametrize(("key", "scenario"), RUNS)
def test_fingerprints(key, scenario):
    """Bit for bit what was recorded: see the module."""
    known = golden.read()
    seen = asyncsim.simulate(scenario).fingerprints
    here = known["trajectories"].get(golden.environment(), {})
    by_values = bool(scenario.bundle().decided_by_values)
    assert key in known["timelines"]
    if not by_values or key in here:
        assert seen["timeline"] == known["timelines"][key], "another timeline than recorded"
    if not by_values:
        assert asyncsim.plan(scenario).fingerprints["timeline"] == seen["timeline"]
    expected = here[key] if key in here else asyncsim.simulate(scenario).fingerprints["trajectory"]
    assert seen["trajectory"] == expected


def test_the_file_holds_these_runs_and_no_others():
    """Each run of each shipped scenario is recorded; nothing is left of scenarios that are gone."""
    known = golden.read()
    keys = {case.id for case in RUNS}
    assert set(known["timelines"]) == keys
    assert all(set(trajectories) <= keys for trajectories in known["trajectories"].values())
