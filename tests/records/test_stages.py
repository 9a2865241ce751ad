"""The table of the stages against what the papers say each method holds."""

from __future__ import annotations

import numpy as np
import pytest

import asyncsim
from asyncsim.errors import UserError
from asyncsim.records.stage_tables import most_at_once
from asyncsim.scenario import Document, build_scenario


def run(method, stages, groups=1, **sections):
    base = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8] * 5}, "batch": 40},
        "stages": {"count": stages, "time": "equal"}, "cluster": {"workers": stages * groups, "compute": f"{3 * stages}s"},
        "method": method, "run": {"updates": 40},
    }  # fmt: skip
    return asyncsim.plan(build_scenario(Document(base | sections, "test")))


LATE = {"kind": "fdg", "update_first": False}
FLUSH = {"kind": "gpipe", "micro_batches": 8, "interleaved": True}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize(
    ("method", "stash", "versions"),
    [
        ("fdg", lambda k, j: 2 * (k - j), lambda k, j: max(1, 2 * (k - j))),
        (LATE, lambda k, j: 2 * (k - j) + (j < k), lambda k, j: 2 * (k - j) + 1),
        ("pipedream", lambda k, j: (k - j + 1) * (j < k), lambda k, j: k - j + 1),
        ("pipedream_2bw", lambda k, j: (k - j + 1) * (j < k), lambda k, j: 2),
        ("ddg", lambda k, j: k - j + 1, lambda k, j: k - j + 1),
        ("gpipe", lambda k, j: 4, lambda k, j: 1),
        (FLUSH, lambda k, j: (k - j + 1) * (j < k), lambda k, j: 1),
        ("bp", lambda k, j: int(j < k), lambda k, j: 1),
    ],
    ids=["fdg", "fdg, forward first", "pipedream", "2bw", "ddg", "gpipe", "flush", "bp"],
)  # fmt: skip
def test_what_stages_hold(method, stash, versions, k, groups):
    """FDG K(K - 1) graphs, PipeDream K(K + 1) / 2 versions, 2BW two a stage; a batch done in one go is in no stash."""
    if isinstance(method, str) and method == "pipedream_2bw":
        method = {"kind": method, "micro_batches": 4 if k < 4 else 5}
    result = run(method, k, groups)
    table = result.stages
    assert table.index.tolist() == list(range(1, k + 1))
    assert table["stash"].tolist() == [stash(k, j) for j in range(1, k + 1)]
    assert table["versions"].tolist() == [versions(k, j) for j in range(1, k + 1)]
    assert result.summary["stash_peak"] == table["stash"].sum()
    assert result.summary["versions_peak"] == table["versions"].sum()
    assert (result.summary["stages"], result.summary["groups"]) == (k, groups)
    assert (table["weight_bytes"] == 4 * table["versions"] * table["parameters"]).all()


@pytest.mark.parametrize(("k", "m"), [(2, 4), (3, 4), (4, 8)])
def test_the_bubble_of_gpipe(k, m):
    assert run({"kind": "gpipe", "micro_batches": m}, k).summary["bubble"] == pytest.approx((k - 1) / (m + k - 1), abs=1e-9)


def test_the_bubble_of_locked_backpropagation():
    result = run("bp", 4)
    assert result.summary["bubble"] == pytest.approx(3 / 4, abs=1e-9)
    assert result.summary["utilisation"] == pytest.approx(1 / 4, abs=1e-9)
    assert result.stages["busy"].tolist() == pytest.approx([0.25] * 4, abs=1e-9)


def test_staleness_and_first_backward_pass():
    """FDG, update first: stage k is max(0, 2(K - k) - 1) versions late, and its first backward pass is in tick 2K - k."""
    table = run("fdg", 3).stages
    assert table["staleness_median"].tolist() == [3, 1, 0]
    assert table["staleness_max"].tolist() == [3, 1, 0]
    assert table["updates"].tolist() == [40, 40, 40]
    # ticks 1 and 2 are forward passes only (1 s); in each later one a last stage that does both takes 3 s
    assert table["first_backward"].tolist() == pytest.approx([8.0 + 2, 5.0 + 2, 2.0 + 3])


def test_replicas_are_one_stage():
    result = run("asgd", 1, 3)
    assert len(result.stages) == 1
    assert result.stages["stash"].tolist() == [0]
    assert not {"stages", "groups", "bubble", "stash_peak"} & set(result.summary)


def test_without_tables():
    lean = run("fdg", 2, records={"events": False})
    assert set(lean.stages) == {"updates", "staleness_mean", "staleness_median", "staleness_max", "parameters"}
    assert lean.summary["groups"] == 1
    assert "bubble" not in lean.summary
    with pytest.raises(UserError, match="nothing is known of its stages"):
        _ = run("fdg", 2, records={"events": False, "updates": False}).stages


def test_what_ends_goes_before_what_begins():
    starts, ends = np.array([0, 1, 2, 2]), np.array([1, 2, 2, 5])
    assert most_at_once(starts, ends) == 1
    assert most_at_once(starts, ends + 1) == 3
