"""Asynchronous local SGD: merging in a grace window, the times that its authors' toy has published, steps by measured speed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_identities import parameters, same_bits
from test_independent_loops import WORKERS, Fleet

import asyncsim
from asyncsim.errors import UserError
from asyncsim.scenario import ScenarioError
from asyncsim.simulation.progress import WorkerProgress

OUTER = {"kind": "sgd", "lr": 0.3, "momentum": 0.9, "nesterov": True}
UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}
TOY = {"groups": [{"name": name, "workers": 1, "compute": name} for name in ("580ms", "750ms", "1510ms", "3330ms")]}
"""The four workers of github.com/google-deepmind/asyncdiloco: seconds of one local step; a task is 20 of them."""
PUBLISHED = [209.0, 406.4, 603.8, 801.4, 999.0, 1207.8, 1404.2, 1600.6, 1800.2, 1998.6]
"""When its asynchronous phases end, of 40 tasks each (s)."""
PATIENT = [214.4, 413.9, 615.5, 828.1, 1027.8, 1231.5, 1441.9, 1642.7, 1847.5, 2055.7]
"""What they would be if new models were handed out at the end of the grace, by a loop over the next arrivals."""


def toy(make, **method):
    method = {"kind": "async_local_sgd", "local_steps": 20, "grace": "500ms"} | method
    return make(method=method, cluster=TOY, optimizer=OUTER, run={"time": "2100s"})


@pytest.mark.parametrize(("until", "times"), [("last_arrival", PUBLISHED), ("end", PATIENT)])
def test_published_times(make, until, times):
    """The arrivals number 40, 80, ..., 400 are the published times to the digit if models are handed out with the last arrival
    in the grace; at its end they are not (the wrong model)."""
    arrivals = asyncsim.plan(toy(make, until=until)).updates["time_ns"].to_numpy()
    assert (arrivals[39:400:40] / 1e9).tolist() == times


def test_the_synchronous_phase_of_the_toy_takes_the_slowest_task(make):
    """Published: 66.60 s, which is 20 steps of 3.33 s."""
    scenario = make(method={"kind": "diloco", "local_steps": 20}, cluster=TOY, optimizer=OUTER, run={"updates": 1})
    assert asyncsim.plan(scenario).summary["time"] == 66.6


class Windows:
    """The loop of the server: what comes when, who is merged with whom, and what everybody reads."""

    def __init__(self, make, method, weights="root", power=0.5, until="end", grace=0.5):
        method = method | {"grace": grace, "until": until, "weights": weights, "power": power}
        self.fleet = Fleet(make, method, optimizer=OUTER, run={"updates": 80}, schedule={
            "kind": "multistep", "milestones": [0.5], "gamma": 0.2, "warmup": 0.1})  # fmt: skip
        self.weights, self.power, self.grace = weights, power, round(grace * 1e9)

    def run(self, difference):
        """Go through the arrivals in windows; ``difference(worker, step, read, version)`` is what a worker pushes."""
        fleet, rows = self.fleet, list(self.fleet.result.updates.itertuples())
        read, versions = [fleet.theta] * WORKERS, [0] * WORKERS
        v, sizes, version = torch.zeros_like(fleet.theta), [], 0
        while rows and version < 80:
            window = [row for row in rows if row.time_ns <= rows[0].time_ns + self.grace and row.read_version <= version]
            total = 0.0  # who read the next version came after the window
            for row in window:
                assert row.read_version == versions[row.worker]
                tau = version - row.read_version
                assert tau == row.staleness
                d = difference(row.worker, row.step, read[row.worker], row.read_version)
                total = total + (1 + tau) ** -self.power * d
            g = total / len(window) ** (0.5 if self.weights == "root" else 1.0)
            v = 0.9 * v + g
            fleet.theta = fleet.theta - 0.3 * (g + 0.9 * v)
            version += 1
            for row in window:
                read[row.worker], versions[row.worker] = fleet.theta, version
            sizes.append(len(window))
            rows = rows[len(window) :]
        assert version == 80
        assert len(set(sizes)) > 2
        torch.testing.assert_close(fleet.theta, torch.from_numpy(fleet.result.parameters), rtol=1e-12, atol=1e-12)


def rate(version):
    """The schedule at the read of ``version``: 80 updates, a fifth after the 40th, up from 0 over the first 8."""
    update = version + 1
    return min(1.0, update / 8) * (0.2 if update > 40 else 1.0)


@pytest.mark.parametrize("until", ["end", "last_arrival"])
@pytest.mark.parametrize(("weights", "power"), [("root", 0.5), ("mean", 0.0)])
def test_the_loop(make, weights, power, until):
    """G = sum of (1 + tau)^-power D / sqrt(K), then Nesterov; who has pushed reads the next version."""
    windows = Windows(make, {"kind": "async_local_sgd", "local_steps": 2, "local_lr": 0.05}, weights, power, until)
    fleet = windows.fleet
    windows.run(lambda worker, step, read, version: read - fleet.local_model(read, worker, step, 2, 0.05 * rate(version), 0.0))


def test_the_loop_of_steps_by_speed(make):
    """H_w = max(2, floor(v_w / max v * 9)), from the durations that the events table has; every batch is used once."""
    windows = Windows(make, {"kind": "async_local_sgd", "local_steps": 9, "local_lr": 0.05, "least_steps": 2})
    fleet, taken = windows.fleet, [0] * WORKERS
    paces = expected_paces(fleet.result, 9, 2)
    assert fleet.result.summary["samples"] == 8 * sum(paces[row.worker, row.step] for row in fleet.result.updates.itertuples())
    assert len(set(paces.values())) > 3

    def difference(worker, step, read, version):
        x = read
        for index in range(taken[worker], taken[worker] + paces[worker, step]):
            x = x - 0.05 * rate(version) * fleet.gradient(x, worker, index)
        taken[worker] += paces[worker, step]
        return read - x

    windows.run(difference)


def expected_paces(result, steps, least):
    """(worker, step) -> local steps: what was measured until the worker's push before arrived."""
    done = {}  # worker -> steps, nanoseconds
    paces = {(worker, 0): steps for worker in range(WORKERS)}
    for row in result.events.query("kind == 'compute' and complete").sort_values("end_ns").itertuples():
        before, took = done.get(row.worker, (0, 0))
        done[row.worker] = before + paces[row.worker, row.step], took + row.end_ns - row.start_ns
        speeds = {worker: count / nanoseconds for worker, (count, nanoseconds) in done.items()}
        share = speeds[row.worker] / max(speeds.values())
        paces[row.worker, row.step + 1] = max(least, int(share * steps + 1e-12))
    return paces


def test_the_toy_s_workers_take_so_many_steps(make):
    """20 steps of .58 s at .75, 1.51 and 3.33 s: floor(15.47), floor(7.68), and 3.48 is less than the least, 5. Before it is
    measured a worker takes all 20."""
    result = asyncsim.plan(toy(make, least_steps=5))
    spans = result.events.query("kind == 'compute'")
    seconds = (spans["end_ns"] - spans["start_ns"]) / 1e9
    for worker, (each, paced) in enumerate([(0.58, 20), (0.75, 15), (1.51, 7), (3.33, 5)]):
        mine = seconds[spans["worker"] == worker].round(9).tolist()
        assert mine[0] == round(20 * each, 9)
        assert set(mine[1:]) == {round(paced * each, 9)}


@pytest.mark.parametrize("program", ["local_sgd", "local_adamw"])
def test_equal_speeds_are_equal_steps(make, program):
    """Bit for bit, whatever the least number of steps."""
    paced = {"local_sgd": "dylu", "local_adamw": "dylu_adamw"}[program]
    cluster = {"workers": 3, "compute": "1s"}
    fixed, dylu = (make(cluster=cluster, method={"kind": "fedbuff", "program": {"kind": kind, "steps": 3}}, run={"updates": 30})
                   for kind in (program, paced))  # fmt: skip
    same_bits(fixed, dylu)
    uneven = make(3, UNEVEN, method=dylu.method, run={"updates": 30})
    assert asyncsim.plan(uneven).fingerprints["timeline"] != asyncsim.plan(
        uneven.evolve(method={"kind": "fedbuff", "program": {"kind": program, "steps": 3}})).fingerprints["timeline"]  # fmt: skip


@pytest.mark.parametrize("program", ["dylu", "dylu_adamw"])
def test_engines_agree_on_unequal_rounds(make, program):
    method = {"kind": "fedbuff", "program": {"kind": program, "steps": 4} | ({"fresh": True} if "adam" in program else {})}
    serial, batched = (
        asyncsim.simulate(make(4, UNEVEN, method=method, dtype="float64", run={"updates": 30}, engine=engine))
        for engine in ("serial", {"kind": "batched", "width": 4})
    )
    np.testing.assert_allclose(serial.parameters, batched.parameters, rtol=1e-9, atol=1e-12)
    assert serial.fingerprints["timeline"] == batched.fingerprints["timeline"]


def test_a_mean_without_weights_is_the_grace_of_accumulate(make):
    """Bit for bit."""
    ours = make(6, UNEVEN, optimizer=OUTER, method={"kind": "async_local_sgd", "weights": "mean", "power": 0, "grace": 0.2})
    other = ours.evolve(method={"kind": "custom", "policy": [{"kind": "accumulate", "within": 0.2}], "consistency": "lockstep",
                                "program": {"kind": "local_sgd"}})  # fmt: skip
    same_bits(ours, other)


def test_one_worker_alone_is_handed_its_model_at_once(make):
    """Nobody else will come: the outer step with its difference, at the time of its push."""
    ours = make(1, "1s", optimizer=OUTER, method={"kind": "async_local_sgd", "until": "last_arrival"})
    other = make(1, "1s", optimizer=OUTER, method={"kind": "fedbuff", "buffer": 1, "power": 0})
    assert np.array_equal(parameters(ours), parameters(other))
    assert asyncsim.plan(ours).summary["time"] == asyncsim.plan(other).summary["time"]


@pytest.mark.parametrize(("more", "closed"), [
    ({}, 1.3), ({"events": [{"at": "1.1s", "workers": [1], "down": "100s"}]}, 1.5), ({"uplink": "100ms"}, 1.4),
    ({"overrides": {1: {"uplink": "150ms"}}}, 1.45), ({"overrides": {1: {"uplink": "250ms"}}}, 1.0),
])  # fmt: skip
def test_who_is_foreseen_is_waited_for(make, more, closed):
    """Workers of 1 and 1.3 s, a grace of half a second: the window closes with the second arrival, at its end if that does not
    come after all, and at once if it would come too late."""
    groups = [{"name": "one", "workers": 1, "compute": "1s"}, {"name": "other", "workers": 1, "compute": "1.3s"}]
    method = {"kind": "async_local_sgd", "local_steps": 1, "until": "last_arrival"}
    scenario = make(cluster={"groups": groups} | more, method=method, run={"updates": 1})
    assert asyncsim.plan(scenario).summary["time"] == closed


def test_foresight_is_declared():
    with pytest.raises(UserError, match=r"needs = Need\.FORESEES"):
        WorkerProgress(1).foresees(5)


@pytest.mark.parametrize("cluster", [
    {"network": {"kind": "flat", "ingress": "1MB/s"}}, {"server": {"service": "10ms"}},
])  # fmt: skip
def test_foresight_is_refused_where_arrivals_are_not_known(make, cluster):
    method = {"kind": "async_local_sgd", "until": "last_arrival"}
    with pytest.raises(ScenarioError, match=r"known in advance on links of a worker's own.*`foresees`"):
        make(cluster={"workers": 4} | cluster, method=method)
    assert make(cluster={"workers": 4} | cluster, method="async_local_sgd")
    with pytest.raises(ScenarioError, match="`foresees`"):
        make(4, method=method | {"program": "elastic"})


@pytest.mark.parametrize(("method", "words"), [
    ({"kind": "async_local_sgd", "least_steps": 5}, r"at most `local_steps` \(4\), not 5"),
    ({"kind": "asgd", "program": {"kind": "dylu", "least_steps": 5}}, r"at most `steps` \(4\), not 5"),
    ({"kind": "async_local_sgd", "grace": 0}, "grace"),
])  # fmt: skip
def test_bad_settings(make, method, words):
    with pytest.raises(ScenarioError, match=words):
        make(4, method=method)
