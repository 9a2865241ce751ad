"""The machine that looks for faults: it finds none in these seeds and in what it once found, and it does find what is planted."""

from __future__ import annotations

import gc
import random
import time

import pytest
from ruamel.yaml import YAML
from torture import ledger
from torture.checking import CHECKS, Subject
from torture.disks import torture
from torture.drawing import HEAVY, Drawer, built, drawn
from torture.failing import ERRORS, failing
from torture.outcomes import Finding, clear, limited
from torture.planted import BUGS, MOST_LINES, hunt
from torture.searching import search, verified
from torture.shrinking import shrunk, size

from asyncsim import UserError
from asyncsim.cluster.delays import delays
from asyncsim.registries import methods, optimizers, policies

FIRST, SEEDS = 40, 12
SOON = ("lost_message",)


def test_nothing_is_found_in_some_seeds():
    tally = search(FIRST, SEEDS, 300.0, lambda _: None)
    assert [str(found.finding) for found in tally.found.values()] == []
    assert tally.seeds == SEEDS <= tally.plans
    assert tally.runs > SEEDS
    assert tally.refusals > 0


@pytest.mark.parametrize("path", ledger.entries(), ids=lambda path: path.stem)
def test_what_was_once_found_stays_mended(path):
    """Refused in one clear piece, or every check holds."""
    with verified(), limited(60.0):
        try:
            scenario = built(ledger.read(path))
        except UserError as error:
            clear(error)
            return
        subject = Subject(scenario)
        for check in CHECKS.values():
            check(subject)


@pytest.mark.parametrize("name", SOON)
def test_planted_bugs_are_found_and_made_small(name):
    _, found = hunt(name, 60.0, shrink=20.0)
    assert found is not None
    assert ledger.text(found.smallest).count("\n") < MOST_LINES


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BUGS if name not in SOON])
def test_all_planted_bugs_are_found_within_an_hour(name):
    _, found = hunt(name, 3600.0)
    assert found is not None
    assert ledger.text(found.smallest).count("\n") < MOST_LINES


def test_a_seed_is_a_scenario():
    assert drawn(3) == drawn(3) != drawn(4)
    assert built(YAML(typ="safe", pure=True).load(ledger.text(drawn(3)))) == built(drawn(3))


def test_whatever_is_registered_is_drawn():
    drawer = Drawer(random.Random(0))
    for room, registry in (("method", methods), ("delay", delays), ("optimizer", optimizers), ("policy", policies)):
        schema = {"$ref": f"#/$defs/{room}"}
        kinds = {drawer.draw(schema)["kind"] for _ in range(60 * len(registry.names()))}
        assert kinds == set(registry.names()) - HEAVY.get(room, set())


def test_shrinking_keeps_what_matters():
    document = {"task": {"kind": "digits", "batch": 8}, "cluster": {"workers": 12, "faults": {"up": 5.0}}, "run": {"updates": 60}}

    def fails(candidate: dict) -> bool:
        cluster = candidate.get("cluster")
        return isinstance(cluster, dict) and cluster.get("workers", 0) >= 3 and "run" in candidate

    small = shrunk(document, fails)
    assert size(small) < size(document)
    assert small["cluster"] == {"workers": 3}
    assert set(small) == {"cluster", "run"}


def test_a_hang_is_a_finding():
    def for_ever() -> None:
        with limited(0.05):
            while True:
                pass

    with pytest.raises(Finding, match=r"hang: no end in time"):
        for_ever()


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_hang_is_one_whatever_a_library_makes_of_its_end(swallowed):
    """pydantic turns what is raised while it writes a model into an error of its own; others might go on as if nothing were."""

    def for_ever() -> None:
        with limited(0.05):
            try:
                while True:
                    pass
            except BaseException as error:
                if not swallowed:
                    raise ValueError("Error calling function") from error

    with pytest.raises(Finding, match=r"hang: no end in time"):
        for_ever()


def test_time_that_others_have_used_is_not_counted():
    with limited(0.1):
        time.sleep(0.3)


def test_a_seed_that_takes_long_is_cut_and_counted(monkeypatch):
    monkeypatch.setattr("torture.searching.ENOUGH", -1.0)
    tally = search(FIRST, 2, 60.0, lambda _: None)
    assert (tally.seeds, tally.cut, tally.runs) == (2, 2, 0)


@pytest.mark.parametrize(("kinds", "every", "least"), [
    (("write", "replace"), 150, 8), pytest.param(tuple(ERRORS), 30, 30, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_disk_that_fails_is_survived(tmp_path, kinds, every, least):
    """A sample of the operations; `python benchmarks/torture --disks` has them all."""
    gc.freeze()  # each command collects what the last one left, and need not go through all that other tests have made
    try:
        count, found = torture(tmp_path, kinds, every)
    finally:
        gc.unfreeze()
    assert count > least
    assert [str(finding) for finding in found.values()] == []


def test_a_disk_fails_where_it_is_told_to(tmp_path):
    path = tmp_path / "file"
    with failing(tmp_path, "write", 2) as counts:
        path.write_bytes(b"first")
        with pytest.raises(OSError, match="No space left"):
            path.write_bytes(b"second")
    assert path.read_bytes() == b"sec"
    assert counts == {"open": 2, "write": 2}
