"""Treatments of pipelines against their equations: PipeMare's two techniques, predictions, spike compensation, look-ahead."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from arrivals import Toy, View, arrivals, push

from asyncsim.methods.nesterov_pipeline import LookAheadMomentum
from asyncsim.methods.pipemare import DiscrepancyCorrection, Rescheduling
from asyncsim.methods.spike_compensation import SpikeCompensation
from asyncsim.policies import SGD, NAdam, WeightPrediction
from asyncsim.policies.prediction import ahead

CONSTANT = torch.tensor([0.25, -1.0, 3.0], dtype=torch.float64)
START = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)


# PipeMare.


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_rescheduling_anneals_from_the_whole_division_to_none(staleness):
    """T1: ``tau ** (1 - min(n / K, 1))`` with K = 10: tau at version 0, its root half way, 1 from version 10 on."""
    rule, tau = Rescheduling(updates=10), max(1, staleness)
    seen = [rule.divisor(staleness, View(START, version=version)) for version in (0, 5, 10, 11, 1000)]
    assert seen == [tau, tau**0.5, 1.0, 1.0, 1.0]


def test_rescheduling_by_the_papers_formula():
    """Stage i of P (from 1) has tau = (2 (P - i) + 1) / N, at least 1 here."""
    for micro_batches, expected in ((1, [7.0, 5.0, 3.0, 1.0]), (2, [3.5, 2.5, 1.5, 1.0]), (8, [1.0] * 4)):
        rule = Rescheduling(tau="paper", micro_batches=micro_batches)
        assert [rule.divisor(0, View(START, stage=k, num_stages=4)) for k in range(4)] == expected


def test_the_correction_is_the_recurrence():
    """``delta <- gamma delta + (1 - gamma)(w_new - w_old)`` with ``gamma = D^(1/tau)``, ``u = w - tau delta``, momentum and a
    moving rate included: to 1e-14 of a loop over the parameters that were there."""
    rule = DiscrepancyCorrection(decay=0.3, delay=2.5)
    toy = Toy((rule,), SGD(lr=0.05, momentum=0.9), START)
    gamma, delta = 0.3 ** (1 / 2.5), torch.zeros(3, dtype=torch.float64)
    for index, gradient in enumerate(arrivals(3, 30)):
        before = toy.server.params
        toy.arrive(0, gradient, lr=0.05 if index < 15 else 0.2)
        toy.read(0)
        delta = gamma * delta + (1 - gamma) * (toy.server.params - before)
        late = toy.policy.late_view(toy.server.params, toy.server)
        torch.testing.assert_close(late, toy.server.params - 2.5 * delta, rtol=0, atol=1e-14)


@pytest.mark.parametrize("delay", [None, 3])
def test_at_constant_velocity_the_correction_gives_the_stashed_parameters(delay):
    """A constant gradient and plain SGD: u is what was read three versions before, to 1e-13. With observed staleness, 0 at first,
    delta is the velocity from the first update on; with a delay by hand it tends to it as gamma^n, gamma = 0.51."""
    toy = Toy((DiscrepancyCorrection(delay=delay),), SGD(lr=0.1), START)
    history = [START]
    for step in range(100):
        toy.reads[0] = toy.reads[0]._replace(version=max(0, step - 3))
        toy.arrive(0, CONSTANT)
        history.append(toy.server.params)
        late = toy.policy.late_view(toy.server.params, toy.server)
        if step == 5:
            assert bool((late - history[-4]).abs().max() > 1e-3) is (delay is not None)
    torch.testing.assert_close(late, history[-4], rtol=0, atol=1e-13)


def test_without_staleness_there_is_nothing_to_correct():
    """The last stage's late view is the very tensor of its parameters."""
    toy = Toy((DiscrepancyCorrection(),), SGD(lr=0.1), START, num_workers=1)
    for gradient in arrivals(3, 5):
        toy.arrive(0, gradient)
        toy.read(0)
        assert toy.policy.late_view(toy.server.params, toy.server) is toy.server.params


# Prediction.


@pytest.mark.parametrize(("horizon", "stage", "expected"), [
    ("1f1b", 0, (3, 0)), ("1f1b", 3, (0, 0)), ("ticks", 0, (6, 0)), ("ticks", 2, (2, 0)),
    ("spectrain", 0, (3, 0)), ("spectrain", 1, (2, 0)), ("spectrain", 2, (2, 1)), ("spectrain", 3, (1, 1)),
    ("spectrain_v2", 0, (4, 0)), ("spectrain_v2", 3, (1, 0)), (2.5, 1, (2.5, 0)),
])  # fmt: skip
def test_horizons(horizon, stage, expected):
    """Of four stages: reference 4.4. What the two passes of SpecTrain are apart is the staleness of 1F1B, N - r - 1."""
    assert ahead(horizon, stage, 4) == expected
    if horizon == "spectrain":
        assert expected[0] - expected[1] == 3 - stage


@pytest.mark.parametrize("rule", [WeightPrediction, SpikeCompensation])
@pytest.mark.parametrize("form", ["velocity", "weights"])
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_prediction_is_exact_for_a_constant_gradient_in_steady_state(steps, form, rule):
    """v = g / (1 - m) is a fixed point of the momentum; after 200 updates at m = 0.8 it is reached to rounding, and the view of
    now is the parameters ``steps`` updates later, to 1e-12."""
    toy = Toy((), rule(lr=0.1, momentum=0.8, horizon=steps, form=form), START)
    for _ in range(200):
        toy.arrive(0, CONSTANT)
    predicted = toy.policy.view(toy.server.params, toy.server, 0)
    early = toy.server.params
    for _ in range(steps):
        toy.arrive(0, CONSTANT)
    torch.testing.assert_close(predicted, toy.server.params, rtol=0, atol=1e-12)
    assert (early - toy.server.params).abs().min() > 0.1


def test_both_predictions_of_spectrain_meet():
    """With a steady velocity the late view of a stage is where its forward view of ``N - r - 1`` versions before pointed to."""
    toy = Toy((), WeightPrediction(lr=0.1, momentum=0.5, horizon="spectrain"), START, stage=2, num_stages=4)
    views = []
    for _ in range(80):
        toy.arrive(0, CONSTANT)
        views.append(toy.policy.view(toy.server.params, toy.server, 0))
    late = toy.policy.late_view(toy.server.params, toy.server)
    torch.testing.assert_close(late, views[-2], rtol=0, atol=1e-12)  # N - r - 1 = 1


def test_predictions_do_not_change_the_step():
    """The parameters are those of heavy-ball SGD, bit for bit, and without momentum the very parameters are handed out."""
    tracks = []
    for step in (SGD(lr=0.1, momentum=0.9, weight_decay=0.1), WeightPrediction(lr=0.1, weight_decay=0.1, horizon=3)):
        toy = Toy((), step, START)
        for gradient in arrivals(3, 20):
            toy.arrive(0, gradient)
        tracks.append(toy.server.params)
    assert torch.equal(*tracks)
    still = Toy((), WeightPrediction(momentum=0.0, horizon=3), START)
    still.arrive(0, CONSTANT)
    assert still.policy.view(still.server.params, still.server, 0) is still.server.params


# Spike compensation.


@pytest.mark.parametrize("delay", [0, 1, 2, 5])
@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.99])
def test_spike_compensation_is_exact_for_gradients_that_do_not_depend_on_the_parameters(momentum, delay):
    """Reference 4.5: after t updates the parameters are those of momentum SGD with the gradients in time, less what the ``delay``
    gradients that have not arrived have done there. To 1e-14, relative to the way that was gone."""
    gradients = arrivals(3, 60)
    fresh, late = Toy((), SGD(lr=0.1, momentum=momentum), START), Toy((), SpikeCompensation(lr=0.1, momentum=momentum), START)
    missing = Toy((), SGD(lr=0.1, momentum=momentum), torch.zeros_like(START))
    for step, gradient in enumerate(gradients):
        fresh.arrive(0, gradient)
        late.reads[0] = late.reads[0]._replace(version=late.server.version - delay)
        late.arrive(0, gradients[step - delay] if step >= delay else torch.zeros_like(gradient))
        missing.arrive(0, gradient if step >= len(gradients) - delay else torch.zeros_like(gradient))
    scale = (fresh.server.params - START).abs().max().item()
    expected = fresh.server.params - missing.server.params
    torch.testing.assert_close(late.server.params, expected, rtol=0, atol=1e-14 * max(1, scale))
    if delay == 0:
        assert torch.equal(late.server.params, fresh.server.params)


# Nesterov.


def radius(gamma: float, tau: int, rate: float, discount: bool) -> float:
    """Largest root of ``w+ = (1 + gamma) w - gamma w- - c ((1 + gamma) w[-tau] - gamma w[-tau-1])``, ``c = rate (1 - gamma)``."""
    scale = rate * (1 - gamma if discount else 1.0)
    polynomial = np.zeros(tau + 3)
    for power, value in ((0, 1.0), (1, -(1 + gamma)), (2, gamma), (tau + 1, scale * (1 + gamma)), (tau + 2, -scale * gamma)):
        polynomial[power] += value
    return float(np.abs(np.roots(polynomial)).max())


def growth(gamma: float, tau: int, rate: float, discount: bool) -> float:
    """How much a stale quadratic (curvature 1) grows an update under ``look_ahead_momentum``, over the last 400 of 800."""
    step = LookAheadMomentum(lr=rate, momentum=gamma, discount=discount)
    toy = Toy((), step, torch.ones(1, dtype=torch.float64))
    views, sizes = [toy.policy.view(toy.server.params, toy.server, 0)], []
    for index in range(800):
        toy.arrive(0, views[max(0, index - tau)])
        views.append(toy.policy.view(toy.server.params, toy.server, 0))
        sizes.append(abs(float(toy.server.params)))
    return math.log(max(sizes[-40:]) / max(sizes[360:400])) / 400


TABLE = {  # reference 5: largest stable lr * curvature by staleness; four figures or fewer
    (0.0, True): {0: 2.000, 1: 1.000, 4: 0.347, 8: 0.185},
    (0.9, True): {0: 13.57, 1: 2.531, 4: 0.326, 8: 0.154},
    (0.99, True): {0: 133.6, 1: 9.137, 4: 0.332, 8: 0.144},
    (0.9, False): {0: 1.357, 1: 0.253, 4: 0.0327, 8: 0.0154},
}


@pytest.mark.parametrize(("gamma", "discount"), TABLE)
def test_largest_stable_rates_of_the_look_ahead(gamma, discount):
    """The rule itself, on stale views of a quadratic, shrinks 2 % below the table's rate and grows 2 % above it; and the root
    radius of its recurrence crosses 1 there too. (At 0.99 a change by 1e-4 an update is below what 800 updates can show.)"""
    for tau, rate in TABLE[gamma, discount].items():
        assert radius(gamma, tau, 0.98 * rate, discount) < 1 < radius(gamma, tau, 1.02 * rate, discount)
        if gamma < 0.99:
            assert growth(gamma, tau, 0.98 * rate, discount) < 0 < growth(gamma, tau, 1.02 * rate, discount)


def test_look_ahead_without_staleness_is_nesterovs_method():
    """tau = 0: ``w + d - eta (1 - gamma) grad f(w + d)``, d = gamma (w - w-), on a quadratic, to 1e-14; gamma = 0 is SGD."""
    curvature = torch.tensor([1.0, 0.1, 3.0], dtype=torch.float64)
    toy = Toy((), LookAheadMomentum(lr=0.2, momentum=0.9), START)
    w, before = START, START
    for _ in range(50):
        toy.arrive(0, curvature * toy.policy.view(toy.server.params, toy.server, 0))
        d = 0.9 * (w - before)
        w, before = w + d - 0.2 * (1 - 0.9) * curvature * (w + d), w
        torch.testing.assert_close(toy.server.params, w, rtol=0, atol=1e-14)
    plain, still = Toy((), SGD(lr=0.2), START), Toy((), LookAheadMomentum(lr=0.2, momentum=0.0), START)
    for gradient in arrivals(3, 20):
        plain.arrive(0, gradient)
        still.arrive(0, gradient)
    assert torch.equal(plain.server.params, still.server.params)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_nadam_is_pytorchs_to_rounding(weight_decay, decoupled):
    """Fifty float64 updates with betas of Ajanthan et al. and a changing rate, within 1e-9 of ``torch.optim.NAdam``, which keeps
    its product of momenta in single precision."""
    start, gradients = arrivals(200, 1, seed=1)[0], arrivals(200, 50)
    toy = Toy((), NAdam(beta1=0.99, weight_decay=weight_decay, decoupled=decoupled), start)
    parameter = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.NAdam(
        [parameter], betas=(0.99, 0.999), weight_decay=weight_decay, decoupled_weight_decay=decoupled
    )
    for index, gradient in enumerate(gradients):
        optimiser.param_groups[0]["lr"] = rate = 0.01 if index < 25 else 0.003
        parameter.grad = gradient.clone()
        optimiser.step()
        toy.server.lr = rate
        toy.server.params = toy.policy.apply(push(gradient, toy.server.params, by=toy.engine), toy.server)
        torch.testing.assert_close(toy.server.params, parameter.detach(), rtol=0, atol=1e-9)
