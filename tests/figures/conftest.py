"""Axes to draw into; no test leaves a figure open."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import pytest

matplotlib.use("Agg")


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@pytest.fixture(autouse=True)
def no_open_figures():
    """Whatever a test draws into ``ax`` or writes leaves no figure behind (a test that makes its own closes it)."""
    before = set(plt.get_fignums())
    yield
    after = set(plt.get_fignums())
    for number in after - before:
        plt.close(number)
    assert after <= before
