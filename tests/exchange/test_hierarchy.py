"""Servers of two levels: HALoS against a loop written from its equations, its ends, its messages in time, and deaths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dying import kill, same

import asyncsim
from asyncsim.assembling import assemble
from asyncsim.engine.spec import Serial
from asyncsim.run import prepared
from asyncsim.scenario import ScenarioError

LOCAL = {"local_steps": 2, "local_lr": 0.05}
SERVER = {"kind": "sgd", "lr": 1.5, "momentum": 0.6}
LINKS = [{"latency": 0.3}, {"latency": 2.5}]


class DelayedNesterov:
    """The exact rule (c = 0): ``b <- b + D``; at the end of a period ``m <- beta m + b / N; theta -= lr (beta m + D / N)``, else
    ``theta -= lr D / N``."""

    def __init__(self, theta, lr, beta, period):
        self.theta, self.lr, self.beta, self.period = theta, lr, beta, period
        self.m, self.b, self.t = torch.zeros_like(theta), torch.zeros_like(theta), 0

    def step(self, d):
        self.t += 1
        self.b = self.b + d
        step = d / self.period
        if self.t % self.period == 0:
            self.m = self.beta * self.m + self.b / self.period
            step, self.b = step + self.beta * self.m, torch.zeros_like(self.b)
        self.theta = self.theta - self.lr * step


class Region:
    def __init__(self, start, latency, lr, beta, period):
        self.server = DelayedNesterov(start, lr, beta, period)
        self.anchor, self.latency = start, latency
        self.count, self.under_way = 0, None  # (time, what happens, a vector)


@pytest.mark.parametrize(("regions", "share", "links"), [
    ([2, 4], 0.25, LINKS), ([3, 3], 0.5, []), (1, 1.0, []), ([2, 4], 1.0, LINKS),
])  # fmt: skip
def test_a_plain_loop_gives_the_same(make, loop, regions, share, links):
    method = {"kind": "halos", "regions": regions, "share": share, "links": links, "every": 3, "period": 2, "global_lr": 0.8,
              "global_momentum": 0.7, "global_period": 2} | LOCAL  # fmt: skip
    scenario = make(method, workers=6, optimizer=SERVER, updates=90)
    result = asyncsim.simulate(scenario)
    gradient, workers = loop(scenario)
    start = workers[0].x
    places = [0] * 6 if regions == 1 else [0] * regions[0] + [1] * regions[1]
    latencies = [round(each["latency"] * 1e9) for each in links] or [0, 0]
    servers = [Region(start, latencies[place], 1.5, 0.6, 2) for place in range(max(places) + 1)]
    world, answers = DelayedNesterov(start, 0.8, 0.7, 2), 0

    def arrive(region):
        nonlocal answers
        time, what, vector = region.under_way
        if what == "up":
            world.step(vector)
            region.under_way = (time + region.latency, "down", world.theta)
        else:
            region.server.theta = (1 - share) * region.server.theta + share * vector
            region.anchor, region.under_way, answers = region.server.theta, None, answers + 1
            send(region, time)

    def send(region, time):
        if region.count >= 3 and region.under_way is None:
            region.count = 0
            region.under_way = (time + region.latency, "up", region.anchor - region.server.theta)

    def until(time):
        while due := [each for each in servers if each.under_way and each.under_way[0] <= time]:
            arrive(min(due, key=lambda each: each.under_way[0]))

    read = [start] * 6
    for row in result.updates.itertuples():
        until(row.time_ns - 1)
        region, x = servers[places[row.worker]], read[row.worker]
        for index in range(2 * row.step, 2 * row.step + 2):
            x = x - 0.05 * gradient(x, row.worker, index)
        region.server.step(read[row.worker] - x)
        region.count += 1
        send(region, row.time_ns)
        until(row.time_ns)
        read[row.worker] = region.server.theta
    assert answers > 10
    torch.testing.assert_close(world.theta, torch.from_numpy(result.parameters), rtol=1e-12, atol=1e-12)
    assert (world.theta - start).norm() > 0.1 * start.norm()


def rows(scenario):
    """What the regions hold at the end."""
    with prepared(scenario) as task:
        sim = assemble(scenario, task, Serial(), None)
        for _ in sim.run():
            pass
    return [row.params.numpy() for row in sim.server.shards[0].rows]


NEUTRAL = {"global_lr": 1.0, "global_momentum": 0.0, "global_period": 1}


@pytest.mark.parametrize("every", [1, 5])
def test_one_region_that_takes_all_is_asynchronous_local_sgd(make, every):
    """A global step that does nothing but add leaves the region's delayed Nesterov; a region that does nothing but add and sends
    every push leaves the global one. Both are there: the other settings give something else."""
    common = {"workers": 4, "updates": 60}
    one = {"kind": "halos", "regions": 1, "share": 1, "every": every} | LOCAL
    plain = asyncsim.simulate(make({"kind": "delayed_nesterov", "period": 4} | LOCAL, optimizer=SERVER, **common)).parameters
    regional = rows(make(one | NEUTRAL | {"period": 4}, optimizer=SERVER, **common))[0]
    np.testing.assert_allclose(regional, plain, rtol=1e-11, atol=1e-12)
    through = {"period": 1, "global_lr": 1.5, "global_momentum": 0.6, "global_period": 4}
    world = asyncsim.simulate(make(one | through, optimizer={"kind": "sgd", "lr": 1.0}, **common)).parameters
    assert (abs(world - plain).max() < 1e-11) == (every == 1)


def test_regions_that_take_nothing_are_alone(make):
    """Bit for bit the run of region 0 by itself; with a share they are not."""
    method = {"kind": "halos", "regions": [2, 3], "every": 2, "period": 4} | LOCAL
    common = {"optimizer": SERVER, "run": {"time": "60s"}}
    alone = asyncsim.simulate(make({"kind": "delayed_nesterov", "period": 4} | LOCAL, workers=2, **common)).parameters
    assert np.array_equal(rows(make(method | {"share": 0}, **common))[0], alone)
    assert not np.array_equal(rows(make(method | {"share": 0.25}, **common))[0], alone)


def test_messages_take_their_time_and_are_paid_for(make):
    """One worker a region, a push a second, 3 updates to a message: region 0 is answered after 2 x 0.5 s, region 1 after 2 x 3 s,
    in which 6 updates are made, so it sends again at once."""
    cluster = {"compute": "1s", "instance": {"kind": "custom", "price": 0, "egress": 1.0},
               "server": {"instance": {"kind": "custom", "price": 0, "egress": 1.0}}}  # fmt: skip
    method = {"kind": "halos", "regions": 2, "every": 3, "local_steps": 1}

    def sent(seconds, links):
        scenario = make(method | {"links": links}, workers=2, cluster=cluster, run={"time": seconds})
        return asyncsim.plan(scenario).summary["bytes_sent"] / (8 * scenario.task.num_parameters())

    pushes = 30 * 2 + 30 * 2 + 2  # and as many reads, and the first ones
    # sent at 3, 6, .. 30 s and answered a second later; sent at 3, 9, 15, 21, 27 s and answered 6 s later
    assert sent("30.7s", [{"latency": "500ms"}, {"latency": "3s"}]) == pushes + (10 + 9) + (5 + 4)
    assert sent("30.7s", []) == pushes + 2 * 2 * 10
    size = 8 * make(method, workers=2).task.num_parameters()
    assert sent("30.7s", [{"bandwidth": size / 0.5}, {"bandwidth": size / 3}]) == pushes + (10 + 9) + (5 + 4)


@pytest.mark.parametrize("at", [13, 30, 47])
def test_killed_anywhere_it_goes_on_with_the_same_bits(make, tmp_path, at):
    """With messages under way in both directions, crashes, and a worker that leaves."""
    cluster = {"faults": {"up": {"kind": "exponential", "mean": "15s"}, "down": "2s"}, "uplink": "200ms",
               "events": [{"at": "12s", "workers": [1], "stop": True}]}  # fmt: skip
    links = [{"latency": {"kind": "exponential", "mean": 1.0}, "bandwidth": "10kB/s"}]
    method = {"kind": "halos", "regions": 2, "every": 2, "links": links, "period": 2} | LOCAL
    scenario = make(method, cluster=cluster, optimizer=SERVER, updates=50, checkpoint={"updates": 3})
    expected = asyncsim.simulate(scenario)
    assert expected.summary["crashes"] > 1
    assert asyncsim.plan(scenario).fingerprints["timeline"] == expected.fingerprints["timeline"]
    kill(scenario, tmp_path / "run", at=at)
    same(asyncsim.resume(tmp_path / "run"), expected)


@pytest.mark.parametrize(("method", "more", "words"), [
    ({"regions": [2, 2]}, {}, r"`regions` \[2, 2\] do not fit 5 workers"), ({"regions": 6}, {}, "`regions` 6 do not fit 5"),
    ({"links": ["1s"] * 3}, {}, "one entry for each of the 2 regions, or one for all, not 3"),
    ({"consistency": "bsp"}, {}, "takes no rounds.*`rounds`"), ({"exchange": "pairs"}, {}, "no exchange"),
    ({"before": [{"kind": "accumulate", "members": True}]}, {}, "`everyone`"),
    ({}, {"cluster": {"server": {"service": "1s"}}}, "`links` between them.*`hierarchy`"),
    ({}, {"cluster": {"network": {"kind": "flat"}}}, "`links` between them.*`hierarchy`"),
    ({}, {"optimizer": {"kind": "sgd", "lr": 1.0, "nesterov": True, "momentum": 0.9}}, "nesterov"),
])  # fmt: skip
def test_what_cannot_be_is_refused(make, method, more, words):
    with pytest.raises(ScenarioError, match=words):
        make({"kind": "halos"} | method, **{"optimizer": SERVER} | more)
