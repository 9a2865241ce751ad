"""DSSP (reference, family of parameter servers, 11.5): a bound that moves in [least, most] by the instants of the last pushes.

The rule is recalled, and in part a reconstruction, as its page says: nothing here is asserted as a claim of the paper.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from test_identities import HEAVY, same_bits
from test_independent_loops import DECAY, LR, MOMENTUM, WORKERS, Fleet, factor

import asyncsim
from asyncsim.methods.dssp import DSSP
from asyncsim.scenario import ScenarioError
from asyncsim.simulation.progress import WorkerProgress
from asyncsim.streams import Streams
from asyncsim.units import NANOSECONDS

UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}


def bounds(updates, least, most, workers):
    """The bound of the worker of each push, from the instants alone: what is waited is counted by walking along the pushes of the
    slowest until one is not before the fastest's."""
    clocks, times, current = [0] * workers, [[] for _ in range(workers)], [least] * workers
    for now, worker in zip(updates["time_ns"], updates["worker"], strict=True):
        clocks[worker] += 1
        times[worker].append(int(now))
        lead = clocks[worker] - min(clocks)
        if lead <= least:
            current[worker] = least
        elif lead > current[worker] and clocks[worker] == max(clocks):
            behind = [each for each in range(workers) if clocks[each] == min(clocks)]
            paces = {each: times[each][-1] - times[each][-2] for each in (*behind, worker) if len(times[each]) > 1}
            last = max(behind, key=lambda each: (times[each][-1] if times[each] else -1) + paces.get(each, 0))
            best = 0
            if worker in paces and last in paces:
                waits = []
                for rounds in range(most - lead + 2):
                    there, due = times[worker][-1] + rounds * paces[worker], times[last][-1] + paces[last]
                    while due < there:
                        due += paces[last]
                    waits.append(due - there)
                best = waits.index(min(waits))
            current[worker] = lead - 1 + best
        yield worker, lead, current[worker]


@pytest.mark.parametrize(("least", "most"), [(0, 4), (1, 3), (2, 9)])
def test_the_bounds_and_who_waits(make, least, most):
    """The bounds are those of the loop, in the range, and move; a worker computes again as soon as its lead is within its bound,
    and not before."""
    result = asyncsim.plan(make(5, {"kind": "exponential", "mean": "1s"}, method={"kind": "dssp", "least": least, "most": most},
                                run={"updates": 600}))  # fmt: skip
    updates, seen, leads = result.updates, [], []
    for noted, (worker, lead, bound) in zip(updates["bound"], bounds(updates, least, most, 5), strict=True):
        assert noted == bound
        assert least <= bound <= most
        assert lead <= bound + 1 <= most + 1
        seen.append(bound)
        leads.append((worker, lead, bound))
    assert len(set(seen)) > 2
    started = result.events.query("kind == 'compute'").groupby(["worker", "step"])["start_ns"].first()
    clocks, waits = [0] * 5, 0
    times, workers = updates["time_ns"].tolist(), updates["worker"].tolist()
    for at, (worker, _, bound) in enumerate(leads):
        clocks[worker] += 1
        ahead, free = list(clocks), at
        while ahead[worker] - min(ahead) > bound:
            free += 1
            if free == len(times):
                break
            ahead[workers[free]] += 1
        waits += free > at
        if free < len(times) and (worker, clocks[worker]) in started:
            assert started[worker, clocks[worker]] == times[free]
    assert waits > 20


def test_the_loop(make):
    """Momentum SGD, every gradient as it arrives; the reads are those of the timeline that the other test checks."""
    fleet = Fleet(make, {"kind": "dssp", "least": 1, "most": 6})
    thetas, v = [fleet.theta], torch.zeros_like(fleet.theta)
    for row in fleet.result.updates.itertuples():
        v = MOMENTUM * v + fleet.gradient(thetas[row.read_version], row.worker, row.step) + DECAY * thetas[-1]
        thetas.append(thetas[-1] - LR * factor(len(thetas)) * v)
    fleet.theta = thetas[-1]
    fleet.agree()
    assert len(set(fleet.result.updates["bound"])) > 1


@pytest.mark.parametrize("bound", [0, 2])
def test_one_bound_is_ssp(make, bound):
    """least = most: the bits and the timeline of SSP; with a range it is not."""
    same_bits(*[make(WORKERS, UNEVEN, method=method, optimizer=HEAVY) for method in
                ({"kind": "dssp", "least": bound, "most": bound}, {"kind": "ssp", "bound": bound})])  # fmt: skip
    prints = {asyncsim.plan(make(WORKERS, UNEVEN, method=method)).fingerprints["timeline"] for method in
              ({"kind": "dssp", "least": bound, "most": bound + 4}, {"kind": "ssp", "bound": bound})}  # fmt: skip
    assert len(prints) == 2


def test_by_hand():
    """least 1, most 4. The fast one pushes at 1, 2, 4 s and is granted nothing while the slow one has pushed once (3 s). That
    pushes at 6 s: a pace of 3 s. At 6.5 s the fast one (2.5 s after its last) would wait until 9 s; one round on it comes at 9 s,
    when the slow one does: bound 2. At 7 s, with a pace of 0.5 s and the lead 3, rounds 0, 1, 2 wait 2, 1.5, 1 s: bound 4. Within
    the least bound again it is 1."""
    rule = DSSP(least=1, most=4)
    progress = WorkerProgress(2, rule, Streams(0))
    seen = []
    for seconds, worker in ((1, 0), (2, 0), (3, 1), (4, 0), (6, 1), (6.5, 0), (7, 0), (9, 1), (12, 1), (13, 1), (13.5, 0)):
        progress.time = partial(int, seconds * NANOSECONDS)
        progress.push(worker, 0, counts=True, now=progress.now)
        seen.append((worker, progress.noted["bound"], rule.admits(worker, progress)))
    fast = [(bound, admitted) for worker, bound, admitted in seen if worker == 0]
    assert fast == [(1, True), (1, False), (1, False), (2, True), (4, True), (1, True)]


def test_a_range_waits_less_than_its_least_bound_and_leads_less_than_its_largest(make):
    """Time of 600 updates on eight workers of random speed: between that of SSP with `most` and with `least`."""
    def time(method):
        return asyncsim.plan(make(8, {"kind": "exponential", "mean": "1s"}, method=method, run={"updates": 600})).summary["time"]

    assert time({"kind": "ssp", "bound": 5}) <= time({"kind": "dssp", "least": 1, "most": 5}) < time({"kind": "ssp", "bound": 1})


@pytest.mark.parametrize(("settings", "message"), [({"least": 4, "most": 3}, r"`least` \(4\) is above `most` \(3\)"),
                                                   ({"least": -1}, "at least 0")])  # fmt: skip
def test_bad_settings(make, settings, message):
    with pytest.raises(ScenarioError, match=message):
        make(6, method={"kind": "dssp"} | settings)
