"""A schedule shows the passes of the events, each at its place with its number, in the colours of what it is."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

import asyncsim
from asyncsim.plots import by_stage, figure, schedule, staleness_histogram
from asyncsim.plots.schedule import FILL
from asyncsim.records.rows import WORK
from asyncsim.scenario import Document, build_scenario


def run(method, stages=3, groups=1, **sections):
    base = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8] * 5}, "batch": 8},
        "stages": {"count": stages, "time": "equal"}, "cluster": {"workers": stages * groups, "compute": f"{3 * stages}s"},
        "method": method, "run": {"updates": 20},
    }  # fmt: skip
    return asyncsim.plan(build_scenario(Document(base | sections, "test")))


def boxes(ax):
    """Row, start, end and kind of every box."""
    kinds = {colour: kind for kind, colour in FILL.items()}
    found = []
    for box in (box for bars in ax.containers for box in bars):
        left, right = box.get_x(), box.get_x() + box.get_width()
        found.append((round(box.get_y() + 0.45), round(left, 6), round(right, 6), kinds[to_hex(box.get_facecolor()).upper()]))
    return sorted(found)


@pytest.mark.parametrize("method", ["fdg", "pipedream", "gpipe", "ddg", "bp"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_boxes_are_the_passes(ax, method, groups):
    result = run(method, groups=groups)
    assert schedule(result, start=3.0, end=21.0, ax=ax) is ax
    expected = []
    for span in result.events[result.events["kind"].isin(WORK)].itertuples():
        row = span.worker // 3 * 3 + 2 - span.worker % 3
        cut = span.start + (span.end - span.start) / 3
        parts = [(span.kind, span.start, span.end)]
        if span.kind == "compute":
            parts = [("forward", span.start, cut), ("backward", cut, span.end)]
        for kind, start, end in parts:
            start, end = max(start, 3.0), min(end, 21.0)
            if start < end:
                expected.append((row, round(start, 6), round(end, 6), kind))
    assert boxes(ax) == sorted(expected)
    assert ax.get_xlim() == (3.0, 21.0)
    names = [label.get_text() for label in ax.get_yticklabels()]
    lowest = sorted(zip(ax.get_yticks(), names, strict=True))
    assert [name for _, name in lowest][:3] == (["3", "2", "1"] if groups == 1 else ["group 1:  3", "2", "1"])


def test_the_numbers_are_the_batches():
    """Of FDG's first ticks, as in the paper's figure with update first; every box is wide enough for its number."""
    drawn = figure("schedule", [run("fdg")], end=12.0)
    (ax,) = drawn.axes
    told = sorted((round(text.get_position()[1]), text.get_position()[0], int(text.get_text())) for text in ax.texts)
    numbers = {stage: [number for row, _, number in told if row == 3 - stage] for stage in (1, 2, 3)}
    assert numbers == {1: [0, 1, 2, 3, 0, 4, 1], 2: [0, 1, 0, 2, 1, 3, 2], 3: [0, 0, 1, 1, 2, 2, 3]}
    plt.close(drawn)


def test_the_window(ax):
    schedule(run("gpipe"), batches=4, ax=ax)
    assert ax.get_xlim() == pytest.approx((0.0, 4.5))  # (p - 1 + m) micro-batches of 3 / 4 s
    ax.clear()
    schedule(run("bp"), batches=2, ax=ax)
    assert ax.get_xlim() == pytest.approx((0.0, 18.0))


def test_replicas_have_boxes_too(ax):
    result = run("asgd", stages=1, groups=3, cluster={"workers": 3, "compute": "1s"})
    schedule(result, end=2.0, ax=ax)
    assert boxes(ax) == [(row, float(start), start + 1.0, "compute") for row in range(3) for start in range(2)]
    assert ax.get_ylabel() == "worker"


def test_staleness_by_stage(ax):
    results, labels = by_stage(run("pipedream"))
    assert labels == ["stage 1", "stage 2", "stage 3"]
    assert [part.updates["staleness"].max() for part in results] == [2, 1, 0]
    staleness_histogram(results, labels, ax=ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()][2] == "stage 3 (always 0)"
    _, several = by_stage([run("pipedream"), run("fdg")])
    assert several[3:] == ["fdg, stage 1", "fdg, stage 2", "fdg, stage 3"]
