"""Dollars and joules that can be worked out by hand. A machine costs 0.001 $/s, idles at 10 W and works at 110 W."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncsim

MACHINE = {"price": "3.6/h", "idle": "10W", "busy": "110W"}
PARTS = {
    "cost": ("cost_workers", "cost_server", "cost_transfer"),
    "energy": ("energy_busy", "energy_idle", "energy_server"),
}  # fmt: skip


def bill(scenario):
    return asyncsim.plan(scenario).summary


def test_a_worker_that_always_computes(make):
    summary = bill(make())
    assert summary["cost"] == pytest.approx(10 * 0.001, rel=1e-15)
    assert (summary["energy"], summary["energy_busy"], summary["energy_idle"]) == (1100.0, 1100.0, 0.0)


def test_idle_time_costs_as_much_and_draws_less(make):
    """Upload of 1 s after each second of computing: 5 s of each."""
    summary = bill(make({"uplink": "1s"}))
    assert summary["cost"] == pytest.approx(0.010)
    assert (summary["energy_busy"], summary["energy_idle"]) == (5 * 110, 5 * 10)


def test_what_goes_on_at_the_end_counts(make):
    """A gradient of 100 s, of which 10 s are done: no event was recorded, but the machine worked."""
    summary = bill(make({"compute": "100s"}))
    assert summary["pushes"] == 0
    assert (summary["energy"], summary["cost"]) == (1100.0, pytest.approx(0.010))


@pytest.mark.parametrize(("kept", "seconds", "idle"), [(False, 7, 0), (True, 10, 3)])
def test_down_time_is_free_unless_the_machine_is_kept(make, kept, seconds, idle):
    """Up 4.5 s, down 3 s, up 2.5 s. The half gradient that the crash cut short was paid and drew its power."""
    summary = bill(make({"faults": {"up": "4.5s", "down": "3s"}, "instance": {**MACHINE, "billed_while_down": kept}}))
    assert summary["crashes"] == 1
    assert summary["cost"] == pytest.approx(seconds * 0.001)
    assert (summary["energy_busy"], summary["energy_idle"]) == (7 * 110, idle * 10)


def test_a_worker_that_is_down_at_the_end(make):
    assert bill(make({"faults": {"up": "6s", "down": "100s"}}))["cost"] == pytest.approx(0.006)


def test_a_worker_that_leaves_is_not_paid_any_more(make):
    summary = bill(make({"workers": 2, "events": [{"at": "2.5s", "workers": [1], "stop": True}]}))
    assert summary["cost"] == pytest.approx(0.0125)
    assert summary["energy"] == pytest.approx(12.5 * 110)


@pytest.mark.parametrize("kept", [False, True])
def test_a_worker_that_is_no_member_is_not_paid(make, kept):
    """Worker 1 joins at 3 s, leaves at 6 s, and is back for the last second; whether a crash would be paid does not matter."""
    changes = [{"at": at, "workers": [1], word: True} for at, word in (("3s", "join"), ("6s", "leave"), ("9s", "join"))]
    summary = bill(make({"workers": 2, "events": changes, "instance": {**MACHINE, "billed_while_down": kept}}))
    assert summary["cost"] == pytest.approx(0.010 + 0.004)
    assert summary["energy"] == pytest.approx(14 * 110)


def test_a_warning_is_paid_and_idle(make):
    """Warned at 3.5 s, it finishes its gradient at 4 s and waits until it goes at 5.5 s; it is back at 7.5 s."""
    faults = {"up": "5.5s", "down": "2s", "warning": "2s"}
    summary = bill(make({"faults": faults}, {"time": "7s"}))
    assert summary["cost"] == pytest.approx(0.0055)
    assert (summary["energy_busy"], summary["energy_idle"]) == (4 * 110, 1.5 * 10)


def test_spot_is_a_share_of_the_price(make):
    groups = [{"name": "a", "workers": 2}, {"name": "b", "workers": 3, "instance": {**MACHINE, "spot": 0.25}}]
    summary = bill(make({"groups": groups, "overrides": {4: {"instance": 0}}}))
    assert summary["cost"] == pytest.approx(0.001 * 10 * (2 + 2 * 0.25))
    assert summary["energy"] == 4 * 1100


def test_the_server_is_paid_for_the_whole_run_and_works_while_it_serves(make):
    """Compute 1 s, service 3 s, from the start: served from 1 to 4 and from 5 to 8, and 1 s of the third time."""
    summary = bill(make({"server": {"service": "3s", "instance": {"price": 7.2, "idle": "5W", "busy": "25W"}}}))
    assert summary["cost_server"] == pytest.approx(0.020)
    assert summary["energy_server"] == 5 * 10 + 20 * 7
    assert (summary["energy_busy"], summary["energy_idle"]) == (3 * 110, 7 * 10)


def test_each_host_of_a_sharded_server_is_paid(make):
    cluster = {"server": {"instance": 3.6}, "network": {"kind": "flat", "shards": 4, "hosts": 4, "ingress": "1GB/s"}}
    assert bill(make(cluster))["cost_server"] == pytest.approx(0.040)


def test_every_byte_that_arrived_is_paid_by_its_sender(make):
    """1 s down, 1 s of computing, 2 s up: in 10 s three reads and two pushes have arrived, the third upload has not begun."""
    cluster = {
        "uplink": {"bandwidth": "1GB/s"}, "downlink": {"bandwidth": "2GB/s"}, "instance": {"egress": "0.09/GB"},
        "server": {"instance": {"egress": "0.02/GB"}},
    }  # fmt: skip
    summary = bill(make(cluster, message="2GB"))
    assert summary["bytes_sent"] == (3 + 2) * 2e9
    assert summary["cost_transfer"] == pytest.approx(3 * 2 * 0.02 + 2 * 2 * 0.09)
    assert summary["cost"] == summary["cost_transfer"]


def test_links_that_take_no_time_carry_bytes_all_the_same(make):
    summary = bill(make({"instance": {"egress": "1/MB"}}, {"updates": 5}, message="1MB"))
    assert summary["cost_transfer"] == 5.0


@pytest.mark.parametrize("kind", ["ring", "tree"])
def test_an_all_reduce_sends_the_same_bytes_whatever_its_shape(make, kind):
    """Four workers, 2 (N - 1) / N of a message each, three rounds; the server sends nothing."""
    cluster = {"workers": 4, "all_reduce": kind, "server": {"instance": {"egress": 1}}}
    summary = bill(make(cluster, {"updates": 3}, method="bsp", message="4kB"))
    assert summary["bytes_sent"] == 3 * 4 * 1.5 * 4000
    assert summary["cost_transfer"] == 0


def test_stages_pay_for_what_crosses_a_boundary(make):
    """One group of two stages: the shards lie on the workers, so only activations and error signals travel, of micro-batches of
    2 samples with 16 numbers of 4 bytes each."""
    task = {"kind": "digits", "model": {"kind": "mlp", "hidden": [16]}, "batch": 8}
    cluster = {"workers": 2, "compute": "4s", "instance": {**MACHINE, "egress": "1/GB"}}
    result = asyncsim.plan(make(cluster, {"updates": 6}, task=task, stages=2, method="gpipe"))
    events, summary = result.events, result.summary
    done = events[events["complete"]]["kind"].value_counts()
    crossed = done["forward"] + done["compute"]  # an activation up for the one, an error signal down for the other
    assert summary["bytes_sent"] == crossed * 2 * 16 * 4
    spans = events[events["kind"].isin(["forward", "backward", "compute"])]
    assert summary["energy_busy"] == pytest.approx(110 * (spans["end"] - spans["start"]).sum(), rel=0.05)
    assert summary["cost_workers"] == pytest.approx(2 * 0.001 * summary["time"])


FLEETS = st.fixed_dictionaries({
    "workers": st.integers(1, 6),
    "compute": st.sampled_from([
        "1s", {"kind": "exponential", "mean": "1s"}, {"kind": "pareto", "scale": 0.2, "alpha": 1.1, "cap": "60s"}
    ]),
    "uplink": st.sampled_from(["0s", {"latency": {"kind": "exponential", "mean": 0.4}}]),
    "faults": st.sampled_from([{}, {"up": {"kind": "exponential", "mean": 5.0}, "down": {"kind": "exponential", "mean": 2.0}}]),
    "server": st.sampled_from([{}, {"service": "0.2s", "instance": {**MACHINE, "egress": 3}}]),
    "overrides": st.sampled_from([{}, {0: {"instance": {"price": 1.1, "busy": 7, "billed_while_down": True, "egress": 1}}}]),
})  # fmt: skip


@given(FLEETS, st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_parts_add_up_and_the_spans_say_the_same(make, cluster, seed):
    """The bill, once more from the table of events: all that a worker's spans tell, and what goes on at the end, which is
    computing or not. Also ``cost`` of the metrics: it never falls, and ends with the bill."""
    result = asyncsim.plan(make(cluster, {"time": "20s"}, seed=seed))
    summary, events = result.summary, result.events
    for total, parts in PARTS.items():
        assert summary[total] == pytest.approx(math.fsum(summary[part] for part in parts), rel=1e-12)
        assert result.metrics[total].iloc[-1] == summary[total]
        assert result.metrics[total].is_monotonic_increasing
    spans = events.assign(length=events["end"] - events["start"])
    busy = spans[spans["kind"] == "compute"].groupby("worker")["length"].sum()
    last = {worker: group["end"].max() for worker, group in spans.groupby("worker")}
    rest = sum(20 - last.get(worker, 0.0) for worker in range(cluster["workers"]))
    low = sum(seconds * (7 if worker == 0 and cluster["overrides"] else 110) for worker, seconds in busy.items())
    assert low - 1e-6 <= summary["energy_busy"] <= low + 110 * rest + 1e-6
    down = spans[spans["kind"] == "down"].groupby("worker")["length"].sum()
    rates = [1.1 / 3600 if worker == 0 and cluster["overrides"] else 0.001 for worker in range(cluster["workers"])]
    free = [0.0 if worker == 0 and cluster["overrides"] else down.get(worker, 0.0) for worker in range(cluster["workers"])]
    most = sum(rate * (20 - seconds) for rate, seconds in zip(rates, free, strict=True))
    assert most - 0.001 * rest - 1e-12 <= summary["cost_workers"] <= most + 1e-12
