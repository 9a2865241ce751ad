"""Families: known parameters are found again, the right family is chosen, distances and likelihoods are scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from asyncsim.calibration import fit
from asyncsim.calibration.families import FAMILIES
from asyncsim.registries import delays

N = 20_000
TRUE = {
    "exponential": {"mean": 0.4},
    "shifted_exponential": {"shift": 0.2, "mean": 0.1},
    "uniform": {"low": 0.1, "high": 0.3},
    "gamma": {"mean": 0.1, "cv": 0.1},
    "lognormal": {"median": 2844.0, "sigma": 1.46},
    "weibull": {"scale": 0.5, "shape": 0.7},
    "pareto": {"scale": 1.0, "alpha": 1.0, "cap": 60.0},
}
BOUNDS = {
    # standard errors at n = 20,000, relative: mean of an exponential 1/sqrt(n) = 0.7 %, cv 1/sqrt(2n) = 0.5 %,
    # sigma 1/sqrt(2n), median sigma/sqrt(n) = 1 %, shape 0.78/sqrt(n), scale 1.05/(shape sqrt(n)) = 1.1 %, alpha 0.7 %
    "exponential": 0.02, "shifted_exponential": 0.02, "uniform": 0.001, "gamma": 0.015, "lognormal": 0.03, "weibull": 0.03,
    "pareto": 0.02,
}  # fmt: skip


def draws(kind: str, seed: int = 5, n: int = N) -> np.ndarray:
    return delays.parse({"kind": kind, **TRUE[kind]}).sample(np.random.default_rng(seed), n)


@pytest.mark.parametrize("kind", TRUE)
def test_known_parameters_are_found_and_the_family_is_chosen(kind):
    """Within about three standard errors, which ``BOUNDS`` derives."""
    found = fit(draws(kind))
    assert found.chosen.kind == kind
    delay = found.family.delay()
    assert {name: pytest.approx(value, rel=BOUNDS[kind]) for name, value in TRUE[kind].items()} | {"kind": kind} == delay


@pytest.mark.parametrize("cv", [0.01, 0.5, 1.0, 2.0, 4.0])
def test_gammas_of_every_shape(cv):
    """Also where the smallest durations are next to nothing, and where log k - psi(k) has lost its digits."""
    values = delays.parse({"kind": "gamma", "mean": 3.0, "cv": cv}).sample(np.random.default_rng(1), N)
    gamma = next(one for one in fit(values).candidates if one.kind == "gamma")
    assert gamma.family.mean == pytest.approx(values.mean(), rel=1e-12)
    assert gamma.family.delay()["cv"] == pytest.approx(cv, rel=0.03)


def test_an_exponential_is_preferred_to_its_generalisations():
    """Weibull and gamma contain it, and fit a little better by chance: fewer parameters win unless AIC says otherwise by 10."""
    for seed in range(20):
        assert fit(draws("exponential", seed, 500)).chosen.kind == "exponential"


SCIPY = {
    "exponential": lambda one: stats.expon(0, one.mean),
    "shifted_exponential": lambda one: stats.expon(one.shift, one.mean),
    "uniform": lambda one: stats.uniform(one.low, one.high - one.low),
    "gamma": lambda one: stats.gamma(one.shape, scale=one.mean / one.shape),
    "lognormal": lambda one: stats.lognorm(one.sigma, scale=math.exp(one.mu)),
    "weibull": lambda one: stats.weibull_min(one.shape, scale=one.scale),
    "pareto": lambda one: stats.pareto(one.alpha, scale=one.scale),
}


@pytest.mark.parametrize("data", TRUE)
def test_distance_likelihood_and_quantiles_are_scipy_s(data):
    """Every family, on the data of every other."""
    values = draws(data, n=2000)
    found = fit(values)
    assert {one.kind for one in found.candidates} == set(SCIPY) == {family.kind for family in FAMILIES}
    shares = np.array([0.01, 0.3, 0.5, 0.9])
    for one in found.candidates:
        theirs = SCIPY[one.kind](one.family)
        assert one.ks == pytest.approx(stats.kstest(values, theirs.cdf).statistic, abs=1e-12)
        inside = values[(values > one.family.quantile(np.array([1e-9]))[0]) & (values < values.max())]
        np.testing.assert_allclose(one.family.log_density(inside), theirs.logpdf(inside), rtol=1e-9, atol=1e-9)
        assert one.aic == 2 * one.family.free - 2 * one.log_likelihood
        cap = one.family.cap if one.kind == "pareto" else np.inf
        np.testing.assert_allclose(one.family.quantile(shares), np.minimum(theirs.ppf(shares), cap), rtol=1e-9)


@pytest.mark.parametrize(("kind", "name"), [("gamma", "gamma"), ("weibull", "weibull_min"), ("lognormal", "lognorm")])
@pytest.mark.parametrize("data", ["gamma", "weibull", "exponential"])
def test_nobody_finds_a_greater_likelihood(data, kind, name):
    """scipy's numerical fit with the location held at 0 ends where ours does."""
    values = draws(data, n=500)
    mine = next(one for one in fit(values).candidates if one.kind == kind)
    distribution = getattr(stats, name)
    theirs = distribution(*distribution.fit(values, floc=0)).logpdf(values).sum()
    assert mine.log_likelihood >= theirs - 1e-6 * abs(theirs)


def test_equal_durations_are_constant():
    for values in ([0.4], [0.4] * 50, [0.4, 0.4 + 1e-8]):
        found = fit(np.array(values))
        assert [one.kind for one in found.candidates] == ["constant"]
        assert found.family.delay() == {"kind": "constant", "mean": 0.4}
        assert (found.chosen.log_likelihood, found.chosen.aic) == (None, None)


def test_zeros_rule_out_families_without_them():
    found = fit(np.array([0.0, *draws("exponential", n=300)]))
    refused = {one.kind: one.refused for one in found.candidates if one.refused}
    assert refused == dict.fromkeys(("gamma", "lognormal", "weibull", "pareto"), "the trace has durations of 0 s")
    assert found.chosen.kind == "exponential"


def test_what_a_scenario_does_not_take_is_refused():
    """A Weibull shape below 0.1 has no use as a delay."""
    values = np.exp(np.random.default_rng(0).normal(0, 18, 1000) - 20).clip(1e-30, 8e9)
    weibull = next(one for one in fit(values).candidates if one.kind == "weibull")
    assert "shape" in weibull.refused or "scale" in weibull.refused


@pytest.mark.parametrize("values", [[1e-9, 9e9], [1.0, 1.0001], [1e-9, 1.1e-9, 3e-9], [0.0, 5.0]])
def test_few_and_extreme_durations(values):
    found = fit(np.array(values))
    assert found.chosen.family is not None
    assert all(math.isfinite(one.log_likelihood) and 0 <= one.ks <= 1 for one in found.candidates if one.family)
