"""MindFlayer SGD (reference, family of parameter servers, 11.2): trials that are given up after a limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_identities import HEAVY, PLAIN, same_bits
from test_independent_loops import DECAY, LR, MOMENTUM, UPDATES, WORKERS, Fleet, factor

import asyncsim
from asyncsim.scenario import ScenarioError

UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}
EXPONENTIAL = {"kind": "exponential", "mean": "1s"}


def trials(result):
    """Every trial: who, in which round, how long (s), and whether it finished; those of the last, open round left out."""
    spans = result.events.query("kind == 'compute'")
    rounds = set(zip(result.updates["worker"], result.updates["step"], strict=True))
    inside = [pair in rounds for pair in zip(spans["worker"], spans["step"], strict=True)]
    return spans[inside].assign(seconds=(spans["end_ns"] - spans["start_ns"]) / 1e9)


def test_the_loop(make):
    """x <- x - lr v with v <- gam v + (1 / B) sum of finished gradients + wd x, B = 0.6 * 3 * 6; which have finished the recorded
    spans say, of lengths that the limit cuts. Now and then a worker sends zeros."""
    fleet = Fleet(make, {"kind": "mindflayer", "trials": 3, "limit": "1s", "share": 0.6})
    done = trials(fleet.result).groupby(["worker", "step"])["complete"].apply(list)
    thetas, v, total, nothing = [fleet.theta], torch.zeros_like(fleet.theta), torch.zeros_like(fleet.theta), 0
    for row in fleet.result.updates.itertuples():
        assert row.read_version == len(thetas) - 1
        nothing += not any(done[row.worker, row.step])
        for index, finished in enumerate(done[row.worker, row.step]):
            if finished:
                total = total + fleet.gradient(thetas[-1], row.worker, 3 * row.step + index)
        if row.outcome == "applied":
            v = MOMENTUM * v + total / (0.6 * 3 * WORKERS) + DECAY * thetas[-1]
            thetas.append(thetas[-1] - LR * factor(len(thetas)) * v)
            total = torch.zeros_like(fleet.theta)
        assert row.version == len(thetas) - 1
    assert len(thetas) == UPDATES + 1
    assert 0 < nothing < UPDATES * WORKERS / 2
    fleet.theta = thetas[-1]
    fleet.agree()


def test_one_trial_without_a_limit_is_bsp(make):
    """Bit for bit, also with a limit that nobody reaches. With a limit that cuts it is something else."""
    bsp = make(WORKERS, UNEVEN, method="bsp", optimizer=HEAVY)
    methods = ({"kind": "mindflayer", "limit": limit} for limit in (None, "1h"))
    same_bits(bsp, *[make(WORKERS, UNEVEN, method=method, optimizer=HEAVY) for method in methods])
    cut = make(WORKERS, UNEVEN, method={"kind": "mindflayer", "limit": "1s"}, optimizer=HEAVY)
    assert abs(asyncsim.simulate(cut).parameters - asyncsim.simulate(bsp).parameters).max() > 1e-3


def test_the_order_of_trials_and_their_length(make):
    """Trial j of round k takes draw 2 k + j, or the limit if that is shorter, and exactly then it has not finished; a draw that
    takes just the limit has."""
    free = trials(asyncsim.plan(make(3, UNEVEN, method={"kind": "mindflayer", "trials": 2})))
    cut = trials(asyncsim.plan(make(3, UNEVEN, method={"kind": "mindflayer", "trials": 2, "limit": "700ms"})))
    for worker in range(3):
        draws, spans = (each[each["worker"] == worker].sort_values("start_ns") for each in (free, cut))
        draws = draws["seconds"].to_numpy()
        assert len(draws) == len(spans) == 400
        np.testing.assert_array_equal(spans["seconds"], np.minimum(draws, 0.7))
        np.testing.assert_array_equal(spans["complete"], draws <= 0.7)
    assert 0 < cut["complete"].sum() < len(cut)
    exact = trials(asyncsim.plan(make(3, "1s", method={"kind": "mindflayer", "limit": "1s"})))
    assert exact["complete"].all()


@pytest.mark.parametrize("limit", [0.3, 1.0, 2.0])
def test_as_many_finish_as_are_expected(make, limit):
    """E[number finished in a round] = B = sum of p_i B_i: exponential times, p = 1 - exp(-t), within five standard errors over
    300 rounds of 6 workers and 4 trials; the share that belongs to another limit is refused by it."""
    share = 1 - math.exp(-limit)
    method = {"kind": "mindflayer", "trials": 4, "limit": limit, "share": share}
    found = trials(asyncsim.plan(make(6, EXPONENTIAL, method=method, run={"updates": 300})))["complete"]
    error = math.sqrt(share * (1 - share) / len(found))
    assert len(found) == 300 * 6 * 4
    assert abs(found.mean() - share) < 5 * error < abs(1 - math.exp(-1.2 * limit) - share)


def test_giving_up_is_for_heavy_tails(make):
    """Finished gradients per second of work. Exponential times have no memory: 1 a second, whatever the limit. With heavier tails
    to give up pays, and with constant times it never does."""
    def rate(compute, limit):
        method = {"kind": "mindflayer", "trials": 8, "limit": limit}
        found = trials(asyncsim.plan(make(6, compute, method=method, run={"updates": 400})))
        return found["complete"].sum() / found["seconds"].sum()

    for limit in (None, "300ms", "1s", "3s"):
        assert rate(EXPONENTIAL, limit) == pytest.approx(1.0, rel=0.03)
    heavy = {"kind": "lognormal", "mean": "1s", "cv": 4.0}
    assert rate(heavy, "300ms") > 1.5 > 1.2 > rate(heavy, None)
    assert rate("1s", "900ms") == 0.0 < rate("1s", "1s") == 1.0


def test_the_expectation_of_the_step_is_that_of_bsp(make):
    """Gradients that are all alike (a quadratic without noise): the mean over 200 seeds of the first step is BSP's within five
    standard errors, for the right share; half the share doubles it."""
    limit, share = 0.7, 1 - math.exp(-0.7)
    task = {"kind": "quadratic", "dim": 2, "noise": 0.0}

    def step(method, seed):
        scenario = make(4, EXPONENTIAL, method=method, task=task, run={"updates": 1}, seed=seed, optimizer=PLAIN, dtype="float64")
        start = scenario.task.build(seed, "cpu", "float64", 4).init().numpy()
        return (asyncsim.simulate(scenario).parameters - start) / start

    whole = step("bsp", 0)[0]
    for given, factor_ in ((share, 1.0), (share / 2, 2.0)):
        method = {"kind": "mindflayer", "trials": 2, "limit": limit, "share": given}
        steps = np.array([step(method, seed)[0] for seed in range(200)])
        error = steps.std() / math.sqrt(len(steps))
        assert abs(steps.mean() - factor_ * whole) < 5 * error < 0.5 * abs(whole)


def test_batched_agrees(make):
    """Trials of several workers in one call: float64, 1e-12; the timeline is the plan's."""
    method = {"kind": "mindflayer", "trials": 2, "limit": "900ms", "share": 0.5}
    serial = make(6, UNEVEN, method=method, dtype="float64", optimizer=PLAIN, run={"updates": 30})
    one, other = asyncsim.simulate(serial), asyncsim.simulate(serial.evolve({"engine": {"kind": "batched"}}))
    assert abs(one.parameters - other.parameters).max() < 1e-12
    assert one.fingerprints["timeline"] == other.fingerprints["timeline"] == asyncsim.plan(serial).fingerprints["timeline"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"share": 0.5}, "without a `limit` all trials finish"), ({"share": 0.0}, "above 0|greater than 0"),
     ({"trials": 0}, "at least 1"), ({"limit": "0s"}, "limit"), ({"limit": "-1s"}, "limit")],
)  # fmt: skip
def test_bad_settings(make, settings, message):
    with pytest.raises(ScenarioError, match=message):
        make(6, method={"kind": "mindflayer"} | settings)
