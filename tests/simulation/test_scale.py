"""How far the timeline alone goes. Limits are generous: a slow or busy machine must not fail."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

RUN = """
import json, resource, sys, time
import asyncsim
from asyncsim.scenario import Document, build_scenario

workers, updates, method = json.loads(sys.argv[1])
data = {"task": {"kind": "digits"}, "cluster": {"workers": workers}, "run": {"updates": updates}, "method": method}
scenario = build_scenario(Document(data, "test"))
started = time.perf_counter()
result = asyncsim.plan(scenario)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([time.perf_counter() - started, peak, result.summary["pushes"], len(result.events), "torch" in sys.modules]))
"""


def plan(workers: int, updates: int, method: object = "asgd") -> tuple[float, float, int]:
    """Wall seconds, bytes and pushes of a run in a process of its own, all records kept; torch is not imported."""
    arguments = [sys.executable, "-c", RUN, json.dumps([workers, updates, method])]
    output = subprocess.run(arguments, capture_output=True, check=True, text=True).stdout
    seconds, peak, pushes, events, torch = json.loads(output)
    assert events >= pushes
    assert not torch
    return seconds, peak, pushes


@pytest.mark.slow
def test_ten_thousand_workers_and_a_million_pushes():
    """Under 3 minutes and 2 GB."""
    seconds, peak, pushes = plan(10_000, 1_000_000)
    assert pushes == 1_000_000
    assert seconds < 180
    assert peak < 2e9


@pytest.mark.slow
@pytest.mark.parametrize(("method", "updates"), [
    ({"kind": "ringmaster", "threshold": 20_000, "stops": True}, 20_000), ({"kind": "ssp", "bound": 2}, 40_000),
    ({"kind": "softsync", "n": 4}, 16),
], ids=lambda value: value["kind"] if isinstance(value, dict) else "")  # fmt: skip
def test_a_push_costs_the_same_in_a_large_fleet(method, updates):
    """10,000 workers, 20,000 pushes or more: under 1 ms each with everything. Whatever is done for all workers at each push (ask
    each of them whether it is recalled, say) takes several."""
    seconds, _, pushes = plan(10_000, updates, method)
    assert pushes >= 20_000
    assert seconds / pushes < 1e-3
