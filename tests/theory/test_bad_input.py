"""What is wrong is said in one sentence that names the argument, its value and what is allowed."""

from __future__ import annotations

import math

import pytest

from asyncsim import theory
from asyncsim.errors import UserError

PROBLEM = theory.Problem(1.0, 1.0, 1.0, 1.0)
WRONG = [
    (lambda: theory.lambert_w(math.inf), r"z: .*inf.* must be finite"),
    (lambda: theory.lambert_w(0, branch=1), r"branch: 1 is minus infinity"),
    (lambda: theory.delay_rate(-0.1), r"x: -0.1 must be a finite number of at least 0"),
    (lambda: theory.delay_variance(1.0, 1.6, 1.0), r"a tau: 1.6 .* less than pi / 2"),
    (lambda: theory.gamma_rate(0.1, 1.2), r"cv: 1.2 must be from 0"),
    (lambda: theory.gamma_limit(-0.1), r"cv: -0.1 must be from 0"),
    (lambda: theory.random_delay_rate(0.0, [1.0]), r"a: 0.0 must be a finite number above 0"),
    (lambda: theory.random_delay_limit([]), r"delays: give at least one"),
    (lambda: theory.random_delay_limit([1.0, 0.0]), r"delays\[1\]: 0.0 must be a finite number above 0"),
    (lambda: theory.random_delay_limit([1.0, 2.0], [1.0]), r"shares: 1 probabilities for 2 delays"),
    (lambda: theory.mean_limit(-1), r"staleness: -1 must be at least 0"),
    (lambda: theory.mean_limit([]), r"staleness: give at least one"),
    (lambda: theory.mean_limit([0.5, -0.5, 1.0]), r"staleness\[1\]: -0.5 must be a probability"),
    (lambda: theory.mean_limit([0.5, 0.4]), r"staleness: the probabilities sum to 0.9"),
    (lambda: theory.mean_limit(1, momentum=1.0), r"momentum: 1.0 must be at least 0 and below 1"),
    (lambda: theory.constant_staleness_limit(-1), r"workers: 0 must be a whole number of at least 1"),
    (lambda: theory.spectral_radius(0.1, 601), r"staleness: 601 is too large .* at most 600"),
    (lambda: theory.stable_step(3, curvature=0.0), r"curvature: 0.0 must be a finite number above 0"),
    (lambda: theory.stationary_variance(0.5, 3, 1.0), r"step: 0.5 has no stationary variance"),
    (lambda: theory.stationary_variance(0.1, 3, -1.0), r"noise: -1.0 must be a finite number of at least 0"),
    (lambda: theory.memoryless_variance(0.6, 8, 1.0), r"step: 0.6 has no stationary variance with 8"),
    (lambda: theory.memoryless_limit(0), r"workers: 0 must be a whole number"),
    (lambda: theory.turns_rate(0.1, 2.5), r"workers: 2.5 must be a whole number"),
    (lambda: theory.mean_path(0.1, 1, 200_001), r"updates: 200001 must be from 0 to 200,000"),
    (lambda: theory.memoryless_staleness([1.0], tail=1.0), r"tail: 1.0 must lie between 0 and 1"),
    (lambda: theory.gamma_staleness(600, 0.1), r"workers: 600 are too many .* at most 512"),
    (lambda: theory.gamma_staleness(6, 2.1), r"cv: 2.1 is too large"),
    (lambda: theory.best_workers(0.01, []), r"curvatures: give at least one"),
    (lambda: theory.best_workers(1e-12, 1.0), r"step: 1e-12 .* exceeds 10\^9"),
    (lambda: theory.most_workers(1e-12, 1.0), r"step: 1e-12 .* stable with 10\^9"),
    (lambda: theory.mean_limit(2, weights=[1.0, 1.0]), r"weights: 2 for staleness 0 to 2"),
    (lambda: theory.best_step(0, 1.0), r"workers: 0 must be a whole number"),
    (lambda: theory.optimal_time([1.0, -1.0], PROBLEM), r"times\[1\]: -1.0 must be"),
    (lambda: theory.optimal_time([1.0], PROBLEM._replace(epsilon=0.0)), r"epsilon: 0.0 must be"),
    (lambda: theory.rennala_round([1.0], 0), r"batch: 0 must be a whole number"),
    (lambda: theory.rennala_round([1.0], 10**9), r"batch: 1000000000 is too large"),
    (lambda: theory.memory_staleness([1.0] * 4), r"stages: 4 times; allowed are five"),
    (lambda: theory.memory_period([1.0] * 5, 0), r"k: 0 must be a whole number"),
    (lambda: theory.momentum_row(1.0, 3), r"momentum: 1.0 must be at least 0 and below 1"),
    (lambda: theory.light_weights([1.0], [0.0, 1.0], 0.9), r"before: 2 weights for 1 shares"),
    (lambda: theory.full_weights([[1.0, 0.0], [1.0]], 0.9), r"shares\[1\]: 1 versions, and shares\[0\] has 2"),
    (lambda: theory.full_weights([], 0.9), r"shares: give at least one mean"),
    (lambda: theory.co_running_saving(0.0, 1, 1, 1, 1), r"train: 0.0 must be a finite number above 0"),
    (lambda: theory.co_running_optimum([1.0], [1, 2], 3), r"gaps: 2 for 1 savings"),
    (lambda: theory.co_running_optimum([1.0, 1.0], [1, 0.5], 3), r"gaps\[1\]: 0.5 must be a whole number"),
    (lambda: theory.co_running_optimum([1.0, 1.0], [10**9, 1], 10**9), r"bound: 1000000000 is too large for 2 devices"),
    (lambda: theory.zcdp_epsilon(0.0, 1, 1e-5), r"sigma: 0.0 must be"),
    (lambda: theory.zcdp_epsilon(1.0, 1, 1.0), r"delta: 1.0 must lie between 0 and 1"),
    (lambda: theory.zcdp_rho(1.0, 10, participations=11), r"participations: 11 in 10 steps"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_it_is_said(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_every_function_has_a_bad_input_here():
    """Nothing public is left out, but what takes no number that can be wrong by itself."""
    said = " ".join(str(call.__code__.co_names) for call, _ in WRONG)
    shared = {
        "gamma_fastest", "critical_step", "update_rate", "memoryless_rate", "noise_path", "fleet_rate", "m_synchronous_time",
        "synchronous_time", "rennala_batch", "rennala_bound", "zcdp_sigma", "Best", "MemoryStaleness", "Time",
    }  # fmt: skip
    assert [name for name in theory.__all__ if f"'{name}'" not in said and name not in shared and name != "Problem"] == []
