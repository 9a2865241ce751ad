"""The server goes down: what is lost, what is left, and when everybody goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from laws import check_all, log

import asyncsim
from asyncsim.cluster.distributions import Constant
from asyncsim.errors import UserError
from asyncsim.records import Result
from asyncsim.simulation.queueing import Queue
from asyncsim.streams import Streams

GAMMA = {"kind": "gamma", "mean": 1.0, "cv": 0.5}
MOMENTUM = {"kind": "sgd", "lr": 0.05, "momentum": 0.9}
TASK = {"kind": "quadratic", "dim": 3}


def failing(up: Any = "25500ms", down: Any = "5s", checkpoint: str = "10200ms", **server: Any) -> dict[str, Any]:
    """Saves at 10.2 and 20.4 s, a crash at 25.5 s, back at 30.5 s, the next crash at 56 s."""
    return {"server": {"faults": {"up": up, "down": down}, "checkpoint": checkpoint, **server}}


def lost(result: Result) -> tuple[int, int, int]:
    return tuple(result.summary[name] for name in ("server_restarts", "lost_updates", "lost_pushes"))


def test_counts(make):
    """One worker, a second a gradient. At 25.5 s updates 21 to 25 are lost. What it computes then (on version 25) comes at 26 s
    and waits until 30.5 s: it becomes version 27, as the restart was 26. Of 30 updates that stand, ten come after."""
    settings = {"task": TASK, "optimizer": MOMENTUM, "evaluate": {"updates": 1}}
    whole = asyncsim.simulate(make(1, updates=20, **settings))
    broken = asyncsim.simulate(make(1, cluster=failing(), updates=30, **settings))
    check_all(broken)
    assert lost(broken) == (1, 5, 0)
    assert broken.summary["updates"] == 30
    assert 2 * broken.summary["samples"] == 3 * whole.summary["samples"]
    assert broken.summary["pushes"] == 35
    assert broken.summary["time"] == 39.5
    assert broken.updates["version"].tolist() == [*range(1, 26), *range(27, 37)]
    assert broken.updates["staleness"].tolist() == [0] * 25 + [1] + [0] * 9
    row = broken.metrics[broken.metrics["version"] == 26].iloc[0]
    saved = whole.metrics[whole.metrics["version"] == 20].iloc[0]
    assert row["time"] == 30.5
    assert row["samples"] == saved["samples"]
    assert row["test_distance"] == saved["test_distance"]


@pytest.mark.parametrize("optimizer", [MOMENTUM, {"kind": "adam"}, {"kind": "look_ahead_momentum"}])
def test_lost_updates_leave_no_trace(make, optimizer):
    """Gradients without noise, and nothing under way while the server is down: updates 1 to 20, and ten more after 31.2 s, are
    those of a run without faults, bit for bit; momentum and second moments are those of update 20."""
    settings = {"task": {**TASK, "noise": 0.0}, "optimizer": optimizer, "updates": 30}
    events = [{"at": "24200ms", "workers": [0], "down": "7s"}]
    broken = asyncsim.simulate(make(1, cluster=failing() | {"events": events}, **settings))
    assert lost(broken) == (1, 4, 0)
    assert broken.summary["time"] == 41.2
    assert (broken.parameters == asyncsim.simulate(make(1, **settings)).parameters).all()


def test_a_service_that_is_cut_goes_on(make):
    """Down from 3.5 to 6 s: the push of 5 s waits. Down from 9.5 to 12 s: half a second of service is left for afterwards."""
    cluster = failing("3500ms", "2500ms", "1100ms", service="1s")
    result = asyncsim.simulate(make(1, compute="2s", cluster=cluster, updates=3))
    check_all(result)
    spans = [(str(row.kind), row.start_ns / 1e9, row.end_ns / 1e9) for row in result.events.itertuples()]
    assert lost(result) == (2, 0, 0)
    assert spans == [
        ("compute", 0, 2), ("serve", 2, 3), ("compute", 3, 5), ("queue", 5, 6), ("serve", 6, 7), ("compute", 7, 9),
        ("serve", 9, 12.5),
    ]  # fmt: skip


def test_a_half_full_buffer_is_lost(make):
    """Three workers of 2, 3 and 7 s in rounds; the server is down from 5 to 6 s, with two pushes in its buffer. All is lost. At
    6 s two of them begin again; the third sends at 7 s what it began with, which is the first push of the new round."""
    overrides = {0: {"compute": "2s"}, 1: {"compute": "3s"}, 2: {"compute": "7s"}}
    result = asyncsim.simulate(make(3, method="bsp", cluster=failing("5s", "1s", "100s") | {"overrides": overrides}, updates=1))
    check_all(result)
    assert lost(result) == (1, 0, 2)
    assert result.updates[["worker", "outcome", "version"]].to_numpy().tolist() == [
        [0, "buffered", 0], [1, "buffered", 0], [2, "buffered", 1], [0, "buffered", 1], [1, "applied", 2],
    ]  # fmt: skip
    assert log(result, 9)[:4] == [("compute", 0, 0, 2), ("compute", 1, 0, 3), ("wait", 0, 2, 6), ("wait", 1, 3, 6)]
    assert result.summary["gradients_cancelled"] == 2
    assert result.summary["time"] == 9


def test_reads_wait(make):
    """A worker that comes back at 4 s while the server is down until 7 s reads then."""
    cluster = failing("3500ms", "3500ms", "1s") | {"events": [{"at": "2500ms", "workers": [0], "down": "1500ms"}]}
    result = asyncsim.simulate(make(1, cluster=cluster, updates=3))
    waits = result.events[result.events["kind"] == "wait"]
    assert (waits["start_ns"] / 1e9).tolist() == [4]
    assert (waits["end_ns"] / 1e9).tolist() == [7]
    check_all(result)


def test_the_schedule_counts_what_stands(make):
    """The learning rate of an update is that of its place among those that stand."""
    schedule = {"kind": "linear", "unit": "updates", "length": 40}
    result = asyncsim.simulate(make(1, cluster=failing(), updates=30, schedule=schedule))
    plain = asyncsim.simulate(make(1, updates=30, schedule=schedule))
    lr = result.updates["lr"].tolist()
    assert lr[:25] == plain.updates["lr"].tolist()[:25]
    assert lr[25:] == plain.updates["lr"].tolist()[20:30]


def test_nothing_without_the_setting(make):
    result = asyncsim.plan(make(2))
    assert "server_restarts" not in result.summary


def test_a_server_that_never_gets_on_is_given_up(make):
    with pytest.raises(UserError, match="restarts of the server without any progress"):
        asyncsim.plan(make(1, compute="10s", cluster=failing("1s", "1s", "9h"), method={"kind": "fedbuff", "buffer": 50}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cluster": {"server": {"faults": {"up": "1s", "down": "1s"}}}}, "checkpoint: is missing|`faults` needs"),
        ({"cluster": {"server": {"checkpoint": "1s"}}}, "never goes back"),
        ({"cluster": failing(), "method": "pipedream", "stages": 2, "task": "digits"}, "hold the parameters themselves"),
        ({"cluster": failing(), "method": {"kind": "decoupled_data_parallel"}}, "hold the parameters themselves"),
        ({"cluster": failing() | {"all_reduce": "ring"}, "method": "bsp"}, "no server in an all-reduce"),
    ],
)
def test_refused(make, settings, message):
    with pytest.raises(UserError, match=message):
        make(2, **settings)


@pytest.mark.parametrize("engine", ["threaded", "batched"])
def test_every_engine_loses_the_same(make, engine):
    """Gradients that were computed ahead and are lost after all: the same counts, and parameters up to rounding."""
    settings = {"task": "digits", "method": {"kind": "softsync", "n": 2}, "cluster": failing("6s", "1s", "4s"), "updates": 20}
    one, other = (asyncsim.simulate(make(5, GAMMA, **settings, engine=kind)) for kind in ("serial", engine))
    assert lost(one) == lost(other)
    assert one.summary["lost_pushes"] > 0
    assert one.fingerprints["timeline"] == other.fingerprints["timeline"]
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-4, atol=1e-6)


def test_what_a_queue_has_served():
    """A service of 1 s, begun at 0; down from 0.4 to 2.4 s, so it ends at 3 s, and the next one at 4 s."""
    queue, ms = Queue(Constant(mean=1.0), Streams(0)), 10**6
    assert queue.join(0) == (0, 1000 * ms)
    queue.pause(400 * ms, 2400 * ms)
    assert queue.join(1000 * ms) == (3000 * ms, 4000 * ms)
    assert [queue.busy(at * ms) // ms for at in (400, 2400, 2900, 3500, 4000, 5000)] == [400, 400, 900, 1500, 2000, 2000]
