"""Clients of FedBuff: fewer than all compute at a time, and who begins next is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_identities import SERVER, same_bits
from test_independent_loops import DECAY, MOMENTUM, OPTIMIZER, UPDATES, WORKERS, Fleet, factor

import asyncsim
from asyncsim.assembling import assemble
from asyncsim.scenario import ScenarioError
from asyncsim.streams import Streams

UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}
TROUBLE = {"workers": 8, "compute": {"kind": "exponential", "mean": "1s"}, "uplink": "100ms", "server": {"service": "50ms"},
           "faults": {"up": {"kind": "exponential", "mean": "9s"}, "down": "2s"},
           "events": [{"at": "6s", "workers": [0, 3, 5], "stop": True}, {"at": "4s", "workers": [6], "leave": True},
                      {"at": "15s", "workers": [6], "join": True}]}  # fmt: skip


def busy(events) -> np.ndarray:
    """How many workers are at work just after each instant at which somebody begins or ends."""
    work = events[events["kind"].isin(["download", "compute", "upload"])]
    times = np.concatenate([work["start_ns"], work["end_ns"]])
    changes = np.concatenate([np.ones(len(work), int), -np.ones(len(work), int)])
    _, place = np.unique(times, return_inverse=True)
    return np.bincount(place, changes).astype(int).cumsum()


def test_the_draws(make):
    """Three places of eight: the first three are drawn one after the other, then at each arrival one of those that have no place,
    by the stream of the number of the draw. Who begins, and when, the recorded spans say."""
    result = asyncsim.plan(make(8, UNEVEN, method={"kind": "fedbuff", "concurrency": 3}, run={"updates": 100}, seed=5))
    streams, draws, places = Streams(5), 0, set()
    reads = {}
    begun = result.events.query("kind == 'compute'").set_index(["worker", "step"])["start_ns"]

    def draw() -> int:
        nonlocal draws
        free = [worker for worker in range(8) if worker not in places]
        chosen = free[streams("client", draws).integers(len(free))]
        draws += 1
        places.add(chosen)
        return chosen

    for _ in range(3):
        reads[draw(), 0] = 0
    steps = dict.fromkeys(range(8), 0)
    again = 0
    for row in result.updates.itertuples():
        assert reads.pop((row.worker, row.step)) == row.read_version
        places.remove(row.worker)
        steps[row.worker] += 1
        chosen = draw()
        again += chosen == row.worker
        reads[chosen, steps[chosen]] = row.version
        if (chosen, steps[chosen]) in begun:  # not those that are cut off by the end
            assert begun[chosen, steps[chosen]] == row.time_ns
    assert len(reads) == 3
    assert again > 10


def test_the_loop(make):
    """FedBuff's equation on the arrivals of clients: the versions are those that the draws allow, checked above."""
    method = {"kind": "fedbuff", "buffer": 2, "concurrency": 4, "local_steps": 2, "local_lr": 0.1}
    fleet = Fleet(make, method, optimizer=OPTIMIZER | {"lr": 0.5})
    thetas, v, group = [fleet.theta], torch.zeros_like(fleet.theta), []
    for row in fleet.result.updates.itertuples():
        start, tau = thetas[row.read_version], len(thetas) - 1 - row.read_version
        x = fleet.local_model(start, row.worker, row.step, 2, 0.1 * factor(row.read_version + 1), 0.0)
        group.append((start - x + DECAY * thetas[-1]) * (1 + tau) ** -0.5)
        if len(group) == 2:
            v = MOMENTUM * v + sum(group) / 2
            thetas.append(thetas[-1] - 0.5 * v)
            group = []
    assert len(thetas) == UPDATES + 1
    fleet.theta = thetas[-1]
    fleet.agree()


@pytest.mark.parametrize("cluster", [{"workers": 8, "compute": UNEVEN}, TROUBLE], ids=["quiet", "trouble"])
def test_no_more_than_the_places(make, cluster):
    """Exactly three are at work, and in trouble never more, to the end; the run goes on when clients leave, and is its plan."""
    scenario = make(8, method={"kind": "fedbuff", "concurrency": 3, "local_steps": 1}, cluster=cluster, run={"updates": 150})
    result = asyncsim.plan(scenario)
    counts = busy(result.events)[:-3]
    assert counts.max() == 3
    if cluster is not TROUBLE:
        assert (counts[counts > 0][:-3] == 3).all()
    assert asyncsim.simulate(scenario).fingerprints["timeline"] == result.fingerprints["timeline"]
    assert result.summary["updates"] == 150


def test_everybody_is_as_likely(make):
    """Equal clients: the numbers of their rounds pass a chi-square test at 5 sigma; three at a time, 3,000 rounds. Those of
    another seed are others."""
    rounds = []
    for seed in (0, 1):
        scenario = make(10, {"kind": "exponential", "mean": "1s"}, method={"kind": "fedbuff", "buffer": 1, "concurrency": 3},
                        run={"updates": 3000}, seed=seed)  # fmt: skip
        rounds.append(asyncsim.plan(scenario).updates["worker"].value_counts().sort_index().to_numpy())
        chi = ((rounds[-1] - 300) ** 2 / 300).sum()
        assert chi < 9 + 5 * math.sqrt(2 * 9)
    assert (rounds[0] != rounds[1]).any()


@pytest.mark.parametrize(("places", "buffer"), [(1, 1), (3, 1), (5, 1), (8, 1), (3, 4), (6, 4)])
def test_staleness_is_that_of_the_places(make, places, buffer):
    """With one push an update, each of K updates ages the other C - 1: what has been applied and what is in flight is K (C -
    1) versions stale, exactly. With a buffer the mean is (C - 1) / B, within 4 %: the number of workers does not matter."""
    scenario = make(8, UNEVEN, method={"kind": "fedbuff", "buffer": buffer, "concurrency": places}, run={"updates": 1000})
    staleness = asyncsim.plan(scenario).updates["staleness"]
    assert staleness.mean() == pytest.approx((places - 1) / buffer, rel=0.04)
    if buffer == 1:
        sim = assemble(scenario)
        for _ in sim.run():
            pass
        flying = [sim.server.version - snapshot.version for snapshot, _ in sim.held.values()]
        assert staleness.sum() + sum(flying) == 1000 * (places - 1)


def test_places_for_all_are_no_places(make):
    """The bits and the timeline of FedBuff as it is; with fewer it is another one."""
    methods = [{"kind": "fedbuff", "local_steps": 2} | more for more in ({}, {"concurrency": 6})]
    same_bits(*[make(6, UNEVEN, method=method, optimizer=SERVER) for method in methods])
    fewer = make(6, UNEVEN, method=methods[0] | {"concurrency": 5}, optimizer=SERVER)
    whole = make(6, UNEVEN, method=methods[0], optimizer=SERVER)
    assert asyncsim.plan(fewer).fingerprints["timeline"] != asyncsim.plan(whole).fingerprints["timeline"]


def test_with_other_methods(make):
    """The rule alone with plain ASGD; more places than workers, and none, are refused."""
    scenario = make(6, UNEVEN, method={"kind": "asgd", "consistency": {"kind": "sampled", "concurrency": 2}})
    assert asyncsim.plan(scenario).updates["staleness"].max() > 1
    with pytest.raises(ScenarioError, match="at most the number of workers"):
        make(WORKERS, method={"kind": "fedbuff", "concurrency": 7})
    with pytest.raises(ScenarioError, match="at least 1"):
        make(WORKERS, method={"kind": "fedbuff", "concurrency": 0})
