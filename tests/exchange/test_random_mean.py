"""SPARTA against a loop written from its equations, what its rounds leave alone, and the bytes of a message."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import asyncsim
from asyncsim.assembling import assemble
from asyncsim.engine.spec import Serial
from asyncsim.methods.sparta import RandomMean
from asyncsim.scenario import ScenarioError
from asyncsim.streams import Streams

SLOW = {"uplink": {"bandwidth": "10kB/s"}, "downlink": {"bandwidth": "20kB/s"}, "compute": "1s"}


def drawn(seed: int, number: int, numbers: int, fraction: float) -> np.ndarray:
    """The documented draw."""
    return Streams(seed)("entries", number).choice(numbers, max(1, round(fraction * numbers)), replace=False)


@pytest.mark.parametrize("lag", [0, 1])
def test_a_plain_loop_gives_the_same(make, loop, lag):
    """Every worker's own SGD with momentum and weight decay; then the entries of the round are everybody's mean. With a lag a
    gradient is of the model one round before, as the recorded versions say."""
    scenario = make({"kind": "sparta", "fraction": 0.2, "lag": lag}, updates=30, cluster={"uplink": "300ms"})
    result = asyncsim.simulate(scenario)
    gradient, workers = loop(scenario)
    versions = [[worker.x for worker in workers]]
    rows = sorted(result.updates.itertuples(), key=lambda row: (row.step, row.worker))
    for number in range(30):
        for row in rows[5 * number : 5 * number + 5]:
            assert row.step == number
            assert row.read_version == max(0, number - lag)
            workers[row.worker].step(gradient(versions[row.read_version][row.worker], row.worker, row.step))
        place = torch.from_numpy(drawn(scenario.seed, number, len(workers[0].x), 0.2))
        mean = sum(worker.x for worker in workers) / 5
        for worker in workers:
            worker.x = worker.x.index_copy(0, place, mean[place])
        versions.append([worker.x for worker in workers])
    last = torch.stack(versions[-1])
    assert abs(result.parameters - last.mean(0).numpy()).max() < 1e-12
    assert (last - last.mean(0)).abs().max() > 1e-3  # they do differ
    assert abs(result.parameters - torch.stack(versions[-2]).mean(0).numpy()).max() > 1e-6  # one round more or less would show


def test_all_of_them_is_an_all_reduce(make):
    """Bit for bit, and another fraction is not."""
    common = {"updates": 20, "cluster": {"uplink": "300ms"}}
    whole, other = (asyncsim.simulate(make({"kind": "sparta", "fraction": each}, **common)) for each in (1, 0.5))
    reduced = asyncsim.simulate(make({"kind": "custom", "exchange": "all_reduce", "consistency": "bsp"}, **common))
    assert whole.fingerprints == reduced.fingerprints
    assert other.fingerprints["timeline"] == reduced.fingerprints["timeline"]
    assert other.fingerprints["trajectory"] != reduced.fingerprints["trajectory"]


def test_one_worker_is_sgd_bit_for_bit(make):
    alone, sgd = (asyncsim.simulate(make(method, workers=1, updates=40)) for method in ("sparta", "asgd"))
    assert np.array_equal(alone.parameters, sgd.parameters)


def test_what_is_not_drawn_stays_and_what_is_agrees(make):
    """Learning rate 0 and models that differ: after t rounds an entry is the mean of all if it was drawn in one of them, and what
    it was if not; so the sum of all models stays."""
    case = make({"kind": "sparta", "fraction": 0.1}, updates=12, optimizer={"kind": "sgd", "lr": 0.0})
    sim = assemble(case, case.task.build(case.seed, "cpu", "float64", 5), Serial(), None)
    shard = sim.server.shards[0]
    for row, scale in zip(shard.rows, (1.0, 2.0, 0.5, 3.0, -1.0), strict=True):
        row.params = row.params * scale
    start = torch.stack([row.params for row in shard.rows])
    for _ in sim.run():
        pass
    touched = torch.zeros(start.shape[1], dtype=torch.bool)
    for number in range(12):
        touched[torch.from_numpy(drawn(case.seed, number, start.shape[1], 0.1))] = True
    end = torch.stack([row.params for row in shard.rows])
    assert torch.equal(end[:, ~touched], start[:, ~touched])
    torch.testing.assert_close(end[:, touched], start.mean(0)[touched].expand(5, -1), rtol=0, atol=1e-14)
    share = float(touched.double().mean())  # 1 - 0.9^12 = 0.718 of them, within four standard deviations
    assert abs(share - 0.718) < 4 * (0.718 * 0.282 / len(touched)) ** 0.5


@pytest.mark.parametrize("fraction", [0.25, 0.01])
def test_bytes_and_time_follow_the_fraction(make, fraction):
    """8 bytes a drawn number each way, exactly; over ring links `2 (N - 1) / N` of them in place of both."""
    scenario = make({"kind": "sparta", "fraction": fraction}, workers=4, cluster=SLOW, updates=10)
    size = 8 * max(1, round(fraction * scenario.task.num_parameters()))
    each = round(size / 10e3, 9), round(size / 20e3, 9)
    assert asyncsim.plan(scenario).summary["time"] == pytest.approx(10 * (1 + sum(each)), abs=1e-7)
    ring = asyncsim.plan(scenario.evolve(cluster={"workers": 4} | SLOW | {"all_reduce": "ring"}))
    assert ring.summary["time"] == pytest.approx(10 * (1 + 1.5 * size / 10e3), abs=1e-7)


def test_with_a_lag_a_round_takes_the_longer(make):
    """1 s of computing and 0.3 s of sending, or 1 s and 1.4 s."""
    for latency, seconds in (("300ms", 1.0), ("1400ms", 1.4)):
        cluster = {"compute": "1s", "uplink": latency}
        plan = asyncsim.plan(make({"kind": "sparta", "lag": 1}, cluster=cluster, updates=20))
        times = plan.metrics["time"].iloc[-1] - 1.0 - float(latency[:-2]) / 1000
        assert times == pytest.approx(19 * seconds, abs=1e-6)


def test_every_round_draws_anew():
    rule = RandomMean(fraction=0.01)
    draws = [rule.entries(number, 1000, Streams(0)) for number in range(200)]
    assert all(len(set(each.tolist())) == 10 for each in draws)
    assert len({each for draw in draws for each in draw.tolist()}) > 800  # 1000 (1 - 0.99^200) = 866
    assert draws[0].tolist() != rule.entries(0, 1000, Streams(1)).tolist()
    assert len(RandomMean(fraction=1e-6).entries(0, 1000, Streams(0))) == 1


def test_bad_settings(make):
    for fraction in (0, 1.5):
        with pytest.raises(ScenarioError, match="fraction"):
            make({"kind": "sparta", "fraction": fraction})
    with pytest.raises(ScenarioError, match="pushes once in a round"):
        make({"kind": "asgd", "exchange": "random_mean"})
