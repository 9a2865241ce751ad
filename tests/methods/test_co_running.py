"""Co-running (reference, family of parameter servers, 10): who trains in which slot, what the server makes of it, and the limits.

The numbers of the loops are written from the equations, slot by slot, without SimPy and without the package's rule; from it come
only the names of random streams. The extra queue of 2024 is a reconstruction: nothing here is a claim of a paper.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_identities import same_bits
from test_independent_loops import Fleet

import asyncsim
from asyncsim.consistency import Power
from asyncsim.errors import UserError
from asyncsim.methods.co_running import CoRunningSlots, MomentumDrift
from asyncsim.policies import Velocity
from asyncsim.streams import BLOCK, Streams

APPS = [
    {"name": "heavy", "alone": 3.5, "training": 4.0, "seconds": 50},
    {"name": "light", "alone": 1.0, "training": 1.25, "seconds": 16},
]
PHONE = {"kind": "phone", "idle": 0.25, "busy": 1.75, "seconds": 20, "apps": APPS}
OTHER = {**PHONE, "idle": 0.5, "busy": 0.875}
SERVER = {"kind": "sgd", "lr": 1.0}
ENDS = 400


def fleet(make, method=None, foreground=True, **sections):
    """Two phones of one kind and two of another; training alone takes 20 s and 31 s, in two steps."""
    groups = [{"name": "a", "workers": 2, "instance": PHONE, "compute": "10s"},
              {"name": "b", "workers": 2, "instance": OTHER, "compute": "15.5s"}]  # fmt: skip
    cluster = {"groups": groups} | ({"foreground": {"every": "60s"}} if foreground else {})
    method = {"kind": "co_running", "local_steps": 2, "demand": "25s", "local_lr": 0.1} | (method or {})
    sections = {"optimizer": SERVER, "dtype": "float64", "run": {"time": f"{ENDS}s"}, "evaluate": {"time": "200s"}} | sections
    return make(4, method=method, cluster=cluster, **sections)


def drawn(scenario, purpose, worker, sample):
    """The draws of one stream, as many as any run here needs."""
    streams = Streams(scenario.seed)
    return [each for block in range(8) for each in sample(streams(purpose, worker, block)).tolist()]


class Slots(Fleet):
    """The run once more: ``starts`` are (slot, worker), ``arrivals`` (ns, worker) in their order, and the model at the end."""

    def __init__(self, scenario, begins=None):
        self.scenario, self.method, self.result = scenario, scenario.method, None
        self.task = scenario.task.build(scenario.seed, "cpu", "float64", 4)
        self.layers = list(self.task.module.named_parameters())
        self.theta = torch.cat([parameter.detach().reshape(-1) for _, parameter in self.layers]).clone()
        self.own_begins = begins
        self.phones = [scenario.cluster.profile(worker) for worker in range(4)]
        self.shown = [self.sessions(worker) for worker in range(4)]
        demand = 1.0 if self.method.demand is None else self.method.slot / self.method.demand
        self.demands = [
            set(np.cumsum(drawn(scenario, "demand", worker, lambda rng: rng.geometric(demand, BLOCK))).tolist())
            for worker in range(4)
        ]
        self.Q, self.Z, self.g, self.H = [0] * 4, [0.0] * 4, [0.0] * 4, 0.0
        self.v = torch.zeros_like(self.theta)
        self.drift = 0.0
        self.running, self.round, self.waiting = [], [0] * 4, [0, 1, 2, 3]  # running: (end ns, worker, expected end s, read)
        self.starts, self.arrivals, self.queue, self.gap_queues = [], [], [], []
        for slot in range(ENDS):
            self.now = slot
            self.arrive(slot * 10**9)
            self.decide(slot)
        self.arrive(ENDS * 10**9 - 1)

    def sessions(self, worker):
        """What the phone shows in each second."""
        shown = [None] * (ENDS + 1000)
        if self.phones[worker].foreground is None:
            return shown
        after = drawn(self.scenario, "app after", worker, lambda rng: rng.geometric(1 / 60, BLOCK))
        which = drawn(self.scenario, "app", worker, lambda rng: rng.integers(2, size=BLOCK))
        free = 0
        for slots, app in zip(after, which, strict=True):
            start = free + slots - 1
            free = start + int(APPS[app]["seconds"])
            for second in range(start, min(free, len(shown))):
                shown[second] = APPS[app]
        return shown

    def finish(self, worker, slot):
        """Second by second, to the nanosecond."""
        left, now = Fraction(20) if worker < 2 else Fraction(31), Fraction(slot)
        while left > 0:
            app = self.shown[worker][int(now)]
            factor = Fraction(1) if app is None else Fraction(int(app["seconds"]), 20)
            done = min(left, 1 / factor)
            left, now = left - done, now + done * factor
        return round(now * 10**9)

    def arrive(self, until):
        """All that ends until then, in time: each model replaces the server's."""
        for each in sorted((each for each in self.running if each[0] <= until), key=lambda each: each[0]):
            self.running.remove(each)
            end, worker, _, read = each
            x = self.local_model(read, worker, self.round[worker], 2, 0.1, 0.0)
            self.v = self.method.beta * self.v + (1 - self.method.beta) * (self.theta - x)
            self.drift = self.v.norm().item()
            self.theta = x
            self.arrivals.append((end, worker))
            self.round[worker] += 1
            self.waiting.append(worker)

    def decide(self, slot):
        rule = self.method
        for worker in range(4):
            self.Q[worker] += slot in self.demands[worker]
        self.queue.append(sum(self.Q))
        self.gap_queues.append(self.H)
        begun = []
        for worker in list(self.waiting):
            app, phone = self.shown[worker][slot], self.phones[worker].instance
            usual = (20 if worker < 2 else 31) * (app["seconds"] / 20 if app else 1)
            self.lag = sum(expected <= slot + usual for _, _, expected, _ in self.running)
            gap = (1 - rule.beta**self.lag) / (1 - rule.beta) * self.drift
            begins = self.own_begins or Slots.begins
            if self.Q[worker] and begins(self, worker, app, phone, gap):
                self.Q[worker] -= 1
                self.waiting.remove(worker)
                self.running.append((self.finish(worker, slot), worker, slot + usual, self.theta))
                self.starts.append((slot, worker))
                begun.append(worker)
                self.g[worker] = gap
            else:
                self.g[worker] += rule.idle_gap
        if rule.gap_bound is not None:
            self.H = max(self.H + sum(self.g) - rule.gap_bound, 0)
        for worker in range(4):
            busy = any(each[1] == worker for each in self.running)
            d = busy and self.shown[worker][slot] is not None
            self.Z[worker] = max(self.Z[worker] + d - (rule.slowdown_bound or 0), 0)

    def begins(self, worker, app, phone, gap):
        """V P(a) td - Q b(a) + H g(a), and Z for what the user sees: the smaller of the two."""
        rule = self.method
        train = rule.energy_weight * (app["training"] if app else phone.busy) - self.Q[worker] + self.H * gap
        if rule.slowdown_bound is not None and app:
            train += self.Z[worker]
        wait = rule.energy_weight * (app["alone"] if app else phone.idle) + self.H * (self.g[worker] + rule.idle_gap)
        return train <= wait

    def same_timeline(self, result):
        compute = result.events[result.events["kind"] == "compute"]
        begun = sorted((row.start_ns, row.worker) for row in compute.itertuples())
        mine = sorted((slot * 10**9, worker) for slot, worker in self.starts)
        assert begun == [each for each in mine if each in set(begun)]
        assert len(mine) - len(begun) == len(self.running)  # under way at the end
        assert [(row.time_ns, row.worker) for row in result.updates.itertuples()] == self.arrivals
        assert result.summary["queue_mean"] == pytest.approx(sum(self.queue) / 4 / ENDS, rel=1e-12)


RULES = {
    "power": {"energy_weight": 2.0}, "always asked": {"energy_weight": 20.0, "demand": None},
    "gaps": {"energy_weight": 2.0, "gap_bound": 1.0, "idle_gap": 0.05, "beta": 0.5},
    "what the user sees": {"energy_weight": 2.0, "slowdown_bound": 0.1},
    "all of it": {"energy_weight": 1.0, "gap_bound": 0.5, "idle_gap": 0.02, "slowdown_bound": 0.2},
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_loop(make, rule):
    """Every slot's decisions, all arrivals to the nanosecond, and the model at the end, which is that of the last arrival."""
    scenario = fleet(make, rule)
    loop, result = Slots(scenario), asyncsim.simulate(scenario)
    assert len(loop.arrivals) >= 12
    loop.same_timeline(result)
    np.testing.assert_allclose(result.parameters, loop.theta.numpy(), rtol=1e-12, atol=1e-12)
    if "gap_bound" in rule:
        assert result.summary["gap_queue_mean"] == pytest.approx(np.mean(loop.gap_queues), rel=1e-9)
        assert max(loop.gap_queues) > 0
        assert loop.starts != Slots(fleet(make, rule | {"gap_bound": 1e9})).starts
    if "slowdown_bound" in rule:
        assert loop.starts != Slots(fleet(make, rule | {"slowdown_bound": None})).starts
        assert result.summary["shared_mean"] > 0


# Boundaries.


def starts(result):
    compute = result.events[result.events["kind"] == "compute"]
    return list(zip(compute["start_ns"].tolist(), compute["worker"].tolist(), strict=True))


def test_without_weight_and_with_demand_in_every_slot_it_is_fedasync_of_rate_one(make):
    """Rounds of whole slots, no two of which end together, so that nobody waits but for the first demand: equal bits, one slot
    later. (Of those that end together, each sees the other's model in the next slot, and not all of them in FedAsync.)"""
    common = {"local_steps": 2, "local_lr": 0.1}
    groups = [{"name": compute, "workers": 1, "compute": compute} for compute in ("3500ms", "5500ms", "6500ms")]
    ours, theirs = (make(3, method=method | common, cluster={"groups": groups}, optimizer=SERVER, run={"updates": 20})
                    for method in ({"kind": "co_running"}, {"kind": "fedasync", "rate": 1.0, "power": 0.0}))  # fmt: skip
    same_bits(ours, theirs, timeline=False)
    one, other = asyncsim.plan(ours), asyncsim.plan(theirs)
    assert [(time - 10**9, worker) for time, worker in starts(one)] == starts(other)
    assert asyncsim.plan(ours.evolve({"method.slot": "1300ms"})).summary["time"] > 1.05 * one.summary["time"]


def test_without_weight_it_is_immediate_scheduling(make):
    """V = 0 while H = 0: whoever has a task begins in the next slot, whatever its power, as in a loop that knows of none."""
    scenario = fleet(make)
    at_once = Slots(scenario, begins=lambda loop, *_: True)
    at_once.same_timeline(asyncsim.plan(scenario))
    weighed = fleet(make, {"energy_weight": 2.0})
    assert starts(asyncsim.plan(weighed)) != starts(asyncsim.plan(scenario))


def test_a_boundless_weight_never_trains(make):
    """And if nothing but updates ends the run, it is given up: after many slots, not at once."""
    scenario = fleet(make, {"energy_weight": 1e308, "slot": "2s", "demand": None})
    summary = asyncsim.plan(scenario).summary
    assert (summary["pushes"], summary["queue_mean"]) == (0, (ENDS / 2 - 1) / 2)
    assert summary["energy_busy"] == summary["energy_shared"] == 0


def test_a_run_in_which_nobody_is_ever_let_in_is_given_up(make, monkeypatch):
    monkeypatch.setattr("asyncsim.simulation.admission.STALLED", 500)
    with pytest.raises(UserError, match=r"500 times one after the other nobody was let in\n.*a slot in which its tasks outweigh"):
        asyncsim.plan(fleet(make, {"energy_weight": 1e6}, run={"updates": 5}))


def test_without_applications_a_threshold_on_the_queue_decides(make):
    """A task in every slot, so Q is the number of the slot: a phone begins when Q >= V td (P_b - P_d), 1.5 W and 0.375 W, and
    again as soon as it can, as Q only falls by one."""
    weight = 40.0
    result = asyncsim.plan(fleet(make, {"energy_weight": weight, "demand": None}, foreground=False))
    first = result.updates.drop_duplicates("worker").set_index("worker")["time_ns"] // 10**9
    assert first.to_dict() == {0: 60 + 20, 1: 60 + 20, 2: 15 + 31, 3: 15 + 31}
    assert [time for time, worker in starts(result) if worker == 2][:3] == [15 * 10**9, 46 * 10**9, 77 * 10**9]
    halves = asyncsim.plan(fleet(make, {"energy_weight": weight, "demand": None, "slot": "500ms"}, foreground=False))
    assert halves.updates["time_ns"].iloc[0] // 10**9 == 15 // 2 // 2 + 31 + 1  # half the energy a slot: Q = 8, at 4 s


def test_without_a_bound_the_gap_queue_stays_empty(make):
    """A bound that is never reached is none, bit for bit; and H stays 0 for ever."""
    loose = fleet(make, {"energy_weight": 2.0, "gap_bound": 1e300})
    same_bits(fleet(make, {"energy_weight": 2.0}), loose)
    assert asyncsim.simulate(loose).summary["gap_queue_mean"] == 0
    assert asyncsim.simulate(fleet(make, RULES["gaps"])).summary["gap_queue_mean"] > 0


def test_without_momentum_the_gap_is_that_of_one_step():
    """beta = 0: eta |s| where anybody else ends before, nothing where nobody does. With momentum it grows with the lag."""
    step, noted = torch.tensor([3.0, 4.0], dtype=torch.float64), {}
    push = SimpleNamespace(gradient=step, penalty=1.0, note=noted.__setitem__)
    for beta, after_two in ((0.0, 0.25 * 5), (0.5, 0.25 * 5 * 0.75)):
        velocity = Velocity()
        for _ in range(2):
            MomentumDrift(beta=beta).update(push, velocity, SimpleNamespace(lr=0.25))
        assert noted["drift"] == after_two
        rule = CoRunningSlots(beta=beta, gap_bound=1e9)
        state = rule.init(4, Streams(0))
        state.drift, state.tasks[0] = float(noted["drift"]), 1
        progress = SimpleNamespace(state=state, now=0, power=lambda _: Power(0.0, 0.0, False), expected_round=lambda _: 2.0)
        gaps = []
        for lag in range(4):
            state.ends = dict.fromkeys(range(1, lag + 1), 10**9)
            assert rule.begins(0, progress)
            gaps.append(state.gaps[0])
        weights = [0, 1, 1, 1] if beta == 0 else [0, 1, 1.5, 1.75]
        assert gaps == [after_two * weight for weight in weights]


def test_along_the_weight_energy_falls_and_the_queue_grows(make):
    """The trade-off of Lyapunov's drift plus penalty, on phones of the published table; fewer tasks are done in the same time,
    which is the larger part of it."""
    groups = [{"name": kind, "workers": 4, "instance": kind, "compute": f"{seconds}s"} for kind, seconds in
              (("nexus_6", 204), ("nexus_6p", 211), ("pixel_2", 223))]  # fmt: skip
    found = []
    for weight in (0.0, 1.0, 4.0, 16.0):
        method = {"kind": "co_running", "local_steps": 1, "demand": "10min", "energy_weight": weight}
        summary = asyncsim.plan(make(12, method=method, cluster={"groups": groups, "foreground": {}}, optimizer=SERVER,
                                     run={"time": "2h"})).summary  # fmt: skip
        found.append((summary["energy"], -summary["queue_mean"], summary["pushes"], summary["energy_busy"]))
    assert found == sorted(found, reverse=True)
    assert all(before > after for one, two in pairwise(found) for before, after in zip(one, two, strict=True))
    assert found[-1][0] < 0.85 * found[0][0]


def test_the_user_notices_no_more_than_is_allowed(make):
    """The share of slots in which a phone trains beside an application is held to its bound, in the long run and where the queue
    of tasks does not grow for ever (a task in 80 s)."""
    free, held = (asyncsim.plan(fleet(make, {"slowdown_bound": bound, "demand": "80s"}, run={"time": "8000s"})).summary
                  for bound in (1.0, 0.1))  # fmt: skip
    assert free["shared_mean"] > 0.15
    assert held["shared_mean"] < 0.11
    assert held["pushes"] > 0.9 * free["pushes"]


# Settings.


def test_gaps_cannot_be_planned(make):
    with pytest.raises(UserError, match="`co_running` decides by gradients"):
        asyncsim.plan(fleet(make, {"gap_bound": 1.0}))


@pytest.mark.parametrize(("method", "cluster", "message"), [
    ({"kind": "co_running", "energy_weight": 1.0}, {"workers": 2}, r"cluster\.instance: .*none has a power.*`power`"),
    ({"kind": "co_running", "slowdown_bound": 0.5}, {"workers": 2}, r"none has a power"),
    ({"kind": "co_running", "demand": "500ms"}, {"workers": 2}, r"method\.demand: .*allowed is `slot` \(1 s\) or more"),
    ({"kind": "co_running", "beta": 1.0}, {"workers": 2}, r"method\.beta: must be below 1"),
    ({"kind": "asgd", "consistency": {"kind": "co_running", "gap_bound": 1}}, {"workers": 2}, r"looks at `drift`, which no part"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(make, method, cluster, message):
    with pytest.raises(UserError, match=message):
        make(method=method, cluster=cluster)


def test_after_a_divergence_gaps_stay_as_they_were(make):
    """A model that has diverged predicts no gap; the run goes on to its end."""
    run = fleet(make, {"gap_bound": 1.0, "local_lr": 1e200, "energy_weight": 0.1})
    summary = asyncsim.simulate(run).summary
    assert summary["status"] == "diverged"
    assert math.isfinite(summary["gap_queue_mean"])
    assert summary["pushes"] > 4
