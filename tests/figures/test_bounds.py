"""Figures have bounded sizes, one look and one time axis everywhere, and say what they leave out."""

from __future__ import annotations

import json
import struct
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade import made

from asyncsim.cli import main
from asyncsim.errors import UserError
from asyncsim.plots import KINDS, convergence, figure, find_runs, gantt, gap_over_time, write_figure, write_figures
from asyncsim.plots.kinds import MOST_INCHES, figure_bytes
from asyncsim.plots.remarks import MOST_CURVES, remarks
from asyncsim.plots.style import RC, looks

MOST_PIXELS = int(MOST_INCHES * RC["savefig.dpi"])
ENOUGH = {"time_to_target": 2.0, "cost_to_target": 1.0, "energy_to_target": 5.0}


def pixels(png: bytes) -> tuple[int, int]:
    return struct.unpack(">II", png[16:24])


def many(count: int, name: str = "a setting", **options):
    letters = [f"{chr(97 + place // 26)}{chr(97 + place % 26)}" for place in range(count)]
    return [made(method=f"{name} {letter}", seed=place, **(ENOUGH | options)) for place, letter in enumerate(letters)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_figure_is_larger_than_stated_and_what_is_left_out_is_said(kind):
    count, name = 40, "a_name_without_any_space_" * 12
    options = {"x": "method", "y": "seed"} if kind == "heat_map" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = figure(kind, many(count, name), **options)
        said = remarks(drawn)
        wide, high = pixels(figure_bytes(drawn, "png"))
    assert max(wide, high) <= MOST_PIXELS
    assert min(wide, high) > 100
    assert any(f"of {count}" in text for text in said)


@pytest.mark.parametrize("lengths", [(4, 40, 400), (4, 4, 4)])
def test_where_everything_diverges_the_figure_has_its_size_and_no_warning(tmp_path, lengths):
    """Runs of very different lengths whose last finite value is that at time 0: their crosses stood at minus infinity."""
    runs = [
        made(method=f"m{count}", accuracy=(0.1, *([np.nan] * 2)), staleness=(0,) * count, gap=(0.0,) * count, diverged=True)
        for count in lengths
    ]  # fmt: skip
    told = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = write_figures(runs, ["a", "b", "c"], tmp_path, told.append)
    assert [path.name for path in written] == ["convergence.png", "staleness.png", "gantt.png"]
    assert all(max(pixels(path.read_bytes())) < 2000 for path in written)


def test_why_a_figure_could_not_be_made_is_told(tmp_path):
    told = []
    written = write_figures([made(accuracy=(np.nan, np.nan), diverged=True)], ["a"], tmp_path, told.append)
    assert "convergence.png" not in [path.name for path in written]
    assert told == ["convergence.png: not drawn: test_error: no finite value in any run"]
    with pytest.raises(UserError, match="no finite value"):
        figure("convergence", [made(accuracy=(np.nan, np.nan), diverged=True)])


def test_sixteen_variants_have_figures_that_name_what_is_missing(tmp_path):
    told = []
    write_figures(many(16), [f"v{place:02}" for place in range(16)], tmp_path, told.append)
    assert f"convergence.png: {MOST_CURVES} of 16 settings; left out: v10 and the 5 after it" in told
    assert "gantt.png: 3 of 16 different timelines; left out: v03 and 12 more" in told


def test_a_gantt_chart_of_many_workers_says_how_many_it_shows(ax):
    gantt(made(workers=32), ax=ax)
    assert remarks(ax.figure) == ["16 of 32 workers"]


def test_the_looks_of_a_figure_differ_in_colour_or_dash():
    chosen = list(looks(f"v{chr(97 + place)}" for place in range(MOST_CURVES)).values())
    assert len({(look.colour, look.dash) for look in chosen}) == MOST_CURVES


def slow(factor: int):
    run = made(method="slow")
    run.tables["metrics"]["time_ns"] = run.tables["metrics"]["time_ns"] * factor
    run.tables["updates"]["time_ns"] = run.tables["updates"]["time_ns"] * factor
    return run


@pytest.mark.parametrize(("factor", "scale"), [(9, "linear"), (40, "log")])
@pytest.mark.parametrize("draw", [convergence, gap_over_time])
def test_one_rule_for_time_axes(ax, draw, factor, scale):
    """Curves of 4 s beside some of 160 s: each fills a good part of the axis; the value at time 0 stands at its left edge."""
    draw([made(), slow(factor)], ax=ax)
    assert ax.get_xscale() == scale
    ends = [ax.transData.transform((line.get_xdata()[-1], 1))[0] for line in ax.get_lines()[:2]]
    left, right = (ax.transAxes.transform((share, 0))[0] for share in (0, 1))
    assert (min(ends) - left) / (right - left) > 0.1
    if draw is convergence:
        first = ax.get_lines()[0]
        assert first.get_xdata()[0] == pytest.approx(max(0.0, ax.get_xlim()[0]))
        assert first.get_ydata()[0] == pytest.approx(0.9)


def test_a_spike_does_not_flatten_the_gap(ax):
    gaps = [1.0, 1.2] * 40
    gaps[7] = 1000.0
    gap_over_time(made(gap=gaps, staleness=(0,) * 80), ax=ax)
    assert ax.get_ylim()[1] < 10
    assert remarks(ax.figure) == ["1 span has its mean above the axis, up to 500.5"]


def test_runs_come_in_the_order_of_the_file_and_the_baseline_is_the_study_s(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(
        "task: quadratic\ncluster: {compute: 1s}\nrun: {updates: 8}\nbaseline: bsp\n"
        "variants: {zeta: {cluster: {workers: 4}}, bsp: {method: bsp, cluster: {workers: 2}}, "
        "alpha: {method: ssp, cluster: {workers: 4}}}\n"
    )
    assert main(["run", "s.yaml", "--processes", "1", "--no-figures"]) == 0
    assert [path.name.split("-")[0] for path in find_runs(["runs"])] == ["zeta", "bsp", "alpha"]
    assert json.loads((tmp_path / "runs/s/sweep.json").read_text())["baseline"] == "bsp"
    assert main(["plot", "runs/s", "--kind", "speedup", "--out", "s.svg"]) == 0
    assert "over N = 2, bsp" in "".join((tmp_path / "s.svg").read_text().split("<!-- ")).replace(" -->", "")
    assert "compared with itself" not in capsys.readouterr().err
    assert main(["plot", "runs/s", "--kind", "schedule", "--out", "t.png"]) == 0
    assert "the kind `gantt` also shows" in capsys.readouterr().err


def test_a_figure_whose_labels_leave_no_room_grows():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = figure("time_shares", many(3, "a_name_of_length"), width=1.0)
        wide = pixels(figure_bytes(drawn, "png"))[0]
    assert 200 < wide < 900


def test_a_drawn_figure_is_cut_to_the_page(tmp_path):
    drawn, ax = plt.subplots(figsize=(3, 2))
    ax.annotate("far away", (500, 0.5), annotation_clip=False)
    wide, high = pixels(write_figure(drawn, tmp_path / "f.png").read_bytes())
    assert max(wide, high) <= MOST_PIXELS
