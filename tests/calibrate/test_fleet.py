"""Differences between workers: the F test is scipy's, the parts of the variance are what the formulas say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from asyncsim.calibration import differences


def test_the_test_is_scipy_s():
    """On logarithms, or on durations where there are zeros."""
    rng = np.random.default_rng(0)
    values = [rng.gamma(4, 0.1 * factor, rows) for factor, rows in ((1.0, 30), (1.2, 45), (1.1, 8))]
    found = differences(dict(enumerate(values)))
    assert found.p == pytest.approx(stats.f_oneway(*map(np.log, values)).pvalue, rel=1e-9)
    values[0][3] = 0.0
    assert differences(dict(enumerate(values))).p == pytest.approx(stats.f_oneway(*values).pvalue, rel=1e-9)


def test_the_parts_of_the_variance():
    """Workers of means 1 and 2, durations 0.9, 1.1 and 1.6, 2.4: by hand.

    Durations over means are 0.9, 1.1, 0.8, 1.2; their squared deviations sum to 0.1, with 4 - 2 degrees of freedom: cv_batch² =
    0.05. The means have variance 0.5, of which batches make 0.05 · (1/2 + 4/2) / 2 = 0.0625; over the squared mean 2.25.
    """
    found = differences({"a": np.array([0.9, 1.1]), "b": np.array([1.6, 2.4])})
    assert (found.counts, found.mean) == ((2, 2), pytest.approx(1.5))
    assert found.means == pytest.approx((1.0, 2.0))
    assert found.factors == pytest.approx((2 / 3, 4 / 3))
    assert found.cv_batch == pytest.approx(math.sqrt(0.05))
    assert found.cv_machine == pytest.approx(math.sqrt((0.5 - 0.0625) / 2.25))
    assert found.autocorrelation == pytest.approx(-0.5)  # each pair: -d² of 2 d²


def test_one_row_a_worker_proves_nothing():
    found = differences({0: np.array([1.0]), 1: np.array([5.0])})
    assert (found.p, found.heterogeneous, found.cv_batch, found.autocorrelation) == (None, False, 0.0, None)


def test_steady_workers_of_unequal_speed_differ():
    """No variation within workers: nothing is left to chance."""
    found = differences({0: np.array([1.0, 1.0]), 1: np.array([2.0, 2.0])})
    assert (found.p, found.heterogeneous) == (0.0, True)
    assert not differences({0: np.array([1.0, 1.0]), 1: np.array([1.0, 1.0])}).heterogeneous
