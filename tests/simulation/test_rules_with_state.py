"""Consistency rules of one's own that remember, draw, look at times and rates, and at losses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import pytest
from interrupting import interrupt

import asyncsim
import asyncsim.streams
from asyncsim.assembling import assemble
from asyncsim.consistency import Consistency, consistencies
from asyncsim.errors import UserError
from asyncsim.needs import Need
from asyncsim.scenario import Document, Scenario, build_scenario
from asyncsim.simulation.progress import WorkerProgress
from asyncsim.units import NANOSECONDS

TIERS = {"kind": "tiers", "base": {"kind": "gamma", "mean": 1, "cv": 0.1}, "factors": [1, 4]}


@pytest.fixture(autouse=True)
def _rules() -> Iterator[None]:
    before = dict(consistencies._classes)

    @consistencies.register("test_sampled")
    class Sampled(Consistency):
        """In every round (version) ``count`` workers drawn by the scenario's seed take part, each once."""

        count: int = 3

        def init(self, num_workers, streams):
            return streams

        def chosen(self, progress) -> set[int]:
            draws = progress.state("client sampling", progress.version)
            return set(draws.choice(progress.num_workers, self.count, replace=False).tolist())

        def admits(self, worker, progress):
            return worker in self.chosen(progress) and progress.delivered(worker) < progress.version

        def watches(self, progress):
            return progress.version

        def expects(self, worker, progress):
            return "a round that it is drawn for"

    @consistencies.register("test_fast_ones_wait")
    class FastOnesWait(Consistency):
        """Who is more than twice as fast as the slowest waits every other time, for the next push of another worker."""

        def init(self, num_workers, streams):
            return {"last": -1, "arrivals": 0, "asked": []}

        def arrived(self, worker, progress):
            progress.state["last"] = worker
            progress.state["arrivals"] += 1

        def admits(self, worker, progress):
            rates = [progress.rate(each) for each in range(progress.num_workers)]
            progress.state["asked"].append((progress.now, worker, tuple(rates)))
            return not (min(rates) > 0 and rates[worker] > 2 * min(rates) and progress.state["last"] == worker)

        def watches(self, progress):
            return progress.state["arrivals"]

    @consistencies.register("test_bound_by_loss")
    class BoundByLoss(Consistency):
        """Stale synchronous parallel whose bound is tight while the running mean of the losses is high."""

        needs: ClassVar[Need] = Need.WAITS | Need.VALUES
        notes: ClassVar[tuple[str, ...]] = ("average_loss",)
        level: float = 2.25

        def init(self, num_workers, streams):
            return {"mean": None}

        def arrived(self, worker, progress):
            mean = progress.state["mean"]
            progress.state["mean"] = progress.loss if mean is None else 0.8 * mean + 0.2 * progress.loss
            progress.note("average_loss", progress.state["mean"])

        def admits(self, worker, progress):
            bound = 0 if (progress.state["mean"] or math.inf) > self.level else 4
            return progress.clock(worker) - progress.slowest() <= bound

        def watches(self, progress):
            return progress.slowest(), (progress.state["mean"] or math.inf) > self.level

    @consistencies.register("test_turns")
    class Turns(Consistency):
        """Every two seconds the one that has waited longest begins."""

        clocked: ClassVar[int] = 2 * NANOSECONDS

        def init(self, num_workers, streams):
            return []

        def admits(self, worker, progress):
            return False

        def decides(self, waiting, progress):
            progress.state.append((progress.now // NANOSECONDS, progress.version, tuple(waiting)))
            return waiting[:1]

        def totals(self, progress):
            return {"decisions": len(progress.state)}

    yield
    consistencies._classes.clear()
    consistencies._classes.update(before)


def scenario(rule: str | dict[str, Any], method: str | dict[str, Any] = "asgd", **more: Any) -> Scenario:
    data = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8]}, "batch": 16},
        "cluster": {"workers": 5, "compute": TIERS},
        "method": ({"kind": method} if isinstance(method, str) else method) | {"consistency": rule},
        "optimizer": {"kind": "sgd", "lr": 0.1}, "run": {"updates": 60}, "evaluate": {"updates": 60}, **more,
    }  # fmt: skip
    return build_scenario(Document(data, "test"))


def rounds(result: asyncsim.Result) -> list[frozenset[int]]:
    """Who took part in each round of three."""
    return [frozenset(group["worker"]) for _, group in result.updates.groupby("read_version")]


def test_clients_are_sampled_by_the_seed():
    """Another seed samples others; the sample is that of the stream, and the run is its plan."""
    method = {"kind": "custom", "policy": [{"kind": "accumulate", "count": 3}]}
    runs = [asyncsim.plan(scenario("test_sampled", method, seed=seed)) for seed in (0, 1)]
    for seed, run in enumerate(runs):
        streams = asyncsim.streams.Streams(seed)
        expected = [frozenset(streams("client sampling", version).choice(5, 3, replace=False).tolist()) for version in range(60)]
        assert rounds(run) == expected
    assert rounds(runs[0]) != rounds(runs[1])
    simulated = asyncsim.simulate(scenario("test_sampled", method))
    assert simulated.fingerprints["timeline"] == runs[0].fingerprints["timeline"]


def test_rules_see_time_and_rates():
    """What a rule is shown is what the records say: deliveries over the time of the last one."""
    run = scenario("test_fast_ones_wait")
    result = asyncsim.plan(run)
    assert (result.events["kind"] == "wait").any()
    free = asyncsim.plan(scenario("asp"))
    assert result.summary["pushes_per_second"] < free.summary["pushes_per_second"]
    progress = WorkerProgress(2)
    for seconds in (2, 5):
        progress.time = partial(int, seconds * NANOSECONDS)
        progress.push(1, 0, counts=True, now=progress.now)
    assert progress.rate(1) == pytest.approx(2 / 5)
    assert progress.rate(0) == 0
    assert progress.now == 5 * NANOSECONDS


def test_a_rule_that_looks_at_losses_is_refused_by_plan_and_runs_alike_on_exact_engines():
    run = scenario("test_bound_by_loss", engine="serial")
    with pytest.raises(UserError, match="`test_bound_by_loss` decides by gradients, parameters or losses"):
        asyncsim.plan(run)
    result = asyncsim.simulate(run)
    assert result.manifest["timeline"] == "by values"
    assert asyncsim.simulate(run.evolve({"engine": {"kind": "threaded"}})).fingerprints == result.fingerprints
    tight = asyncsim.simulate(scenario({"kind": "test_bound_by_loss", "level": 0.0}, engine="serial"))
    loose = asyncsim.simulate(scenario({"kind": "test_bound_by_loss", "level": 1e9}, engine="serial"))
    assert loose.summary["time"] < result.summary["time"] < tight.summary["time"]
    assert tight.fingerprints["timeline"] == asyncsim.plan(scenario({"kind": "ssp", "bound": 0})).fingerprints["timeline"]


def test_a_rule_notes_numbers_of_a_push():
    """They are columns of the updates; what is not declared is refused."""
    updates = asyncsim.simulate(scenario("test_bound_by_loss", engine="serial")).updates
    mean = None
    for loss, noted in zip(updates["loss"], updates["average_loss"], strict=True):
        mean = loss if mean is None else 0.8 * mean + 0.2 * loss
        assert noted == pytest.approx(mean, rel=1e-6)

    @consistencies.register("test_notes_in_secret")
    class NotesInSecret(Consistency):
        def arrived(self, worker, progress):
            progress.note("secret", 1.0)

    with pytest.raises(UserError, match=r"noted 'secret'; give its class `notes = \('secret',\)`"):
        asyncsim.plan(scenario("test_notes_in_secret"))


@pytest.mark.parametrize("rule", ["test_sampled", "test_fast_ones_wait", "test_bound_by_loss"])
def test_rules_resume(rule, tmp_path):
    """What a rule remembers is there again after an interruption, losses included."""
    method = {"kind": "custom", "policy": [{"kind": "accumulate", "count": 3}]} if rule == "test_sampled" else "asgd"
    run = scenario(rule, method, checkpoint={"updates": 4})
    expected = asyncsim.simulate(run).fingerprints
    for at in (13, 37, 55):
        interrupt(run, tmp_path / str(at), after=at)
        assert asyncsim.resume(tmp_path / str(at)).fingerprints == expected


def test_a_rule_that_goes_by_the_clock():
    """It is asked at time 0 and every two seconds, after all else that happens then: who has pushed at that instant waits
    already, and the version counts the push. Nobody is let in between, and that all wait is no deadlock."""
    run = scenario("test_turns", cluster={"workers": 3, "compute": "6s"}, run={"time": "13s"})
    sim = assemble(run)
    for _ in sim.run():
        pass
    assert sim.progress[0].state == [
        (0, 0, (0, 1, 2)), (2, 0, (1, 2)), (4, 0, (2,)), (6, 1, (0,)), (8, 2, (1,)), (10, 3, (2,)), (12, 4, (0,)),
    ]  # fmt: skip
    result = asyncsim.simulate(run)
    assert result.summary["decisions"] == 7
    assert result.updates["staleness"].tolist() == [0, 1, 2, 2]
    assert asyncsim.plan(run).fingerprints["timeline"] == result.fingerprints["timeline"]
