"""Degenerate settings of the methods with a momentum, or a rate, of their own at the server: what they collapse to, bit for bit,
and their closed forms on pushes of the test's choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_identities import HEAVY, PLAIN, SERVER, WARM, parameters, plain_loop, same_bits

from asyncsim.messages import Push, Snapshot
from asyncsim.methods.delayed_nesterov import DelayedNesterovStep
from asyncsim.methods.heloco import MomentumAlignment
from asyncsim.methods.momentum_look_ahead import AveragedLookAhead
from asyncsim.methods.smega2 import CyclicMomentum
from asyncsim.policies import Policy
from asyncsim.scenario import ScenarioError

UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}
FEDBUFF = {"kind": "fedbuff", "buffer": 1, "power": 0.0}
MOVING = {"kind": "sgd", "lr": 0.5, "momentum": 0.9, "weight_decay": 5e-4}


class Server:
    """A policy and its parameters without a clock: pushes of version 0 from a worker 0, whose rate is 0.5."""

    num_workers, stage, num_stages, lr, lr_max, now = 4, 0, 1, 0.5, 0.5, 0

    def __init__(self, step, size=5):
        self.params = torch.zeros(size, dtype=torch.float64)
        self.version = 0
        self.policy = Policy((), step, self.params, self.num_workers)

    def apply(self, gradient):
        push = Push(0, 0, Snapshot(self.params, self.version, 0, 1.0), 0, 0, 1, None, replaced=gradient.clone())
        self.params = self.policy.apply(push, self)
        self.version += 1

    @property
    def handed(self):
        return self.policy.view(self.params, self, -1)


def pushes(count, size=5, seed=0):
    return list(torch.randn(count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


# Rates.


def test_delay_adaptive_steps_are_asgd_where_no_delay_is_unusual(make):
    """Reference 7: "homogeneous round robin => constant LR", and a threshold or a smoothness that nobody reaches."""
    kinds = [{"kind": "asgd"}, {"kind": "delay_adaptive"}, {"kind": "delay_adaptive", "rule": "koloskova", "smoothness": 1e9}]
    same_bits(*(make(6, "1s", method=kind, optimizer=HEAVY, schedule=WARM) for kind in kinds))
    idle = [{"kind": "delay_adaptive", "rule": "koloskova"} | own for own in ({"after": 100_000, "smoothness": 1e9},
            {"after": 100_000, "drop": True}, {"smoothness": 1e-9})]  # fmt: skip
    same_bits(*(make(6, UNEVEN, method=kind, optimizer=HEAVY, schedule=WARM) for kind in ({"kind": "asgd"}, *idle)))


def test_mishchenko_s_rule_is_that_of_staleness_aware(make):
    """One rule, two names; and not ASGD, since some are late."""
    kinds = {"kind": "delay_adaptive"}, {"kind": "staleness_aware", "rule": "delay_adaptive"}
    one, other = (make(6, UNEVEN, method=kind, optimizer=HEAVY) for kind in kinds)
    same_bits(one, other)
    assert not np.array_equal(parameters(one), parameters(make(6, UNEVEN, method="asgd", optimizer=HEAVY)))


def test_adadelay_alone_is_sgd_of_a_falling_rate(make):
    """Reference 7: tau = 0 is 1 / sqrt(t): PyTorch's SGD whose rate is set before each of 100 steps; float64, 1e-12."""
    scenario = make(1, method="adadelay", optimizer={"kind": "sgd", "lr": 0.5}, dtype="float64", run={"updates": 100})
    task = scenario.task.build(scenario.seed, "cpu", "float64", 1)
    optimiser = torch.optim.SGD(task.module.parameters(), lr=1.0)
    for step in range(100):
        optimiser.param_groups[0]["lr"] = 0.5 / (step + 1) ** 0.5
        inputs, targets = task.batch(0, step)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(task.module(inputs), targets).backward()
        optimiser.step()
    expected = torch.cat([parameter.detach().reshape(-1) for parameter in task.module.parameters()])
    torch.testing.assert_close(torch.from_numpy(parameters(scenario)), expected, rtol=1e-12, atol=1e-12)


# Delayed Nesterov.


def test_delayed_nesterov_of_period_one_is_nesterov(make):
    """Reference 4.1: N = 1, c = 0 is PyTorch's Nesterov step, here on what six uneven workers push, and without momentum it is
    SGD on D / N: with N = 4 at four times the rate, SGD on D."""
    optimizer = MOVING | {"nesterov": True}
    same_bits(make(6, UNEVEN, method={"kind": "delayed_nesterov", "period": 1}, optimizer=MOVING),
              make(6, UNEVEN, method=FEDBUFF, optimizer=optimizer))  # fmt: skip
    same_bits(make(6, UNEVEN, method={"kind": "delayed_nesterov", "period": 4}, optimizer=SERVER | {"lr": 4.0}),
              make(6, UNEVEN, method=FEDBUFF, optimizer=SERVER))  # fmt: skip


@pytest.mark.parametrize("c", [0.0, 0.1, 0.25])
def test_a_period_of_delayed_nesterov_moves_as_one_nesterov_step(c):
    """Reference 4.1: where m is steady, m = beta m + mean D, a period moves by lr (mean D + beta m), for every c: N = 4, beta =
    0.6, four pushes that repeat; by then m has settled to 0.6^80."""
    server, four = Server(DelayedNesterovStep(lr=0.5, momentum=0.6, period=4, c=c)), pushes(4)
    mean = sum(four) / 4
    for _ in range(80):
        before = server.params
        for gradient in four:
            server.apply(gradient)
    torch.testing.assert_close(server.params - before, -0.5 * (mean + 0.6 * mean / 0.4), rtol=1e-12, atol=1e-12)


def test_c_shares_out_one_momentum_at_most(make):
    make(method={"kind": "delayed_nesterov", "period": 4, "c": 0.25})
    with pytest.raises(ScenarioError, match="c is at most 1 / period"):
        make(method={"kind": "delayed_nesterov", "period": 4, "c": 0.26})


# DANA's relatives.


def test_dana_slim_alone_is_nesterov_s_sgd(make):
    """Reference 1: N = 1 is ``SGD(nesterov=True)``, weight decay and schedule included, every bit; gam = 0 is ASGD."""
    expected, _ = plain_loop(make(1, optimizer=HEAVY, schedule=WARM), momentum=0.9, weight_decay=5e-4, nesterov=True)
    assert np.array_equal(parameters(make(1, method="dana_slim", optimizer=HEAVY, schedule=WARM)), expected.numpy())
    same_bits(*(make(6, UNEVEN, method=kind, optimizer=PLAIN) for kind in ("asgd", "dana_slim")))


def test_dana_dc_is_dana_with_compensation(make):
    """lam_dc = 0 is DANA-Zero, 0.5 is ``compensate``; gam = 0 is DC-ASGD-c; all bits."""
    same_bits(*(make(6, UNEVEN, method=kind, optimizer=HEAVY) for kind in ("dana", {"kind": "dana_dc", "strength": 0.0})))
    strong = {"kind": "dana", "compensate": 0.5}, {"kind": "dana_dc", "strength": 0.5}
    same_bits(*(make(6, UNEVEN, method=kind, optimizer=HEAVY) for kind in strong))
    still = {"kind": "dc_asgd", "adaptive": False, "strength": 0.5}, {"kind": "dana_dc", "strength": 0.5}
    same_bits(*(make(6, UNEVEN, method=kind, optimizer=PLAIN) for kind in still))


def test_dana_dc_alone_is_compensated(make):
    """One worker reads a look-ahead, which is not theta."""
    runs = [parameters(make(1, method=kind, optimizer=HEAVY)) for kind in ("dana", "dana_dc")]
    assert not np.array_equal(*runs)


# SMEGA2.


def test_smega2_alone_is_nesterov_s_sgd(make):
    """Reference 5: N = 1 is NAG: the bits of heavy-ball SGD that reads 0.9 of a step ahead, and DANA to 1e-12 in float64 (it
    keeps a running sum). gam = 0 is ASGD; where every update ends a cycle both estimates are one."""
    ahead = HEAVY | {"kind": "weight_prediction", "horizon": 0.9}
    same_bits(make(1, method="asgd", optimizer=ahead, schedule=WARM), make(1, method="smega2", optimizer=HEAVY, schedule=WARM))
    runs = [parameters(make(1, method=kind, optimizer=HEAVY, schedule=WARM, dtype="float64")) for kind in ("dana", "smega2")]
    np.testing.assert_allclose(*runs, rtol=0, atol=1e-12)
    same_bits(*(make(6, UNEVEN, method=kind, optimizer=PLAIN) for kind in ("asgd", "smega2")))
    kinds = ({"kind": "smega2", "cycle": 1, "estimate": estimate} for estimate in ("naive", "advanced"))
    same_bits(*(make(6, UNEVEN, method=kind, optimizer=HEAVY | {"lr": 0.005}) for kind in kinds))


def test_a_cycle_of_smega2_and_its_estimate():
    """Reference 5: from the end of a cycle on, N = 4 updates move theta by -lr (sum d + N gam m); what was handed out there
    differs from theta after j of them by -lr sum d + lr gam (N - j) m."""
    server, sent = Server(CyclicMomentum(lr=0.5, momentum=0.9)), pushes(12)
    for gradient in sent[:8]:
        server.apply(gradient)
    start, handed, m = server.params, server.handed, server.policy.velocity(server).clone()
    assert m.norm() > 0.1
    for j, gradient in enumerate(sent[8:], start=1):
        server.apply(gradient)
        expected = -0.5 * sum(sent[8 : 8 + j]) + 0.5 * 0.9 * (4 - j) * m
        torch.testing.assert_close(server.params - handed, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(server.params - start, -0.5 * (sum(sent[8:]) + 4 * 0.9 * m), rtol=1e-12, atol=1e-12)


# Momentum look-ahead and HeLoCo.


@pytest.mark.parametrize(
    "method", ["momentum_look_ahead", {"kind": "momentum_look_ahead", "keep": "look_ahead"}, "heloco"], ids=str
)
def test_a_look_ahead_without_momentum_is_sgd_on_differences(make, method):
    """Reference 3: gam = 0 is the server's SGD on D."""
    same_bits(*(make(6, UNEVEN, method=kind, optimizer=SERVER) for kind in (FEDBUFF, method)))


def test_both_forms_of_momentum_look_ahead_hand_out_the_same():
    """Reference 3: theta - lr gam m of the one is phi of the other, 40 pushes, 1e-12; theta itself is not."""
    theta, phi = (Server(AveragedLookAhead(lr=0.5, momentum=0.9, keep=keep)) for keep in ("parameters", "look_ahead"))
    for gradient in pushes(40):
        theta.apply(gradient)
        phi.apply(gradient)
        torch.testing.assert_close(theta.handed, phi.handed, rtol=1e-12, atol=1e-12)
        assert (theta.params - phi.params).norm() > 1e-3


@pytest.mark.parametrize("keep", ["parameters", "look_ahead"])
def test_one_push_counts_once_and_once_more_by_the_momentum(keep):
    """Reference 3: all that a push D ever moves is lr (1 + gam) D; the rest after 400 steps of gam = 0.9 is below 1e-17."""
    server, (push,) = Server(AveragedLookAhead(lr=0.5, momentum=0.9, keep=keep)), pushes(1)
    for gradient in (push, *[torch.zeros(5, dtype=torch.float64)] * 400):
        server.apply(gradient)
    torch.testing.assert_close(server.params, -0.5 * 1.9 * push, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("idle", [{"opposed": 0.0, "diverging": 0.0}, {"opposed": 0.0, "aligned": 0.0}], ids=str)
def test_heloco_without_strength_is_momentum_look_ahead(make, idle):
    """Reference 4.4: k_s = k_d = 0, or nothing to turn and nothing taken out; with its defaults it differs."""
    look_ahead = make(6, UNEVEN, method={"kind": "momentum_look_ahead", "keep": "look_ahead"}, optimizer=MOVING)
    same_bits(look_ahead, make(6, UNEVEN, method={"kind": "heloco"} | idle, optimizer=MOVING))
    assert not np.array_equal(parameters(look_ahead), parameters(make(6, UNEVEN, method="heloco", optimizer=MOVING)))


def test_what_heloco_does_to_a_tensor():
    """Reference 4.4: a turn keeps |D| and never leads away from m; a share of 1 (without kappa and eps, at most 1) taken out of
    an opposing D leaves nothing along m; what is aligned is left as it was, and so is everything beside a momentum of 0."""
    seen = set()
    rule = MomentumAlignment(aligned=0.3, opposed=1e9, diverging=0.5, most=1.0, kappa=1.0)
    for push, momentum in zip(pushes(50), pushes(50, seed=1), strict=True):
        after = push.clone()
        rule.correct(after, momentum)
        cosine, now = (float(torch.cosine_similarity(vector, momentum, dim=0)) for vector in (push, after))
        if cosine >= 0.3:
            seen.add("kept")
            assert torch.equal(after, push)
        elif cosine < 0:
            seen.add("opposed")
            assert abs(now) < 1e-12
        else:
            seen.add("turned")
            assert now > cosine
            torch.testing.assert_close(after.norm(), push.norm(), rtol=1e-14, atol=0)
        still = push.clone()
        rule.correct(still, torch.zeros_like(momentum))
        assert torch.equal(still, push)
    assert seen == {"kept", "opposed", "turned"}


# OrMo and FADAS.


def test_ormo_without_momentum_is_asgd(make):
    same_bits(*(make(6, UNEVEN, method=kind, optimizer=PLAIN) for kind in ("asgd", "ormo")))


def test_fadas_without_a_late_push_is_fedamsgrad(make):
    """Reference 11.4: tau_max <= tau_c, or a rate below 1 / tau_max, leaves FedAMSGrad: the mean and its step rule, bit for bit.
    With a low tau_c and a large rate it differs."""
    steps = {"momentum": 0.9, "lr": 0.01}
    plain = {"kind": "custom", "policy": [{"kind": "accumulate", "count": 4}], "program": {"kind": "local_sgd"}}
    common = {"compute": UNEVEN, "run": {"updates": 60}}
    ours = [make(6, method={"kind": "fadas"} | own, optimizer={"kind": "sgd"} | steps, **common)
            for own in ({"after": 100_000}, {"after": 0})]  # fmt: skip
    same_bits(make(6, method=plain, optimizer={"kind": "fed_amsgrad"} | steps, **common), *ours)
    kinds = ({"kind": "fadas", "after": after} for after in (0, 100_000))
    late, full = (make(6, method=kind, optimizer={"kind": "sgd", "lr": 0.5}, **common) for kind in kinds)
    assert not np.array_equal(parameters(late), parameters(full))


@pytest.mark.parametrize(
    "name", ["delayed_nesterov", "smega2", "momentum_look_ahead", "ormo", "fadas", "heloco", "dana_slim", "dana_dc",
             "momentum_approximation"]
)
def test_another_momentum_is_refused(make, name):
    """Each has the one momentum that it takes from ``sgd``."""
    for optimizer in ("adam", {"kind": "sgd", "momentum": 0.9, "nesterov": True}):
        with pytest.raises(ScenarioError, match=r"sgd|look-ahead of its own"):
            make(method=name, optimizer=optimizer)
