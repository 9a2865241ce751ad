"""What the settings of a method mean in a run, counted exactly; and which settings do not fit a fleet or an optimiser."""

from __future__ import annotations

from typing import Any

import pytest

import asyncsim
from asyncsim.scenario import ScenarioError

UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}


def pushes(scenario: Any) -> Any:
    return asyncsim.plan(scenario).updates


@pytest.mark.parametrize("stops", [False, True], ids=["finishes", "stops"])
@pytest.mark.parametrize("threshold", [1, 4])
def test_ringmaster_applies_what_is_fresher_than_its_threshold(make, threshold, stops):
    """Reference 7: delta < R is applied, delta >= R discarded; R = 1 accepts delta = 0 alone. With stops no such work is
    finished."""
    method = {"kind": "ringmaster", "threshold": threshold, "stops": stops}
    plan = asyncsim.plan(make(6, UNEVEN, method=method))
    applied = plan.updates["outcome"] == "applied"
    assert applied.sum() == 200
    assert plan.updates.loc[applied, "staleness"].max() == threshold - 1
    if stops:
        assert applied.all()
        assert plan.summary["recalled"] > 20
    else:
        assert (plan.updates.loc[~applied, "staleness"] >= threshold).all()
        assert (~applied).sum() > 20


@pytest.mark.parametrize(("n", "count"), [(1, 6), (2, 3), (3, 2), (4, 1), (6, 1)])
def test_softsync_averages_the_floor_of_workers_over_n(make, n, count):
    """Reference 3.1: c = floor(lam / n) gradients an update, lam = 6."""
    updates = pushes(make(6, UNEVEN, method={"kind": "softsync", "n": n}))
    assert len(updates) == 200 * count
    assert (updates["version"] == (updates.index + 1) // count).all()


@pytest.mark.parametrize("method", [{"kind": "k_sync", "k": 4}, {"kind": "backup_workers", "backups": 2}], ids=str)
@pytest.mark.parametrize("cancel", [True, False], ids=["cancel", "patient"])
def test_rounds_of_the_first_four(make, method, cancel):
    """Reference 7, K-sync and backup workers: an update takes the first four pushes on its parameters, from four workers, all of
    staleness 0. Who is late drops its work at once, or is dropped when it is done."""
    plan = asyncsim.plan(make(6, UNEVEN, method=method | {"cancel": cancel}))
    kept = plan.updates[plan.updates["outcome"] != "dropped"]
    assert len(kept) == 800
    assert (kept["staleness"] == 0).all()
    assert (kept.groupby("read_version")["worker"].nunique() == 4).all()
    assert (plan.summary["recalled"] > 100) is cancel
    assert (plan.summary["dropped"] > 10) is not cancel


def test_conservation_of_staleness(make):
    """Reference 1.4.1: after K updates the applied staleness and that in flight add up to K (N - 1), whatever the times: each
    update makes N - 1 snapshots one version older, and an arrival takes its own staleness out."""
    for compute in ("1s", UNEVEN, {"kind": "exponential", "mean": "1s"}):
        plan = asyncsim.plan(make(6, compute, method="gap_aware"))
        assert plan.updates["staleness"].sum() + plan.summary["in_flight_staleness"] == 200 * 5


def test_equal_times_take_turns(make):
    """Reference 1.4.3: the k-th arrival has staleness min(k, N - 1), and workers arrive in the order of their index."""
    updates = pushes(make(6, "1s"))
    assert updates["staleness"].tolist() == [min(k, 5) for k in range(200)]
    assert updates["worker"].tolist() == [k % 6 for k in range(200)]


REFUSED = {
    "softsync_7_of_6": ({"method": {"kind": "softsync", "n": 7}}, "1 <= n <= workers"),
    "k_sync_7_of_6": ({"method": {"kind": "k_sync", "k": 7}}, "1 <= k <= workers"),
    "six_backups_of_6": ({"method": {"kind": "backup_workers", "backups": 6}}, "fewer than the workers"),
    "dana_with_adam": ({"method": "dana", "optimizer": "adam"}, "needs the optimizer sgd"),
    "dana_with_nesterov": (
        {"method": "dana_gap_aware", "optimizer": {"kind": "sgd", "momentum": 0.9, "nesterov": True}}, "look-ahead of its own"
    ),
    "published_gap_aware_with_adam": (
        {"method": {"kind": "gap_aware", "step_length": "code"}, "optimizer": "adam"}, "use `step_length: applied`"
    ),
    "published_gap_aware_in_front": (
        {"method": {"kind": "bsp", "before": [{"kind": "gap_aware", "step_length": "code"}]}, "optimizer": "nadam"},
        "use `step_length: applied`",
    ),
    "stops_and_a_barrier": ({"method": {"kind": "ringmaster", "stops": True, "consistency": "bsp"}}, "cannot be combined"),
    "nesterov_alone": ({"optimizer": {"kind": "sgd", "nesterov": True}}, "needs a momentum"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(make, name):
    """Before anything runs, by the scenario; the bound itself is accepted (n = 6, k = 6, 5 backups of 6)."""
    sections, message = REFUSED[name]
    with pytest.raises(ScenarioError, match=message):
        make(**sections)


@pytest.mark.parametrize(
    "method", [{"kind": "softsync", "n": 6}, {"kind": "k_sync", "k": 6}, {"kind": "backup_workers", "backups": 5}], ids=str
)
def test_the_bounds_themselves_fit(make, method):
    """The largest settings that were not refused above run."""
    assert asyncsim.plan(make(method=method)).summary["updates"] == 200


@pytest.mark.parametrize(
    "method",
    ["asgd", "gap_aware", "dc_asgd", "dana", {"kind": "dana", "compensate": 1.0}, "dana_gap_aware", "bsp", "rennala",
     {"kind": "softsync", "n": 2}, {"kind": "asgd", "before": [{"kind": "clip", "max_norm": 1e30}]},
     {"kind": "fedasync", "local_lr": 1e9}, {"kind": "fedbuff", "local_lr": 1e9}],
    ids=str,
)  # fmt: skip
def test_divergence_is_a_result_with_the_planned_timeline(make, method):
    """With a rate of 1e12 every method ends in infinities. Nothing raises: the run is called diverged, no gradient is computed
    from then on, and its events are those of the plan."""
    scenario = make(method=method, optimizer={"kind": "sgd", "lr": 1e12, "momentum": 0.5}, run={"updates": 40})
    result = asyncsim.simulate(scenario)
    assert result.summary["status"] == "diverged"
    assert result.summary["updates"] == 40
    assert result.fingerprints["timeline"] == asyncsim.plan(scenario).fingerprints["timeline"]
    after = result.updates[result.updates["version"] > result.summary["diverged_at_update"] + 1]
    assert len(after) > 10
    assert after["loss"].isna().all()
