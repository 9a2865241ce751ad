"""The same scenario gives the same bits: whatever ran before, in whichever process, whatever is recorded, whatever the
globals."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import asyncsim
import asyncsim.run
from asyncsim.errors import UserError
from asyncsim.records import recorder
from asyncsim.registries import methods
from asyncsim.simulation.simulation import Simulation

GAP_AWARE = {"method": "gap_aware"}
SOFTSYNC = {"method": {"kind": "softsync", "n": 2, "staleness_aware": False}}  # means are computed late, by the union of batches
STOPPED = {"method": {"kind": "ringmaster", "threshold": 5, "stops": True}}  # work in flight is given up
DROPOUT = {  # masks come from a generator of the task's own
    "task": {"kind": "pydoc_lm", "batch": 4,
             "model": {"kind": "transformer", "context": 16, "layers": 1, "dim": 16, "heads": 2, "dropout": 0.2}},
    "run": {"updates": 20}, "evaluate": {"updates": 100},
}  # fmt: skip
KINDS = pytest.mark.parametrize("sections", [GAP_AWARE, SOFTSYNC, STOPPED], ids=["gap_aware", "softsync", "ringmaster"])


def prints(scenario: Any, **how: Any) -> dict[str, str]:
    fingerprints = asyncsim.simulate(scenario, **how).fingerprints
    assert set(fingerprints) == {"timeline", "trajectory"}
    return fingerprints


def run_before(make: Any) -> Any:
    """A run of the same task that gets everything dirty: module, caches, batch-norm state if there were any."""
    return asyncsim.simulate(make(3, seed=5, method="bsp", optimizer={"kind": "adam"}, run={"updates": 7}))


def test_twice_the_same_and_again_after_another_run(make):
    """Two calls and a third with another run between agree; tasks share data in one process, not state. A changed seed, rate or
    penalty does not go unnoticed by the fingerprint."""
    scenario = make(**GAP_AWARE)
    first = prints(scenario)
    assert prints(scenario) == first
    run_before(make)
    assert prints(scenario) == first
    for change in ({"seed": 1}, {"optimizer.lr": 0.0500001}, {"method.per": "layer"}, {"dtype": "float64"}):
        assert prints(scenario.evolve(change))["trajectory"] != first["trajectory"]


@pytest.mark.parametrize("kind", sorted(name for name, cls in methods if cls.__module__.startswith("asyncsim.")))
def test_every_method_twice(make, kind):
    """The registry's every method, default settings where there are some, two calls."""
    required = {"k_sync": {"k": 4}, "weight_update_magnitudes": {"shares": {2: 0.5}}}
    scenario = make(method={"kind": kind} | required.get(kind, {}), run={"updates": 40})
    assert prints(scenario) == prints(scenario)


def test_dropout_masks_are_no_exception(make):
    """A model with dropout: two calls agree although the global generator is elsewhere, another seed has other masks."""
    scenario = make(**DROPOUT)
    torch.manual_seed(1)
    first = prints(scenario)
    torch.manual_seed(2)
    assert prints(scenario) == first


@KINDS
def test_what_is_recorded_does_not_matter(make, sections):
    """Fingerprints cover all rows, kept or not, and evaluations do not touch what is trained."""
    scenario = make(**sections)
    first = prints(scenario)
    assert prints(scenario.evolve({"records.updates": False, "records.events": False})) == first
    often = asyncsim.simulate(scenario.evolve({"evaluate": {"updates": 1}}))
    assert np.array_equal(often.parameters, asyncsim.simulate(scenario).parameters)


@KINDS
def test_when_it_is_written_does_not_matter(make, sections, monkeypatch, tmp_path):
    """With a folder, and the disk looked at in every breath (many small parts), the hashes and every kept row are the same."""
    scenario = make(**sections, run={"updates": 600})
    in_memory = asyncsim.simulate(scenario)
    patient = asyncsim.simulate(scenario, out=tmp_path / "patient")
    monkeypatch.setattr(recorder, "WRITE_EVERY", 0.0)
    parts = []
    write = recorder.RunDirectory.write_part

    def watched(self: Any, table: str, rows: Any) -> None:
        parts.append(table)
        write(self, table, rows)

    monkeypatch.setattr(recorder.RunDirectory, "write_part", watched)
    hasty = asyncsim.simulate(scenario, out=tmp_path / "hasty")
    assert parts.count("updates") > 2
    assert in_memory.fingerprints == patient.fingerprints == hasty.fingerprints
    for table in ("updates", "events", "metrics"):
        loaded = getattr(asyncsim.load_result(tmp_path / "hasty"), table)
        assert loaded.equals(getattr(in_memory, table)), table


def test_the_size_of_a_segment_does_not_matter(make, monkeypatch):
    """Tables are hashed by segments; segments of 7 rows give the hash of one of all rows."""
    scenario = make(**SOFTSYNC, run={"updates": 300})
    first = prints(scenario)
    monkeypatch.setattr(recorder, "SEGMENT_ROWS", 7)
    assert prints(scenario) == first


def test_global_generators_are_neither_used_nor_moved(make):
    """Other states of the three global generators before a run change nothing, and a run leaves them where they were: also
    building the task (initial parameters) and dropout."""
    for scenario in (make(**GAP_AWARE), make(**DROPOUT)):
        seen = []
        for seed in (0, 1):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            before = random.getstate(), np.random.get_state(), torch.get_rng_state()
            seen.append(prints(scenario))
            assert random.getstate() == before[0]
            assert str(np.random.get_state()) == str(before[1])
            assert torch.equal(torch.get_rng_state(), before[2])
        assert seen[0] == seen[1]


def test_threads_are_the_scenarios_and_then_as_they_were(make, monkeypatch):
    """A run sets the number of intra-op threads that the scenario says, and puts back what it found, after an error too. The
    process's own setting changes no bit."""
    monkeypatch.setenv("ASYNCSIM_VERIFY", "")  # which plans as well
    scenario = make(**GAP_AWARE, run={"updates": 30})
    seen, inside = [], []
    init = Simulation.run

    def watched(self: Any, *arguments: Any) -> Any:
        inside.append(torch.get_num_threads())
        return init(self, *arguments)

    monkeypatch.setattr(Simulation, "run", watched)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seen.append(prints(scenario))
        assert torch.get_num_threads() == threads
    assert seen[0] == seen[1]
    assert inside == [1, 1]
    with pytest.raises(UserError):
        asyncsim.simulate(scenario.evolve({"device": "xpu"}))
    assert torch.get_num_threads() == 2


SCRIPT = """
import json, random, sys
import asyncsim
import asyncsim.run
from asyncsim.scenario import Document, build_scenario
words = {word: len(word) for word in {"set", "order", "depends", "on", "hashes"}}
documents = json.loads(sys.stdin.read())
print(json.dumps([asyncsim.simulate(build_scenario(Document(each, "test"))).fingerprints for each in documents]))
"""


def test_processes_and_hash_seeds_agree(make):
    """Three fresh interpreters with ``PYTHONHASHSEED`` 0, 1 and random, and different numbers of OpenMP threads, and this one:
    the same fingerprints for a treatment, a buffer, and recalled work."""
    scenarios = [make(**sections) for sections in (GAP_AWARE, SOFTSYNC, STOPPED)]
    given = json.dumps([scenario.document() for scenario in scenarios])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads},
        )
        for seed, threads in (("0", "1"), ("1", "2"), ("random", "1"))
    ]
    expected = [prints(scenario) for scenario in scenarios]
    for process in processes:
        output, _ = process.communicate(given, timeout=120)
        assert process.returncode == 0
        assert json.loads(output) == expected
