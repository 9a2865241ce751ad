"""Methods whose K, or whose bound, changes during the run: AdaSync and ABS (reference, family of parameter servers, 5).

What is asserted of ABS is the reconstruction that its page describes; no test here is a claim of the paper.
"""

from __future__ import annotations

import math

import pytest
import torch
from arrivals import Toy, push
from test_identities import HEAVY, PLAIN, SERVER, same_bits
from test_independent_loops import DECAY, LR, MOMENTUM, OPTIMIZER, UPDATES, WORKERS, Fleet, factor

import asyncsim
from asyncsim.errors import UserError
from asyncsim.messages import Gradient
from asyncsim.policies import SGD, AccumulateByLoss, Push
from asyncsim.scenario import ScenarioError

UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}
LOCAL = {"local_steps": 2, "local_lr": 0.1}
WAITING = {"kind": "lockstep"}


class Controller:
    """K and the average of the losses, from the equations."""

    def __init__(self, k: int, weight: float = 0.1) -> None:
        self.start, self.k, self.weight = k, k, weight
        self.losses: list[float] = []
        self.average = self.first = 0.0

    def hear(self, loss: float, version: int) -> None:
        if version == 0:
            self.losses.append(loss)
            self.average = self.first = sum(self.losses) / len(self.losses)
        else:
            self.average = (1 - self.weight) * self.average + self.weight * loss

    def updated(self) -> None:
        self.k = min(WORKERS, max(self.k, math.ceil(self.start * math.sqrt(self.first / self.average))))


@pytest.mark.parametrize("staleness_aware", [False, True])
def test_the_loop_of_adasync(make, staleness_aware):
    """Momentum SGD on means of K gradients (each divided by its staleness first); K by the losses that the loop itself computes;
    who has pushed reads the next version."""
    fleet = Fleet(make, {"kind": "adasync", "k": 2, "staleness_aware": staleness_aware})
    control, thetas, v, group = Controller(2), [fleet.theta], torch.zeros_like(fleet.theta), []
    reads, ks = [0] * WORKERS, []
    for row in fleet.result.updates.itertuples():
        assert (row.read_version, row.k) == (reads[row.worker], control.k)
        assert row.worker not in [worker for worker, _, _ in group]
        tau = len(thetas) - 1 - row.read_version
        loss, gradient = fleet.loss_and_gradient(thetas[row.read_version], row.worker, row.step)
        control.hear(loss, len(thetas) - 1)
        group.append((row.worker, gradient + DECAY * thetas[-1], max(1, tau) if staleness_aware else 1))
        ks.append(control.k)
        if len(group) == control.k:
            v = MOMENTUM * v + sum(d / divisor for _, d, divisor in group) / len(group)
            thetas.append(thetas[-1] - LR * factor(len(thetas)) * v)
            for worker, _, _ in group:
                reads[worker] = len(thetas) - 1
            control.updated()
            group = []
        assert row.version == len(thetas) - 1
    assert len(thetas) == UPDATES + 1
    assert ks == sorted(ks)
    assert ks[-1] > ks[0] == 2
    fleet.theta = thetas[-1]
    fleet.agree()


@pytest.mark.parametrize("bound", ["adaptive", 1])
def test_the_loop_of_abs(make, bound):
    """Two local steps, K by their mean losses, the bound after every update, and who is recalled: everybody whose snapshot is
    older than the bound reads anew, which the recorded reads show."""
    method = {"kind": "abs", "bound": bound, "margin": 1.5} | LOCAL
    fleet = Fleet(make, method, optimizer=OPTIMIZER | {"lr": 0.5})
    control, thetas, v, group = Controller(1), [fleet.theta], torch.zeros_like(fleet.theta), []
    reads, limit, recalled = [0] * WORKERS, math.inf if bound == "adaptive" else bound, 0
    for row in fleet.result.updates.itertuples():
        assert (row.read_version, row.k) == (reads[row.worker], control.k)
        assert (math.isnan(row.bound) and limit == math.inf) or row.bound == limit >= row.staleness
        start = x = thetas[row.read_version]
        losses = []
        for index in range(2):
            loss, gradient = fleet.loss_and_gradient(x, row.worker, 2 * row.step + index)
            x = x - 0.1 * factor(row.read_version + 1) * gradient
            losses.append(loss)
        control.hear(sum(losses) / 2, len(thetas) - 1)
        group.append((row.worker, start - x + DECAY * thetas[-1]))
        if len(group) == control.k:
            v = MOMENTUM * v + sum(d for _, d in group) / len(group)
            thetas.append(thetas[-1] - 0.5 * v)
            if bound == "adaptive":
                limit = max(1, math.ceil(1.5 * (WORKERS - control.k) / control.k))
            members = [worker for worker, _ in group]
            late = [each for each in range(WORKERS) if each not in members and len(thetas) - 1 - reads[each] > limit]
            for worker in members + late:
                reads[worker] = len(thetas) - 1
            recalled += len(late) * (len(thetas) <= UPDATES)  # the last update ends the run
            control.updated()
            group = []
    assert len(thetas) == UPDATES + 1
    assert recalled == fleet.result.summary["recalled"] > 5
    assert control.k > 1
    fleet.theta = thetas[-1]
    fleet.agree()


# Boundaries.


def test_abs_that_waits_for_all_is_synchronous_local_sgd(make):
    """K = N from the start: the bits and the timeline of local SGD; one local step of lr 0.05 and a server of lr 1 is BSP to
    1e-12 (the difference s - x rounds). K = N - 1 is not."""
    kinds = {"kind": "abs", "k": 6}, {"kind": "local_sgd"}
    same_bits(*[make(6, UNEVEN, method=method | LOCAL, optimizer=SERVER) for method in kinds])
    one = {"kind": "abs", "k": 6, "local_steps": 1, "local_lr": 0.05}
    ours = asyncsim.simulate(make(6, UNEVEN, method=one, optimizer=SERVER, dtype="float64"))
    bsp = asyncsim.simulate(make(6, UNEVEN, method="bsp", optimizer=PLAIN, dtype="float64"))
    assert ours.fingerprints["timeline"] == bsp.fingerprints["timeline"]
    assert abs(ours.parameters - bsp.parameters).max() < 1e-12
    other = asyncsim.simulate(make(6, UNEVEN, method=one | {"k": 5}, optimizer=SERVER, dtype="float64"))
    assert abs(other.parameters - bsp.parameters).max() > 1e-3


def test_adasync_that_waits_for_all_is_bsp(make):
    """Bit for bit where no loss is looked at; else every gradient is computed by itself, not over the union of the batches."""
    plain, ours = "bsp", {"kind": "adasync", "k": 6}
    same_bits(*[make(6, UNEVEN, method=method, optimizer=HEAVY) for method in (plain, ours | {"weight": 0})])
    runs = [asyncsim.simulate(make(6, UNEVEN, method=method, optimizer=HEAVY, dtype="float64")) for method in (plain, ours)]
    assert runs[0].fingerprints["timeline"] == runs[1].fingerprints["timeline"]
    assert abs(runs[0].parameters - runs[1].parameters).max() < 1e-12


def test_a_constant_k_without_a_bound_is_k_async(make):
    """Any K pushes, each worker one, which then waits: spelled out in a chain, bit for bit, also as plans; with local steps for
    ABS."""
    chain = {"kind": "custom", "policy": [{"kind": "accumulate", "count": 3}], "consistency": WAITING}
    ours = make(6, UNEVEN, method={"kind": "adasync", "k": 3, "weight": 0}, optimizer=HEAVY)
    spelled = make(6, UNEVEN, method=chain, optimizer=HEAVY)
    same_bits(ours, spelled)
    assert asyncsim.plan(ours).fingerprints["timeline"] == asyncsim.plan(spelled).fingerprints["timeline"]
    local = {"program": {"kind": "local_sgd", "steps": 2, "lr": 0.1}}
    loose = make(6, UNEVEN, method={"kind": "abs", "k": 3, "weight": 0, "bound": None} | LOCAL, optimizer=SERVER)
    same_bits(loose, make(6, UNEVEN, method=chain | local, optimizer=SERVER))
    bounded = make(6, UNEVEN, method={"kind": "abs", "k": 3, "weight": 0, "bound": 1} | LOCAL, optimizer=SERVER)
    assert asyncsim.plan(bounded).fingerprints["timeline"] != asyncsim.plan(loose).fingerprints["timeline"]


def test_no_applied_push_is_staler_than_the_bound(make):
    """On random fleets, with K growing and the bound falling; without the bound the slowest are staler than it."""
    method = {"kind": "abs", "k": 1} | LOCAL
    for seed in range(4):
        updates = asyncsim.simulate(make(8, UNEVEN, method=method, optimizer=SERVER, seed=seed)).updates
        bounded = updates.dropna(subset="bound")
        assert len(bounded) > 200
        assert (bounded["staleness"] <= bounded["bound"]).all()
        assert bounded["bound"].nunique() > 2
        assert (updates["k"].diff().dropna() >= 0).all()
        loose = asyncsim.simulate(make(8, UNEVEN, method=method | {"bound": None}, optimizer=SERVER, seed=seed)).updates
        assert loose["bound"].isna().all()
        assert (loose["staleness"] > bounded["bound"].min()).sum() > 20


def test_a_loss_that_does_not_fall_leaves_k_as_it_is(make):
    """A quadratic without noise: at rate 0 its loss is constant and K stays; at a rate that works K reaches N."""
    quadratic = {"kind": "quadratic", "dim": 4, "noise": 0.0}
    ks = {}
    for lr in (0.0, 0.2):
        scenario = make(6, task=quadratic, method={"kind": "adasync", "k": 2}, optimizer={"kind": "sgd", "lr": lr})
        ks[lr] = asyncsim.simulate(scenario).updates["k"].unique().tolist()
    assert ks[0.0] == [2]
    assert ks[0.2][0] == 2
    assert ks[0.2][-1] == 6


def counts(weight: float, *losses: float) -> list[int]:
    """K after each of these losses, of three workers that begin with K = 2."""
    toy = Toy((AccumulateByLoss(count=2, weight=weight),), SGD(lr=0.1), torch.zeros(1, dtype=torch.float64))
    seen = []
    for loss in losses:
        arrived = push(torch.ones(1, dtype=torch.float64), toy.server.params, by=toy.engine)
        result = Gradient(torch.ones(1, dtype=torch.float64), torch.tensor(loss), None)
        arrived.payload = toy.engine.submit(lambda *_, result=result: result, toy.server.params, 0, 0)
        toy.server.version += isinstance(toy.policy.arrive(arrived, toy.server), Push)
        seen.append(toy.policy.state.transforms[0].count)
    return seen


def test_k_by_hand():
    """Weight 0.5: F_0 = F = 4; then F = 2.5, 3.25 and K = ceil(2 sqrt(4 / 3.25)) = ceil(2.22) = 3, which no later loss takes
    back, nor one that is not a number. K is at most N, and a loss that is not positive leaves it."""
    assert counts(0.5, 4, 4, 1, 4, 9, math.nan, 9, 9) == [2, 2, 2, 3, 3, 3, 3, 3]
    assert counts(0.5, 4, 4, 4, 4) == [2, 2, 2, 2]
    assert counts(1.0, 4, 4, 1e-30, 1e-30) == [2, 2, 2, 3]
    assert counts(1.0, 4, 4, -1, -1) == [2, 2, 2, 2]
    assert counts(1.0, -4, -4, 1, 1) == [2, 2, 2, 2]


def test_a_recall_never_takes_what_has_reached_the_server(make):
    """A busy server, at which pushes queue while updates make them stale: every result that was computed and not on its way any
    more arrives, however stale; what was recalled had been cut short."""
    cluster = {"workers": 6, "compute": UNEVEN, "server": {"service": {"kind": "exponential", "mean": "150ms"}}}
    scenario = make(6, method={"kind": "abs", "k": 2, "bound": 1, "weight": 0} | LOCAL, optimizer=SERVER, cluster=cluster)
    result = asyncsim.plan(scenario)
    computed = result.events.query("kind == 'compute'")
    done = set(zip(*(computed.query("complete")[name] for name in ("worker", "step")), strict=True))
    arrived = set(zip(*(result.updates[name] for name in ("worker", "step")), strict=True))
    assert arrived <= done
    assert len(done - arrived) <= 6  # in the queue as the run ends
    assert all(step == computed.query(f"worker == {worker}")["step"].max() for worker, step in done - arrived)
    assert (~computed["complete"]).sum() == result.summary["recalled"] > 20
    assert (result.updates["staleness"] > 1).any()


# What is refused, and what is declared.


@pytest.mark.parametrize("kind", ["abs", "adasync"])
def test_a_timeline_that_depends_on_losses_is_declared(make, kind):
    """Refused by plan, said in the manifest, the same on every exact engine; with weight 0 there is a plan."""
    method = {"kind": kind, "k": 2}
    scenario = make(6, UNEVEN, method=method, optimizer={"kind": "sgd", "lr": 0.5})
    with pytest.raises(UserError, match="`accumulate_by_loss` decides by gradients, parameters or losses"):
        asyncsim.plan(scenario)
    result = asyncsim.simulate(scenario)
    assert result.manifest["timeline"] == "by values"
    assert asyncsim.simulate(scenario.evolve({"engine": {"kind": "threaded"}})).fingerprints == result.fingerprints
    batched = asyncsim.simulate(scenario.evolve({"engine": {"kind": "batched"}}))
    assert batched.summary["status"] == "finished"
    assert batched.updates["k"].max() > 2
    fixed = make(6, UNEVEN, method=method | {"weight": 0}, optimizer={"kind": "sgd", "lr": 0.5})
    assert asyncsim.plan(fixed).fingerprints["timeline"] == asyncsim.simulate(fixed).fingerprints["timeline"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"k": 7}, "`k` is at most the number of workers"), ({"k": 0}, "at least 1"), ({"bound": 0}, "at least 1 or 'adaptive'"),
     ({"bound": "often"}, "'adaptive'"), ({"margin": 0}, "above 0|greater than 0"), ({"weight": 1.5}, "at most 1")],
)  # fmt: skip
def test_bad_settings(make, settings, message):
    with pytest.raises(ScenarioError, match=message):
        make(6, method={"kind": "abs"} | settings)
