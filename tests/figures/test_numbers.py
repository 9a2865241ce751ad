"""What is drawn are the numbers that were put in."""

from __future__ import annotations

import numpy as np
import pytest
from handmade import lines, made, texts

from asyncsim.errors import UserError
from asyncsim.plots import (
    convergence,
    final_metric,
    gantt,
    gap_distribution,
    gap_over_time,
    heat_map,
    penalty_over_time,
    speedup,
    staleness_histogram,
    staleness_over_time,
    time_shares,
    time_to_target,
)


@pytest.mark.parametrize(("against", "x"), [("time", [0, 2, 4]), ("updates", [0, 1, 2]), ("samples", [0, 1, 2])])
def test_convergence(ax, against, x):
    assert convergence(made(), against=against, ax=ax) is ax
    (line,) = ax.get_lines()
    assert line.get_xdata().tolist() == x
    assert line.get_ydata() == pytest.approx([0.9, 0.4, 0.1])
    assert ax.get_yscale() == "log"
    assert all("%" in label.get_text() for label in ax.get_yticklabels())


def test_a_band_from_the_smallest_to_the_largest_seed(ax):
    convergence([made(seed=0), made(seed=1, accuracy=(0.1, 0.8, 0.7))], "test_accuracy", ax=ax)
    assert lines(ax)["asgd"][1] == pytest.approx([0.1, 0.7, 0.8])
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices
    assert {round(y, 6) for x, y in heights if x == 2} == {0.6, 0.8}
    assert {round(y, 6) for x, y in heights if x == 4} == {0.7, 0.9}


def test_a_diverged_run_is_a_thin_line_with_a_cross_and_in_no_mean(ax):
    lost = made(seed=1, accuracy=(0.1, 0.2, np.nan), diverged=True)
    convergence([made(seed=0), lost], ax=ax)
    label = "asgd (1 of 2 diverged)"
    assert lines(ax)[label][1] == pytest.approx([0.9, 0.4, 0.1])
    crosses = [line for line in ax.get_lines() if line.get_marker() == "x"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in crosses] == [(2.0, pytest.approx(0.8))]


def test_only_diverged_runs_are_named(ax):
    convergence([made(method="a", accuracy=(0.1, np.nan), diverged=True), made(method="b")], ax=ax)
    assert texts(ax) == ["a (diverged)", "b"]


def test_nothing_but_seeds_is_averaged(ax):
    convergence([made(workers=n, seed=s) for n in (16, 2) for s in (0, 1)], ax=ax)
    assert texts(ax) == ["asgd, N = 2", "asgd, N = 16"]


def test_labels_by_field_or_by_hand(ax):
    runs = [made(changes={"optimizer.lr": lr}) for lr in (0.1, 0.3)]
    convergence(runs, labels="optimizer.lr", ax=ax)
    assert texts(ax) == ["0.1", "0.3"]
    ax.clear()
    convergence(runs, labels=["x", "x"], ax=ax)
    assert texts(ax) == ["x"]
    with pytest.raises(ValueError, match="1 labels for 2"):
        convergence(runs, labels=["x"], ax=ax)
    with pytest.raises(UserError, match=r"no run has the field 'optimizer.rl'; did you mean `optimizer.lr`"):
        convergence(runs, labels="optimizer.rl", ax=ax)


def test_staleness_shares(ax):
    assert staleness_histogram(made(), ax=ax) is ax
    assert ax.patches[0].get_data().values == pytest.approx([0.25, 0.5, 0.25])
    assert texts(ax) == ["asgd (mean 1.0)"]


def test_dropped_pushes_are_left_out(ax):
    run = made()
    run.tables["updates"]["outcome"][3] = 2
    staleness_histogram(run, ax=ax)
    assert ax.patches[0].get_data().values == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    ax.clear()
    gap_distribution(run, ax=ax)
    assert ax.get_lines()[0].get_xdata().tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("draw", "values"),
    [(staleness_over_time, [0, 1, 2, 1]), (gap_over_time, [0, 0.5, 1, 2]), (penalty_over_time, [1, 1.5, 2, 3])],
)
@pytest.mark.parametrize(("against", "x"), [("time", "virtual time (s)"), ("updates", "updates")])
def test_over_time(ax, draw, values, against, x):
    """Four pushes at 1, 2, 3, 4 s fall into four of the forty spans, each alone in its own."""
    assert draw(made(), against, ax=ax) is ax
    (line,) = ax.get_lines()
    assert line.get_ydata() == pytest.approx(values)
    assert line.get_xdata() == pytest.approx(np.arange(1, 5), abs=0.051)
    assert ax.get_xlabel() == x


def test_labels_with_the_same_pushes_share_a_curve(ax):
    staleness_over_time([made(method="a"), made(method="b"), made(method="c", staleness=(5, 5, 5, 5))], ax=ax)
    assert texts(ax) == ["a, b", "c"]


def test_gap_distribution(ax):
    assert gap_distribution(made(), ax=ax) is ax
    line = ax.get_lines()[0]
    assert line.get_xdata().tolist() == [0, 0.5, 1, 2]
    assert line.get_ydata().tolist() == [0.25, 0.5, 0.75, 1]
    assert ax.collections[0].get_segments()[0][:, 1].tolist() == [0.25, 0.25]  # gaps of zero, from the left edge


def test_time_shares(ax):
    runs = [made(utilisation=0.5, wait=0.4), made(seed=1, utilisation=0.7, wait=0.2), made(method="bsp", wait=0.0, lost=0.2)]
    assert time_shares(runs, ax=ax) is ax
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in ax.containers}
    assert widths["compute"] == pytest.approx([0.6, 0.7])
    assert widths["wait"] == pytest.approx([0.3, 0])
    assert widths["lost work"] == pytest.approx([0, 0.2])
    lefts = {bars.get_label(): [bar.get_x() for bar in bars] for bars in ax.containers}
    assert lefts["wait"] == pytest.approx([0.6, 0.7])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["asgd", "bsp"]


def test_gantt(ax):
    assert gantt(made(workers=2), end=10, ax=ax) is ax
    bars = [bar for bars in ax.containers for bar in bars]
    assert [(bar.get_x(), bar.get_width(), bar.get_y() + 0.41) for bar in bars] == [
        (0, 1, pytest.approx(0)), (1, 1, pytest.approx(1)), (2, 1, pytest.approx(0)), (3, 1, pytest.approx(1))
    ]  # fmt: skip


def test_final_metric(ax):
    runs = [made(workers=n, seed=s, accuracy=(0.1, a)) for n, s, a in ((4, 0, 0.6), (4, 1, 0.8), (1, 0, 0.9), (1, 1, 0.9))]
    assert final_metric(runs, ax=ax) is ax
    (bars,) = ax.containers
    assert bars[0].get_xdata().tolist() == [1, 4]
    assert bars[0].get_ydata() == pytest.approx([0.1, 0.3])
    assert np.ptp(bars[2][0].get_segments()[1][:, 1]) == pytest.approx(0.2)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4"]


def test_final_metric_shows_diverged_runs(ax):
    runs = [made(workers=n, seed=s, diverged=(n, s) in ((4, 1), (8, 0), (8, 1))) for n in (1, 4, 8) for s in (0, 1)]
    final_metric(runs, ax=ax)
    crosses = sorted(float(line.get_xdata()[0]) for line in ax.get_lines() if line.get_marker() == "x")
    assert crosses == [4, 8]
    assert {"diverged", "1/2", "2/2"} <= {text.get_text() for text in ax.texts}
    (partly,) = [line for line in ax.get_lines() if line.get_label() == "_partly"]
    assert (partly.get_xdata()[0], partly.get_markerfacecolor()) == (4, "white")
    assert ax.containers[0][0].get_xdata().tolist() == [1, 4]


def test_final_of_another_number_along_another_field(ax):
    runs = [made(changes={"optimizer.lr": lr}, staleness_mean=10 * lr) for lr in (0.1, 0.2)]
    final_metric(runs, "staleness_mean", x="lr", ax=ax)
    assert ax.containers[0][0].get_ydata() == pytest.approx([1, 2])
    assert ax.get_xlabel() == "lr"
    with pytest.raises(UserError, match="is no number"):
        final_metric(runs, x="task.kind", ax=ax)


def test_time_to_target_from_the_summary_and_from_a_level(ax):
    runs = [made(workers=n, time_to_target=t) for n, t in ((1, 8.0), (2, 5.0), (4, None))]
    time_to_target(runs, ax=ax)
    assert ax.containers[0][0].get_xdata().tolist() == [1, 2]
    assert ax.containers[0][0].get_ydata() == pytest.approx([8, 5])
    assert "never reached" in [text.get_text() for text in ax.texts]
    ax.clear()
    time_to_target(runs, "test_accuracy", 0.5, ax=ax)
    assert ax.containers[0][0].get_ydata() == pytest.approx([2, 2, 2])
    ax.clear()
    time_to_target(runs, "test_error", 0.15, ax=ax)
    assert ax.containers[0][0].get_ydata() == pytest.approx([4, 4, 4])
    assert "test error ≤ 15 %" in ax.get_ylabel()


def test_speedup_is_a_ratio_of_mean_times(ax):
    runs = [made(workers=n, seed=s, time_to_target=t) for n, s, t in ((1, 0, 6.0), (1, 1, 10.0), (4, 0, 3.0), (4, 1, 5.0))]
    speedup(runs, ax=ax)
    assert ax.containers[0][0].get_ydata() == pytest.approx([1, 2])
    assert lines(ax)["as many as workers"] == ([1, 4], [1, 4])
    ax.clear()
    speedup(runs, "samples", ax=ax)
    assert ax.containers[0][0].get_ydata() == pytest.approx([1, 4])


def test_no_speedup_where_the_target_was_reached_at_time_0(ax):
    """It divided by zero, and took the report of all runs with it."""
    with pytest.raises(UserError, match="before its first update"):
        speedup([made(workers=n, time_to_target=t) for n, t in ((1, 6.0), (4, 0.0))], ax=ax)


def test_speedup_over_a_baseline(ax):
    runs = [made(method=m, workers=n, time_to_target=t) for m, n, t in (("a", 1, 8.0), ("a", 2, 4.0), ("b", 1, 16.0))]
    speedup(runs, baseline="a", ax=ax)
    assert [list(bars[0].get_ydata()) for bars in ax.containers] == [[1, 2], [0.5]]
    with pytest.raises(UserError, match="baseline: 'c' is no label; there are: a, b"):
        speedup(runs, baseline="c", ax=ax)


def test_heat_map(ax):
    runs = [
        made(workers=n, changes={"optimizer.lr": lr}, accuracy=(0.1, 1 - n * lr), diverged=n * lr > 0.7)
        for n in (4, 1) for lr in (0.1, 0.2)
    ]  # fmt: skip
    assert heat_map(runs, ax=ax) is ax
    values = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert values == pytest.approx(np.array([[0.1, 0.4], [0.2, np.nan]]), nan_ok=True)
    assert sorted(text.get_text() for text in ax.texts) == ["10", "20", "40", "diverged"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4"]
    assert ax.get_ylabel() == "optimizer.lr"


def test_a_heat_map_averages_seeds_alone(ax):
    runs = [made(workers=n, seed=s, accuracy=(0.1, a)) for n, s, a in ((1, 0, 0.8), (1, 1, 0.6))]
    heat_map(runs, y="method", ax=ax)
    assert ax.images[0].get_array().tolist() == [[pytest.approx(0.3)]]
    with pytest.raises(UserError, match=r"also differ in optimizer\.lr"):
        heat_map([*runs, made(workers=1, changes={"optimizer.lr": 9})], y="method", ax=ax)
    with pytest.raises(UserError, match="which field is the other axis"):
        heat_map(runs, ax=ax)
