"""Processes on the real clock: what they did is replayed bit for bit through the delay `recorded`."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pandas as pd
import pytest
from validation.real import as_cluster, equal_workers, exchanged, fitted_fleet, ks, replay, setting
from validation.real_server import run_real


def test_a_real_run_is_replayed_bit_for_bit(tmp_path):
    """Two workers, sleeps of a few milliseconds. The timeline is the log's, to the nanosecond, and so are the parameters.

    Wrong model: one push comes after the next one. Nothing of the run stays behind.
    """
    scenario = setting(workers=2, updates=60, seed=3)
    real = run_real(scenario, np.random.default_rng(3).uniform(0.001, 0.006, (2, 60)), every=30)
    assert len(real.updates) == 60
    assert sorted(real.kept) == [0, 30, 60]
    assert real.kept[60].numpy().tobytes() == real.parameters.tobytes()
    same = replay(scenario, real, tmp_path / "log.csv")
    assert same.same_order
    assert same.same_bits
    late = replay(scenario, exchanged(real), tmp_path / "late.csv")
    assert not late.same_order
    assert not late.same_bits
    assert not multiprocessing.active_children()


def test_a_fitted_fleet_is_a_cluster():
    """From 500 rounds each of two workers, gamma times of mean 20 and 60 ms, links of 1 ms: means within 5 %, links exact."""
    rng = np.random.default_rng(0)
    rows = []
    for worker, mean in enumerate((0.02, 0.06)):
        for step, seconds in enumerate(rng.gamma(4, mean / 4, 500)):
            spans = {"download": 0.001, "compute": seconds, "upload": 0.001}
            rows += [(span, worker, step, 0, round(length * 1e9), True) for span, length in spans.items()]
    fits = fitted_fleet(pd.DataFrame(rows, columns=["kind", "worker", "step", "start_ns", "end_ns", "complete"]))
    profiles = setting(2, 1, 0, as_cluster(list(fits.values()))).cluster.worker_profiles()
    assert [profile.compute.expected for profile in profiles] == [pytest.approx(0.02, rel=0.05), pytest.approx(0.06, rel=0.05)]
    assert {profile.uplink.latency.expected for profile in profiles} == {0.001}
    equal = setting(2, 1, 0, equal_workers(list(fits.values()))).cluster
    assert equal.compute.expected == pytest.approx(0.042, rel=0.05)


def test_the_distance_of_two_samples():
    assert ks(np.array([0, 1, 2, 3]), np.array([0, 1, 2, 3])) == 0
    assert ks(np.array([0, 0, 1, 1]), np.array([1, 1, 1, 1])) == 0.5
