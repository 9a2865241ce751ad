"""GBA (reference, family of parameter servers, 6): tokens by the order of the reads, and gradients of old ones count as zeros.

The weight is recalled and the threshold's value is ours: nothing here is asserted as a claim of the paper.
"""

from __future__ import annotations

import math

import pytest
import torch
from arrivals import Toy, View, arrivals, push
from test_identities import HEAVY, PLAIN, same_bits
from test_independent_loops import DECAY, MOMENTUM, UPDATES, WORKERS, Fleet

import asyncsim
from asyncsim.assembling import assemble
from asyncsim.messages import Snapshot
from asyncsim.methods.gba import TokenBuffer
from asyncsim.policies import SGD, Accumulate, Policy, Push, Verdict
from asyncsim.scenario import ScenarioError

UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}
TROUBLE = {"workers": 6, "compute": {"kind": "exponential", "mean": "1s"}, "uplink": "100ms",
           "faults": {"up": {"kind": "exponential", "mean": "8s"}, "down": "1s"}}  # fmt: skip


@pytest.mark.parametrize(("buffer", "threshold"), [(4, 0), (3, 1), (6, 1), (1, 2)])
def test_the_loop(make, buffer, threshold):
    """theta <- opt(theta, (1 / M) sum w g): momentum and weight decay see the zeros, too. The loop counts the reads itself: six
    at the start, and one after each arrival."""
    fleet = Fleet(make, {"kind": "gba", "buffer": buffer, "threshold": threshold})
    v, group, late, tokens, reads = torch.zeros_like(fleet.theta), [], 0, list(range(WORKERS)), WORKERS
    rows = fleet.result.updates.itertuples()
    for worker, step, _, read, lr in fleet.walk(stale=3):
        age = fleet.version - tokens[worker] // buffer
        assert next(rows).token_age == age
        tokens[worker], reads = reads, reads + 1
        late += age > threshold
        group.append(fleet.gradient(read, worker, step) if age <= threshold else 0.0)
        if len(group) == buffer:
            v = MOMENTUM * v + sum(group) / buffer + DECAY * fleet.theta
            fleet.applied(fleet.theta - lr * v)
            group = []
    assert 0 < late < UPDATES * buffer / 2
    assert fleet.result.summary["gradients_computed"] == UPDATES * buffer - late
    fleet.agree()


# Boundaries.


@pytest.mark.parametrize("optimizer", [HEAVY, {"kind": "adam", "lr": 0.01}], ids=["momentum", "adam"])
def test_behind_a_barrier_it_is_bsp(make, optimizer):
    """M workers, every read after all pushes of the step: k - q is 0 always, whatever the threshold, and the bits are those of
    synchronous SGD. Without the barrier equal speeds leave M - 1 workers one step behind."""
    barrier = make(6, UNEVEN, method={"kind": "gba", "buffer": 6, "threshold": 0, "consistency": "bsp"}, optimizer=optimizer)
    same_bits(barrier, make(6, UNEVEN, method="bsp", optimizer=optimizer))
    assert (asyncsim.simulate(barrier).updates["token_age"] == 0).all()
    free = asyncsim.plan(make(6, "1s", method={"kind": "gba", "buffer": 6})).updates
    assert (free["staleness"].iloc[6:].to_numpy().reshape(-1, 6) == [1, 1, 1, 1, 1, 0]).all()


def test_without_a_threshold_it_is_a_plain_buffer(make):
    """FedBuff with unit weights, and the same chain spelled out, bit for bit; with threshold 0 it is not."""
    plain = {"kind": "custom", "policy": [{"kind": "accumulate", "count": 4}]}
    ours = make(6, UNEVEN, method={"kind": "gba", "threshold": None}, optimizer=HEAVY)
    same_bits(ours, make(6, UNEVEN, method=plain, optimizer=HEAVY))
    strict = asyncsim.simulate(make(6, UNEVEN, method={"kind": "gba", "threshold": 0}, optimizer=HEAVY))
    assert abs(strict.parameters - asyncsim.simulate(ours).parameters).max() > 1e-3
    local = {"kind": "local_sgd", "steps": 2, "lr": 0.1}
    same_bits(*[make(6, UNEVEN, method=method | {"program": local}, optimizer=PLAIN | {"lr": 1.0}) for method in
                ({"kind": "gba", "threshold": None}, {"kind": "fedbuff", "power": 0})])  # fmt: skip


def test_an_old_token_fills_a_place_and_moves_nothing():
    """M = 2, threshold 1: a gradient with token 0 at version 2 leaves the update to the other, at half its weight; two of them
    leave theta where it is, and the version moves on."""
    toy = Toy((TokenBuffer(buffer=2, threshold=1),), SGD(lr=1.0), torch.zeros(2, dtype=torch.float64))
    gradients = [torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([8.0, 8.0], dtype=torch.float64)]

    def arrive(order: int, gradient: torch.Tensor) -> Push | Verdict:
        arrived = push(gradient, toy.server.params, by=toy.engine)
        arrived.snapshot = Snapshot(toy.server.params, 0, 0, 1.0, order)
        result = toy.policy.arrive(arrived, toy.server)
        if isinstance(result, Push):
            toy.server.params = toy.policy.apply(result, toy.server)
            toy.server.version += 1
        return result

    toy.server.version = 2
    assert arrive(1, gradients[1]) is Verdict.BUFFERED  # token 0 at version 2: age 2
    assert isinstance(arrive(2, gradients[0]), Push)  # token 1: age 1
    assert torch.equal(toy.server.params, torch.tensor([-0.5, -1.0], dtype=torch.float64))
    assert (toy.server.version, toy.engine.computed) == (3, 1)
    before = toy.server.params
    arrive(0, gradients[0])
    assert isinstance(arrive(3, gradients[1]), Push)
    assert torch.equal(toy.server.params, before)
    assert (toy.server.version, toy.engine.computed) == (4, 1)


def test_a_switch_from_synchronous_training_leaves_the_next_step_as_it_is():
    """At the boundary of a step, momentum and all: the update of the M gradients that were read there is the synchronous one, bit
    for bit; of M others, one of which has an old token, it is not."""
    start = torch.linspace(-1, 1, 6, dtype=torch.float64)
    ends, tokens = [], TokenBuffer(buffer=3, threshold=1)
    for transform, first in ((Accumulate(members=True), 0), (tokens, 12), (tokens, 6)):
        policy = Policy((Accumulate(members=True),), SGD(lr=0.1, momentum=0.9, weight_decay=0.1), start, 3)
        server, given = View(start, lr=0.1), arrivals(6, 15)
        for step in range(5):
            if step == 4:  # four synchronous steps so far
                after = Policy((transform,), policy.step, start, 3)
                after.state.step, policy = policy.state.step, after
            for worker in range(3):
                arrived = push(given[3 * step + worker], server.params, worker=worker)
                arrived.snapshot = Snapshot(server.params, server.version, 0, 1.0, first + worker)
                result = policy.arrive(arrived, server)
            server.params, server.version = policy.apply(result, server), server.version + 1
        ends.append(server.params)
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


# Embeddings.


def collected(by_id: bool, gradients: list[torch.Tensor], threshold: int | None = None) -> torch.Tensor:
    """The update of three gradients of a table of two rows of two numbers and two others, the last at an old token."""
    transform, start = TokenBuffer(buffer=3, threshold=threshold, by_id=by_id), torch.zeros(6, dtype=torch.float64)
    toy = Toy((transform,), SGD(lr=1.0), start, tables=((slice(0, 4), 2),))
    toy.server.version = 2
    for order, gradient in zip((6, 7, 0), gradients, strict=True):
        arrived = push(gradient, toy.server.params, by=toy.engine)
        arrived.snapshot = Snapshot(toy.server.params, 0, 0, 1.0, order)
        result = toy.policy.arrive(arrived, toy.server)
    return -toy.policy.apply(result, toy.server)


def test_rows_by_hand():
    """Row 0 is touched by the first and the third, row 1 by the second: means over two, and over one; the rest over three. Where
    the third has an old token, row 0 is the first's alone. A row that nobody touches stays."""
    touched = [torch.tensor(each, dtype=torch.float64) for each in ([2, 4, 0, 0, 3, 3], [0, 0, 5, 0, 3, 3], [4, 0, 0, 0, 3, 0])]
    assert collected(True, touched).tolist() == [3, 2, 5, 0, 3, 2]
    assert collected(True, touched, threshold=1).tolist() == [2, 4, 5, 0, 2, 2]
    torch.testing.assert_close(collected(False, touched), sum(touched) / 3, rtol=1e-15, atol=0)
    touched[1][2] = 0.0
    assert collected(True, touched).tolist()[:4] == [3, 2, 0, 0]


def test_rows_that_all_touch_are_means():
    """With every ID in every batch, and weight 1, by_id is the mean."""
    gradients = arrivals(6, 3)
    torch.testing.assert_close(collected(True, gradients), collected(False, gradients), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("task", [
    {"kind": "pydoc_lm", "model": {"kind": "char_mlp", "context": 3, "embedding": 4, "hidden": 8}, "batch": 4},
    {"kind": "click_through", "samples": 400, "batch": 8, "zipf": 0.5, "columns": [
        {"name": "user", "rows": 20}, {"name": "hour", "rows": 24}, {"name": "genres", "rows": 9, "values": 3}]},
], ids=["characters", "clicks"])  # fmt: skip
def test_the_loop_by_id(make, task):
    """Momentum SGD where the rows of the embedding are means over the batches that have the ID in them, which the loop knows from
    the batches, not from the gradients. Without ``by_id`` the end is another one."""
    method = {"kind": "gba", "buffer": 3, "threshold": 1, "by_id": True}
    scenario = make(6, UNEVEN, method=method, task=task, dtype="float64", optimizer=HEAVY, run={"updates": 40})
    result, plain = (asyncsim.simulate(scenario.evolve({"method.by_id": by_id})) for by_id in (True, False))
    task = scenario.task.build(scenario.seed, "cpu", "float64", 6)
    thetas, v, group, counts = [task.init().double()], 0.0, [], set()
    (piece, length), = task.layout.tables
    for row in result.updates.itertuples():
        inputs, targets = task.batch(row.worker, row.step)
        task.bind(thetas[row.read_version].clone())
        loss = task.loss(task.module(inputs), targets)
        gradient = torch.cat([each.reshape(-1) for each in torch.autograd.grad(loss, task.parameters)])
        if row.token_age <= 1:
            group.append((gradient, set(inputs.flatten().tolist())))
        if row.outcome == "applied":
            update = sum(gradient for gradient, _ in group) / 3
            table = update[piece].view(-1, length) * 3
            for row_of in range(len(table)):
                number = sum(row_of in seen for _, seen in group)
                counts.add(number)
                table[row_of] /= max(1, number)
            update[piece] = table.view(-1)
            v = 0.9 * v + update + 5e-4 * thetas[-1]
            thetas.append(thetas[-1] - 0.05 * v)
            group = []
    assert counts == {0, 1, 2, 3}
    assert (result.updates["token_age"] > 1).any()
    torch.testing.assert_close(torch.from_numpy(result.parameters), thetas[-1], rtol=1e-12, atol=1e-12)
    assert abs(plain.parameters - result.parameters).max() > 1e-3


# Tokens.


def issued(scenario) -> tuple[asyncsim.Result, list[Snapshot], list[Snapshot]]:
    """A run, all that was read in it, in order, and what of it was in flight at the end."""
    sim = assemble(scenario)
    reads: list[Snapshot] = []

    class Watcher:
        def read(self, worker, snapshot):
            reads.append(snapshot)

    sim.observers.add(Watcher())
    for _ in sim.run():
        pass
    return sim, reads, [snapshot for snapshot, _ in sim.held.values()]


@pytest.mark.parametrize("cluster", [{"workers": 6, "compute": UNEVEN}, TROUBLE], ids=["quiet", "trouble"])
def test_tokens_are_the_numbers_of_the_reads(make, cluster):
    """Whatever happens, the o-th read has the number o: as many tokens are issued as there are reads."""
    sim, reads, _ = issued(make(6, method={"kind": "gba"}, cluster=cluster))
    assert [snapshot.order for snapshot in reads] == list(range(len(reads)))
    assert len(reads) == sim.server.shards[0].reads > sim.server.pushes


@pytest.mark.parametrize(("workers", "buffer"), [(6, 4), (5, 8), (9, 2)])
def test_ages_are_conserved(make, workers, buffer):
    """The p-th arrival meets version floor(p / M), and the tokens are the same numbers in another order: the ages of what has
    arrived, and those that what is in flight would have if it came at the numbers that are left, add up to exactly 0."""
    scenario = make(workers, UNEVEN, method={"kind": "gba", "buffer": buffer}, records={"updates": True})
    _, reads, flying = issued(scenario)
    ages = asyncsim.plan(scenario).updates["token_age"]
    arrived = len(ages)
    assert len(reads) == arrived + len(flying) == arrived + workers
    to_come = sum(number // buffer for number in range(arrived, len(reads))) - sum(each.order // buffer for each in flying)
    assert ages.sum() + to_come == 0
    assert ages.abs().sum() > 0


@pytest.mark.parametrize(("workers", "buffer"), [(8, 8), (16, 8), (8, 4), (32, 8)])
def test_long_runs(make, workers, buffer):
    """Mean age 0 and mean staleness (N - 1) / M, within 0.04; no age below -ceil((N - 1) / M), which is reached at the start."""
    updates = asyncsim.plan(make(workers, {"kind": "exponential", "mean": "1s"}, method={"kind": "gba", "buffer": buffer},
                                 run={"updates": 1500})).updates  # fmt: skip
    assert abs(updates["token_age"].mean()) < 0.04
    assert abs(updates["staleness"].mean() - (workers - 1) / buffer) < 0.04
    assert updates["token_age"].min() == -math.ceil((workers - 1) / buffer)


@pytest.mark.parametrize(("settings", "message"), [({"buffer": 0}, "at least 1"), ({"threshold": -1}, "at least 0")])
def test_bad_settings(make, settings, message):
    with pytest.raises(ScenarioError, match=message):
        make(6, method={"kind": "gba"} | settings)


def test_every_zero_counts_for_nothing_but_time(make):
    """Threshold 0 and one worker five times slower: its gradients are late now and then; updates, pushes and the plan are those
    without a threshold, the samples are fewer."""
    cluster = {"groups": [{"name": "fast", "workers": 4, "compute": "1s"}, {"name": "slow", "workers": 2, "compute": "5s"}]}
    methods = ({"kind": "gba", "threshold": threshold} for threshold in (0, None))
    strict, loose = (asyncsim.simulate(make(6, method=method, cluster=cluster)) for method in methods)
    assert strict.fingerprints["timeline"] == loose.fingerprints["timeline"]
    late = int((strict.updates["token_age"] > 0).sum())
    assert late > 50
    assert strict.summary["samples"] == loose.summary["samples"] - 8 * late
