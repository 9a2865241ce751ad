"""Iter-Fisher, the compensation of Ferret (reference, family of pipelines, section 5.3)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from arrivals import View, push
from test_identities import HEAVY, same_bits
from test_independent_loops import DECAY, MOMENTUM, Fleet

import asyncsim
from asyncsim.assembling import assemble
from asyncsim.messages import Snapshot
from asyncsim.methods.iter_fisher import IterFisher
from asyncsim.scenario import ScenarioError

DOUBLE = torch.float64


class Along(View):
    """A server whose parameters have taken this path."""

    road: tuple[torch.Tensor, ...]

    def path(self, snapshot, most):
        return [self.road[0], *self.road[max(1, len(self.road) - most) :]]


def along(points, **settings):
    """What becomes of the gradient 2 at the first of these points, in front of a server at the last."""
    road = tuple(torch.tensor([point], dtype=DOUBLE) for point in points)
    server = Along(road[-1])
    server.road = road
    arrived = push(torch.tensor([2.0], dtype=DOUBLE), road[0], len(road) - 1)
    rule = IterFisher(**settings)
    return rule.update(arrived, rule.init(None, 1), server).gradient.item()


@pytest.mark.parametrize(("eta", "longest"), [(0.0, 64), (0.0, 3), (2e-3, 64)], ids=["fixed", "three steps", "learnt"])
def test_the_loop(make, eta, longest):
    """g <- g + lam g g (w_{s+1} - w_s) over every version since the read, the oldest step over what is beyond the longest path;
    lam by one step down the slope of |(D - E) - lam F|^2 + nu lam^2 a push."""
    fleet = Fleet(make, {"kind": "iter_fisher", "lam": 0.5, "eta_lam": eta, "alpha": 0.8, "nu": 0.25, "longest": longest})
    v, road, lam, mean, before, learnt = torch.zeros_like(fleet.theta), [fleet.theta], 0.5, None, None, []
    for worker, step, tau, read, lr in fleet.walk():
        g = fleet.gradient(read, worker, step)
        if mean is None:
            mean = g
        else:
            d, f = 0.2 * (g - mean), g * g * (fleet.theta - before)
            lam -= eta * (2 * lam * (f @ f + 0.25) - 2 * d @ f)
            mean = mean + d
        before = fleet.theta
        learnt.append(float(lam))
        for w0, w1 in pairwise([read, *road[len(road) - tau :][-longest:]]):
            g = g + lam * g * g * (w1 - w0)
        v = MOMENTUM * v + g + DECAY * fleet.theta
        fleet.applied(fleet.theta - lr * v)
        road.append(fleet.theta)
    fleet.agree()
    np.testing.assert_allclose(fleet.result.updates["lam"], learnt, rtol=1e-10)
    assert (len(set(learnt)) == 1) == (eta == 0)


def test_one_step_is_delay_compensation(make):
    """Two workers in turn have staleness 1 and no more, and there it is DC-ASGD-c, bit for bit; so it is at any staleness with
    paths of one step. Six workers on whole paths are something else."""
    dc = {"kind": "dc_asgd", "adaptive": False, "strength": 0.3}
    turns = {"optimizer": HEAVY, "run": {"updates": 60}}
    two = make(2, "1s", method={"kind": "iter_fisher", "lam": 0.3}, **turns)
    assert asyncsim.simulate(two).updates["staleness"].max() == 1
    same_bits(two, make(2, "1s", method=dc, **turns))
    same_bits(make(6, method={"kind": "iter_fisher", "lam": 0.3, "longest": 1}, **turns), make(6, method=dc, **turns))
    with pytest.raises(AssertionError):
        same_bits(make(6, method={"kind": "iter_fisher", "lam": 0.3}, **turns), make(6, method=dc, **turns))


def test_without_a_strength_it_is_nothing(make):
    same_bits(make(method={"kind": "iter_fisher", "lam": 0}, optimizer=HEAVY), make(method="asgd", optimizer=HEAVY))


def test_equal_steps_multiply():
    """A path of three equal steps d = 0.1 with lam = 0.5: g <- g + 0.05 g g three times from 2; one step of 0.3 is less."""
    g = 2.0
    for _ in range(3):
        g += 0.5 * g * g * 0.1
    assert along([1.0, 1.1, 1.2, 1.3], lam=0.5) == pytest.approx(g, rel=1e-15)
    assert along([1.0, 1.1, 1.2, 1.3], lam=0.5, longest=1) == pytest.approx(2 + 0.5 * 4 * 0.3, rel=1e-15)
    assert along([1.0], lam=0.5) == 2.0


def test_it_is_exact_to_first_order_where_the_fisher_is_the_hessian():
    """A loss whose slope obeys g' = lam g^2: g(w) = 1 / (1/2 - lam w), 2 at w = 0. Along a path of n steps to w = 0.5 the error
    halves as n doubles; in one step it stays."""
    lam, end = 0.5, 0.5
    exact = 1 / (0.5 - lam * end)
    error = {n: exact - along(np.linspace(0, end, n + 1), lam=lam) for n in (8, 16, 32)}
    assert error[8] / error[16] == pytest.approx(2, rel=0.1)
    assert error[16] / error[32] == pytest.approx(2, rel=0.1)
    one = [exact - along(np.linspace(0, end, n + 1), lam=lam, longest=1) for n in (8, 16, 32)]
    assert one == [1.0, 1.0, 1.0]
    assert error[32] < 0.1


def test_the_learnt_strength_tends_to_the_minimum():
    """With the same D - E and F at every push lam tends to <D - E, F> / (<F, F> + nu), where the slope of what is minimised is
    0: parameters move by a constant step, gradients grow so that g - m is constant from the second push on."""
    rule = IterFisher(lam=3.0, eta_lam=0.05, alpha=0.0, nu=0.5)
    state, w = rule.init(None, 1), torch.zeros(2, dtype=DOUBLE)
    g, move = torch.tensor([1.0, -2.0], dtype=DOUBLE), torch.tensor([0.5, 0.1], dtype=DOUBLE)
    rule.update(push(g, w, 0), state, View(w))
    for _ in range(600):
        w = w + move
        state.mean = g - 0.25  # so that D - E is 0.25 everywhere
        rule.update(push(g, w, 0), state, View(w))
    f = g * g * move
    assert state.lam.item() == pytest.approx(float((0.25 * f).sum() / (f @ f + 0.5)), rel=1e-12)


def test_the_path_of_a_shard(make):
    """The versions between, oldest first; of a path that is too long the first are left out. A crash of the server loses what it
    remembered of older versions: what was read before goes one step to what was restored."""
    shard = assemble(make(2, method={"kind": "iter_fisher", "longest": 3})).server.whole
    shard.params = "w0"
    shard.save()
    for version in range(1, 5):
        shard.advance(f"w{version}", 8, 0)
    read = [Snapshot(f"w{version}", version, 0, 1.0) for version in range(5)]
    assert shard.path(read[1], 64) == ["w1", "w2", "w3", "w4"]
    assert shard.path(read[0], 64) == ["w0", "w2", "w3", "w4"]
    assert shard.path(read[1], 2) == ["w1", "w3", "w4"]
    assert shard.path(read[1], 1) == ["w1", "w4"]
    assert shard.path(read[4], 64) == ["w4", "w4"]
    shard.crash()
    shard.advance(shard.params, 0, 0)
    assert shard.path(read[2], 64) == ["w2", "w0", "w0"]


def test_what_it_does_not_go_with(make):
    """Workers that exchange have no server that could keep versions."""
    with pytest.raises(ScenarioError, match="history"):
        make(4, method={"kind": "ad_psgd", "before": ["iter_fisher"]})
