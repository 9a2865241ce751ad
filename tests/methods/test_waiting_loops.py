"""The independent loops of `test_independent_loops` for methods that ignore stale gradients, or let workers wait: who has read
what, and when, is the loop's own count, which the recorded versions must confirm at each arrival. 240 updates, float64, 1e-12."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from test_independent_loops import DECAY, LR, MOMENTUM, UPDATES, WORKERS, Arrival, Fleet, factor


class Readers(Fleet):
    """A fleet in which a worker reads when a rule says so, and not always as it pushes."""

    def arrivals(self, read_now: Callable[[int, int, bool], list[int]]) -> Iterator[Arrival]:
        """The arrivals. ``read_now(worker, tau, updated)`` is asked after each: which workers read now."""
        self.reads, self.versions = [self.handed] * WORKERS, [0] * WORKERS
        for row in self.result.updates.itertuples():
            assert self.versions[row.worker] == row.read_version
            tau, before = self.version - row.read_version, self.version
            yield Arrival(row.worker, row.step, tau, self.reads[row.worker], LR * factor(self.version + 1))
            for worker in read_now(row.worker, tau, self.version > before):
                self.reads[worker], self.versions[worker] = self.handed, self.version
            assert self.version == row.version
        assert self.version == UPDATES

    def step(self, v: torch.Tensor, d: torch.Tensor, lr: float) -> torch.Tensor:
        """Momentum SGD: ``v <- gam v + d + wd theta``, ``theta <- theta - lr v``. It returns the new velocity."""
        v = MOMENTUM * v + d + DECAY * self.theta
        self.applied(self.theta - lr * v)
        return v


def test_rennala(make):
    """Tyurin and Richtarik 2023 (reference 7): tau > 0 is ignored; the mean of B = 2 gradients with tau = 0, from whomever, is an
    update. A worker reads as it pushes, so that a fast one may be in a mean twice."""
    fleet = Fleet(make, {"kind": "rennala", "batch": 2})
    v, collected, ignored, twice = torch.zeros_like(fleet.theta), [], 0, 0
    for worker, step, tau, read, lr in fleet.walk(stale=1):
        if tau > 0:
            ignored += 1
            continue
        collected.append((worker, fleet.gradient(read, worker, step)))
        if len(collected) == 2:
            v = MOMENTUM * v + sum(gradient for _, gradient in collected) / 2 + DECAY * fleet.theta
            fleet.applied(fleet.theta - lr * v)
            twice += len({worker for worker, _ in collected}) < 2
            collected = []
    assert ignored == fleet.result.summary["dropped"] > 50
    assert twice > 50
    fleet.agree()


@pytest.mark.parametrize("stops", [False, True])
def test_ringmaster(make, stops):
    """Maranjyan et al. 2025 (reference 7): tau >= R = 7 is discarded. With ``stops`` the update that makes a worker's work R
    versions old ends it, and it reads: then nothing as old arrives. Staleness 7 itself comes: ``tau > R`` would be refused."""
    fleet = Readers(make, {"kind": "ringmaster", "threshold": 7, "stops": stops})

    def read_now(worker: int, tau: int, updated: bool) -> list[int]:
        old = [each for each in range(WORKERS) if stops and fleet.version - fleet.versions[each] >= 7]
        stopped.extend(each for each in old if each != worker)
        return [worker, *old]

    v, stopped, seen = torch.zeros_like(fleet.theta), [], []
    for worker, step, tau, read, lr in fleet.arrivals(read_now):
        seen.append(tau)
        if tau < 7:
            v = fleet.step(v, fleet.gradient(read, worker, step), lr)
    assert max(seen) == 6 if stops else 7 in seen
    assert (len(stopped) > 10) == stops
    assert fleet.result.summary["dropped"] == sum(tau >= 7 for tau in seen)
    fleet.agree()


@pytest.mark.parametrize("bound", [0, 2])
def test_ssp(make, bound):
    """Ho et al. 2013 (reference 7): every gradient as it arrives; who has pushed c times reads for its next round once c - the
    least of these numbers is at most the bound. Reading at once, as in ASGD, would be refused."""
    fleet = Readers(make, {"kind": "ssp", "bound": bound})
    clocks, waiting, waited = [0] * WORKERS, set(), 0

    def read_now(worker: int, tau: int, updated: bool) -> list[int]:
        nonlocal waited
        clocks[worker] += 1
        waiting.add(worker)
        admitted = [each for each in waiting if clocks[each] - min(clocks) <= bound]
        waited += worker not in admitted
        waiting.difference_update(admitted)
        return admitted

    v = torch.zeros_like(fleet.theta)
    for worker, step, _, read, lr in fleet.arrivals(read_now):
        v = fleet.step(v, fleet.gradient(read, worker, step), lr)
    assert waited > 50
    fleet.agree()


@pytest.mark.parametrize("cancel", [True, False])
@pytest.mark.parametrize(("method", "count"), [({"kind": "k_sync", "k": 2}, 2), ({"kind": "backup_workers", "backups": 3}, 3)],
                         ids=["k_sync", "backup_workers"])  # fmt: skip
def test_rounds(make, method, count, cancel):
    """Dutta et al. 2018, Chen et al. 2016 (reference 7): the mean of the first k, or N - b, gradients of a round is an update,
    and all read. Without ``cancel`` the others finish; what they bring is stale, dropped, and they read as it comes."""
    fleet = Readers(make, method | {"cancel": cancel})
    waiting, late = set(), 0

    def read_now(worker: int, tau: int, updated: bool) -> list[int]:
        if tau > 0:
            return [worker]
        waiting.add(worker)
        if not updated:
            return []
        reading = list(range(WORKERS)) if cancel else list(waiting)
        waiting.clear()
        return reading

    v, collected = torch.zeros_like(fleet.theta), []
    for worker, step, tau, read, lr in fleet.arrivals(read_now):
        if tau > 0:
            late += 1
            continue
        collected.append(fleet.gradient(read, worker, step))
        if len(collected) == count:
            v = fleet.step(v, sum(collected) / count, lr)
            collected = []
    assert late == fleet.result.summary["dropped"]
    assert (late > 50) != cancel
    fleet.agree()
