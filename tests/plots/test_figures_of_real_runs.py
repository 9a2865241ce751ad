"""Every figure of real runs: one, several, of different lengths, diverged, planned, with tables missing; and what a reader can
measure in a Gantt chart and a histogram is what happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import pytest

import asyncsim
from asyncsim import plots
from asyncsim.errors import UserError
from asyncsim.records.rows import NOTHING_LOST
from asyncsim.scenario import Document, Scenario, build_scenario

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PER_RUN = [plots.convergence, plots.staleness_histogram, plots.staleness_over_time, plots.gap_over_time, plots.penalty_over_time,
           plots.gap_distribution, plots.time_shares, plots.final_metric]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_open_figures() -> Iterator[None]:
    before = set(plt.get_fignums())
    yield
    left = set(plt.get_fignums()) - before
    for number in left:
        plt.close(number)
    assert not left


@pytest.fixture
def ax() -> Iterator[Any]:
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def scenario(**sections: Any) -> Scenario:
    base = {
        "task": {"kind": "quadratic", "noise": 0.1}, "run": {"updates": 60}, "evaluate": {"updates": 10}, "engine": "serial",
        "cluster": {"workers": 4, "compute": {"kind": "exponential", "mean": 1.0}}, "optimizer": {"kind": "sgd", "lr": 0.05},
    }  # fmt: skip
    return build_scenario(Document(base | sections, "test"))


FAULTS = {
    "workers": 4, "compute": {"kind": "gamma_heterogeneous", "mean": 1.0}, "server": {"service": 0.1}, "uplink": 0.2,
    "downlink": 0.1, "faults": {"up": {"kind": "exponential", "mean": 5}, "down": 1},
    "events": [{"at": 4, "workers": [3], "stop": True}],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs() -> dict[str, asyncsim.Result]:
    return {
        "asgd": asyncsim.simulate(scenario()),
        "seed 1": asyncsim.simulate(scenario(seed=1)),
        "short": asyncsim.simulate(scenario(method="gap_aware", run={"updates": 20})),
        "bsp": asyncsim.simulate(scenario(method="bsp")),
        "diverged": asyncsim.simulate(scenario(optimizer={"kind": "sgd", "lr": 1e3})),
        "diverged at once": asyncsim.simulate(scenario(optimizer={"kind": "sgd", "lr": 1e38}, evaluate={"updates": 1})),
        "faults": asyncsim.simulate(scenario(cluster=FAULTS)),
        "planned": asyncsim.plan(scenario(seed=2)),
        "lean": asyncsim.simulate(scenario(records={"events": False, "updates": False})),
    }


@pytest.mark.parametrize("draw", PER_RUN, ids=lambda draw: draw.__name__)
def test_one_several_labels_and_axes(draw, runs, ax):
    """One run alone, several of different lengths, a label for two runs, the given axes. No two entries of the legend agree."""
    axes = draw(runs["asgd"])
    plt.close(axes.figure)
    several = [runs[name] for name in ("asgd", "seed 1", "short", "bsp")]
    assert draw(several, labels=["a", "a", "b", "c"], ax=ax) is ax
    texts = ax.get_legend_handles_labels()[1]
    assert len(set(texts)) == len(texts)
    with pytest.raises(ValueError, match="1 labels for 4 results"):
        draw(several, labels=["a"], ax=ax)


@pytest.mark.parametrize("draw", PER_RUN, ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("name", ["diverged", "diverged at once"])
def test_diverged_runs_among_others(draw, name, runs, ax):
    """NaN and infinities in the tables break nothing: limits of the axes are finite."""
    assert draw([runs["asgd"], runs[name], runs["seed 1"]], labels=["fine", "bad", "fine"], ax=ax) is ax
    ax.figure.canvas.draw()
    assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()


def test_only_diverged_runs(runs, ax):
    """A curve up to the last finite value, and a legend that says so."""
    plots.convergence([runs["diverged"], runs["diverged"]], labels=["bad", "bad"], ax=ax)
    assert any("2 of 2 diverged" in text for text in ax.get_legend_handles_labels()[1])


def test_a_diverged_run_is_told_from_the_whole_ones(runs, ax):
    """The run without a finite value comes first: the one marked as diverged is that one, not its neighbour."""
    plots.convergence([runs["diverged"], runs["asgd"]], labels=["bad", "fine"], ax=ax)
    texts = ax.get_legend_handles_labels()[1]
    assert "fine" in texts
    assert "bad (diverged)" in texts


@pytest.mark.parametrize("draw", [plots.convergence, plots.gap_over_time, plots.final_metric], ids=lambda draw: draw.__name__)
def test_a_plan_has_no_numbers(draw, runs, ax):
    """A reason, not a traceback from inside; what a plan has (staleness, a Gantt chart, shares) is drawn."""
    with pytest.raises(UserError, match=r"no metric|have no gap"):
        draw(runs["planned"], ax=ax)
    for other in (plots.staleness_histogram, plots.staleness_over_time, plots.gantt, plots.time_shares):
        assert other(runs["planned"], ax=ax) is ax


@pytest.mark.parametrize("draw", [plots.staleness_histogram, plots.staleness_over_time, plots.gantt])
def test_a_table_that_was_not_kept(draw, runs, ax):
    """The error says which table is missing; the metrics are still drawn."""
    with pytest.raises(UserError, match=r"updates|events"):
        draw(runs["lean"], ax=ax)
    assert plots.convergence(runs["lean"], ax=ax) is ax


@pytest.mark.parametrize("chosen", [
    ["asgd"], ["asgd", "seed 1", "short", "bsp"], ["diverged", "asgd"], ["planned"], ["lean"], ["planned", "lean", "asgd"],
    ["faults"],
], ids=", ".join)  # fmt: skip
def test_write_figures(chosen, runs, tmp_path):
    """PNG files of what there is to draw, in a folder that is made for them; nothing else, and no figure is left open."""
    written = plots.write_figures([runs[name] for name in chosen], chosen, tmp_path / "deep" / "folder")
    expected = set()
    if set(chosen) - {"planned"}:
        expected.add("convergence")
    if set(chosen) - {"lean"}:
        expected |= {"staleness", "gantt"}
    assert {path.stem for path in written} == expected
    assert sorted(written) == sorted((tmp_path / "deep" / "folder").iterdir())
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG")
        height, width, _ = plt.imread(path).shape
        assert min(height, width) > 300


# What is drawn is what happened.


def bars(ax: Any) -> list[tuple[int, float, float]]:
    """(worker, start, end) of every bar."""
    patches = [patch for container in ax.containers for patch in container]
    return sorted(
        (round(patch.get_y() + patch.get_height() / 2), round(patch.get_x(), 9), round(patch.get_x() + patch.get_width(), 9))
        for patch in patches
    )


def test_a_gantt_chart_needs_only_the_events(runs, ax):
    """A result with nothing but the events (no summary, no other table) gives the same bars: those of the table."""
    whole = runs["faults"]
    alone = asyncsim.Result({}, {"name": "alone"}, {"events": whole.tables["events"]})
    end = whole.summary["time"] + 1.0
    assert plots.gantt(alone, end=end, ax=ax) is ax
    events = whole.events[whole.events["kind"] != "stop"]
    spans = zip(events["worker"], events["start"].round(9), events["end"].round(9), strict=True)
    assert bars(ax) == sorted(spans)
    hatched = sum(bool(patch.get_hatch()) for container in ax.containers for patch in container)
    lost = ~events["complete"] & ~events["kind"].isin(NOTHING_LOST)
    assert hatched == lost.sum() > 0
    assert any(line.get_marker() == "X" for line in ax.lines)


def test_a_gantt_chart_is_cut_to_its_window(runs, ax):
    """Bars end where the window does, workers beyond the first are left out, and so is what lies outside."""
    plots.gantt(runs["asgd"], start=2.0, end=3.0, workers=2, ax=ax)
    assert ax.get_xlim() == (2.0, 3.0)
    assert {worker for worker, _, _ in bars(ax)} == {0, 1}
    assert min(start for _, start, _ in bars(ax)) == 2.0
    assert max(end for _, _, end in bars(ax)) == 3.0


def test_the_histogram_shows_the_shares(runs, ax):
    """Heights are the shares of the pushes, which sum to 1, and the legend has their mean."""
    plots.staleness_histogram(runs["asgd"], ax=ax)
    staleness = runs["asgd"].updates["staleness"]
    heights = ax.patches[0].get_data().values
    assert heights == pytest.approx(np.bincount(staleness) / len(staleness))
    assert f"mean {staleness.mean():.1f}" in ax.get_legend_handles_labels()[1][0]
