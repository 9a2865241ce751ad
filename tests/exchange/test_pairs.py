"""AD-PSGD against loops written from its equations, its timing, and what pairs conserve."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch

import asyncsim
from asyncsim.assembling import assemble
from asyncsim.engine.spec import Serial
from asyncsim.methods.ad_psgd import Pairs
from asyncsim.streams import Streams

LINKS = {"uplink": {"latency": "200ms", "bandwidth": "10kB/s"}, "downlink": {"latency": "50ms", "bandwidth": "20kB/s"}}
STEP_FIRST = {"kind": "ad_psgd", "form": "adapt_then_combine"}
OVERLAP = {"kind": "ad_psgd", "program": {"kind": "replica", "overlap": True}}


def partner(seed: int, worker: int, number: int, workers: int) -> int:
    """The documented draw: uniform among the others, in their order."""
    others = [each for each in range(workers) if each != worker]
    return others[int(Streams(seed)("partner", worker, number).integers(len(others)))]


@pytest.mark.parametrize(("method", "cluster"), [("ad_psgd", {}), ("ad_psgd", LINKS), (STEP_FIRST, {}), (OVERLAP, LINKS)])
def test_a_plain_loop_gives_the_same(make, loop, method, cluster):
    """The loop knows who arrived in which order, and for the overlapped one when each began to compute; all else is its own: what
    everybody holds, whom it met, what it had read."""
    scenario = make(method, cluster=cluster)
    result = asyncsim.simulate(scenario)
    gradient, workers = loop(scenario)
    computing = result.events.query("kind == 'compute'").set_index(["worker", "step"])["start_ns"]
    read = {worker: each.x for worker, each in enumerate(workers)}
    begun: dict[tuple[int, int], torch.Tensor] = {(worker, 0): each.x for worker, each in enumerate(workers)}
    waiting = sorted((start, worker, step) for (worker, step), start in computing.items() if step)
    count, models = Counter(), []
    for row in result.updates.itertuples():
        while method == OVERLAP and waiting and waiting[0][0] < row.time_ns:
            _, who, step = waiting.pop(0)
            begun[who, step] = workers[who].x
        i = row.worker
        j = partner(scenario.seed, i, count[i], 5)
        copy = begun[i, row.step] if method == OVERLAP else read[i]
        g = gradient(copy, i, row.step)
        if method != STEP_FIRST:
            workers[i].x = workers[j].x = (workers[i].x + workers[j].x) / 2
        assert row.gap == pytest.approx(float((workers[i].x - copy).norm()), abs=1e-12)
        workers[i].step(g)
        if method == STEP_FIRST:
            workers[i].x = workers[j].x = (workers[i].x + workers[j].x) / 2
        read[i] = workers[i].x
        count[i] += 1
        models.append(torch.stack([each.x for each in workers]))
    assert len(models) == 100
    assert abs(result.parameters - models[-1].mean(0).numpy()).max() < 1e-12
    assert (models[-1] - models[-1].mean(0)).abs().max() > 1e-4  # they do differ
    assert abs(result.parameters - models[-2].mean(0).numpy()).max() > 1e-6  # one update more or less would show


def test_a_round_is_a_computation_and_two_messages(make):
    """Nobody waits: latency and bytes out (at the smaller bandwidth of the two ends), and back again."""
    scenario = make("ad_psgd", cluster=LINKS | {"compute": "1s"}, run={"time": "60s"})
    size = 8 * scenario.task.num_parameters()
    seconds = 1 + (0.2 + size / 10e3) + (0.05 + size / 10e3)
    updates = asyncsim.plan(scenario).updates
    assert (updates.groupby("worker").size() == int(60 / seconds)).all()
    first = updates[updates["worker"] == 0]["time_ns"].to_numpy()
    assert abs(first / 1e9 - seconds * (1 + torch.arange(len(first)).numpy())).max() < 1e-6
    spans = asyncsim.plan(scenario).events.groupby("kind")["worker"].size()
    assert "wait" not in spans
    assert spans["upload"] >= spans["download"] >= len(updates)


def test_overlap_takes_the_longer_of_both(make):
    cluster = {"uplink": "300ms", "downlink": "300ms", "compute": "1s"}
    plan = asyncsim.plan(make(OVERLAP, cluster=cluster, run={"time": "50.7s"}))
    assert (plan.updates.groupby("worker").size() == 50).all()
    slow = asyncsim.plan(make(OVERLAP, cluster=cluster | {"uplink": "1200ms"}, run={"time": "46.1s"}))
    assert (slow.updates.groupby("worker").size() == 30).all()  # the first after 1 + 1.5 s, the others 1.5 s apart


@pytest.mark.parametrize("method", ["ad_psgd", STEP_FIRST, OVERLAP])
def test_pairs_keep_the_sum_and_agree(make, method):
    """Learning rate 0: the sum of all models stays, their spread never grows and vanishes."""
    case = make(method, cluster=LINKS, updates=300, optimizer={"kind": "sgd", "lr": 0.0})
    sim = assemble(case, case.task.build(case.seed, "cpu", "float64", 5), Serial(), None)
    shard = sim.server.shards[0]
    for row, scale in zip(shard.rows, (1.0, 2.0, 0.5, 3.0, -1.0), strict=True):
        row.params = row.params * scale
    total, spreads = sum(row.params for row in shard.rows), []
    for _ in sim.run(lambda: True):
        rows = torch.stack([row.params for row in shard.rows])
        assert (rows.sum(0) - total).abs().max() < 1e-12
        spreads.append(float((rows - rows.mean(0)).norm()))
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(spreads))
    assert spreads[-1] < 1e-12 * spreads[0] or spreads[-1] < 1e-10
    assert shard.weight == 5.0


def test_one_gradient_moves_the_mean_by_its_share(make, loop):
    """Plain SGD: whatever is averaged, an update moves the mean of all by ``lr g / N``."""
    scenario = make("ad_psgd", optimizer={"kind": "sgd", "lr": 0.1})
    result = asyncsim.simulate(scenario, None)
    sim = assemble(scenario, scenario.task.build(scenario.seed, "cpu", "float64", 5), Serial(), None)
    means = [sim.server.params]
    gradients = []
    take = sim.server.shards[0].take_in

    def noting(member, step, snapshot, work, now, up):
        gradients.append(work.result().gradient.clone())
        return take(member, step, snapshot, work, now, up)

    sim.server.shards[0].take_in = noting
    for _ in sim.run(lambda: True):
        if sim.server.version == len(means):
            means.append(sim.server.params)
    assert len(gradients) == 100 == len(result.updates)
    for before, after, g in zip(means, means[1:], gradients, strict=False):
        torch.testing.assert_close(after, before - 0.1 * g / 5, rtol=0, atol=1e-13)


def test_one_worker_is_sgd_bit_for_bit(make):
    runs = [asyncsim.simulate(make(method, workers=1)) for method in ("asgd", "ad_psgd", "sgp")]
    assert len({run.fingerprints["trajectory"] for run in runs}) == 1


def test_partners_are_neighbours_drawn_alike():
    """On a ring only those beside one; each about as often; another seed, worker or number draws anew."""
    ring = Pairs(graph="ring")
    drawn = [ring.partners(3, number, range(10), Streams(0))[0] for number in range(2000)]
    assert set(drawn) == {2, 4}
    assert abs(drawn.count(2) - 1000) < 4 * 500**0.5
    assert drawn != [ring.partners(3, number, range(10), Streams(1))[0] for number in range(2000)]
    assert Pairs(graph="ring").partners(3, 0, [1, 3, 8], Streams(0))[0] in (1, 8)  # on the ring of those that are left
    assert Pairs().partners(3, 0, [3], Streams(0)) == ()


def test_who_is_down_is_not_met(make):
    """Worker 1 is down for long: it makes nothing, its model stays as it was, and the others go on without it."""
    events = [{"at": "5s", "workers": [1], "down": "1000s"}]
    case = make("ad_psgd", workers=2, cluster={"events": events, "compute": "1s"}, updates=60)
    sim = assemble(case, case.task.build(case.seed, "cpu", "float64", 2), Serial(), None)
    held = []
    for _ in sim.run(lambda: True):
        held.append((sim.env.now, sim.server.shards[0].rows[1].params))
    later = [params for now, params in held if now > 5e9]
    assert len(later) > 20
    assert all(params is later[0] for params in later)
    result = asyncsim.simulate(case)
    assert (result.updates.query("time > 5.0")["worker"] == 0).all()


def test_who_leaves_takes_its_model_along(make):
    """The evaluated model is the mean of those that are left."""
    events = [{"at": "20s", "workers": [4], "stop": True}]
    case = make("ad_psgd", cluster={"events": events}, updates=150)
    sim = assemble(case, case.task.build(case.seed, "cpu", "float64", 5), Serial(), None)
    for _ in sim.run(lambda: True):
        pass
    rows = [row.params for row in sim.server.shards[0].rows]
    torch.testing.assert_close(sim.server.params, sum(rows[:4]) / 4, rtol=0, atol=1e-14)
    assert (sim.server.params - sum(rows) / 5).abs().max() > 1e-4
