"""QSGD: against a loop written from its equation, without bias, and with the variance and the bytes that it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_independent_loops import DECAY, MOMENTUM, Fleet
from test_sparse_pushes import SIZES, seconds

import asyncsim
from asyncsim.methods.qsgd import Quantisation
from asyncsim.policies import State
from asyncsim.streams import Streams

DRAWS = 4000


def rounded(vector: np.ndarray, levels: int, bucket: int, norm: str, draws: np.ndarray) -> np.ndarray:
    """One number after the other, as the equation says."""
    out = np.empty_like(vector)
    for first in range(0, len(vector), bucket):
        part = vector[first : first + bucket]
        length = math.sqrt(sum(x * x for x in part)) if norm == "l2" else max(map(abs, part))
        for place, x in enumerate(part, first):
            z = levels * abs(x) / length if length else 0.0
            level = math.floor(z) + (draws[place] < z - math.floor(z))
            out[place] = length / levels * math.copysign(1.0, x) * level
    return out


@pytest.mark.parametrize(("levels", "bucket", "norm"), [(3, 100, "l2"), (7, 512, "max"), (1, 5000, "l2")])
def test_qsgd(make, levels, bucket, norm):
    """Alistarh et al. 2017, then momentum SGD on what was sent. Also a bucket that is longer than the vector, and a last one that
    is shorter than the others."""
    fleet = Fleet(make, {"kind": "qsgd", "levels": levels, "bucket": bucket, "norm": norm}, optimizer={
        "kind": "sgd", "lr": 0.02, "momentum": MOMENTUM, "weight_decay": DECAY})  # fmt: skip
    streams, v = Streams(fleet.scenario.seed), torch.zeros_like(fleet.theta)
    for worker, step, _, read, lr in fleet.walk():
        gradient = fleet.gradient(read, worker, step).numpy()
        draws = streams("quantise", worker, step, 0).random(len(gradient))
        sent = torch.from_numpy(rounded(gradient, levels, bucket, norm, draws))
        v = MOMENTUM * v + sent + DECAY * fleet.theta
        fleet.applied(fleet.theta - lr * v)
    fleet.agree()


@pytest.mark.parametrize("norm", ["l2", "max"])
def test_without_bias_and_with_the_variance_of_its_levels(arrive, norm):
    """The mean of 4,000 roundings lies within 5 standard errors of every number, the closed form being
    ``(|v| / s)^2 p (1 - p)``; rounding to the nearest level, the wrong model, does not. The mean variance agrees within 5 %."""
    vector = torch.randn(40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    transform = Quantisation(levels=4, bucket=16, norm=norm)
    sent = torch.stack([arrive(transform, State(), vector, step=step) for step in range(DRAWS)])
    scale = torch.cat([(part.norm() if norm == "l2" else part.abs().max()).expand(len(part)) for part in vector.split(16)])
    z = 4 * vector.abs() / scale
    p = z - z.floor()
    variance = (scale / 4) ** 2 * p * (1 - p)
    bound = 5 * (variance / DRAWS).sqrt() + 1e-12
    assert ((sent.mean(0) - vector).abs() <= bound).all()
    assert ((z.round() * scale / 4 * vector.sign() - vector).abs() > bound).sum() > 30
    assert sent.var(0).mean() == pytest.approx(float(variance.mean()), rel=0.05)
    assert torch.allclose(sent / scale * 4, (sent / scale * 4).round(), atol=1e-12)
    assert (sent * vector >= 0).all()


def test_what_lies_on_a_level_stays_to_the_bit(arrive):
    """Also zeros, a bucket of zeros, and numbers that are the norm."""
    vector = torch.tensor([1.0, -0.75, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0, 1.5])
    transform = Quantisation(levels=4, bucket=4, norm="max")
    for step in range(50):
        assert torch.equal(arrive(transform, State(), vector, step=step), vector)


def test_draws_belong_to_a_worker_and_a_step(arrive):
    vector = torch.randn(60, generator=torch.Generator().manual_seed(1))
    again = [arrive(Quantisation(), State(), vector, worker=worker, step=step, stage=stage)
             for worker, step, stage in ((0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]  # fmt: skip
    assert torch.equal(again[0], again[1])
    assert not any(torch.equal(again[0], other) for other in again[2:])


@pytest.mark.parametrize(("levels", "bits"), [(1, 2), (3, 3), (7, 4), (8, 5), (127, 8)])
def test_a_push_takes_the_time_of_its_bits(make, levels, bits):
    """``bits`` for the level and sign of each of 1,210 numbers, and 4 bytes for each of three norms; in the plan as well."""
    method = {"kind": "qsgd", "levels": levels}
    took = seconds(make, method)
    assert took == pytest.approx((math.ceil(sum(SIZES) * bits / 8) + 3 * 4) / 1000, abs=1e-9)
    scenario = make(3, method=method, run={"updates": 12})
    assert asyncsim.plan(scenario).fingerprints["timeline"] == asyncsim.simulate(scenario).fingerprints["timeline"]


def test_many_levels_are_nearly_asgd(make):
    """A million levels of a bucket's largest number are finer than float32; and the message is never longer than the whole."""
    optimizer = {"kind": "sgd", "lr": 0.05}
    method = {"kind": "qsgd", "levels": 2**20, "norm": "max"}
    fine, plain, coarse = (asyncsim.simulate(make(method=each, optimizer=optimizer, dtype="float64")).parameters
                           for each in (method, "asgd", "qsgd"))  # fmt: skip
    assert np.abs(fine - plain).max() < 1e-5
    assert np.abs(coarse - plain).max() > 1e-3
    assert seconds(make, method | {"bucket": 1}) == pytest.approx(4 * sum(SIZES) / 1000, abs=1e-9)
