"""Crashes, recalls and stops, one at a time and in the same instant; and runs that cannot go on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import check_all, log

import asyncsim
from asyncsim.errors import Deadlock
from asyncsim.policies import DropStale, Verdict
from asyncsim.simulation import patience


def at(result: asyncsim.Result) -> list[tuple[float, int, int, str]]:
    """(time, worker, staleness, outcome) of every push."""
    updates = result.updates
    rows = zip(updates["time"], updates["worker"], updates["staleness"], updates["outcome"], strict=True)
    return [(float(time), int(worker), int(staleness), str(outcome)) for time, worker, staleness, outcome in rows]


def stop(at: float, *workers: int) -> dict:
    return {"at": at, "workers": list(workers), "stop": True}


# Crashes.


def test_a_crash_loses_what_is_in_flight(make):
    """2 s of compute, up 5 s, down 2 s: pushes at 2 and 4, the work of 4-5 is lost; back at 7, and so on. What was lost is never
    computed; every step number is used once, and the lost ones stay gaps."""
    result = asyncsim.simulate(make(1, "2s", updates=5, cluster={"faults": {"up": "5s", "down": "2s"}}))
    assert result.updates["time"].tolist() == [2, 4, 9, 11, 16]
    assert result.updates["step"].tolist() == [0, 1, 3, 4, 6]
    assert log(result, 5)[2:] == [("compute", 0, 4, 5), ("down", 0, 5, 7), ("compute", 0, 7, 9)]
    assert result.events["complete"].tolist() == [True, True, False, True, True, True, False, True, True]
    assert result.summary["gradients_computed"] == 5
    assert result.summary["crashes"] == 2
    assert result.updates["loss"].notna().all()
    check_all(result)


@pytest.mark.parametrize("method", ["asgd", {"kind": "ringmaster", "threshold": 2}, {"kind": "k_sync", "k": 3}])
@pytest.mark.parametrize("stops", [False, True])
def test_only_what_is_applied_is_computed(make, method, stops):
    """Lost, recalled and dropped work is never computed: gradients computed = pushes that counted (here each in an update)."""
    if stops and method != "asgd":
        method = {**method, "stops": True} if method["kind"] == "ringmaster" else {**method, "cancel": False}
    cluster = {"faults": {"up": {"kind": "exponential", "mean": 5}, "down": {"kind": "exponential", "mean": 2}}}
    result = asyncsim.simulate(make(6, {"kind": "exponential", "mean": 1}, method, updates=60, cluster=cluster))
    counted = result.updates["outcome"] != "dropped"
    assert result.summary["gradients_computed"] == counted.sum() < result.events["worker"].size
    assert (result.updates["loss"].notna() == counted).all()
    assert result.summary["crashes"] > 0


def test_a_crash_does_not_undo_a_push_that_queues(make):
    """Compute 0-2, service 2-6; crash at 3, back at 4: the push is applied at 6, once, and until then the worker, which has
    nothing else to do, waits at the server. Its time is down from 3 to 4 nevertheless."""
    cluster = {"server": {"service": "4s"}, "faults": {"up": "3s", "down": "1s"}}
    result = asyncsim.simulate(make(1, "2s", updates=1, cluster=cluster))
    assert at(result) == [(6.0, 0, 0, "applied")]
    assert log(result, 9) == [("compute", 0, 0, 2), ("serve", 0, 2, 3), ("down", 0, 3, 4), ("serve", 0, 4, 6)]
    assert result.summary["gradients_computed"] == 1
    assert "lost" not in result.summary
    check_all(result)


def test_a_push_is_served_while_its_worker_is_down(make):
    """The same with a crash at 3 until 8: applied at 6; the worker reads version 1 at 8 and delivers at 10, served until 14."""
    cluster = {"server": {"service": "4s"}, "faults": {"up": "3s", "down": "5s"}}
    result = asyncsim.plan(make(1, "2s", updates=2, cluster=cluster))
    assert at(result) == [(6.0, 0, 0, "applied"), (14.0, 0, 0, "applied")]
    check_all(result)


def test_a_worker_that_comes_back_does_not_overtake_its_push(make):
    """A barrier and a queue: N = 3, service 4 s each, worker 0 crashes at 2 while its push (arrived at 1) is served until 5, and
    is back at 3. It does not deliver twice in a round."""
    faults = {"up": "2s", "down": "1s"}
    cluster = {"server": {"service": "4s"}, "overrides": {0: {"faults": faults}}}
    result = asyncsim.plan(make(3, "1s", "bsp", cluster=cluster, run={"time": "40s"}))
    rounds = result.updates.groupby(result.updates.index // 3)["worker"]
    assert all(sorted(workers) == [0, 1, 2] for _, workers in rounds if len(workers) == 3)
    assert result.updates["staleness"].max() == 0
    assert result.summary["pushes"] >= 6
    check_all(result)


def test_crash_and_stop_in_the_same_instant(make):
    """Crash at 5 and stop at 5, in either order of scheduling: the worker is gone, once, and nobody waits for it."""
    cluster = {"overrides": {0: {"faults": {"up": "5s", "down": "2s"}}}, "events": [stop(5, 0)]}
    for method in ("bsp", "asgd"):
        result = asyncsim.plan(make(2, "2s", method, updates=6, cluster=cluster))
        assert result.updates.loc[result.updates["time"] > 5, "worker"].eq(1).all()
        assert (result.events["kind"] == "stop").sum() == 1
        check_all(result)


@pytest.mark.parametrize("compute", ["2s", "3s"])
def test_a_stop_in_the_instant_of_coming_back(make, compute):
    """Up 5 s, down 2 s, stop at 7: the worker is neither down nor back. SSP's clocks must survive it: the rest goes on."""
    cluster = {"overrides": {0: {"faults": {"up": "5s", "down": "2s"}}}, "events": [stop(7, 0)]}
    result = asyncsim.plan(make(3, compute, {"kind": "ssp", "bound": 1}, updates=30, cluster=cluster))
    late = result.updates[result.updates["time"] > 7]
    assert set(late["worker"]) == {1, 2}
    counts = late["worker"].value_counts()
    assert abs(counts[1] - counts[2]) <= 1
    check_all(result)


def test_a_push_that_is_served_in_the_instant_of_coming_back(make):
    """Compute 0-1, served 1-6, crash at 2 for 4 s: back and served both at 6. The clock counts once and nobody hangs."""
    cluster = {"server": {"service": "5s"}, "overrides": {0: {"faults": {"up": "2s", "down": "4s"}}}}
    for bound in (0, 2):
        result = asyncsim.plan(make(2, "1s", {"kind": "ssp", "bound": bound}, updates=20, cluster=cluster))
        check_all(result)


def test_recall_in_the_instant_of_a_crash(make):
    """K-sync, K = 1: worker 0 delivers at 2 and would call worker 1 back, which crashes at 2, before that: it is down once, lost
    one step's work, and is back at 4, before worker 0 delivers again; at 8 it is back before the push that ends the run."""
    cluster = {"overrides": {1: {"compute": "3s", "faults": {"up": "2s", "down": "2s"}}}}
    result = asyncsim.plan(make(2, "2s", {"kind": "k_sync", "k": 1}, updates=4, cluster=cluster))
    assert result.updates["time"].tolist() == [2, 4, 6, 8]
    down = result.events[result.events["kind"] == "down"]
    assert list(zip(down["start"], down["end"], strict=True)) == [(2, 4), (6, 8)]
    check_all(result)


def test_stop_and_crash_at_time_0(make):
    """A worker that stops at 0 does nothing; one that crashes at 0, perhaps several times in a row, begins at its return."""
    result = asyncsim.plan(make(3, "1s", "bsp", updates=5, cluster={"events": [stop(0, 1)]}))
    assert set(result.updates["worker"]) == {0, 2}
    assert result.updates["time"].unique().tolist() == [1, 2, 3, 4, 5]
    check_all(result)
    uptime = {"kind": "mixture", "parts": [{"weight": 1, "delay": 0}, {"weight": 1, "delay": 1e6}]}
    cluster = {"overrides": {0: {"faults": {"up": uptime, "down": "3s"}}}}
    crashes = set()
    for seed in range(12):
        result = asyncsim.plan(make(2, "1s", updates=40, cluster=cluster, seed=seed))
        first = result.updates.loc[result.updates["worker"] == 0, "time"].iloc[0]
        assert first == 3 * result.summary["crashes"] + 1
        crashes.add(result.summary["crashes"])
        check_all(result)
    assert {0, 1, 2} <= crashes


def test_an_episode_may_speed_up(make):
    """``slowdown: 0.5`` from 2 s on, for 3 s: 1 s rounds end at 1, 2, then every half second until 5, then every second."""
    events = [{"at": 2, "workers": [0], "slowdown": 0.5, "duration": 3}]
    result = asyncsim.plan(make(1, "1s", updates=10, cluster={"events": events}))
    assert result.updates["time"].tolist() == [1, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7]


def test_up_times_shorter_than_a_compute_time(make):
    """Nothing is ever finished: ``time`` ends the run, with no update and all the time down or lost."""
    cluster = {"faults": {"up": "0.5s", "down": "0.25s"}}
    result = asyncsim.simulate(make(3, "1s", cluster=cluster, run={"time": "10s"}))
    summary = result.summary
    assert (summary["updates"], summary["pushes"], summary["gradients_computed"]) == (0, 0, 0)
    assert summary["time"] == 10
    assert summary["lost"] == pytest.approx(2 / 3, abs=0.05)
    assert "utilisation" not in summary
    check_all(result)


def test_crashes_without_end_are_reported(make, monkeypatch):
    """Without ``time`` the same fleet would crash for ever."""
    monkeypatch.setattr(patience, "STALLED", 100)
    cluster = {"faults": {"up": "0.5s", "down": "0.25s"}}
    with pytest.raises(Deadlock, match=r"0 pushes were buffered or dropped and 301 crashes"):
        asyncsim.plan(make(3, "1s", updates=10, cluster=cluster))


# Workers that leave in the middle of a round. Compute times 2, 3, 5 s.

THREE = {0: {"compute": "2s"}, 1: {"compute": "3s"}, 2: {"compute": "5s"}}


@pytest.mark.parametrize(("method", "steps"), [("bsp", 1), ({"kind": "local_sgd", "local_steps": 2}, 2)])
def test_leaving_a_synchronous_round(make, method, steps):
    """A round takes what the slowest takes (times the local steps).

    Worker 2 leaves after 1.8 rounds, before it delivered: the round ends at once with the two others, who had. Worker 0 leaves in
    the first round after it delivered: its gradient counts, and the round still waits for worker 2. No staleness ever.
    """
    length = 5 * steps
    result = asyncsim.plan(make(3, "1s", method, updates=4, cluster={"overrides": THREE, "events": [stop(1.8 * length, 2)]}))
    assert result.updates["staleness"].max() == 0
    # Version 1 comes at 5, version 2 when worker 2 leaves at 9 (by no push of its own), then rounds take 3 (for 1 step).
    last = {int(version): group["time"].max() for version, group in result.updates.groupby("read_version")}
    expected = {0: length, 1: length + 3 * steps, 2: 1.8 * length + 3 * steps, 3: 1.8 * length + 6 * steps}
    assert last == pytest.approx(expected)
    check_all(result)

    result = asyncsim.plan(make(3, "1s", method, updates=4, cluster={"overrides": THREE, "events": [stop(0.5 * length, 0)]}))
    pushes = at(result)
    assert [worker for _, worker, _, _ in pushes] == [0, 1, 2, 1, 2, 1, 2, 1, 2]
    assert [time for time, _, _, outcome in pushes if outcome == "applied"] == [length, 2 * length, 3 * length, 4 * length]
    assert result.updates["staleness"].max() == 0
    check_all(result)


@pytest.mark.parametrize("cancel", [True, False])
def test_leaving_a_k_sync_round(make, cancel):
    """K = 2 of 3: rounds end at 3, 6. Worker 1 leaves at 7: workers 0 and 2 remain, both are needed. With cancelling they began
    version 2 at 6 (rounds of 5 s: 11, 16). Without, worker 2's version 0 came at 5 (dropped), it read version 1 and delivers it
    at 10 (dropped: the server is at 2), version 2 at 15, version 3 at 20."""
    method = {"kind": "k_sync", "k": 2, "cancel": cancel}
    result = asyncsim.plan(make(3, "1s", method, updates=4, cluster={"overrides": THREE, "events": [stop(7, 1)]}))
    applied = [time for time, _, _, outcome in at(result) if outcome == "applied"]
    assert applied == ([3, 6, 11, 16] if cancel else [3, 6, 15, 20])
    check_all(result)


def test_leaving_a_softsync_round(make):
    """1-softsync of 3: any three pushes. Worker 2 leaves at 4, before its first: the others' pushes at 2, 3, 4 | 6, 6, 8 | ..."""
    cluster = {"overrides": THREE, "events": [stop(4.5, 2)]}
    result = asyncsim.plan(make(3, "1s", {"kind": "softsync", "n": 1}, updates=2, cluster=cluster))
    pushes = [(time, worker, outcome) for time, worker, _, outcome in at(result)]
    assert pushes == [
        (2.0, 0, "buffered"),
        (3.0, 1, "buffered"),
        (4.0, 0, "applied"),
        (6.0, 1, "buffered"),
        (6.0, 0, "buffered"),
        (8.0, 0, "applied"),
    ]
    check_all(result)


def test_leaving_with_a_push_in_the_queue(make):
    """BSP of 2, service 2 s: both push at 1; worker 1's waits until 3 and is served until 5. It leaves at 2: the round still
    takes its gradient, at 5, without staleness; then worker 0 is alone: rounds of 3 s."""
    cluster = {"server": {"service": "2s"}, "events": [stop(2, 1)]}
    result = asyncsim.plan(make(2, "1s", "bsp", updates=3, cluster=cluster))
    assert at(result) == [(3.0, 0, 0, "buffered"), (5.0, 1, 0, "applied"), (8.0, 0, 0, "applied"), (11.0, 0, 0, "applied")]
    check_all(result)


# Runs that cannot go on.


def test_all_workers_leave(make):
    """The error says when, how far the run was, and who left."""
    cluster = {"events": [stop(3.5, 0, 1), stop(5.5, 2)]}
    with pytest.raises(Deadlock) as error:
        asyncsim.plan(make(3, "1s", updates=100, cluster=cluster))
    assert str(error.value) == (
        "deadlock at 5.5 s of virtual time, version 11: every worker has left\n  gone for good: 0-2"
    )  # fmt: skip


def test_the_last_pushes_of_workers_that_left_still_count(make):
    """Both leave while their pushes queue: the server serves them at 3 and 5, and the second one ends the run."""
    cluster = {"server": {"service": "2s"}, "events": [stop(2, 0, 1)]}
    result = asyncsim.plan(make(2, "1s", updates=2, cluster=cluster))
    assert at(result) == [(3.0, 0, 0, "applied"), (5.0, 1, 1, "applied")]
    with pytest.raises(Deadlock, match=r"at 5 s of virtual time, version 2: every worker has left"):
        asyncsim.plan(make(2, "1s", updates=3, cluster=cluster))


HUNGRY = {"kind": "custom", "policy": [{"kind": "accumulate", "count": 10}], "consistency": "bsp"}


@pytest.mark.parametrize("cluster", [
    {}, {"server": {"service": "1s"}}, {"overrides": {2: {"faults": {"up": "2.5s", "down": "10s"}}}},
], ids=["plain", "service", "crash"])  # fmt: skip
def test_a_buffer_that_can_never_fill(make, cluster):
    """Four workers deliver version 0 once each and wait for version 1; the server waits for ten. A crash only delays the end: a
    worker that comes back has delivered, and waits again."""
    with pytest.raises(Deadlock) as error:
        asyncsim.plan(make(4, "1s", HUNGRY, updates=100, cluster=cluster))
    message = str(error.value)
    assert "version 0: every worker waits" in message
    assert "workers 0-3 wait for version 1" in message
    assert "the server holds 4 buffered pushes and waits for more" in message


def test_a_buffer_that_can_never_fill_among_crashing_workers(make):
    """The same when all crash now and then; one has left for good."""
    faults = {"up": {"kind": "exponential", "mean": 20}, "down": {"kind": "exponential", "mean": 2}}
    for seed in range(3):
        with pytest.raises(Deadlock, match=r"(?s)workers 0-1, 3 wait for version 1.*gone for good: 2") as error:
            asyncsim.plan(make(4, "1s", HUNGRY, updates=9, cluster={"faults": faults, "events": [stop(0.5, 2)]}, seed=seed))
        assert "the server holds 3 buffered pushes" in str(error.value)


@pytest.mark.parametrize("verdict", ["dropped", "buffered"])
def test_pushes_without_end_and_no_update_are_reported(make, monkeypatch, verdict):
    """A policy that takes nothing: after ``STALLED`` pushes (at least 100 a worker) without an update, not an endless loop."""
    monkeypatch.setattr(patience, "STALLED", 50)
    policy = {"kind": "accumulate", "count": 10**6}
    if verdict == "dropped":
        policy = {"kind": "drop_stale", "bound": 0}
        monkeypatch.setattr(DropStale, "update", lambda self, push, state, server: Verdict.DROPPED)
    with pytest.raises(Deadlock, match=r"version 0: 201 pushes were buffered or dropped and 0 crashes"):
        asyncsim.plan(make(2, "1s", {"kind": "custom", "policy": [policy]}, updates=10))
    assert asyncsim.plan(make(2, "1s", {"kind": "custom", "policy": [policy]}, run={"time": "50s"})).summary["updates"] == 0


def test_events_without_end_and_no_update_are_reported(make, monkeypatch):
    """All crash before they have done anything, and are down long; meanwhile a zone finds nobody, a hundred times a second."""
    monkeypatch.setattr(patience, "STALLED", 100)
    cluster = {"faults": {"up": "5ms", "down": "1000s"}, "zones": {"gap": "10ms", "down": "1s", "zones": 1}}
    with pytest.raises(Deadlock, match=r"version 0: 4,864 events happened without an update"):
        asyncsim.plan(make(3, "1s", updates=10, cluster=cluster))


@given(
    seed=st.integers(0, 2**32),
    up=st.sampled_from([0.3, 2, 20]),
    down=st.sampled_from([0, 1, 10]),
    service=st.sampled_from([0, 0.2]),
    stops=st.lists(st.tuples(st.sampled_from([0, 0.5, 1, 2, 3, 7, 20]), st.integers(0, 3)), max_size=4),
    method=st.sampled_from(["asgd", "bsp", {"kind": "k_sync", "k": 3}, {"kind": "ssp", "bound": 1},
                            {"kind": "ringmaster", "threshold": 2, "stops": True}]),
    whole=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_mixture_of_faults(make, seed, up, down, service, stops, method, whole):
    """Five workers, one of which never leaves; whole seconds make many ties. The run ends and the laws hold."""
    kind = "constant" if whole else "exponential"
    cluster = {
        "faults": {"up": {"kind": kind, "mean": up}, "down": {"kind": kind, "mean": down} if down else 0},
        "server": {"service": service}, "events": [stop(when, worker) for when, worker in stops],
    }  # fmt: skip
    compute = "1s" if whole else {"kind": "exponential", "mean": 1}
    result = asyncsim.plan(make(5, compute, method, cluster=cluster, run={"updates": 40, "time": 60}, seed=seed))
    check_all(result)
    gone = {worker for when, worker in stops if when < result.summary["time"]}
    assert set(result.events.loc[result.events["kind"] == "stop", "worker"]) <= {worker for _, worker in stops}
    assert gone <= set(result.events.loc[result.events["kind"] == "stop", "worker"])
