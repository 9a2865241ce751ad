"""One contract for every kind of delay, and closed forms for those that have one."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from scipy import integrate, stats

from asyncsim.cluster import Cvb, Delay, Gamma, GammaHeterogeneous, GammaHomogeneous, Mixture, Scaled, Tiers, TwoState, steady
from asyncsim.cluster.distributions import MOST_CV
from asyncsim.registries import delays
from asyncsim.streams import Draws, Streams
from asyncsim.units import Seconds

CSV = "worker,seconds\n0,0.5\n1,1.5\n1,4\n"
EXAMPLES = {
    "constant": [{"mean": "50ms"}, {"mean": 0}],
    "uniform": [{"low": 1, "high": 3}, {"high": "2s"}, {"low": 1, "high": 1}],
    "exponential": [{"mean": 2}],
    "shifted_exponential": [{"shift": 1, "mean": 2}],
    "gamma": [{"mean": 2, "cv": 0.1}, {"mean": 1, "cv": 2}, {"mean": 1, "cv": 0}, {"mean": 1, "cv": 1e-170}],
    "lognormal": [{"median": "2s", "sigma": 0.6}, {"mean": 2, "cv": 0.5}, {"mean": 2, "cv": 0}],
    "weibull": [{"scale": 2, "shape": 1.5}, {"scale": 2, "shape": 0.7}],
    "pareto": [{"scale": 1, "alpha": 1, "cap": 60}, {"scale": 1, "alpha": 2.5, "cap": 60}, {"scale": 1, "alpha": 0.5, "cap": 60}],
    "empirical": [{}, {"scale": 2}],
    "recorded": [{"end": "repeat"}, {"scale": 2}],
    "bathtub": [{"early": "1h", "late": "30min", "b": "24h", "scale": 0.45}, {"early": 1, "late": 2, "b": 3, "scale": 1.2}],
    "mixture": [{"parts": [{"weight": 3, "delay": "1s"}, {"weight": 1, "delay": {"kind": "exponential", "mean": 5}}]}],
    "scaled": [{"base": {"kind": "gamma", "mean": 1, "cv": 0.5}, "factor": 3}],
    "tiers": [{"base": {"kind": "exponential", "mean": 1}, "factors": [1, 2, 6]}],
    "cvb": [{"mean": 2, "cv_machine": 0.6, "cv_task": 0.1}, {"mean": 1, "cv_machine": 0, "cv_task": 0}],
    "gamma_homogeneous": [{}, {"mean": 3}],
    "gamma_heterogeneous": [{"mean": 3}],
    "edge_tiers": [{}],
    "spot_up": [{}, {"fleet": "r5"}],
    "spot_down": [{}],
    "two_state": [{"base": {"kind": "exponential", "mean": 1}, "factor": 4, "normal": "10s", "slow": "5s"}],
}
CASES = [(kind, settings) for kind, examples in EXAMPLES.items() for settings in examples]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}"[:60])
def delay(request, tmp_path) -> Delay:
    kind, settings = request.param
    if kind == "empirical":
        (tmp_path / "times.csv").write_text(CSV)
        settings = {"file": str(tmp_path / "times.csv"), **settings}
    if kind == "recorded":
        (tmp_path / "recorded.csv").write_text("worker,seconds\n" + "".join(f"{i % 4},{1 + i / 7}\n" for i in range(40)))
        settings = {"file": str(tmp_path / "recorded.csv"), **settings}
    return delays.parse({"kind": kind, **settings})


def test_every_kind_has_examples():
    assert {name for name, cls in delays if cls.__module__.startswith("asyncsim.")} == set(EXAMPLES)


class TestContract:
    def test_shape_and_range(self, delay):
        for size in (0, 1, 64):
            seconds = delay.sample(np.random.default_rng(0), size)
            assert seconds.shape == (size,)
            assert seconds.dtype == np.float64
            assert np.isfinite(seconds).all()
            assert (seconds >= 0).all()

    def test_mean(self, delay):
        size = 200_000
        seconds = delay.sample(np.random.default_rng(1), size) * delay.slowdown
        assert seconds.mean() == pytest.approx(delay.expected, abs=5 * seconds.std() / math.sqrt(size) + 1e-12 * delay.expected)

    def test_sample_is_a_function_of_the_generator(self, delay):
        first = delay.sample(np.random.default_rng(2), 64)
        delay.sample(np.random.default_rng(3), 7)
        np.testing.assert_array_equal(delay.sample(np.random.default_rng(2), 64), first)

    def test_steps_can_be_had_in_any_order(self, delay):
        bound = delay.for_worker(Streams(5), 3)
        forwards = Draws(Streams(5), "compute", (3,), bound.sample)
        expected = [forwards[step] for step in range(130)]
        backwards = Draws(Streams(5), "compute", (3,), delay.for_worker(Streams(5), 3).sample)
        assert [backwards[step] for step in reversed(range(130))][::-1] == expected

    def test_settings_round_trip(self, delay):
        again = delays.parse(delay.settings())
        assert again == delay
        assert hash(again) == hash(delay)
        assert again.settings() == delay.settings()

    def test_pickle(self, delay):
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(delay)).sample(np.random.default_rng(4), 9), delay.sample(np.random.default_rng(4), 9)
        )

    def test_a_bound_delay_stays_what_it_is(self, delay):
        bound = delay.for_worker(Streams(0), 1)
        assert bound.for_worker(Streams(1), 2) == bound

    def test_frozen(self, delay):
        with pytest.raises(ValueError, match="frozen"):
            delay.kind_of_nothing = 1


DISTRIBUTIONS = [
    ({"kind": "gamma", "mean": 2, "cv": 0.5}, stats.gamma(4, scale=0.5)),
    ({"kind": "lognormal", "median": 2, "sigma": 0.6}, stats.lognorm(0.6, scale=2)),
    ({"kind": "lognormal", "mean": 2, "cv": 0.5}, stats.lognorm(math.sqrt(math.log(1.25)), scale=2 / math.sqrt(1.25))),
    ({"kind": "weibull", "scale": 2, "shape": 1.5}, stats.weibull_min(1.5, scale=2)),
    ({"kind": "pareto", "scale": 2, "alpha": 1.5, "cap": "100d"}, stats.pareto(1.5, scale=2)),
    ({"kind": "uniform", "low": 1, "high": 4}, stats.uniform(1, 3)),
    ({"kind": "exponential", "mean": 3}, stats.expon(scale=3)),
    ({"kind": "shifted_exponential", "shift": 1, "mean": 3}, stats.expon(1, scale=3)),
    ({"kind": "spot_up"}, stats.lognorm(1.46, scale=3600 * math.exp(-0.23))),
]


@pytest.mark.parametrize(("settings", "law"), DISTRIBUTIONS, ids=lambda value: str(value)[:50])
def test_kolmogorov_smirnov(settings, law):
    """20,000 draws; a right generator fails with probability 0.001, and the seed is fixed."""
    draws = delays.parse(settings).sample(np.random.default_rng(7), 20_000)
    assert stats.kstest(draws, law.cdf).pvalue > 1e-3


def test_bathtub_is_its_formula():
    """The share of lives up to t is ``A (1 - exp(-t / early) + exp((t - b) / late))``, within 5 standard errors; many end early
    or late, few between; at the longest life it is 1. Exponential lives of the same mean have another law."""
    bathtub = delays.parse({"kind": "bathtub", "early": "1h", "late": "1h", "b": "24h", "scale": 0.45})
    hours = bathtub.sample(np.random.default_rng(0), 100_000) / 3600
    for t in (0.5, 1, 6, 12, 20, 23, 24):
        share = 0.45 * (1 - math.exp(-t) + math.exp(t - 24))
        assert (hours <= t).mean() == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 100_000))
    assert hours.max() * 3600 <= bathtub.end
    assert bathtub.end / 3600 == pytest.approx(24 + math.log(1 / 0.45 - 1), abs=1e-6)
    assert ((hours > 6) & (hours < 18)).mean() < 0.01
    assert stats.kstest(hours[:1000], stats.expon(scale=hours.mean()).cdf).pvalue < 1e-9


@pytest.mark.parametrize("settings", [*EXAMPLES["bathtub"], {"early": 0.25, "late": 0.1, "b": 0.25, "scale": 0.99}], ids=str)
def test_bathtub_draws_one_by_one_have_the_bits_of_many_at_once(settings):
    bathtub = delays.parse({"kind": "bathtub", **settings})
    one, many = np.random.default_rng(0), np.random.default_rng(0)
    assert [bathtub.sample(one, 1)[0] for _ in range(200)] == bathtub.sample(many, 200).tolist()


def test_pareto_is_clipped_not_truncated():
    """P(T = cap) = (1 / 4)^1.5 = 1/8; the mean against numerical integration, on both sides of alpha 1 and at it."""
    draws = delays.parse({"kind": "pareto", "scale": 1, "alpha": 1.5, "cap": 4}).sample(np.random.default_rng(0), 100_000)
    assert (draws == 4).mean() == pytest.approx(1 / 8, abs=5 * math.sqrt(7 / 64 / 100_000))
    for alpha in (0.3, 1 - 1e-12, 1.0, 1 + 1e-12, 3.0):
        tail = integrate.quad(lambda x, alpha=alpha: (2 / x) ** alpha, 2, 9)[0]
        assert delays.parse({"kind": "pareto", "scale": 2, "alpha": alpha, "cap": 9}).expected == pytest.approx(2 + tail)


def test_heavy_tails_stay_within_virtual_time():
    draws = delays.parse({"kind": "lognormal", "median": 1, "sigma": 20}).sample(np.random.default_rng(0), 1000)
    assert draws.max() == 9e9


def test_a_bare_value_is_a_constant():
    assert (
        delays.parse("2s") == delays.parse(2) == delays.parse({"mean": 2}) == delays.parse({"kind": "constant", "mean": "2000ms"})
    )


class TestMachines:
    """Coefficient-of-variation-based heterogeneity (Ali et al. 2000)."""

    def test_homogeneous_setting(self):
        """0.94 % of the batches exceed 1.25 means: one gamma of CV 0.1. Five binomial standard errors at 400,000 draws."""
        assert stats.gamma(100, scale=0.01).sf(1.25) == pytest.approx(0.0094, abs=5e-5)
        draws = GammaHomogeneous(mean=2).sample(np.random.default_rng(0), 400_000)
        assert (draws > 2.5).mean() == pytest.approx(0.0094, abs=5 * math.sqrt(0.0094 / 400_000) + 5e-5)

    def test_heterogeneous_setting(self):
        """27.87 %, from the unbound delay (five standard errors: 0.36 points) and over 4,000 workers (3.5 points)."""
        delay = GammaHeterogeneous(mean=2)
        draws = delay.sample(np.random.default_rng(0), 400_000)
        assert (draws > 2.5).mean() == pytest.approx(0.2787, abs=0.0036)
        rng = np.random.default_rng(1)
        shares = [(delay.for_worker(Streams(0), worker).sample(rng, 64) > 2.5).mean() for worker in range(4000)]
        assert np.mean(shares) == pytest.approx(0.2787, abs=5 * math.sqrt(0.2787 * 0.7213 / 4000))

    def test_a_worker_keeps_its_mean(self):
        bound = Cvb(mean=1, cv_machine=0.6, cv_task=0.1).for_worker(Streams(3), 5)
        assert isinstance(bound, Gamma)
        assert bound.cv == 0.1
        assert bound.mean == Streams(3)("machine", 5).gamma(1 / 0.36, 0.36)

    def test_machine_means_have_the_asked_for_variation(self):
        means = np.array([Cvb(mean=2, cv_machine=0.6, cv_task=0).for_worker(Streams(0), i).expected for i in range(5000)])
        assert stats.kstest(means, stats.gamma(1 / 0.36, scale=2 * 0.36).cdf).pvalue > 1e-3

    def test_machine_draws_depend_on_the_worker_alone(self):
        delay = GammaHeterogeneous()
        few = [delay.for_worker(Streams(1), worker) for worker in range(4)]
        many = [delay.for_worker(Streams(1), worker) for worker in reversed(range(64))][::-1]
        assert many[:4] == few
        assert len({bound.expected for bound in many}) == 64

    def test_tiers_go_round(self):
        delay = delays.parse({"kind": "edge_tiers"})
        assert [delay.for_worker(Streams(0), worker).expected for worker in range(4)] == [1, 1.8125, 11.625, 1]

    def test_a_wild_machine_still_takes_time(self):
        delay = Cvb(mean=1, cv_machine=MOST_CV, cv_task=0)
        assert all(delay.for_worker(Streams(0), worker).expected > 0 for worker in range(50))

    def test_wrappers_bind_what_they_hold(self):
        cvb = {"kind": "cvb", "mean": 1, "cv_machine": 0.6, "cv_task": 0}
        own = delays.parse(cvb).for_worker(Streams(0), 7)
        for wrapped in (
            Scaled(base=cvb, factor=2),
            Tiers(base=cvb, factors=(2,)),
            TwoState(base=cvb, factor=2, normal=1, slow="100000d"),
            Mixture(parts=({"weight": 1, "delay": {"kind": "scaled", "base": cvb, "factor": 2}},)),
        ):
            assert wrapped.for_worker(Streams(0), 7).expected == pytest.approx(2 * own.expected, rel=1e-6)


def test_a_delay_of_ones_own():
    @delays.register("coin")
    class Coin(Delay):
        high: Seconds

        @property
        def expected(self) -> float:
            return self.high / 2

        def sample(self, rng, size):
            return np.where(rng.random(size) < 0.5, 0.0, self.high)

    try:
        coin = delays.parse({"kind": "scaled", "base": {"kind": "coin", "high": "2s"}, "factor": 3})
        assert coin.expected == 3
        assert steady(coin)
        assert set(coin.sample(np.random.default_rng(0), 64)) == {0.0, 6.0}
        assert delays.parse(coin.settings()) == coin
    finally:
        del delays._classes["coin"]
