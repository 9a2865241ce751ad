"""What a notebook shows of a run, a sweep and a scenario: the numbers, a curve, and nothing that a name could smuggle in."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import asyncsim


def scenario(**sections):
    task = {"kind": "digits", "model": "softmax"}
    return asyncsim.make_scenario(task=task, cluster={"workers": 2}, run={"updates": 40}, **sections)


def test_a_run_is_a_table_and_a_curve():
    """Well-formed; the accuracy of the summary; as many points as evaluations, from left to right, within the picture."""
    result = asyncsim.simulate(scenario())
    page = ElementTree.fromstring(result._repr_html_().replace("<br>", ""))
    rows = {row.find("th").text: row.find("td").text for row in page.iter("tr")}
    assert float(rows["test accuracy"]) == float(f"{result.summary['test_accuracy']:.4g}")
    assert rows["updates"] == "40"
    line = next(page.iter("polyline")).attrib["points"]
    points = [tuple(map(float, point.split(","))) for point in line.split()]
    assert len(points) == len(result.metrics)
    assert points == sorted(points)
    assert all(3 <= x <= 217 and 3 <= y <= 57 for x, y in points)
    first, last = result.metrics["test_accuracy"].iloc[[0, -1]]
    assert (last > first) == (points[-1][1] < points[0][1])
    assert repr(result) == "<Result 'scenario': asgd, finished, 40 updates>"


def test_what_is_not_known_is_not_shown():
    """A plan has no metrics and no curve; a diverged run says so, and draws what was finite."""
    assert "svg" not in asyncsim.plan(scenario())._repr_html_()
    lost = asyncsim.simulate(scenario(optimizer={"kind": "sgd", "lr": 1e38}))
    assert "diverged" in lost._repr_html_()
    assert "nan" not in lost._repr_html_()


def test_a_scenario_and_a_sweep_show_themselves():
    assert re.search("cluster: .*workers.*2", scenario()._repr_html_())
    shown = asyncsim.run_sweep(scenario(), {"cluster.workers": [1, 2]})._repr_html_()
    assert shown.count("<tr") == 3
    result = asyncsim.simulate(scenario())
    result.manifest["name"] = "<script>"
    assert "<script>" not in result._repr_html_()
