"""What happens at one instant happens in the order of the table in docs/determinism.md, whatever was scheduled when."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import check_all, log

import asyncsim


def pushed(make, seconds=30, compute="1s", workers=1, **cluster) -> list[float]:
    """When worker 0's pushes arrive."""
    result = asyncsim.plan(make(workers, compute, cluster=cluster, run={"time": seconds}))
    check_all(result)
    return result.updates.loc[result.updates["worker"] == 0, "time"].tolist()


# Warnings.


@pytest.mark.parametrize("warning", ["4001ms", "4999ms", "5s", "6s", "1h"])
def test_a_life_not_longer_than_its_warning_begins_one_batch(make, warning):
    """Up 5 s, down 1 s: every life begins one batch of 1 s, hears of its end and begins no other; so does the first."""
    faults = {"up": "5s", "down": "1s", "warning": warning}
    assert pushed(make, faults=faults) == [1, 7, 13, 19, 25]
    assert pushed(make, faults=faults | {"warning": "3999ms"}) == [1, 2, 7, 8, 13, 14, 19, 20, 25, 26]


def test_a_batch_that_ends_in_the_instant_of_the_warning_is_the_last(make):
    """Up 5 s, told 3 s before, at 2 s: the batch of 1 to 2 s is pushed, and no other begins."""
    assert pushed(make, faults={"up": "5s", "down": "1s", "warning": "3s"}) == [1, 2, 7, 8, 13, 14, 19, 20, 25, 26]


def test_who_was_away_at_the_warning_hears_of_it_at_its_return(make):
    """Maintenance of 2 s at 10 s is announced at 4 s, while worker 0 is down from 3 to 6 s: it begins one batch, and waits."""
    windows = {"every": "100s", "first": "10s", "duration": "2s", "warning": "6s"}
    event = {"at": "3s", "workers": [0], "down": "3s"}
    assert pushed(make, 15, maintenance=[windows], events=[event]) == [1, 2, 7, 13, 14]


# Two things at once.


@pytest.mark.parametrize("up", ["2s", "4s"])
def test_a_batch_that_ends_in_the_instant_of_a_crash_is_lost(make, up):
    """Whether the crash was drawn in the instant in which the batch began or long before."""
    first = {"2s": [], "4s": [2]}[up]
    assert pushed(make, 6, "2s", faults={"up": up, "down": "10s"}) == first


def test_an_evaluation_shows_what_was_before(make):
    """Pushes at 2, 4, 6 s; evaluations every second and every 3 s see those before their instant; the end counts once."""
    for every, versions in (("1s", [0, 0, 0, 1, 1, 2, 2]), ("3s", [0, 1, 2])):
        result = asyncsim.plan(make(1, "2s", run={"time": 6}, evaluate={"time": every}))
        assert result.metrics["version"].tolist() == versions
        assert not result.metrics.duplicated(["time_ns", "version"]).any()


def test_a_worker_is_back_before_what_arrives(make):
    """Worker 0 is down from 1 to 4 s, when worker 1 delivers its second push: worker 0 has read version 1, not 2."""
    overrides, event = {0: {"compute": "3s"}, 1: {"compute": "2s"}}, {"at": "1s", "workers": [0], "down": "3s"}
    result = asyncsim.plan(make(2, run={"time": "8s"}, cluster={"overrides": overrides, "events": [event]}))
    assert result.updates.loc[result.updates["worker"] == 0, "read_version"].tolist() == [1]


@pytest.mark.parametrize("order", [1, -1])
def test_who_leaves_the_group_is_not_struck_in_that_instant(make, order):
    """It leaves at 3 s and joins at 5 s; a crash of 9 s in the instant of leaving, or of joining, is not felt."""
    events = [{"at": "3s", "workers": [0], "leave": True}, {"at": "5s", "workers": [0], "join": True}]
    for when in ("3s", "5s"):
        assert pushed(make, 8, events=[*events, {"at": when, "workers": [0], "down": "9s"}][::order]) == [1, 2, 6, 7]


def test_maintenance_that_touches_a_fault(make):
    """Down from 3 to 5 s, maintenance from 5 to 7 s: it does not come back between."""
    result = asyncsim.plan(make(1, run={"time": "9s"}, cluster={
        "faults": {"up": "3s", "down": "2s"}, "maintenance": [{"every": "100s", "first": "5s", "duration": "2s"}],
    }))  # fmt: skip
    assert [row for row in log(result, 9) if row[0] == "compute"][3:4] == [("compute", 0, 7, 8)]


def test_a_zone_takes_who_was_there_before(make):
    """Worker 0 is down from 2 to 4 s, when its zone goes for 3 s: it is back at 4 s and stays."""
    zones, event = {"zones": [2], "gap": "4s", "down": "3s", "whole": 1}, {"at": "2s", "workers": [0], "down": "2s"}
    assert pushed(make, 7, workers=2, zones=zones, events=[event]) == [1, 5, 6]


def test_a_server_that_fails_in_the_instant_of_an_arrival(make):
    """It saves itself (version 3), then fails at 4 s, then the push of 4 s arrives and waits until 6 s."""
    server = {"faults": {"up": "4s", "down": "2s"}, "checkpoint": "4s"}
    result = asyncsim.plan(make(1, run={"time": "9s"}, cluster={"server": server}))
    assert result.updates["time"].tolist() == [1, 2, 3, 6, 7, 8]
    assert result.summary["lost_updates"] == 0


# Any of them, against a state machine.


class Loss(NamedTuple):
    at: int
    down: int
    warning: int = 0
    from_: int = 0


def by_hand(compute: int, losses: list[Loss], absence: tuple[int, int] | None, stop: int | None, end: int) -> list[int]:
    """When one worker's pushes arrive: second after second, and in each one thing after the other."""
    up, there, until, busy, pushes = True, True, 0, compute, []
    if absence is not None and absence[0] == 0:
        up, there, until = False, False, absence[1]
    for now in range(end):
        if now == stop:
            break
        if absence is not None and now == absence[0] and now:
            up, there, until = False, False, absence[1]
        for loss in losses:
            if loss.at == now and there:
                up, until = False, max(until, now + loss.down)
        if not up and now == until:
            up, there, busy = True, True, now + compute
        told = any(max(loss.from_, loss.at - loss.warning) <= now < loss.at for loss in losses if loss.warning)
        if up and busy == now:
            pushes.append(now)
            busy = -1 if told else now + compute
    return pushes


def lives(up: int, down: int, warning: int, end: int) -> list[Loss]:
    """Renewals, which go on whatever else happens."""
    found, begin = [], 0
    while begin < end:
        found.append(Loss(begin + up, down, warning, begin))
        begin += up + down
    return found


@given(
    compute=st.integers(1, 3),
    faults=st.none() | st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 7)),
    outages=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=3),
    windows=st.none() | st.tuples(st.integers(0, 9), st.integers(4, 9), st.integers(1, 3), st.integers(0, 4)),
    absence=st.none() | st.tuples(st.integers(0, 12), st.integers(1, 9)),
    stop=st.none() | st.integers(0, 25),
)
@settings(max_examples=150, deadline=None)
def test_any_small_configuration_is_the_state_machine(make, compute, faults, outages, windows, absence, stop):
    """Whole seconds, so that nearly everything happens at once."""
    end = 26
    losses = [Loss(*each) for each in outages]
    cluster: dict[str, Any] = {"events": [{"at": when, "workers": [0], "down": down} for when, down in outages]}
    if faults is not None:
        losses += lives(*faults, end)
        cluster["faults"] = dict(zip(("up", "down", "warning"), faults, strict=True))
    if windows is not None:
        first, every, duration, warning = windows
        warning = min(warning, every - duration)
        losses += [Loss(when, duration, warning) for when in range(first, end + every, every)]
        cluster["maintenance"] = [{"first": first, "every": every, "duration": duration, "warning": warning}]
    if absence is not None:
        absence = absence[0], sum(absence)
        turns = zip(("leave", "join"), absence, strict=True)
        cluster["events"] += [{"at": when, "workers": [0], turn: True} for turn, when in turns]
    if stop is not None:
        cluster["events"].append({"at": stop, "workers": [0], "stop": True})
    cluster["overrides"] = {1: {"faults": {}}}
    if windows is not None:
        cluster["maintenance"][0]["workers"] = [0]
    expected = by_hand(compute, losses, absence, stop, end)
    assert pushed(make, end, compute, workers=2, **cluster) == expected
