"""Groups that are closed a grace time after their first push, and a count that follows the loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from interrupting import interrupt

import asyncsim
from asyncsim.errors import UserError
from asyncsim.needs import Need
from asyncsim.policies import Push, State, Transform, Verdict
from asyncsim.policies.mean import mean_push
from asyncsim.registries import policies
from asyncsim.scenario import Document, Scenario, build_scenario

SECOND = 1_000_000_000


@dataclass(slots=True)
class Losses(State):
    buffer: list[Push] = field(default_factory=list)
    first: float | None = None
    mean: float | None = None


@pytest.fixture(autouse=True)
def _policies() -> Iterator[None]:
    before = dict(policies._classes)

    @policies.register("test_adaptive_count")
    class AdaptiveCount(Transform):
        """Average ``K`` pushes: one more for every halving of the loss since the first push."""

        needs: ClassVar[Need] = Need.BUFFERS | Need.MEANS | Need.VALUES
        notes: ClassVar[tuple[str, ...]] = ("K",)

        def init(self, params, num_workers):
            return Losses()

        def update(self, push, state, server):
            loss = float("nan") if push.payload is None else float(push.payload.result().loss)
            state.first = loss if state.first is None else state.first
            state.mean = loss if state.mean is None else 0.9 * state.mean + 0.1 * loss
            count = 1 + int(max(0.0, np.log2(state.first / state.mean) * 4))
            push.note("K", count)
            state.buffer.append(push)
            if len(state.buffer) < count:
                return Verdict.BUFFERED
            ready, state.buffer = state.buffer, []
            return ready[0] if len(ready) == 1 else mean_push(ready)

    yield
    policies._classes.clear()
    policies._classes.update(before)


def scenario(policy: Any, compute: Any = None, **more: Any) -> Scenario:
    data = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8]}, "batch": 8},
        "cluster": {"workers": 4, "compute": compute or {"kind": "gamma_heterogeneous", "mean": 1}},
        "method": {"kind": "custom", "policy": [policy]}, "optimizer": {"kind": "sgd", "lr": 0.2},
        "run": {"updates": 40}, "evaluate": {"updates": 40}, **more,
    }  # fmt: skip
    return build_scenario(Document(data, "test"))


def grace(seconds: float, count: int | None = None) -> dict[str, Any]:
    return {"kind": "accumulate", "within": seconds} | ({} if count is None else {"count": count})


def test_the_groups_are_those_of_the_arrivals_by_hand():
    """Asynchronous workers push at times that do not depend on the groups: a group is what arrives within the grace of its first
    push, the last instant included, and at most ``count`` (as many as there are workers, where that is not given)."""
    for count in (None, 3):
        run = scenario(grace(0.6, count))
        result = asyncsim.plan(run)
        arrivals = asyncsim.plan(scenario({"kind": "accumulate", "count": 1}, run={"updates": 400})).updates["time_ns"].tolist()
        ends, at = [], 0
        while len(ends) < 40:
            first = arrivals[at]
            members = [time for time in arrivals[at:] if time <= first + 600_000_000][: count or 4]
            full = len(members) == (count or 4)
            ends.append((members[-1] if full else first + 600_000_000, len(members)))
            at += len(members)
        updates = result.updates
        assert result.summary["time"] * SECOND == pytest.approx(ends[-1][0], abs=1)
        assert len(updates) == sum(size for _, size in ends)
        assert result.summary["samples"] == 8 * len(updates)
        assert len({size for _, size in ends}) > 1


def test_an_arrival_at_the_very_end_of_the_grace_is_in_the_group():
    """Two workers at 1 s and 1.5 s: a grace of half a second takes both, a nanosecond less only the first."""
    two = {"kind": "tiers", "base": 1, "factors": [1, 1.5]}
    sizes = []
    for seconds in (0.5, 0.499999999):
        run = scenario(grace(seconds), two, cluster={"workers": 2, "compute": two}, run={"updates": 1})
        sizes.append(asyncsim.plan(run).summary["samples"] // 8)
    assert sizes == [2, 1]


def test_an_endless_grace_is_a_count_and_a_synchronous_round():
    """Asynchronous with infinite wait equals synchronous, bit for bit."""
    barrier = {"method": {"kind": "custom", "policy": [grace(1e6, 4)], "consistency": "bsp"}}
    patient = asyncsim.simulate(scenario(grace(1e6, 4), **barrier))
    bsp = asyncsim.simulate(scenario(grace(1), method={"kind": "bsp"}))
    assert patient.fingerprints == bsp.fingerprints


def test_waiting_for_the_end_of_a_grace_is_no_deadlock():
    """Under rounds everybody may wait for a group that only its time will close: worker 3 never comes back."""
    events = [{"at": "100ms", "workers": [3], "down": "1000s"}]
    run = scenario(grace(2, 4), cluster={"workers": 4, "compute": 1, "events": events}, run={"updates": 5},
                   method={"kind": "custom", "policy": [grace(2, 4)], "consistency": "bsp"})  # fmt: skip
    result = asyncsim.plan(run)
    assert result.summary["time"] == pytest.approx(5 * (1 + 2))
    assert (result.events["kind"] == "wait").any()


@pytest.mark.parametrize("method", ["grace", "rounds"])
def test_a_resumed_run_closes_its_groups_at_the_same_times(method, tmp_path):
    rounds = {"method": {"kind": "custom", "policy": [grace(0.5, 4)], "consistency": "bsp"}}
    run = scenario(grace(0.6), checkpoint={"updates": 3}, **(rounds if method == "rounds" else {}))
    expected = asyncsim.simulate(run)
    assert expected.fingerprints["timeline"] == asyncsim.plan(run).fingerprints["timeline"]
    for at in (11, 29, 60):
        interrupt(run, tmp_path / str(at), after=at)
        assert asyncsim.resume(tmp_path / str(at)).fingerprints == expected.fingerprints


def test_a_count_that_follows_the_loss_is_recorded_and_cannot_be_planned(tmp_path):
    run = scenario("test_adaptive_count", run={"updates": 80})
    with pytest.raises(UserError, match="`test_adaptive_count` decides by gradients, parameters or losses"):
        asyncsim.plan(run)
    result = asyncsim.simulate(run, tmp_path)
    counts = asyncsim.load_result(tmp_path).updates["K"]
    assert counts.iloc[0] == 1
    assert counts.max() > 2
    assert (np.diff(np.flatnonzero(result.updates["outcome"] == "applied")).max()) > 2
    assert asyncsim.simulate(run).fingerprints == result.fingerprints
