"""Who waits, who is called back, and in which order."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import applied, check_all, log

import asyncsim
from asyncsim.simulation.progress import WorkerProgress
from asyncsim.simulation.server import Server

HETEROGENEOUS = {"kind": "gamma_heterogeneous", "mean": 1.0}
EXPONENTIAL = {"kind": "exponential", "mean": 1.0}
FLEETS = st.sampled_from([
    HETEROGENEOUS, EXPONENTIAL, {"kind": "tiers", "base": {"kind": "gamma", "mean": 1.0, "cv": 0.3}, "factors": [1, 2, 10]},
])  # fmt: skip
CRASHES = {"faults": {"up": {"kind": "exponential", "mean": 6.0}, "down": {"kind": "exponential", "mean": 4.0}}}
SEEDS = st.integers(0, 2**32)


def computing(result: asyncsim.Result) -> list[list[int]]:
    """For each round of a fleet without faults: the workers' starts of computing (ns)."""
    spans = result.events[result.events["kind"] == "compute"]
    return [group["start_ns"].tolist() for _, group in spans.groupby("step")]


# Nobody waits.


@given(compute=FLEETS, seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_asynchronous_workers_never_wait(make, compute, seed):
    """ASP: computing is all there is, and completed computing plus what is going on at the end is all the time."""
    result = asyncsim.plan(make(5, compute, updates=100, seed=seed))
    assert set(result.events["kind"]) == {"compute"}
    assert result.summary["utilisation"] + result.summary["unfinished"] == pytest.approx(1)


@given(compute=FLEETS, seed=SEEDS, crashes=st.booleans())
@settings(max_examples=8, deadline=None)
def test_ssp_without_bound_is_asynchronous(make, compute, seed, crashes):
    """The same events, and with bound 0 others (so that the fingerprint does tell them apart)."""
    cluster = CRASHES if crashes else {}
    runs = [
        asyncsim.plan(make(5, compute, method, updates=60, seed=seed, cluster=cluster)).fingerprints["timeline"]
        for method in ("asgd", {"kind": "ssp", "bound": None}, {"kind": "ssp", "bound": 0})
    ]
    assert runs[0] == runs[1] != runs[2]


# Rounds.


@given(compute=FLEETS, seed=SEEDS, workers=st.integers(1, 7), method=st.sampled_from(["bsp", "local_sgd"]))
@settings(max_examples=15, deadline=None)
def test_synchronous_rounds(make, compute, seed, workers, method):
    """In round r all N workers compute on version r, and round r + 1 starts for all in the instant of the last delivery."""
    result = asyncsim.plan(make(workers, compute, method, updates=12, seed=seed))
    updates = result.updates
    assert (updates["staleness"] == 0).all()
    assert Counter(updates["read_version"]) == dict.fromkeys(range(12), workers)
    assert (updates.groupby("read_version")["worker"].nunique() == workers).all()
    starts = [set(times) for times in computing(result)]
    ends = [group["time_ns"].max() for _, group in updates.groupby("read_version")]
    assert starts == [{0}] + [{end} for end in ends[:-1]]
    check_all(result)


@given(compute=FLEETS, seed=SEEDS, workers=st.integers(2, 7))
@settings(max_examples=10, deadline=None)
def test_ssp_with_bound_0_is_lockstep(make, compute, seed, workers):
    """Nobody starts round r + 1 before all have delivered round r; but each push is an update of its own."""
    result = asyncsim.plan(make(workers, compute, {"kind": "ssp", "bound": 0}, updates=10 * workers, seed=seed))
    ends = [group["time_ns"].max() for _, group in result.updates.groupby("step")]
    starts = [set(times) for times in computing(result)]
    assert starts == [{0}] + [{end} for end in ends[:-1]]
    assert set(result.updates["staleness"]) <= set(range(workers))


def spreads(make, monkeypatch, bound: int | None, compute: object, seed: int, cluster: dict) -> list[int]:
    """How far the clocks of the workers that are up are apart, after every arrival; the clocks are counted anew from the arrivals
    and, when a worker comes back, moved up to the slowest, as the method says."""
    seen: list[int] = []
    clocks = dict.fromkeys(range(6), 0)
    up = set(clocks)
    slowest = 0
    leave, join, arrive = WorkerProgress.leave, WorkerProgress.join, Server.receive

    def look() -> None:
        nonlocal slowest
        slowest = min((clocks[worker] for worker in up), default=slowest)

    def leaves(self, worker):
        leave(self, worker)
        up.discard(worker)
        look()

    def joins(self, worker):
        join(self, worker)
        clocks[worker] = max(clocks[worker], slowest)
        up.add(worker)
        look()

    def arrives(self, worker, *args):
        arrive(self, worker, *args)
        clocks[worker] += 1
        look()
        seen.append(max((clocks[worker] for worker in up), default=slowest) - slowest)

    with monkeypatch.context() as patch:
        patch.setattr(WorkerProgress, "leave", leaves)
        patch.setattr(WorkerProgress, "join", joins)
        patch.setattr(Server, "receive", arrives)
        result = asyncsim.plan(make(6, compute, {"kind": "ssp", "bound": bound}, updates=150, seed=seed, cluster=cluster))
    check_all(result)
    return seen


@given(compute=FLEETS, seed=SEEDS, bound=st.integers(0, 4))
@settings(max_examples=15, deadline=None)
def test_ssp_clocks_are_at_most_the_bound_and_the_round_in_progress_apart(make, compute, seed, bound):
    """A worker at clock c starts a round only if ``c - slowest <= bound``; its push makes that ``bound + 1`` at most.

    Clocks are the pushes of each worker so far. With a fleet of three tiers, 10 times apart, the bound is reached.
    """
    result = asyncsim.plan(make(6, compute, {"kind": "ssp", "bound": bound}, updates=150, seed=seed))
    clocks = (result.updates["worker"].to_numpy()[:, None] == np.arange(6)).cumsum(axis=0)
    spread = (clocks.max(axis=1) - clocks.min(axis=1)).max()
    assert spread <= bound + 1
    if compute["kind"] == "tiers":
        assert spread == bound + 1
    # a staleness is at most what all others can push between one's read and push: 2 bound + 1 rounds each, and the first
    assert result.updates["staleness"].max() <= 5 * (2 * bound + 2)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("links", [{}, {"server": {"service": {"kind": "exponential", "mean": 0.3}}}], ids=["free", "service"])
def test_ssp_bound_holds_among_crashing_workers(make, monkeypatch, seed, links):
    """The bound holds between workers that are up, also for those that come back and those whose push still queues.

    Without a bound the same fleets exceed it.
    """
    compute = {"kind": "tiers", "base": EXPONENTIAL, "factors": [1, 2, 10]}
    assert max(spreads(make, monkeypatch, 1, compute, seed, CRASHES | links)) <= 2
    assert max(spreads(make, monkeypatch, None, compute, seed, CRASHES | links)) > 2


def test_a_crash_lets_those_go_on_who_waited_for_it(make):
    """SSP(0), times 1 and 10 s. Worker 0 waits from 1 on for worker 1, which crashes at 3: worker 0 is alone and goes on at once.
    Worker 1 is back at 7, just before worker 0 delivers its fifth, so at clock 4: worker 0 waits until it crashes, at 10."""
    cluster = {"overrides": {1: {"compute": "10s", "faults": {"up": "3s", "down": "4s"}}}}
    result = asyncsim.plan(make(2, "1s", {"kind": "ssp", "bound": 0}, cluster=cluster, run={"time": "10.5s"}))
    assert log(result, 99) == [
        ("compute", 0, 0, 1),
        ("compute", 1, 0, 3),
        ("wait", 0, 1, 3),
        ("compute", 0, 3, 4),
        ("compute", 0, 4, 5),
        ("compute", 0, 5, 6),
        ("down", 1, 3, 7),
        ("compute", 0, 6, 7),
        ("compute", 1, 7, 10),
        ("wait", 0, 7, 10),
    ]


# First come, first served.


def test_waiting_workers_go_on_in_the_order_in_which_they_came(make):
    """Slowdowns make round 1 end at 1, 2, 3, 4 s for workers 3, 2, 1, 0; all later rounds take 1 s, and their ends are ties.

    Worker 0 completes the round and goes on at once, then those who waited: 3, 2, 1. Ties keep that order.
    """
    slow = [{"at": 0, "workers": [w], "slowdown": 4 - w, "duration": 4 - w} for w in range(3)]
    result = asyncsim.plan(make(4, "1s", "bsp", updates=2, cluster={"events": slow}))
    assert log(result, 99) == [
        ("compute", 3, 0, 1),
        ("compute", 2, 0, 2),
        ("compute", 1, 0, 3),
        ("compute", 0, 0, 4),
        ("wait", 3, 1, 4),
        ("wait", 2, 2, 4),
        ("wait", 1, 3, 4),
        ("compute", 0, 4, 5),
        ("compute", 3, 4, 5),
        ("compute", 2, 4, 5),
        ("compute", 1, 4, 5),
    ]


# Cancelling.


@given(compute=FLEETS, seed=SEEDS, k=st.integers(1, 6))
@settings(max_examples=12, deadline=None)
def test_k_sync_calls_the_others_back(make, compute, seed, k):
    """N = 6: each round but the last calls back the 6 - k that have not delivered; k pushes an update, none stale, none dropped.

    What is called back shows as computing cut short, at the instant of the update.
    """
    result = asyncsim.plan(make(6, compute, {"kind": "k_sync", "k": k}, updates=20, seed=seed))
    updates, events = result.updates, result.events
    assert (updates["staleness"] == 0).all()
    assert len(updates) == 20 * k
    assert result.summary["dropped"] == 0
    assert result.summary["recalled"] == 19 * (6 - k)
    cut = events[~events["complete"]]
    rounds = updates.loc[updates["outcome"] == "applied", "time_ns"]
    assert Counter(cut["end_ns"]) == (dict.fromkeys(rounds[:-1], 6 - k) if k < 6 else {})
    assert set(cut["kind"]) <= {"compute"}
    check_all(result)


@given(compute=FLEETS, seed=SEEDS, k=st.integers(1, 6))
@settings(max_examples=12, deadline=None)
def test_k_sync_without_cancelling_lets_them_finish_and_drops_what_is_stale(make, compute, seed, k):
    """Only current gradients are applied, k an update; every stale push is dropped; nothing is called back."""
    result = asyncsim.plan(make(6, compute, {"kind": "k_sync", "k": k, "cancel": False}, updates=20, seed=seed))
    updates = result.updates
    dropped = updates["outcome"] == "dropped"
    assert ((updates["staleness"] > 0) == dropped).all()
    assert (~dropped).sum() == 20 * k
    assert result.summary["recalled"] == 0
    assert result.events["complete"].all()
    check_all(result)


def test_cancelling_or_not_by_hand(make):
    """Times 2, 3, 7 s, K = 2: rounds end at 3, 6, 9, 12. Cancel: worker 2 never delivers. Without, it delivers version 0 at 7,
    reads version 2, delivers that at 14; both are stale and dropped."""
    fleet = {"overrides": {0: {"compute": "2s"}, 1: {"compute": "3s"}, 2: {"compute": "7s"}}}
    for cancel in (True, False):
        result = asyncsim.plan(make(3, "1s", {"kind": "k_sync", "k": 2, "cancel": cancel}, cluster=fleet, run={"time": "14.5s"}))
        updates = result.updates
        assert updates.loc[updates["outcome"] == "applied", "time"].tolist() == [3, 6, 9, 12]
        late = updates[updates["worker"] == 2]
        rows = list(zip(late["time"], late["read_version"], late["staleness"], late["outcome"], strict=True))
        assert rows == ([] if cancel else [(7.0, 0, 2, "dropped"), (14.0, 2, 2, "dropped")])
        assert result.summary["recalled"] == (4 if cancel else 0)


@given(compute=FLEETS, seed=SEEDS, threshold=st.integers(1, 8), stops=st.booleans())
@settings(max_examples=20, deadline=None)
def test_ringmaster_applies_nothing_of_the_threshold_or_more(make, compute, seed, threshold, stops):
    """Applied staleness is below R. With stops, nothing is dropped, and no work goes on that is R versions old: a cut span ends
    in the instant of the R-th update after its read, and no span outlives it."""
    method = {"kind": "ringmaster", "threshold": threshold, "stops": stops}
    result = asyncsim.plan(make(6, compute, method, updates=80, seed=seed))
    assert applied(result).max() < threshold
    assert (result.summary["recalled"] == 0) or stops
    if stops:
        assert result.summary["dropped"] == 0
        times = result.updates["time_ns"].to_numpy()  # of update 1, 2, ...: all pushes are applied
        spans = result.events[result.events["version"] + threshold <= len(times)]
        limits = times[spans["version"] + threshold - 1]
        assert (spans["end_ns"].to_numpy() <= limits).all()
        assert ((spans["end_ns"].to_numpy() == limits) | spans["complete"]).all()
        assert (~spans["complete"]).sum() >= result.summary["recalled"]
    else:
        stale = result.updates["staleness"] >= threshold
        assert (stale == (result.updates["outcome"] == "dropped")).all()
    check_all(result)


@given(compute=FLEETS, seed=SEEDS, batch=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_rennala_averages_current_gradients_from_whomever(make, compute, seed, batch):
    """``batch`` pushes of staleness 0 an update, which need not be of different workers; the stale ones are ignored."""
    result = asyncsim.plan(make(4, compute, {"kind": "rennala", "batch": batch}, updates=20, seed=seed))
    updates = result.updates
    used = updates[updates["outcome"] != "dropped"]
    assert (used["staleness"] == 0).all()
    assert Counter(used["read_version"]) == dict.fromkeys(range(20), batch)
    assert (updates.loc[updates["outcome"] == "dropped", "staleness"] > 0).all()
    if batch > 4:
        assert used.groupby("read_version")["worker"].nunique().max() <= 4
    check_all(result)


# Who has crashed.

WAITED_FOR = [
    "bsp", {"kind": "local_sgd", "local_steps": 1}, {"kind": "k_sync", "k": 3}, {"kind": "backup_workers", "backups": 0},
]  # fmt: skip
NOT_WAITED_FOR = [
    "asgd", {"kind": "k_sync", "k": 2}, {"kind": "backup_workers", "backups": 1}, {"kind": "ssp", "bound": 0},
    {"kind": "ssp", "bound": 2}, {"kind": "softsync", "n": 1}, {"kind": "fedbuff", "buffer": 2, "local_steps": 1},
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "pause"), [(each, True) for each in WAITED_FOR] + [(each, False) for each in NOT_WAITED_FOR], ids=str
)
def test_who_waits_for_a_crashed_worker(make, method, pause):
    """Worker 2 of 3 is down from 2.5 to 7.5 s, in rounds of 1 s. Where an update takes everybody, there is none between 2 s and
    8.5 s, when it has delivered; elsewhere the others go on every second. It stays a member in any case. One that stops at 2.5 s
    is not waited for."""
    for event, waits in (({"down": "5s"}, pause), ({"stop": True}, False)):
        events = [{"at": "2.5s", "workers": [2], **event}]
        result = asyncsim.plan(make(3, "1s", method, cluster={"events": events}, run={"time": "9.2s"}))
        check_all(result)
        others = set(result.updates.loc[result.updates["worker"] < 2, "time"])
        assert others >= {1, 2, 3}
        assert ({5, 6, 7} <= others) is not waits
        if waits:
            assert result.updates.loc[result.updates["outcome"] == "applied", "time"].tolist() == [1, 2, 8.5]
