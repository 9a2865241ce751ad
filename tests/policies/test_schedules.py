"""Schedules at their boundaries, against loops written by hand and against PyTorch's."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from asyncsim.registries import schedules


def factors(kind: str, updates: int, num_workers: int = 4, **fields: object) -> list[float]:
    """The factor of every update of a run of ``updates``, the first one first."""
    schedule = schedules[kind](**fields)
    return [schedule.factor(k / updates, k, num_workers) for k in range(1, updates + 1)]


def test_constant_is_one():
    """Factor 1, exactly, at every update: without a schedule the bits of the learning rate are kept."""
    assert factors("constant", 7) == [1.0] * 7


@pytest.mark.parametrize(("start", "first"), [(0.0, 0.0), (0.2, 0.2), ("1/N", 0.25)])
def test_warm_up_is_a_straight_line_to_one(start, first):
    """Warm-up over 5 of 10 updates from f0: f0 + (1 - f0) k / 5 for update k, and 1 from the fifth on (reference 1.2: from
    eta / N linearly to eta; here N = 4)."""
    expected = [first + (1 - first) * k / 5 for k in range(1, 5)] + [1.0] * 6
    assert factors("constant", 10, warmup=0.5, warmup_from=start) == pytest.approx(expected, rel=1e-15)
    assert factors("constant", 10, warmup=5, warmup_from=start, unit="updates") == pytest.approx(expected, rel=1e-15)


def test_multistep_is_pytorchs():
    """Milestones 3 and 7: ``MultiStepLR`` changes the rate after that many updates, so updates 4 and 8 are the first with the new
    one. Factors 0.1 ** (number of milestones passed)."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 7], gamma=0.1)
    expected = []
    for _ in range(10):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()
    assert expected == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01], rel=1e-15)
    assert factors("multistep", 10, unit="updates", milestones=(3, 7), gamma=0.1) == pytest.approx(expected, rel=1e-14)
    assert factors("multistep", 10, milestones=(0.3, 0.7), gamma=0.1) == pytest.approx(expected, rel=1e-14)


def test_multistep_defaults_are_half_and_three_quarters():
    """By fractions of the run: 1 up to the half, 0.1 up to three quarters, 0.01 to the end."""
    assert factors("multistep", 8) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-14)


@pytest.mark.parametrize("final", [0.0, 0.25])
def test_cosine_and_linear_end_at_final(final):
    """Half a cosine f + (1 - f) (1 + cos(pi k / n)) / 2, and a line 1 + (f - 1) k / n: half way both are (1 + f) / 2, and both
    are ``final`` at the last update and stay there."""
    n = 8
    cosine = [final + (1 - final) * (1 + math.cos(math.pi * k / n)) / 2 for k in range(1, n + 1)]
    linear = [1 + (final - 1) * k / n for k in range(1, n + 1)]
    for kind, expected in (("cosine", cosine), ("linear", linear)):
        assert factors(kind, n, final=final) == pytest.approx(expected, abs=1e-15)
        assert expected[n // 2 - 1] == pytest.approx((1 + final) / 2)
        assert expected[-1] == pytest.approx(final)
        longer = factors(kind, 2 * n, unit="updates", length=n, final=final)
        assert longer == pytest.approx(expected + [final] * n, abs=1e-15)


def test_inverse_square_root():
    """1 / sqrt(1 + k / scale): with scale 1 update and k = 3, a half; k = 8, a third."""
    seen = factors("inverse_sqrt", 8, unit="updates", scale=1.0)
    assert (seen[2], seen[7]) == pytest.approx((1 / 2, 1 / 3), rel=1e-15)


def test_warm_up_multiplies_what_comes_after():
    """Warm-up and decay at once: line times cosine while both act."""
    seen = factors("cosine", 10, warmup=0.5)
    expected = [min(1.0, k / 5) * (1 + math.cos(math.pi * k / 10)) / 2 for k in range(1, 11)]
    assert seen == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("name", [name for name, cls in schedules if cls.__module__.startswith("asyncsim.")])
def test_every_schedule_stays_between_zero_and_one(name):
    """No default lets the rate grow above what the optimiser says, nor below 0, with and without warm-up."""
    for warmup in (0.0, 0.3):
        values = factors(name, 100, warmup=warmup, warmup_from="1/N")
        assert all(0.0 <= value <= 1.0 for value in values)
        assert max(values) > 0.5


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("constant", {"warmup": 2.0}),  # a fraction of the run cannot exceed 1
        ("constant", {"warmup_from": 1.5}),
        ("multistep", {"milestones": (0.7, 0.3)}),
        ("multistep", {"milestones": (50, 80)}),  # update counts without saying so
        ("multistep", {"milestones": (-0.1,)}),
    ],
)
def test_nonsense_is_refused(kind, fields):
    """Positions are fractions of the run unless ``unit: updates`` says otherwise, in order, and a factor is at most 1."""
    with pytest.raises(ValidationError):
        schedules[kind](**fields)
