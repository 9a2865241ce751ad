"""Sums that must match to the last unit, on random fleets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import check_all

import asyncsim

DELAYS = st.sampled_from([
    "1s",
    {"kind": "exponential", "mean": "1s"},
    {"kind": "gamma", "mean": 1.0, "cv": 0.1},
    {"kind": "gamma_heterogeneous", "mean": 1.0},
    {"kind": "uniform", "low": 0, "high": "2s"},
    {"kind": "pareto", "scale": 0.2, "alpha": 1.0, "cap": "60s"},
    {"kind": "tiers", "base": {"kind": "exponential", "mean": 1.0}, "factors": [1, 3, 40]},
    {"kind": "two_state", "base": {"kind": "gamma", "mean": 1.0, "cv": 0.5}, "factor": 7, "normal": "5s",
     "slow": {"kind": "exponential", "mean": "3s"}},
])  # fmt: skip
RANDOM_LINK = {"latency": {"kind": "exponential", "mean": 0.3}}
LINKS = st.sampled_from([
    {}, {"uplink": RANDOM_LINK, "downlink": "200ms"}, {"server": {"service": "0.1s"}, "downlink": RANDOM_LINK}
])  # fmt: skip
SLOWDOWNS = st.lists(
    st.fixed_dictionaries(
        {"at": st.integers(0, 20), "workers": st.just([0]), "slowdown": st.sampled_from([0.5, 3.0])},
        optional={"duration": st.integers(1, 10)},
    ),
    max_size=3,
)  # fmt: skip
SEEDS = st.integers(0, 2**32)


@given(st.integers(1, 12), DELAYS, LINKS, SLOWDOWNS, st.integers(1, 150), SEEDS)
@settings(max_examples=40, deadline=None)
def test_applied_staleness_and_ages_in_flight_are_the_other_workers_updates(make, workers, compute, links, events, updates, seed):
    """``sum(tau) + sum(ages in flight) = version * (N - 1)``, for any times, links and queue.

    A worker reads in the instant in which its push is applied. Follow one worker: from read to read the version moves by its
    push's staleness plus one (its own update), so the stalenesses, its updates and the age of what it has in flight sum to the
    version. Sum that over the N workers: every update is one worker's own, hence ``sum(tau) + version + ages = N * version``.
    """
    result = asyncsim.plan(make(workers, compute, updates=updates, cluster={**links, "events": events}, seed=seed))
    last = result.updates.groupby("worker")["version"].max()  # what each one read when it had pushed
    ages = sum(updates - last.get(worker, 0) for worker in range(workers))
    assert result.updates["staleness"].sum() + ages == updates * (workers - 1)
    if "server" not in links:  # there, a push in the queue is not in flight any more
        assert (result.summary["in_flight"], result.summary["in_flight_staleness"]) == (workers, ages)
    check_all(result)


@pytest.mark.parametrize("method", [
    {"kind": "ringmaster", "threshold": 3},
    {"kind": "rennala", "batch": 3},
    {"kind": "softsync", "n": 2},
    {"kind": "fedbuff", "buffer": 3},
    {"kind": "ringmaster", "threshold": 3, "stops": True},
], ids=lambda method: f"{method['kind']}{'-stops' if 'stops' in method else ''}")  # fmt: skip
@given(workers=st.integers(3, 9), compute=DELAYS, seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_dropped_and_buffered_gradients_count_as_consumed(make, method, workers, compute, seed):
    """The same law over all pushes, whatever became of them, since a worker also reads after a push that was dropped or buffered.

    Work that is called back (Ringmaster with stops, ``threshold = R``) is read anew at once, at age exactly R: the rule is
    asked after each update. Hence ``sum(tau of all pushes) + R * recalled + ages in flight = version * (N - 1)``.
    """
    result = asyncsim.plan(make(workers, compute, method, updates=60, seed=seed))
    summary = result.summary
    consumed = result.updates["staleness"].sum() + method.get("threshold", 0) * summary["recalled"]
    assert consumed + summary["in_flight_staleness"] == summary["updates"] * (workers - 1)
    check_all(result)


def test_the_law_needs_workers_that_read_when_they_push(make):
    """The check above can fail: a worker that SSP holds back reads later than it pushed, and its staleness is smaller."""
    compute = {"kind": "tiers", "base": "1s", "factors": [1, 1, 5]}
    summaries = {}
    for bound in (None, 1):
        result = asyncsim.plan(make(3, compute, {"kind": "ssp", "bound": bound}, updates=100))
        total = result.updates["staleness"].sum() + result.summary["in_flight_staleness"]
        summaries[bound] = total - 100 * 2
    assert summaries[None] == 0
    assert summaries[1] < 0


@given(batch=st.integers(1, 7), steps=st.integers(1, 3), compute=DELAYS, seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_samples_are_those_of_the_pushes_in_applied_updates(make, batch, steps, compute, seed):
    """Each push brings ``batch`` samples for each of its local steps; FedBuff applies 3 pushes an update, and drops nothing."""
    method = {"kind": "fedbuff", "buffer": 3, "local_steps": steps}
    result = asyncsim.plan(make(4, compute, method, updates=20, seed=seed, task={"kind": "quadratic", "batch": batch}))
    assert result.summary["samples"] == 20 * 3 * steps * batch
    assert result.summary["pushes"] == 60
    assert result.metrics["samples"].iloc[-1] == result.summary["samples"]


def test_shares_of_the_time_are_those_of_a_hand_made_run(make):
    """One worker, 2 s of compute, 1 s up, 1 s service, crash after 7 s for 2 s, until 12 s.

    Round 1: compute 0-2, upload 2-3, serve 3-4; round 2: compute 4-6, upload 6-7 (complete: it ends as the worker crashes, and
    the crash, an interrupt, was scheduled first, so it is lost); down 7-9; round 3: compute 9-11, upload 11-12 is not finished.
    """
    cluster = {"uplink": "1s", "server": {"service": "1s"}, "faults": {"up": "7s", "down": "2s"}}
    summary = asyncsim.plan(make(1, "2s", cluster=cluster, run={"time": "12s"})).summary
    shares = {name: summary[name] * 12 for name in ("utilisation", "upload", "serve", "down", "lost", "unfinished")}
    assert shares == pytest.approx({"utilisation": 6, "upload": 1, "serve": 1, "down": 2, "lost": 1, "unfinished": 1})
    assert summary["pushes"] == 1


def test_local_steps_take_the_batches_of_a_plain_worker_in_turn(make):
    """Common random numbers: round r of 3 local steps takes as long as batches 3r, 3r + 1, 3r + 2 of the same worker in ASGD.

    Seconds are added before they become nanoseconds, hence within one of them for each of the three.
    """
    compute = {"kind": "exponential", "mean": 1.0}
    plain = asyncsim.plan(make(2, compute, updates=200)).events
    local = asyncsim.plan(make(2, compute, {"kind": "fedbuff", "buffer": 1, "local_steps": 3}, updates=40)).events
    for worker in (0, 1):
        batches, rounds = (
            (table["end_ns"] - table["start_ns"])[table["worker"] == worker].to_numpy() for table in (plain, local)
        )  # fmt: skip
        assert len(rounds) > 10
        assert abs(rounds - batches[: 3 * len(rounds)].reshape(-1, 3).sum(axis=1)).max() <= 3
