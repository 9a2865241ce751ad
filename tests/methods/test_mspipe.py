"""MSPipe (reference, pipelines and streams, section 4): memory of nodes that is read and written some batches late."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from tgn_loop import Loop

import asyncsim
from asyncsim.cluster.delays import delays
from asyncsim.methods.mspipe import Remembering
from asyncsim.scenario import Document, ScenarioError, build_scenario
from asyncsim.streams import Streams
from asyncsim.theory import memory_period, memory_staleness

SMALL = {"kind": "temporal_graph", "batch": 6, "width": 4, "neighbours": 2, "contacts": {"interactions": 150, "nodes": 9}}
"""105 interactions to learn from: an epoch of 17 batches."""
RANDOM = {"kind": "exponential", "mean": "1s"}
STAGES = ("sample", "features", "memory", "write")


def made(method=None, updates=40, **sections):
    method = {"kind": "mspipe"} | (method or {})
    base = {"task": SMALL, "cluster": {"workers": 1, "compute": "1s"}, "run": {"updates": updates}, "dtype": "float64",
            "evaluate": {"updates": 1000}, "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9}}  # fmt: skip
    return build_scenario(Document(base | {"method": method} | sections, "test"))


LATE = {"k": 4, "features": "100ms", "memory": RANDOM, "write": {"kind": "exponential", "mean": "3s"}, "postpone": False}


# Numbers.


@pytest.mark.parametrize("changes", [{}, {"neighbours": 0}, {"blend": 0.3, "quantile": 0.5, "similar": 3}], ids=str)
def test_the_loop(changes):
    """The equations of the network, of its memory and of the mitigation once more, an interaction at a time, with the writes that
    the run says each read lacked; through two epochs, and a crash that empties memory and pipeline. Wrong: that nothing is
    missing, and that memory outlives the crash."""
    task, method = ({key: changes[key] for key in changes if (key == "neighbours") is mine} for mine in (True, False))
    crash = {"workers": 1, "compute": "1s", "events": [{"at": "14.5s", "workers": [0], "down": "2s"}]}
    scenario = made(LATE | method, updates=30, task=SMALL | task, cluster=crash)
    result = asyncsim.simulate(scenario)
    arrivals = [(row.step, int(row.missing_writes)) for row in result.updates.itertuples()]
    assert {missing for _, missing in arrivals} == {0, 1, 2, 3}
    assert len(arrivals) == 30 == arrivals[-1][0]  # one was lost
    assert abs(Loop(scenario).run(arrivals) - result.parameters).max() < 1e-12
    if changes != {"neighbours": 0}:  # once is enough
        return
    fresh = [(step, 0) for step, _ in arrivals]
    assert abs(Loop(scenario).run(fresh) - result.parameters).max() > 1e-4
    assert abs(Loop(scenario).run(arrivals, forgets=False) - result.parameters).max() > 1e-4


def sequential(scenario):
    """Batch after batch, each of which writes before the next is read, with PyTorch's SGD."""
    task = scenario.task.build(scenario.seed, "cpu", scenario.dtype, 1)
    params = torch.nn.Parameter(task.init())
    optimiser = torch.optim.SGD([params], lr=0.1, momentum=0.9)
    for step in range(scenario.run.updates):
        if step % task.stream.epoch == 0:
            rows = task.unwritten()
        batch, targets = task.batch(0, step)
        result, (nodes, written) = task.learn(params.detach(), batch._replace(rows=rows[batch.nodes]), targets)
        rows[nodes] = written
        params.grad = result.gradient
        optimiser.step()
    return params.detach().numpy()


def test_a_bound_of_one_is_sequential():
    """k = 1, whatever the stages take, is bit for bit the loop in which nothing overlaps, and so is any k where stages take no
    time; k = 2 is not."""
    slow = dict.fromkeys(STAGES, "700ms")
    expected = sequential(made(dtype="float32"))
    for method in ({"k": 1} | slow, {"k": 1, "postpone": False} | slow, {"k": 9}):
        result = asyncsim.simulate(made(method, dtype="float32"))
        assert np.array_equal(result.parameters, expected)
        assert (result.updates["missing_writes"] == 0).all()
    late = asyncsim.simulate(made({"k": 2, "postpone": False} | slow, dtype="float32"))
    assert abs(late.parameters - expected).max() > 1e-4


def test_no_blend_is_no_mitigation():
    """Bit for bit: with the weight 0, and where no node has waited longer than the quantile (1), or none has a candidate; another
    weight changes the result."""
    plain, nobody = (asyncsim.simulate(made(LATE | more)) for more in ({}, {"blend": 0.3, "quantile": 1.0}))
    mixed = asyncsim.simulate(made(LATE | {"blend": 0.3, "quantile": 0.5}))
    assert np.array_equal(plain.parameters, nobody.parameters)
    assert abs(plain.parameters - mixed.parameters).max() > 1e-5
    task = made().task.build(0, "cpu", "float64", 1)
    rows = torch.linspace(-1, 1, 9 * task.module.row, dtype=torch.float64).reshape(9, -1)
    batch, _ = task.batch(0, 3)
    for blend, same in ((0.0, True), (0.5, False)):
        rows[:, 4] = torch.arange(9)
        assert torch.equal(Remembering(0, blend, 0.5, 3).blended(task, rows, batch), rows[batch.nodes]) is same
    rows[:, 4] = 1.0  # all were remembered at one time: no candidate is newer
    assert torch.equal(Remembering(0, 0.5, 0.5, 3).blended(task, rows, batch), rows[batch.nodes])


@pytest.mark.parametrize("engine", ["threaded", "batched"])
def test_other_engines_have_the_same_bits(engine):
    one, other = (asyncsim.simulate(made(LATE, updates=12, engine=each)) for each in ("serial", engine))
    assert one.fingerprints == other.fingerprints


def test_workers_have_a_memory_each():
    """Two workers that never learn (rate 0) lose what one loses by itself, batch by batch: neither sees what the other writes."""
    still = {"optimizer": {"kind": "sgd", "lr": 0.0}}
    one = asyncsim.simulate(made(LATE | {"k": 1}, updates=17, **still)).updates
    two = asyncsim.simulate(made(LATE | {"k": 1}, updates=30, cluster={"workers": 2, "compute": "1s"}, **still)).updates
    first = two[two["worker"] == 0]["loss"].to_numpy()[:17]
    assert len(first) > 10
    np.testing.assert_array_equal(first, one["loss"][: len(first)])


# Time.


def schedule(times, k, postpone):
    """The constraints of 4.1, a batch at a time, from ``times[i]``, those of its five stages: when training begins and ends, and
    how many writes end later than the fetch begins."""
    sampled = copied = trained = 0
    written, rows = [], []
    for index, (t1, t2, t3, t4, t5) in enumerate(times):
        sampled += t1
        begin = max(max(sampled, copied) + t2, written[index - k] if index >= k else 0, trained - t3 if postpone else 0)
        copied = begin + t3
        rows.append((max(copied, trained), max(copied, trained) + t4, sum(end > begin for end in written)))
        trained = rows[-1][1]
        written.append(max(trained, written[-1] if written else 0) + t5)
    return rows


def planned(method, compute, updates):
    """The same of a simulated timeline."""
    cluster = {"workers": 1, "compute": compute}
    plan = asyncsim.plan(made(method, updates=updates, cluster=cluster))
    spans = plan.events.query("kind == 'compute'")
    columns = spans["start_ns"], spans["end_ns"], plan.updates["missing_writes"].astype(int)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def whole(stages):
    """Stage times in seconds as settings, and that of training."""
    sample, features, memory, train, write = (f"{each}s" for each in stages)
    return {"sample": sample, "features": features, "memory": memory, "write": write}, train


@pytest.mark.parametrize("postpone", [False, True])
def test_the_timeline_obeys_the_constraints(postpone):
    """Random whole stage times, k = 1 to 4: training begins and ends when the recurrence says, to the nanosecond, and the writes
    that a read lacks are those that it counts, never more than k - 1, and now and then as many."""
    reached = set()
    for index, stages in enumerate(np.random.default_rng(0).integers(1, 9, size=(12, 5)).tolist()):
        k, (times, compute) = 1 + index % 4, whole(stages)
        seen = planned(times | {"k": k, "postpone": postpone}, compute, 40)
        wanted = [(begin * 10**9, end * 10**9, missing) for begin, end, missing in schedule([stages] * 40, k, postpone)]
        assert seen == wanted, (stages, k)
        assert max(missing for *_, missing in seen) <= k - 1
        reached.add((k, max(missing for *_, missing in seen)))
    assert reached >= {(1, 0), (2, 1), (3, 2)}


def test_stages_of_random_length():
    """The same where every stage of every batch takes another time: batch i takes the i-th draw of each."""
    sections = {name: {"kind": "gamma", "mean": mean, "cv": 0.8} for name, mean in zip(STAGES, (0.2, 0.3, 0.7, 1.1), strict=True)}
    purposes = {"sample": "sample", "features": "fetch features", "memory": "fetch memory", "write": "write memory"}
    draws = [delays.parse(sections[name]).draws(Streams(0), purposes[name], 0) for name in STAGES]
    train = delays.parse(RANDOM).draws(Streams(0), "compute", 0)
    ns = [[round(each[step] * 1e9) for each in (*draws[:3], train, draws[3])] for step in range(80)]
    for k, postpone in ((3, False), (2, True)):
        seen = planned(sections | {"k": k, "postpone": postpone}, RANDOM, 80)
        assert seen == schedule(ns, k, postpone)
        assert {missing for *_, missing in seen} == set(range(k))


def test_the_period_and_the_smallest_bound():
    """The mean time of the last 60 of 400 batches is max(T, (t3 + t4 + t5) / k), as a fraction, in simulated time; with the bound
    of the closed form training is as fast as with none, with one less it is not. Wrong: T alone."""
    wrong = 0
    for stages in ((1, 1, 2, 3, 4), (1, 2, 3, 2, 4), (5, 1, 1, 2, 7), (2, 2, 2, 2, 2)):
        times, compute = whole(stages)
        found = memory_staleness([float(each) for each in stages])
        periods = {}
        for k in {1, 2, found.k - 1, found.k, 50} - {0}:
            assert made({"k": k} | times).bundle().program.period(stages[3]) == memory_period([float(each) for each in stages], k)
            ends = [end for _, end, _ in planned(times | {"k": k}, compute, 400)]
            periods[k] = Fraction(ends[-1] - ends[-61], 60 * 10**9)
            assert periods[k] == Fraction(memory_period([float(each) for each in stages], k)).limit_denominator(100), (stages, k)
            wrong += periods[k] != max(stages[0], stages[1] + stages[2], *stages[3:])
        assert periods[found.k] == periods[50] == found.period
        assert periods[found.k - 1] > found.period
    assert wrong >= 4
    assert memory_staleness([2.0] * 5).k == 2


def test_postponing_costs_nothing_and_reads_fresher_memory():
    """Constant stages: training begins and ends at the same instants, and fewer writes are missing."""
    times, compute = whole((1, 1, 1, 5, 2))
    early, late = (planned(times | {"k": 6, "postpone": postpone}, compute, 60) for postpone in (False, True))
    assert [row[:2] for row in early] == [row[:2] for row in late]
    assert sum(row[2] for row in late) < sum(row[2] for row in early)
    assert (early[-1][2], late[-1][2]) == (5, 1)


def test_what_does_not_go_together_is_refused():
    """A method that carries no memory; a model in stages; a stage that would need slow spells of its own."""
    for method in ("asgd", "local_sgd", {"kind": "fedbuff"}):
        with pytest.raises(ScenarioError, match=r"remembers something beside its parameters.*`program: memory_pipeline`"):
            made(method={"kind": method} if isinstance(method, str) else method)
    made(method={"kind": "dana", "program": "memory_pipeline"}, cluster={"workers": 3})
    with pytest.raises(ScenarioError, match="k"):
        made({"k": 0})
    slow = {"kind": "two_state", "base": "1s", "factor": 2, "normal": "9s", "slow": "1s"}
    with pytest.raises(ScenarioError, match="allowed only as `compute`"):
        made({"memory": slow})
