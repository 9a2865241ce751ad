"""What docs/claims.md says came out, with one seed of the very scenarios, and far inside of what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

import asyncsim

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")


def ends(name: str, *wanted: str) -> list[asyncsim.Result]:
    """The first seed of these runs of a scenario of claims."""
    study = asyncsim.load_study(ROOT / "scenarios" / f"claims_{name}.yaml")
    first = {}
    for label, scenario in zip(study.labels, study.scenarios, strict=True):
        first.setdefault(label, scenario)
    return [asyncsim.simulate(first[label]) for label in wanted]


def accuracies(name: str, *wanted: str) -> list[float]:
    return [result.summary["test_accuracy"] for result in ends(name, *wanted)]


def test_the_page_has_the_command_of_every_scenario():
    scenarios = [f"scenarios/{path.name}" for path in sorted((ROOT / "scenarios").glob("claims_*.yaml"))]
    assert len(scenarios) == 4
    assert all(f"    asyncsim sweep {path} --processes 1\n" in PAGE for path in scenarios)


@pytest.mark.slow
def test_gap_aware_over_staleness_aware_grows():
    methods = ("staleness_aware", "gap_aware")
    few, many = ([f"{method},workers={count}" for method in methods] for count in (8, 64))
    aware, gap = accuracies("gap_aware", *few)
    assert -0.01 < gap - aware < 0.03
    aware, gap = accuracies("gap_aware", *many)
    assert gap - aware > 0.06


@pytest.mark.slow
def test_momentum():
    """At one rate it helps Gap-Aware and harms ASGD; at rates of their own it does neither."""
    names = ("asgd_plain", "asgd_momentum", "gap_aware_plain", "gap_aware_momentum")
    plain, momentum, gap_plain, gap_momentum = accuracies("momentum", *(f"{name},lr=0.05" for name in names))
    assert plain > momentum + 0.05
    assert gap_momentum > gap_plain + 0.08
    best = (0.005, 0.0005, 0.2, 0.05)
    plain, momentum, gap_plain, gap_momentum = accuracies("momentum", *map("{},lr={}".format, names, best))
    assert abs(plain - momentum) < 0.08
    assert abs(gap_plain - gap_momentum) < 0.02


@pytest.mark.slow
def test_softsync():
    synchronous, aware, fixed = ends("softsync", "hardsync", "aware_30", "fixed_30")
    assert 28 < aware.summary["staleness_mean"] < 30
    assert aware.summary["staleness_max"] <= 60
    assert abs(aware.summary["test_accuracy"] - synchronous.summary["test_accuracy"]) < 0.02
    assert fixed.summary["test_accuracy"] < 0.15


@pytest.mark.slow
def test_decoupled():
    bp, groups = ends("decoupled", "bp", "decoupled_data_parallel")
    assert groups.summary["test_accuracy"] > bp.summary["test_accuracy"] - 0.005
    assert groups.summary["time_to_target"] < 0.4 * bp.summary["time_to_target"]
