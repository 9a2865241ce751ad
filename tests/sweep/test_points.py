"""Expansion: what a ``sweep`` section describes, in which order, and what its points are called."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsim import UserError, load_study
from asyncsim.cli.arguments import parse_axes
from asyncsim.scenario import Document, expand

BASE = {"task": "quadratic", "run": {"updates": 5}}
VALUES = {
    "cluster.workers": st.integers(1, 50),
    "optimizer.lr": st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]),
    "task.noise": st.sampled_from([0, 0.5, 1.0, 2.0]),
    "task.batch": st.integers(1, 9),
}


def study(sweep, **more):
    return expand(Document({**BASE, "sweep": sweep, **more}, "test"), {}, None, "s")


@st.composite
def sweeps(draw):
    fields = draw(st.permutations(list(VALUES)))
    cut = draw(st.integers(0, 4))
    grid = {field: draw(st.lists(VALUES[field], min_size=1, max_size=3, unique=True)) for field in fields[:cut]}
    length = draw(st.integers(1, 3))
    zipped = {
        field: draw(st.lists(VALUES[field], min_size=length, max_size=length, unique=True)) for field in fields[cut:]
    }  # fmt: skip
    return {key: axes for key, axes in (("grid", grid), ("zip", zipped)) if axes} | {"seeds": draw(st.integers(1, 3))}


@settings(max_examples=60, deadline=None)
@given(sweeps())
def test_grid_is_a_product_and_zip_goes_together(sweep):
    made = study(sweep)
    grid, zipped = sweep.get("grid", {}), sweep.get("zip", {})
    rows = [
        dict(zip([*grid, *zipped], [*values, *together], strict=True))
        for values in itertools.product(*grid.values())
        for together in (zip(*zipped.values(), strict=True) if zipped else [()])
    ]
    expected = [row for row in rows for _ in range(sweep["seeds"])]
    assert list(made.points) == expected
    assert len({(label, scenario.seed) for label, scenario in zip(made.labels, made.scenarios, strict=True)}) == len(made)
    assert len({scenario.hash for scenario in made.scenarios}) == len(made)
    for point, scenario in zip(made.points, made.scenarios, strict=True):
        assert scenario.cluster.num_workers == point.get("cluster.workers", 8)
        assert scenario.optimizer.lr == point.get("optimizer.lr", 0.01) or "optimizer.lr" not in point
        assert scenario.task.batch == point.get("task.batch", 1)


def test_variants_points_and_seeds_in_the_order_of_the_file():
    made = study(
        {"grid": {"cluster.workers": [4, 2]}, "list": [{"task.noise": 1}, {"task.noise": 0, "task.batch": 3}], "seeds": [7, 3]},
        variants={"b": {"method": "bsp"}, "a": {"method": "asgd"}},
    )
    assert made.labels[:8:2] == (
        "b,workers=4,noise=1", "b,workers=4,noise=0,batch=3", "b,workers=2,noise=1", "b,workers=2,noise=0,batch=3",
    )  # fmt: skip
    assert [scenario.seed for scenario in made.scenarios[:4]] == [7, 3, 7, 3]
    assert made.variants == ("b",) * 8 + ("a",) * 8
    assert made.fields == ["cluster.workers", "task.noise", "task.batch"]
    assert made.scenarios[0].name == "s-b,workers=4,noise=1"


def test_a_swept_value_may_be_a_section_or_a_name():
    made = study({"grid": {"method": ["asgd", {"kind": "softsync", "n": 2}, {"kind": "softsync", "n": 4}]}})
    assert made.labels == ("method=asgd", "method=softsync", "method=softsync.2")
    assert [scenario.method.kind for scenario in made.scenarios] == ["asgd", "softsync", "softsync"]
    nested = study({"grid": {"cluster": {"workers": [1, 2]}}})
    assert nested.fields == ["cluster.workers"]


def test_labels_tell_fields_of_one_name_apart():
    made = study({"grid": {"cluster.uplink.latency": ["1ms", "2ms"], "cluster.downlink.latency": ["1ms"]}})
    assert made.labels[0] == "cluster.uplink.latency=1ms,cluster.downlink.latency=1ms"


def test_the_command_line_replaces_adds_and_wins(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "task: quadratic\nrun: {updates: 5}\nseeds: 4\nsweep: {grid: {cluster.workers: [1, 2], task.noise: [0, 1]}}\n"
    )
    grid = parse_axes("--grid", ["cluster.workers=3", "cluster.compute=1s,{kind: gamma, mean: 1s, cv: 0.1}"])
    made = load_study(tmp_path / "s.yaml", {}, {"grid": grid, "seeds": 1})
    assert made.fields == ["cluster.workers", "task.noise", "cluster.compute"]
    assert len(made) == 1 * 2 * 2
    assert len(load_study(tmp_path / "s.yaml", {"seed": 9})) == 4
    assert len(load_study(tmp_path / "s.yaml", {}, {"seeds": [5, 6]})) == 8


def test_toml(tmp_path):
    (tmp_path / "s.toml").write_text(
        'task = "quadratic"\n[run]\nupdates = 5\n[sweep]\nseeds = 2\n'
        '[sweep.grid]\ncluster.workers = [1, 0]\n"task.noise" = [0, 1]\n'
    )
    with pytest.raises(UserError, match=r"s.toml:7: cluster.workers: must be at least 1 \(it is 0\)"):
        load_study(tmp_path / "s.toml")


def test_parse_axes():
    assert parse_axes("--grid", ["a.b=1,2ms,[3, 4]", "c={kind: x}"]) == {"a.b": [1, "2ms", [3, 4]], "c": [{"kind": "x"}]}


def test_a_thousand_runs():
    made = study({"grid": {"cluster.workers": list(range(1, 51)), "optimizer.lr": [0.1, 0.2]}, "seeds": 10})
    assert len(made) == 1000
    assert math.isclose(made.scenarios[-1].optimizer.lr, 0.2)
