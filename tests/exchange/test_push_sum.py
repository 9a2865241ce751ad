"""SGP against loops written from its equations, its timing as a max-plus recursion, and the conservation of mass."""

from __future__ import annotations

import pytest
import torch

import asyncsim
from asyncsim.assembling import assemble
from asyncsim.engine.spec import Serial
from asyncsim.methods.sgp import PushSum
from asyncsim.units import nanoseconds

N = 5
LINKS = {"uplink": {"latency": "200ms", "bandwidth": "10kB/s"}, "downlink": {"latency": "50ms", "bandwidth": "20kB/s"}}
DISTANCES = (1, 2, 4)
"""Of the exponential graph of five: partners are so many places ahead, in turn."""
SYNC, LATE, FAR = "sgp", {"kind": "sgp", "lag": 1}, {"kind": "sgp", "lag": 3}


def target(worker: int, number: int) -> int:
    return (worker + DISTANCES[number % 3]) % N


def lag_of(method) -> int:
    return method["lag"] if isinstance(method, dict) else 0


def durations(events) -> list[list[int]]:
    spans = events.query("kind == 'compute'").sort_values("start_ns")
    return [(spans[spans["worker"] == each]["end_ns"] - spans[spans["worker"] == each]["start_ns"]).tolist() for each in range(N)]


def timeline(compute: list[list[int]], travel: int, lag: int):
    """Starts, results and arrivals of messages (ns) of every worker and round, from the waiting rule alone::

        result(i, t) = start(i, t) + compute(i, t)        sent(i, t) = max(result(i, t), there(i, t - 1))
        there(i, t) = sent(i, t) + travel                 start(i, t + 1) = max(own, there(j, t - lag) of whom i hears)

    ``own`` is ``there(i, t)`` without a lag (a worker is busy with its message), and ``sent(i, t)`` with one."""
    rounds = min(map(len, compute))
    start, result, there = ([[0] * (rounds + 1) for _ in range(N)] for _ in range(3))
    for t in range(rounds):
        for i in range(N):
            result[i][t] = start[i][t] + compute[i][t]
            there[i][t] = max(result[i][t], there[i][t - 1] if t else 0) + travel
        for i in range(N):
            own = there[i][t] - (travel if lag else 0)
            heard = [there[j][t - lag] for j in range(N) if t >= lag and target(j, t - lag) == i]
            start[i][t + 1] = max([own, *heard])
    return rounds, start, result, there


@pytest.mark.parametrize("method", [SYNC, LATE, FAR])
def test_who_waits_for_whom(make, method):
    """Every computation begins when the recursion says, to the nanosecond."""
    scenario = make(method, cluster=LINKS | {"compute": {"kind": "exponential", "mean": "1s"}}, updates=300)
    events = asyncsim.plan(scenario).events
    size = 8 * (scenario.task.num_parameters() + 1)  # the weight goes along
    compute = durations(events)
    rounds, start, *_ = timeline(compute, nanoseconds(0.2 + size / 10e3), lag_of(method))
    spans = events.query("kind == 'compute'").sort_values("start_ns")
    assert rounds > 40
    for worker in range(N):
        assert spans[spans["worker"] == worker]["start_ns"].tolist()[:rounds] == start[worker][:rounds]


def test_a_lag_hides_the_messages(make):
    """Equal computations of 1 s, messages of 0.4 s: 1.4 s a round, and 1 s where they travel meanwhile."""
    cluster = {"compute": "1s", "uplink": "400ms"}
    times = [asyncsim.plan(make(method, cluster=cluster, updates=50 * N)).summary["time"] for method in (SYNC, LATE)]
    assert times == pytest.approx([50 + 49 * 0.4, 50])


@pytest.mark.parametrize("method", [SYNC, LATE, FAR])
def test_a_plain_loop_gives_the_same(make, loop, method):
    """Each worker in the order of its rounds, by times from the recursion above: what has arrived before it begins, and is of a
    round that it has done, is added; the gradient is taken at x / w. Ends at the run's parameters, with all that is on its
    way."""
    scenario = make(method, cluster=LINKS, updates=150)
    result = asyncsim.simulate(scenario)
    gradient, workers = loop(scenario)
    size = 8 * (scenario.task.num_parameters() + 1)
    spans = durations(result.events)
    longest = max(map(len, spans))
    padded = [each + [10**12] * (longest + 1 - len(each)) for each in spans]
    _, start, ended, there = timeline(padded, nanoseconds(0.2 + size / 10e3), lag_of(method))
    rows = result.updates.groupby("worker").size()
    done = [0] * N
    mail: list[list[tuple[int, int, int, torch.Tensor, float]]] = [[] for _ in range(N)]
    biased = 0.0
    for i, t in sorted(((w, r) for w in range(N) for r in range(rows[w])), key=lambda each: ended[each[0]][each[1]]):
        me = workers[i]
        took = sorted((m for m in mail[i] if m[0] < t and m[2] <= start[i][t]), key=lambda m: m[:2])
        mail[i] = [m for m in mail[i] if all(m is not x for x in took)]
        for _, _, _, x, w in took:
            me.x, me.w = me.x + x, me.w + w
        biased = max(biased, abs(me.w - 1))
        me.step(gradient(me.x / me.w, i, t))
        mail[target(i, t)].append((t, i, there[i][t], me.x / 2, me.w / 2))
        me.x, me.w = me.x / 2, me.w / 2
        done[i] += 1
    assert done == rows.tolist()
    total = sum(me.x for me in workers) + sum(m[3] for box in mail for m in box)
    weight = sum(me.w for me in workers) + sum(m[4] for box in mail for m in box)
    assert weight == pytest.approx(N, abs=1e-12)
    assert abs(result.parameters - (total / weight).numpy()).max() < 1e-12
    assert (biased > 0.1) == (method != SYNC)  # synchronous and regular: weights stay 1
    assert set(result.updates["gap"]) == {0.0}  # nobody changes what a worker has read


@pytest.mark.parametrize("method", [SYNC, LATE, FAR, {"kind": "sgp", "peers": 2, "lag": 2}])
def test_mass_is_conserved_and_workers_agree(make, method):
    """Learning rate 0, random links, crashes: the sum of what is held and on its way stays after every event, weights add up to N
    and stay positive, and everybody's x / w goes to the mean of the start."""
    faults = {"up": {"kind": "exponential", "mean": "30s"}, "down": "2s"}
    cluster = {"uplink": {"latency": {"kind": "exponential", "mean": 0.5}}, "faults": faults}
    case = make(method, cluster=cluster, updates=600, optimizer={"kind": "sgd", "lr": 0.0})
    sim = assemble(case, case.task.build(case.seed, "cpu", "float64", N), Serial(), None)
    shard = sim.server.shards[0]
    for row, scale in zip(shard.rows, (1.0, 2.0, 0.5, 3.0, -1.0), strict=True):
        row.params = row.params * scale
    mean, flying = sum(row.params for row in shard.rows) / N, 0
    for _ in sim.run(lambda: True):
        carried = shard.under_way + shard.received
        flying = max(flying, len(shard.under_way))
        total = sum(row.params for row in shard.rows) + sum(each.vector for each in carried)
        torch.testing.assert_close(total / N, mean, rtol=0, atol=1e-12)
        torch.testing.assert_close(sim.server.params, mean, rtol=0, atol=1e-12)
        assert shard.weight == pytest.approx(N, abs=1e-12)
        assert min(row.weight for row in shard.rows) > 0
    assert sim.lives.crashes > 3
    assert flying > 1
    for row in shard.rows:
        torch.testing.assert_close(row.unbiased, mean, rtol=0, atol=1e-6)


def test_a_round_of_everybody_is_synchronous_sgd(make):
    """All peers in the complete graph: after a round everybody holds the mean of all steps. Without momentum that is BSP."""
    plain = {"optimizer": {"kind": "sgd", "lr": 0.2}}
    everybody = {"kind": "sgp", "graph": "complete", "peers": N - 1}
    push = asyncsim.simulate(make(everybody, updates=30 * N, cluster={"compute": "1s"}, **plain))
    together = asyncsim.simulate(make("bsp", updates=30, cluster={"compute": "1s"}, **plain))
    assert abs(push.parameters - together.parameters).max() < 1e-12
    ring = asyncsim.simulate(make({"kind": "sgp", "graph": "ring"}, updates=30 * N, cluster={"compute": "1s"}, **plain))
    assert abs(ring.parameters - together.parameters).max() > 1e-5


def test_partners_take_turns():
    rule = PushSum()
    assert [rule.partners(0, number, range(8), None) for number in range(4)] == [(1,), (2,), (4,), (1,)]
    assert PushSum(peers=2).partners(7, 0, range(8), None) == (0, 1)
    assert PushSum(peers=9).partners(7, 0, range(8), None) == (0, 1, 3)
    assert PushSum(graph="ring").partners(2, 1, [0, 2, 5, 6], None) == (0,)  # on the ring of those that are left: the other side
    assert rule.partners(3, 0, [3], None) == ()


def test_who_leaves_takes_its_mass_along(make):
    """The others go on among themselves: nothing more goes to it, and nobody waits for it."""
    events = [{"at": "15s", "workers": [2], "stop": True}]
    case = make(FAR, cluster=LINKS | {"events": events}, updates=200)
    sim = assemble(case, case.task.build(case.seed, "cpu", "float64", N), Serial(), None)
    for _ in sim.run(lambda: True):
        pass
    shard = sim.server.shards[0]
    assert shard.weight == pytest.approx(N, abs=1e-12)
    gone = shard.rows[2].weight + sum(each.weight for each in shard.received if each.receiver == 2)
    assert 0 < gone < N
    vectors = sum(each.params for i, each in enumerate(shard.rows) if i != 2)
    vectors = vectors + sum(each.vector for each in shard.under_way + shard.received if each.receiver != 2)
    torch.testing.assert_close(sim.server.params, vectors / (N - gone), rtol=0, atol=1e-12)
    assert all(each.receiver != 2 for each in shard.under_way)
