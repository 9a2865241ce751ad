"""Momentum approximation: weights by version, the loop of the paper's equations, noise, and what privacy is told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_identities import SERVER, parameters
from test_independent_loops import DECAY, MOMENTUM, UPDATES, Fleet
from test_server_loops import LOCAL, pushes, zeros

import asyncsim
from asyncsim import UserError
from asyncsim.scenario import ScenarioError
from asyncsim.theory import full_weights, light_weights, momentum_row

T, BETA = 120, 0.9


def rows(kind: str) -> np.ndarray:
    """Shares by version of T means: of one staleness, or of several at once."""
    w = np.zeros((T, T))
    for t in range(T):
        falling = [0.75**k for k in range(t + 1)]
        shares = {"none": [1.0], "constant": [0, 0, 1.0], "geometric": falling, "uniform": [1.0] * 5}[kind]
        for k, share in enumerate(shares):
            w[t, max(0, t - k)] += share if t - k >= 0 or kind == "constant" else 0.0
        w[t] /= w[t].sum()
    return w


@pytest.mark.parametrize(
    ("kind", "naive", "light", "full"),
    [("none", 0, 0, 0), ("constant", 1.414, 1.345, 1.345), ("geometric", 1.020, 0.794, 0), ("uniform", 1.060, 1.268, 0)],
)
def test_distances_from_fresh_momentum(kind, naive, light, full):
    """The table of reference 8.2: the last row of T = 120, momentum 0.9. Greedily, `light` can be farther off than nothing."""
    w, row = rows(kind), np.zeros(0)
    for t in range(T):
        c1, c2, row = light_weights(w[t, : t + 1], [*row, 0.0], BETA)
    wanted = momentum_row(BETA, T)
    found = wanted @ w, row, full_weights(w, BETA)[1]
    np.testing.assert_allclose([np.linalg.norm(each - wanted) for each in found], [naive, light, full], rtol=0, atol=6e-4)
    if kind == "constant":  # ordinary momentum, scaled
        assert (c1, c2) == (pytest.approx(BETA**2), pytest.approx(BETA))
        assert np.linalg.norm(row - wanted) == pytest.approx(math.sqrt((1 - BETA**4) / (1 - BETA**2)), rel=1e-6)


@pytest.mark.parametrize(
    ("form", "history", "cutoff"),
    [("light", None, 0.0), ("light", None, 0.3), ("full", 30, 0.1), ("full", 5, 0.1),
     pytest.param("full", None, 0.1, marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_loop(make, form, history, cutoff):
    """Reference 8.1 from the equations: normal equations for two weights, else the pseudo-inverse."""
    updates, buffer, clip = UPDATES, 3, 0.2
    settings = {"buffer": buffer, "form": form, "history": history, "clip": clip, "cutoff": cutoff} | LOCAL
    fleet = Fleet(make, {"kind": "momentum_approximation"} | settings, optimizer={
        "kind": "sgd", "lr": 0.3, "momentum": MOMENTUM, "weight_decay": DECAY})  # fmt: skip
    group, w, r, m, e, clipped = [], np.zeros((updates, updates)), [], zeros(fleet), np.zeros(updates), 0
    for _, tau, delta in pushes(fleet):
        clipped += bool(delta.norm() > clip)
        group.append((fleet.version - tau, delta * min(1.0, clip / float(delta.norm()))))
        if len(group) < buffer:
            continue
        t = len(r)
        r.append(sum(each for _, each in group) / buffer + DECAY * fleet.theta)
        for version, _ in group:
            w[t, version] += 1 / buffer
        group = []
        wanted = np.array([BETA ** (t - s) if s <= t else 0.0 for s in range(updates)])
        if form == "light":
            pair = np.stack([w[t], e])
            if cutoff or not t:
                solved = np.linalg.pinv(pair.T, rcond=cutoff) @ wanted
            else:
                solved = np.linalg.solve(pair @ pair.T, pair @ wanted)
            e = solved @ pair
            m = solved[0] * r[t] + solved[1] * m
        else:
            first = 0 if history is None else max(0, t + 1 - history)
            a = np.linalg.pinv(w[first : t + 1].T, rcond=cutoff) @ wanted
            m = sum(float(weight) * each for weight, each in zip(a, r[first:], strict=True))
            e = a @ w[first : t + 1]
        error = fleet.result.updates["momentum_error"].dropna().to_numpy()[t]
        assert error == pytest.approx(np.linalg.norm(e - wanted), abs=1e-9)
        fleet.applied(fleet.theta - 0.3 * m)
    assert clipped
    fleet.agree()


@pytest.mark.parametrize("form", ["light", "full"])
def test_without_staleness_it_is_fedbuff_with_momentum(make, form):
    """Behind a barrier every mean is of one version: W is the identity, and the weights are those of momentum."""
    common = {"dtype": "float64", "run": {"updates": 30}, "optimizer": SERVER | {"lr": 0.3, "momentum": 0.9}}
    rounds = {"buffer": 4, "local_steps": 2, "consistency": "bsp"}
    plain = parameters(make(4, method={"kind": "fedbuff", "power": 0.0} | rounds, **common))
    ours = parameters(make(4, method={"kind": "momentum_approximation", "form": form} | rounds, **common))
    np.testing.assert_allclose(ours, plain, rtol=1e-11, atol=1e-12)
    stale = {"kind": "momentum_approximation", "form": form} | rounds | {"consistency": "asp"}
    stale = parameters(make(4, method=stale, **common))
    assert np.abs(stale - plain).max() > 1e-4


def noisy(make, seed=0, **settings):
    """A run whose pushes are all zeros."""
    method = {"kind": "momentum_approximation", "buffer": 4, "local_lr": 0.0, "clip": 0.5, "consistency": "bsp"} | settings
    return make(4, method=method, seed=seed, dtype="float64", optimizer={"kind": "sgd", "lr": 1.0}, run={"updates": 40})


def test_noise_has_its_deviation_and_is_the_seeds(make):
    """The mean of N pushes clipped to S has noise of deviation sigma S / N; without momentum and signal the way is its sum."""
    results = [asyncsim.simulate(noisy(make, seed, noise=2.0)) for seed in (0, 0, 1)]
    start = noisy(make).task.build(0, "cpu", "float64", 4).init().numpy()
    assert np.array_equal(results[0].parameters, results[1].parameters)
    assert not np.array_equal(results[0].parameters, results[2].parameters)
    moved = results[0].parameters - start
    deviation = 2.0 * 0.5 / 4 * math.sqrt(40)
    bound = 4 / math.sqrt(2 * len(moved))  # four standard errors of a sample deviation
    assert moved.std() / deviation == pytest.approx(1.0, abs=bound)
    assert abs(moved.std() / (deviation * 2) - 1) > bound  # noise per push, not per sum, would be twice that


def test_what_privacy_is_told(make):
    """The values of reference 8.3; it grows with updates and falls with noise; a plan knows it too."""
    scenario = noisy(make, noise=10.0)
    told = asyncsim.simulate(scenario).summary["epsilon"]
    rho = 40 / (2 * 10.0**2)
    assert told == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1e5)))
    assert asyncsim.plan(scenario).summary["epsilon"] == told
    hundred = asyncsim.plan(scenario.evolve({}, run={"updates": 100})).summary["epsilon"]
    assert round(hundred, 2) == 5.30
    assert asyncsim.plan(noisy(make, noise=20.0)).summary["epsilon"] < told < hundred
    assert "epsilon" not in asyncsim.plan(noisy(make)).summary


def test_privacy_is_not_told_of_what_was_not_clipped(make):
    noise = {"kind": "gaussian_noise", "norm": 1e-3, "multiplier": 1.0}
    with pytest.raises(UserError, match=r"a mean of norm .* put \{kind: clip, max_norm: 0.001\} before"):
        asyncsim.simulate(make(4, method={"kind": "custom", "policy": [noise]}, run={"updates": 5}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"noise": 1.0}, "give `clip` too"), ({"history": 4}, "that of `form: full`"), ({"clip": 0.0}, "must be above 0"),
     ({"noise": 1.0, "clip": 1.0, "delta": 1.0}, "must be below 1")],
)  # fmt: skip
def test_settings_that_mean_nothing(make, settings, message):
    with pytest.raises(ScenarioError, match=message):
        make(method={"kind": "momentum_approximation"} | settings)
