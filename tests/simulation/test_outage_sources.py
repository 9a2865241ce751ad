"""Outages of a kind of one's own: who is lost when is what the source says, in plan and run, resumed too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from laws import check_all

import asyncsim
import asyncsim.streams
from asyncsim.cluster import Outage, Outages
from asyncsim.errors import UserError
from asyncsim.registries import outages

SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def _sources() -> Iterator[None]:
    before = dict(outages._classes)

    @outages.register("test_random")
    class Random(Outages):
        mean: float = 4.0

        def outages(self, num_workers, rng):
            at = 0.0
            while True:
                at += rng.exponential(self.mean)
                yield Outage(at, int(rng.integers(num_workers)), 0.5 + rng.random())

    @outages.register("test_wrong")
    class Wrong(Outages):
        what: str = "worker"

        def outages(self, num_workers, rng):
            yield Outage(3.0, 0, 1.0)
            while True:
                yield {
                    "worker": Outage(4.0, num_workers, 1.0), "order": Outage(2.0, 0, 1.0), "notice": Outage(4.0, 1, 1.0, 2.0),
                    "negative": Outage(4.0, 1, -1.0), "nan": Outage(float("nan"), 1, 1.0), "endless": Outage(5.0, 1, 1.0),
                }[self.what]  # fmt: skip

    yield
    outages._classes.clear()
    outages._classes.update(before)


def downs(result: Any) -> list[tuple[int, float, float]]:
    found = result.events[result.events["kind"] == "down"]
    return [(row.worker, row.start_ns / SECOND, row.end_ns / SECOND) for row in found.itertuples()]


def test_rolling_takes_one_after_the_other(make):
    source = {"kind": "rolling", "every": 3, "down": 1, "first": 2}
    result = asyncsim.plan(make(3, 1.0, run={"time": 12.5}, cluster={"outages": [source]}))
    assert downs(result) == [(0, 2, 3), (1, 5, 6), (2, 8, 9), (0, 11, 12)]
    assert result.summary["crashes"] == 4


def test_a_warned_worker_begins_nothing_new(make):
    """Batches of 1 s; told at 1.5 s, lost at 4 s: the batch that ends at 2 s is its last before it."""
    source = {"kind": "rolling", "every": 100, "down": 1, "first": 4, "warning": 2.5}
    result = asyncsim.plan(make(1, 1.0, run={"time": 6.5}, cluster={"outages": [source]}))
    assert (result.updates["time_ns"] // SECOND).tolist() == [1, 2, 6]


def test_what_a_source_draws_is_its_own(make):
    """Two sources of one kind differ; another seed draws others; a crash is at the time that the stream says."""
    run = make(4, 1.0, run={"time": 60}, cluster={"outages": ["test_random", "test_random"]})
    found = {(worker, start) for worker, start, _ in downs(asyncsim.plan(run))}
    expected: set[tuple[int, float]] = set()
    for place in range(2):
        rng, at = asyncsim.streams.Streams(run.seed)("outage", place), 0.0
        while at < 60:
            at += rng.exponential(4.0)
            expected.add((int(rng.integers(4)), round(at * SECOND) / SECOND))
            rng.random()
    assert found <= expected
    assert len(found) > 15
    assert asyncsim.plan(run.evolve(seed=1)).fingerprints != asyncsim.plan(run).fingerprints


@pytest.mark.parametrize("method", ["asgd", "bsp", "gap_aware"])
def test_runs_keep_the_laws_and_are_their_plans(make, method, tmp_path):
    run = make(4, 1.0, method, updates=40, cluster={"outages": ["test_random", {"kind": "rolling", "every": 5, "down": 1}]})
    result = asyncsim.simulate(run, tmp_path)
    check_all(result)
    assert result.summary["crashes"] > 3
    assert result.fingerprints["timeline"] == asyncsim.plan(run).fingerprints["timeline"]


@pytest.mark.parametrize("what", ["worker", "order", "negative", "endless"])
def test_a_source_that_talks_nonsense_is_one_sentence(make, what):
    with pytest.raises(UserError, match=r"cluster.outages: `test_wrong` gave Outage\(.*in the order of their notices"):
        asyncsim.plan(make(2, 1.0, run={"time": 60}, cluster={"outages": [{"kind": "test_wrong", "what": what}]}))


def test_a_time_that_is_no_time_is_refused(make):
    with pytest.raises(UserError):
        asyncsim.plan(make(2, 1.0, run={"time": 60}, cluster={"outages": [{"kind": "test_wrong", "what": "nan"}]}))


def test_a_rolling_upgrade_that_overtakes_itself_is_refused(make):
    with pytest.raises(UserError, match="a worker's turn comes every 4 s"):
        make(2, 1.0, cluster={"outages": [{"kind": "rolling", "every": 2, "down": 4}]})
