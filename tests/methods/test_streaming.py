"""Streaming DiLoCo: fragments in turn against a loop written from the equations, its ends, its groups, and its bytes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from test_async_local_sgd import expected_paces
from test_identities import parameters
from test_independent_loops import WORKERS, Fleet

import asyncsim
from asyncsim.scenario import ScenarioError

OUTER = {"kind": "sgd", "lr": 0.7, "momentum": 0.8, "nesterov": True}
UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}
UPDATES = 30


def pieces(numbers, fragments):
    bounds = [part * numbers // fragments for part in range(fragments + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]


class Group:
    """Which arrivals are merged: those of all, or what comes until so long after the quorum, or all."""

    def __init__(self, quorum=None, grace=0.0):
        self.quorum, self.grace = quorum or WORKERS, round(grace * 1e9)

    def take(self, rows):
        last = min(len(rows), self.quorum)
        end = rows[last - 1].time_ns + self.grace
        while last < len(rows) and rows[last].time_ns <= end and last < WORKERS:
            last += 1
        return rows[:last], rows[last:]


@pytest.mark.parametrize(("settings", "group"), [
    ({}, Group()), ({"overlap": True}, Group()), ({"quorum": 3}, Group(3)), ({"quorum": 2, "grace": 0.4}, Group(2, 0.4)),
    ({"quorum": 2, "grace": 0.4, "least_steps": 1, "local_steps": 6}, Group(2, 0.4)),
], ids=["rounds", "overlap", "quorum", "grace", "dylu"])  # fmt: skip
def test_the_loop(make, settings, group):
    """x <- (1 - a) x + a theta for what is new, local steps, D of one fragment; of each the mean weighted by tokens^2 / steps,
    and Nesterov's step. What was read at which version is recorded; all else is the loop's."""
    method = {"kind": "streaming_diloco", "fragments": 3, "share": 0.4, "local_steps": 2, "local_lr": 0.05} | settings
    fleet = Fleet(make, method, optimizer=OUTER, schedule="constant", run={"updates": UPDATES})
    steps, paced = method["local_steps"], "least_steps" in method
    paces = expected_paces(fleet.result, steps, 1) if paced else {}
    rows = list(fleet.result.updates.itertuples())
    versions, cut = [fleet.theta], pieces(len(fleet.theta), 3)
    models, anchors, taken = [None] * WORKERS, [None] * WORKERS, [0] * WORKERS
    v, sizes = torch.zeros_like(fleet.theta), []
    while rows and len(versions) <= UPDATES:
        merged, rows = group.take(rows)
        sums, weights = torch.zeros_like(fleet.theta), [0.0] * 3
        for row in merged:
            i, read = row.worker, versions[row.read_version]
            x = read.clone() if models[i] is None else models[i].clone()
            for piece in cut if models[i] is not None else ():
                if not torch.equal(read[piece], anchors[i][piece]):
                    x[piece] = 0.6 * x[piece] + 0.4 * read[piece]
            count = paces[i, row.step] if paced else steps
            for index in range(taken[i], taken[i] + count):
                x = x - 0.05 * fleet.gradient(x, i, index)
            models[i], anchors[i], taken[i] = x, read, taken[i] + count
            p, weight = row.step % 3, (8 * count) ** 2 / count
            sums[cut[p]] += weight * (read - x)[cut[p]]
            weights[p] += weight
        theta = versions[-1].clone()
        for p, piece in enumerate(cut):
            if weights[p]:
                d = sums[piece] / weights[p]
                v[piece] = 0.8 * v[piece] + d
                theta[piece] = theta[piece] - 0.7 * (d + 0.8 * v[piece])
        versions.append(theta)
        sizes.append(len(merged))
    assert len(versions) == UPDATES + 1
    assert (len(set(sizes)) > 1) == (group.grace > 0)
    torch.testing.assert_close(versions[-1], torch.from_numpy(fleet.result.parameters), rtol=1e-12, atol=1e-12)
    assert (versions[-1] - versions[0]).norm() > 0.05 * versions[0].norm()
    if paced:
        assert len(set(paces.values())) > 2


def test_one_fragment_that_is_taken_over_is_local_sgd(make):
    """Bit for bit what it sends and hands out; two fragments, or half of them, are something else."""
    common = {"optimizer": OUTER, "dtype": "float64", "run": {"updates": 20}}
    plain = parameters(make(4, UNEVEN, method={"kind": "local_sgd", "local_steps": 2}, **common))
    def streamed(**settings):
        return parameters(make(4, UNEVEN, method={"kind": "streaming_diloco", "local_steps": 2} | settings, **common))

    np.testing.assert_allclose(streamed(fragments=1, share=1.0), plain, rtol=1e-12, atol=1e-13)
    assert abs(streamed(fragments=2, share=1.0) - plain).max() > 1e-3
    assert abs(streamed(fragments=1, share=0.5) - plain).max() > 1e-3


def test_a_round_moves_one_fragment(make):
    """Those whose turn has not come are what they were, also at the last bit."""
    for updates in (1, 2, 3):
        scenario = make(3, "1s", method={"kind": "streaming_diloco", "fragments": 4}, optimizer=OUTER, run={"updates": updates})
        start = scenario.task.build(scenario.seed, "cpu", "float32", 3).init().numpy()
        end = parameters(scenario)
        assert [bool((end[piece] != start[piece]).any()) for piece in pieces(len(start), 4)] == [
            part < updates for part in range(4)]  # fmt: skip


def test_a_worker_that_takes_nothing_is_alone(make):
    """Share 0: what workers push is what SGD of their own came to in the round, whatever the server did."""
    method = {"kind": "streaming_diloco", "fragments": 1, "share": 0.0, "local_steps": 3, "local_lr": 0.05}
    scenario = make(1, "1s", method=method, optimizer={"kind": "sgd", "lr": 0.0}, dtype="float64", run={"updates": 7})
    sim_loss = asyncsim.simulate(scenario).updates["loss"].to_numpy()
    task = scenario.task.build(scenario.seed, "cpu", "float64", 1)
    x, losses = task.init(), []
    for index in range(21):
        task.bind(x)
        inputs, targets = task.batch(0, index)
        loss = torch.nn.functional.cross_entropy(task.module(inputs), targets)
        x = x - 0.05 * torch.cat([each.reshape(-1) for each in torch.autograd.grad(loss, task.parameters)])
        losses.append(loss.item())
    np.testing.assert_allclose(sim_loss, np.reshape(losses, (7, 3)).mean(1), rtol=1e-12)


@pytest.mark.parametrize("overlap", [False, True])
def test_bytes_and_time_follow_the_fragments(make, overlap):
    """A round of 2 s of computing, and the largest fragment up and down; with overlap the longer of computing (and reading) and
    sending."""
    links = {"uplink": {"bandwidth": "1kB/s"}, "downlink": {"bandwidth": "10kB/s"}}
    method = {"kind": "streaming_diloco", "fragments": 4, "local_steps": 2, "overlap": overlap}
    scenario = make(cluster={"workers": 3, "compute": "1s"} | links, method=method, optimizer=OUTER, run={"updates": 11})
    nbytes = 4 * -(-scenario.task.num_parameters() // 4)
    up, down = nbytes / 1e3, nbytes / 10e3
    times = asyncsim.plan(scenario).updates.groupby("step")["time"].max().diff().iloc[3:]
    assert times.to_numpy() == pytest.approx(max(up, 2 + down) if overlap else 2 + up + down, abs=1e-6)


@pytest.mark.parametrize(("settings", "words"), [
    ({"grace": 1}, "time after a `quorum`"), ({"quorum": 2, "overlap": True}, "excludes a `quorum`"),
    ({"least_steps": 9}, r"at most `local_steps` \(4\), not 9"), ({"fragments": 0}, "fragments"), ({"share": 1.5}, "share"),
])  # fmt: skip
def test_bad_settings(make, settings, words):
    with pytest.raises(ScenarioError, match=words):
        make(4, method={"kind": "streaming_diloco"} | settings, optimizer=OUTER)
    with pytest.raises(ScenarioError, match="momentum of the outer optimizer sgd, not that of adam"):
        make(4, method="streaming_diloco", optimizer="adam")
