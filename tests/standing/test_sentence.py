"""What `plan` says of theory: the step against the largest stable one, checked by real runs, and what it does not know."""

from __future__ import annotations

import re

import numpy as np
import pytest

import asyncsim
from asyncsim.cli import main
from asyncsim.scenario import Document, build_scenario
from asyncsim.standing import facts_of, limits_of, standing
from asyncsim.theory import best_workers, constant_staleness_limit, gamma_staleness, mean_limit, stable_step


def scenario(workers=8, lr=0.1, compute="1s", updates=400, **changes) -> asyncsim.Scenario:
    return build_scenario(Document({
        "dtype": "float64", "task": {"kind": "quadratic", "dim": 1, "curvature": 2.0}, "run": {"updates": updates},
        "cluster": {"workers": workers, "compute": compute}, "optimizer": {"kind": "sgd", "lr": lr},
    } | changes, "test"))  # fmt: skip


def said(each: asyncsim.Scenario) -> str:
    planned = asyncsim.plan(each)
    return standing(each.document(), planned.updates["staleness"].to_numpy(), planned.summary["workers"])


@pytest.mark.parametrize(("share", "verdict"), [(0.93, "is stable: 93 %"), (1.07, "diverges")])
@pytest.mark.parametrize("method", ["asgd", "staleness_aware"])
def test_the_verdict_is_that_of_the_run(share, verdict, method):
    """Eight workers in turn on curvature 2; staleness-aware steps are a seventh of those."""
    limit = constant_staleness_limit(7) / 2 * (7 if method == "staleness_aware" else 1)
    each = scenario(lr=share * limit, updates=1200, method=method)
    sentence = said(each)
    assert verdict in sentence
    assert f"{limit:.4g}" in sentence
    assert "mean staleness 7" in sentence
    final = asyncsim.simulate(each).summary["test_distance"]
    assert (final < 0.2) if share < 1 else (final is None or final > 5)


def test_the_best_number_of_workers():
    sentence = said(scenario(lr=0.01))
    assert f"N = {best_workers(0.01, 2.0).workers} would converge fastest (here N = 8)" in sentence
    exponential = said(scenario(lr=0.01, compute={"kind": "exponential", "mean": "1s"}))
    assert f"N = {best_workers(0.01, 2.0, 1.0).workers} would" in exponential
    assert "best N is not known" in said(scenario(lr=0.01, optimizer={"kind": "sgd", "lr": 0.01, "momentum": 0.5}))
    assert "best N is not known" in said(scenario(lr=0.01, compute={"kind": "uniform", "low": "1s", "high": "2s"}))
    noisy = {"kind": "quadratic", "dim": 1, "noise": 0.1}
    assert "would converge fastest, without noise" in said(scenario(lr=0.01, task=noisy))


def test_between_the_two_limits_it_is_at_the_edge():
    """Exponential times: far beyond the limit of the mean square the mean still converges, which is no comfort."""
    sentence = said(scenario(lr=0.5, compute={"kind": "exponential", "mean": "1s"}, updates=4000))
    assert "at the edge" in sentence


def test_elsewhere_it_says_how_large_the_curvature_may_be():
    task = {"kind": "digits", "model": "softmax"}
    sentence = said(scenario(4, 0.05, task=task))
    limit = constant_staleness_limit(3)
    assert f"lr x curvature < {limit:.3g} (22.3 % of what fresh gradients bear)" in sentence
    assert f"the largest curvature may be {limit / 0.05:.3g}" in sentence
    assert sentence.endswith("and so the best N, a plan cannot know")
    momentum = said(scenario(4, 0.05, task=task, optimizer={"kind": "sgd", "lr": 0.05, "momentum": 0.9}))
    assert f"lr x curvature < {mean_limit(3, 0.9):.3g}" in momentum
    fresh = said(scenario(4, 0.05, task=task, method="bsp"))
    assert "lr x curvature < 2:" in fresh


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"method": "gap_aware"}, "gap_aware does more to a gradient than to average it"),
        ({"method": {"kind": "staleness_aware", "rule": "polynomial"}}, "the rule polynomial of staleness_aware"),
        ({"method": {"kind": "local_sgd", "local_steps": 2}}, "local_sgd does more"),
        ({"optimizer": {"kind": "adam"}}, "steps of adam are not proportional to the gradient"),
        ({"method": {"kind": "asgd", "before": [{"kind": "clip", "max_norm": 1}]}}, "the method has more parts than its own"),
    ],
)
def test_what_it_says_nothing_about_is_named(changes, why):
    sentence = said(scenario(**changes))
    assert f"nothing about this run ({why}" in sentence
    assert "plain SGD at its mean staleness" in sentence


def test_a_pipeline():
    each = scenario(
        4, task={"kind": "digits", "model": {"kind": "mlp", "hidden": [8, 8, 8]}}, stages={"count": 4, "time": "equal"},
        method="fdg",
    )  # fmt: skip
    assert said(each) == "theory: nothing about this run (every stage of a pipeline has a staleness of its own)"


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_long_law_is_put_into_bins(momentum):
    """More than 500 stalenesses in half as many bins: the limit of the mean is that of the whole law within 1 %, that of the mean
    square at most 2 % smaller. Wrong: the momentum left out, and its delay."""
    law = gamma_staleness(300, 0.5)
    assert len(law) > 500
    facts = facts_of({"optimizer": {"lr": 0.1, "momentum": momentum}}, 300)
    found = limits_of(facts, law)
    assert found.mean == pytest.approx(mean_limit(law, momentum), rel=0.01)
    assert 0.98 < found.safe / stable_step(law, momentum=momentum) < 1.01
    if momentum:
        assert found.mean != pytest.approx(mean_limit(law), rel=0.5)
        assert found.mean != pytest.approx((1 - momentum) * mean_limit(law), rel=0.01)


def test_nothing_to_say():
    assert standing({}, np.array([], dtype=int), 4) == ""
    still = said(scenario(task={"kind": "quadratic", "dim": 1, "curvature": 0.0}))
    assert still.endswith("nothing moves: lr 0.1, largest curvature 0")


def test_the_command_says_it_once_a_run(tmp_path, monkeypatch, capsys):
    """One line for each run of the plan, none in JSON, none where pushes are not recorded."""
    monkeypatch.chdir(tmp_path)
    text = "task: quadratic\ncluster: {workers: 4, compute: 1s}\nrun: {updates: 40}\n"
    text += "variants: {a: {method: asgd}, b: {method: dana}}\n"
    (tmp_path / "s.yaml").write_text(text)
    assert main(["plan", "s.yaml"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("theory: ")]
    assert len(lines) == 2
    assert re.search(r"mean staleness 3, lr 0\.\d+ (is stable|diverges)", lines[0])
    assert "dana does more" in lines[1]
    assert main(["plan", "s.yaml", "--json"]) == 0
    assert "theory" not in capsys.readouterr().out
    assert main(["plan", "s.yaml", "--set", "records.updates=false"]) == 0
    assert "theory" not in capsys.readouterr().out
