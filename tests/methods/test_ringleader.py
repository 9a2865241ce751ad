"""Ringleader ASGD (reference, family of parameter servers, 11.1): two tables, rounds of N updates, staleness up to 2 N - 2."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from arrivals import Toy
from test_identities import HEAVY
from test_independent_loops import DECAY, LR, MOMENTUM, UPDATES, WORKERS, Fleet, factor

import asyncsim
from asyncsim.assembling import assemble
from asyncsim.methods.ringleader import GradientTable
from asyncsim.policies import SGD
from asyncsim.scenario import ScenarioError

UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}
EXPONENTIAL = {"kind": "exponential", "mean": "1s"}


class Rounds:
    """The two tables as lists of what is in them, by worker: no sums, no numbers."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.first: dict[int, list] = {}
        self.second: dict[int, list] = {}
        self.unserved: set[int] = set()
        self.updates = 0  # of this round
        self.rounds: list[int] = []  # the updates of those that are over

    def arrive(self, worker: int, what: object) -> bool:
        """Is the worker served?"""
        if self.unserved and worker not in self.unserved:
            self.second.setdefault(worker, []).append(what)
            return False
        self.first.setdefault(worker, []).append(what)
        if not self.unserved:
            if len(self.first) < self.workers:
                return False
            self.unserved = set(range(self.workers))
        self.unserved.remove(worker)
        self.updates += 1
        return True

    def served(self) -> None:
        if not self.unserved:
            self.rounds.append(self.updates)
            self.first, self.second, self.updates = self.second, {}, 0


def test_the_loop(make):
    """x <- x - lr v with v <- gam v + mean_i(G_i / b_i) + wd x; who is not served computes on at the model that it has."""
    fleet = Fleet(make, "ringleader")
    tables, thetas, v, held = Rounds(WORKERS), [fleet.theta], torch.zeros_like(fleet.theta), [0] * WORKERS
    several = 0
    for row in fleet.result.updates.itertuples():
        assert row.read_version == held[row.worker]
        served = tables.arrive(row.worker, fleet.gradient(thetas[row.read_version], row.worker, row.step))
        assert row.outcome == ("applied" if served else "buffered")
        if served:
            several += max(map(len, tables.first.values())) > 1
            means = [torch.stack(gradients).sum(0) / len(gradients) for gradients in tables.first.values()]
            v = MOMENTUM * v + torch.stack(means).sum(0) / WORKERS + DECAY * thetas[-1]
            thetas.append(thetas[-1] - LR * factor(len(thetas)) * v)
            held[row.worker] = len(thetas) - 1
            tables.served()
        assert row.version == len(thetas) - 1
    assert len(thetas) == UPDATES + 1
    assert several > UPDATES / 2
    fleet.theta = thetas[-1]
    fleet.agree()


@pytest.mark.parametrize("workers", [2, 3, 5, 8, 13])
def test_staleness_rounds_and_models(make, workers):
    """On random schedules: the oldest gradient in the table that is applied is up to 2 N - 2 versions old, exactly; every round
    has N updates; every worker reads one new model a round. (N = 2, 3, 5, 8, 13 gave 2, 4, 8, 14, 24 in the reference.)"""
    oldest = 0
    for seed in range(6):
        compute = EXPONENTIAL if seed % 2 else UNEVEN
        updates = asyncsim.plan(make(workers, compute, method="ringleader", run={"updates": 40 * workers}, seed=seed)).updates
        tables, version, models = Rounds(workers), 0, {worker: {0} for worker in range(workers)}
        for row in updates.itertuples():
            models[row.worker].add(row.read_version)
            if tables.arrive(row.worker, row.read_version):
                oldest = max(oldest, version - min(min(reads) for reads in tables.first.values()))
                version += 1
                tables.served()
            assert row.version == version
        assert tables.rounds == [workers] * 40
        for read in models.values():
            rounds = sorted((version - 1) // workers for version in read)[:-2]
            assert rounds == list(range(-1, len(rounds) - 1))
    assert oldest == 2 * workers - 2


def test_everybody_counts_alike():
    """Constant gradients 1, 2 and 6: every update is their mean, 3, however often each comes; with ASGD the fast one leads."""
    toy = Toy((GradientTable(),), SGD(lr=1.0), torch.zeros(1, dtype=torch.float64))
    before = 0
    for worker in [0, 0, 0, 1, 0, 2, 0, 0, 1, 0, 0, 0, 0, 2, 0, 1, 0, 0, 2]:
        toy.arrive(worker, torch.tensor([(1.0, 2.0, 6.0)[worker]], dtype=torch.float64))
        assert float(toy.server.params) == -3.0 * toy.server.version
        before += 1
    assert toy.server.version == 6 < before


def test_a_model_travels_once_a_round(make):
    """N models at the start, and one for each update, are sent, however many gradients come; every gradient is."""
    sent: list[str] = []
    sim = assemble(make(5, UNEVEN, method="ringleader", run={"updates": 100}))
    sim.observers.add(SimpleNamespace(sent=lambda worker, purpose, nbytes: sent.append(purpose)))
    for _ in sim.run():
        pass
    assert sent.count("downlink") == 5 + 100
    assert sent.count("uplink") == sim.server.pushes > 150


def test_the_first_update_is_that_of_bsp(make):
    """All read the start, and phase 1 takes one gradient of each if all are equally fast: the mean of them, as in a synchronous
    round; the second update is not."""
    for updates, same in ((1, True), (2, False)):
        ours, bsp = (asyncsim.simulate(make(6, "1s", method=method, optimizer=HEAVY, dtype="float64", run={"updates": updates}))
                     for method in ("ringleader", "bsp"))  # fmt: skip
        assert bool(abs(ours.parameters - bsp.parameters).max() < 1e-14) is same


def test_who_was_down_reads_the_newest_model(make):
    """A worker that goes down loses its model; the round waits for it, and the others go on at theirs."""
    cluster = {"workers": 4, "compute": UNEVEN, "events": [{"at": "6s", "workers": [1], "down": "5s"}]}
    updates = asyncsim.plan(make(4, method="ringleader", cluster=cluster, run={"updates": 80})).updates
    first = updates.query("worker == 1 and time > 11").iloc[0]
    there = updates[updates["time"] <= 11]["version"].iloc[-1]
    assert first["read_version"] == there
    held = updates.query("worker != 1 and 6 < time < 11").groupby("worker")["read_version"].nunique()
    assert (held <= 2).all()


def test_who_has_left_is_in_no_table(make):
    """Two of five leave: from the next round on a round has three updates, and nobody waits."""
    cluster = {"workers": 5, "compute": UNEVEN, "events": [{"at": "10s", "workers": [0, 3], "stop": True}]}
    updates = asyncsim.plan(make(5, method="ringleader", cluster=cluster, run={"updates": 90})).updates
    applied = updates.query("outcome == 'applied'")
    late = applied[applied["time"] > 20]["worker"].to_numpy()
    splits = [late[at : at + 3 * ((len(late) - at) // 3)].reshape(-1, 3) for at in range(3)]  # a round may be under way at 20 s
    assert len(late) > 30
    assert any(all(set(row) == {1, 2, 4} for row in rounds) for rounds in splits)


@pytest.mark.parametrize(
    ("method", "message"),
    [({"consistency": {"kind": "asp", "recall_after": 3}}, "nothing is called back for its age"),
     ({"consistency": "bsp"}, "no rounds of one version"),
     ({"exchange": "push_sum"}, "older versions are nothing"),
     ({"downlink": ["sparse_difference"]}, "older versions are kept once for all workers")],
)  # fmt: skip
def test_what_does_not_go_together(make, method, message):
    with pytest.raises(ScenarioError, match=message):
        make(6, method={"kind": "ringleader"} | method)
