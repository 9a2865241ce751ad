"""Staleness rules, dropping, delay compensation, mixing and clipping by hand (reference sections 3 and 7)."""

from __future__ import annotations

from math import exp, inf, sqrt

import pytest
import torch
from arrivals import View, push

from asyncsim.methods.dc_asgd import DelayCompensation
from asyncsim.methods.fedasync import Mixing
from asyncsim.policies import Clip, DropStale, StalenessAware, Verdict


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


STALENESS = [
    # Zhang et al. 2016, eq. 3: alpha / tau for tau > 0, alpha for tau = 0; so 0 and 1 get the same rate.
    ({"rule": "inverse"}, {0: 1.0, 1: 1.0, 2: 2.0, 7: 7.0, 1000: 1000.0}),
    ({"rule": "inverse_plus_one"}, {0: 1.0, 1: 2.0, 7: 8.0}),
    # FedBuff: s = 1 / sqrt(1 + tau); FedAsync: (1 + tau) ** -p.
    ({"rule": "polynomial"}, {0: 1.0, 3: 2.0, 8: 3.0, 1: sqrt(2)}),
    ({"rule": "polynomial", "power": 2.0}, {0: 1.0, 2: 9.0}),
    ({"rule": "polynomial", "power": 0.0}, {0: 1.0, 9: 1.0}),
    ({"rule": "exponential", "rate": 0.5}, {0: 1.0, 2: exp(1.0), 10: exp(5.0)}),
    # Xie et al. 2019, hinge: 1 up to b, then 1 / (a (tau - b) + 1).
    ({"rule": "hinge", "rate": 0.5, "after": 4}, {0: 1.0, 4: 1.0, 5: 1.5, 8: 3.0}),
    # Mishchenko et al. 2022: eta N / max(N, d) with d = tau + 1, here for N = 3.
    ({"rule": "delay_adaptive"}, {0: 1.0, 2: 1.0, 3: 4 / 3, 8: 3.0}),
]


@pytest.mark.parametrize(("settings", "expected"), STALENESS, ids=str)
def test_divisors_of_the_staleness_rules(settings, expected):
    """The divisor of every rule at the staleness where it can be worked out in the head, N = 3."""
    rule = StalenessAware(**settings)
    for tau, divisor in expected.items():
        arrived = push(vector(1.0), vector(0.0), staleness=tau)
        assert rule.update(arrived, {}, View(vector(0.0))) is arrived
        assert arrived.penalty == pytest.approx(divisor, rel=1e-15)
        assert arrived.payload.pending


def test_an_exponential_penalty_does_not_overflow():
    """exp(0.1 * 1e6) is no float; a penalty of at most exp(700) still stops the update: 1 / exp(700) is about 1e-304."""
    arrived = push(vector(1.0), vector(0.0), staleness=1_000_000)
    StalenessAware(rule="exponential").update(arrived, {}, View(vector(0.0)))
    assert exp(699) < arrived.penalty < inf


def test_penalties_of_several_policies_multiply():
    """Two treatments in one chain: the update is divided by 2 and then by 3, whether they are numbers or tensors."""
    arrived = push(vector(1.0), vector(0.0), staleness=2)
    arrived.penalise(2.0)
    arrived.penalise(3.0)
    assert arrived.penalty == 6.0
    arrived.penalise(vector(0.5))
    assert torch.equal(arrived.penalty, vector(3.0))


@pytest.mark.parametrize("bound", [0, 3])
def test_dropping_starts_above_the_bound(bound):
    """Staleness ``bound`` is the last that is kept; Ringmaster's ``tau < R`` is a bound of R - 1."""
    rule = DropStale(bound=bound)
    kept = [rule.update(push(vector(1.0), vector(0.0), tau), {}, View(vector(0.0))) is not Verdict.DROPPED for tau in range(6)]
    assert kept == [tau <= bound for tau in range(6)]


def test_constant_delay_compensation():
    """DC-ASGD-c: g + lambda g g (theta - s) with lambda 0.5, g = (2, -1), theta = (1, 1), s = (0.5, 2):
    (2 + 0.5 * 4 * 0.5, -1 + 0.5 * 1 * -1) = (3, -1.5)."""
    rule = DelayCompensation(adaptive=False, strength=0.5)
    arrived = push(vector(2, -1), vector(0.5, 2.0), staleness=1)
    rule.update(arrived, rule.init(None, 3), View(vector(1, 1)))
    assert torch.equal(arrived.gradient, vector(3, -1.5))


def test_adaptive_delay_compensation():
    """DC-ASGD-a with decay 0.75, strength 2, eps 0.25 (inside the root), theta - s = (0.5, -1).

    Worker 0, g = (2, 0): m = 0.25 * (4, 0) = (1, 0); lambda = 2 / sqrt((1.25, 0.25)); g + lambda * (4, 0) * (0.5, -1).
    Worker 0 again, g = (2, 1): m = 0.75 * (1, 0) + 0.25 * (4, 1) = (1.75, 0.25); lambda = 2 / sqrt((2, 0.5)).
    Worker 1, g = (2, 0): its own m is that of worker 0's first push.
    """
    rule = DelayCompensation(strength=2.0, decay=0.75, eps=0.25)
    state = rule.init(None, 3)

    def compensated(worker: int, gradient: torch.Tensor) -> torch.Tensor:
        arrived = push(gradient, vector(0.5, 2.0), 1, worker)
        rule.update(arrived, state, View(vector(1, 1)))
        return arrived.gradient

    first = vector(2 + 4 * 0.5 * 2 / sqrt(1.25), 0)
    torch.testing.assert_close(compensated(0, vector(2, 0)), first, rtol=1e-15, atol=0)
    again = vector(2 + 4 * 0.5 * 2 / sqrt(2), 1 - 2 / sqrt(0.5))
    torch.testing.assert_close(compensated(0, vector(2, 1)), again, rtol=1e-15, atol=0)
    torch.testing.assert_close(compensated(1, vector(2, 0)), first, rtol=1e-15, atol=0)


def test_the_mean_square_is_kept_also_where_there_is_no_gap():
    """Multiverso updates ms at every push; one on the current parameters is not corrected, yet its square counts:
    decay 0.75, g = 2 twice: m = 0.75 * 1 + 0.25 * 4 = 1.75 at the second."""
    rule = DelayCompensation(strength=2.0, decay=0.75, eps=0.25)
    state, now = rule.init(None, 1), vector(1.0)
    for _ in range(2):
        arrived = push(vector(2.0), now)
        rule.update(arrived, state, View(now))
        assert torch.equal(arrived.gradient, vector(2.0))
    assert torch.equal(state.square[0], vector(1.75))


def test_the_constants_of_delay_compensation_are_those_of_multiverso():
    """Reference section 7: m = 0.95, lambda_0 = 2, eps = 1e-7."""
    assert DelayCompensation().settings() == {
        "kind": "delay_compensation", "strength": 2.0, "adaptive": True, "decay": 0.95, "eps": 1e-7
    }  # fmt: skip


def test_mixing_moves_part_of_the_way():
    """FedAsync: theta <- (1 - a) theta + a x, a = 0.6 / sqrt(1 + 3) = 0.3. theta = 10, the worker read 8 and came to x = 5
    (pseudo-gradient 3): 0.7 * 10 + 0.3 * 5 = 8.5, that is theta - (theta - x) / (1 / a)."""
    rule, server = Mixing(rate=0.6, power=0.5), View(vector(10.0))
    arrived = push(vector(3.0), vector(8.0), staleness=3)
    rule.update(arrived, {}, server)
    moved = server.params - arrived.gradient / arrived.penalty
    torch.testing.assert_close(moved, vector(8.5), rtol=1e-15, atol=0)


def test_clipping_bounds_the_length():
    """(3, 4) has length 5: to a bound of 1 it becomes (0.6, 0.8); a bound of 5 or more changes nothing, not one bit."""
    gradient = vector(3, 4)
    arrived = push(gradient, vector(0, 0))
    Clip(max_norm=1.0).update(arrived, {}, View(vector(0, 0)))
    torch.testing.assert_close(arrived.gradient, vector(0.6, 0.8), rtol=1e-15, atol=0)
    untouched = push(gradient, vector(0, 0))
    Clip(max_norm=5.0).update(untouched, {}, View(vector(0, 0)))
    assert untouched.replaced is None
    for bad in (inf, float("nan")):
        arrived = push(vector(bad, 1.0), vector(0, 0))
        Clip(max_norm=1.0).update(arrived, {}, View(vector(0, 0)))
        assert arrived.replaced is None
