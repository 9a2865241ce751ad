"""Everything that has to hold for one scenario. A check that fails raises ``Finding``."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import asyncsim
from asyncsim.engine.spec import Batched, EngineSpec, Serial, Threaded
from asyncsim.needs import Need
from asyncsim.records import Result
from asyncsim.scenario import Scenario, dump_scenario, load_scenario
from torture.drawing import FOLDER, built
from torture.interrupting import counted, interrupted
from torture.laws import check_tables
from torture.liveness import check_progress
from torture.outcomes import Finding, Outcome, attempt, clear
from torture.reference import check_timeline
from torture.trajectory import check_parameters

FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where run folders go: many are written, none is kept."""
TABLES = ("metrics", "updates", "events")
EARLY, NEAR = 10, 1e-7
"""The first pushes whose losses have to agree between families of engines, and how well: later, differences may have grown."""


class Subject:
    """One scenario with what the checks share."""

    def __init__(self, scenario: Scenario, seed: int = 0) -> None:
        self.scenario = scenario.model_copy(update={"engine": Serial()})
        self.rng = random.Random(f"checks {seed}")
        self.plans = self.runs = 0
        self._planned: Outcome | None = None
        self._ran: Outcome | None = None

    @property
    def planned(self) -> Outcome:
        if self._planned is None:
            self.plans += 1
            self._planned = attempt("plan", lambda: asyncsim.plan(self.scenario))
        return self._planned

    @property
    def ran(self) -> Outcome:
        if self._ran is None:
            self._ran = self.run(self.scenario)
        return self._ran

    def run(self, scenario: Scenario, engine: EngineSpec | None = None) -> Outcome:
        self.runs += 1
        chosen = scenario if engine is None else scenario.model_copy(update={"engine": engine})
        return attempt("run", lambda: asyncsim.simulate(chosen))


def round_trip(subject: Subject) -> None:
    """Written as a file and read again it is the same scenario."""
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        path = Path(folder) / "scenario.yaml"
        path.write_text(dump_scenario(subject.scenario))
        again = load_scenario(path)
    if again.hash != subject.scenario.hash:
        raise Finding("round trip", "another hash after writing and reading")


def plan_is_run(subject: Subject) -> None:
    """The timeline alone is that of the run, also where it cannot go on."""
    if subject.scenario.run.target is not None:
        return  # when it is reached depends on values
    planned, ran = subject.planned, subject.ran
    if subject.scenario.bundle().decided_by_values:
        if "cannot be planned" not in planned.refusal:
            raise Finding("plan is run", "a timeline was planned that depends on values")
        return
    if ran.refusal.startswith("task."):
        return  # something about the data, which a plan does not load
    same_end("plan is run", planned, ran)
    if ran.result is not None and planned.result.fingerprints["timeline"] != ran.result.fingerprints["timeline"]:
        raise Finding("plan is run", "another timeline")
    if ran.result is not None:
        for name in ("updates", "pushes", "samples", "dropped", "recalled", "crashes", "time"):
            if planned.result.summary[name] != ran.result.summary[name]:
                raise Finding("plan is run", f"another {name}")


def laws_of_plan(subject: Subject) -> None:
    """What the tables of the timeline say holds together."""
    if subject.planned.result is not None:
        check_tables(subject.scenario, subject.planned.result)


def laws_of_run(subject: Subject) -> None:
    """What the tables of the run say holds together."""
    if subject.ran.result is not None:
        check_tables(subject.scenario, subject.ran.result)


def reference(subject: Subject) -> None:
    """A simulator without SimPy comes to the same arrivals. It counts no evaluations, at which the search loses its patience."""
    if "events happened without an update" in subject.planned.refusal:
        return
    check_timeline(subject.scenario, subject.planned.result)


def trajectory(subject: Subject) -> None:
    """A plain loop over the arrivals comes to the same parameters, in double precision."""
    if check_parameters(subject.scenario, None):
        double = subject.scenario.model_copy(update={"dtype": "float64"})
        ran = subject.run(double)
        if ran.result is not None:
            check_parameters(double, ran.result)


def threaded(subject: Subject) -> None:
    """A pool of threads has the serial bits. Where the timeline cannot be known before, it computes what is then thrown away."""
    scenario = subject.scenario
    if not scenario.staged:
        known = not scenario.bundle().decided_by_values and scenario.run.target is None
        ran = subject.run(scenario, Threaded(cores=2))
        same("threaded", ran, subject.ran, but=() if known else ("gradients_computed", "gradients_cancelled"))


def batched(subject: Subject) -> None:
    """Gradients computed together: the same timeline, and numbers that agree as long as rounding has not grown."""
    if subject.scenario.staged or subject.scenario.run.target is not None:
        return
    double = subject.scenario.model_copy(update={"dtype": "float64"})
    one, other = subject.run(double), subject.run(double, Batched(width=subject.rng.choice((1, 2, 4))))
    same_end("batched", one, other)
    if one.result is None or other.result is None:
        return
    if one.result.fingerprints["timeline"] != other.result.fingerprints["timeline"]:
        if double.bundle().decided_by_values:
            return  # by numbers that agree only within rounding
        raise Finding("batched", "another timeline")
    mine, theirs = (each.result.updates["loss"].to_numpy()[:EARLY] for each in (one, other))
    known = ~(np.isnan(mine) | np.isnan(theirs))
    bundle = double.bundle()
    buffered = Need.MEANS in bundle.needs  # the loss of a union, or of each of its parts
    kinds = {part.kind for part in (*bundle.uplink, *bundle.transforms, *bundle.downlink)}
    tied = "qsgd" in kinds and len(kinds) > 1  # quantised entries are of few sizes: a rounding decides which of them are chosen
    steep = bundle.step.amplifies_rounding  # a step may divide by a second moment of rounding alone
    if not (buffered or tied or steep) and not np.allclose(mine[known], theirs[known], rtol=NEAR, atol=NEAR):
        raise Finding("batched", "other losses", f"{mine} {theirs}")


def again(subject: Subject) -> None:
    """A second run, into a folder, and what is read from there, has the same bits; and so has one that was interrupted."""
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        out = Path(folder) / "run"
        whole: list[Any] = []
        subject.runs += 1
        second = attempt("run into a folder", lambda: whole.append(counted(subject.scenario, out)) or whole[0][0])
        result, steps, refusal = whole[0]
        second = Outcome(result, refusal)
        same("second run", second, subject.ran)
        if result is not None:
            same("loaded", Outcome(asyncsim.load_result(out)), subject.ran)
        for count in range(2):
            _interrupt(subject, Path(folder) / f"part{count}", steps)


def _interrupt(subject: Subject, out: Path, steps: int) -> None:
    """Save after one event, die after another, and go on."""
    if steps < 3:
        return
    saved = subject.rng.randrange(1, steps - 1)
    died = min(steps - 1, saved + subject.rng.choice((0, 1, 5, steps)))
    subject.runs += 1
    what = f"saved after event {saved} and died after {died} of {steps}"
    made: list[bool] = []
    dead = attempt(what, lambda: made.append(interrupted(subject.scenario, out, saved, died)))
    if dead.refusal or not made[0]:
        return
    resumed = attempt(f"resume, {what}", lambda: asyncsim.resume(out))
    same("resume", resumed, subject.ran, what)


def lively(subject: Subject) -> None:
    """Given more time, the model gets further, or it is said why not; after the last fault within a bound."""
    planned = subject.planned
    if planned.result is None:
        return
    check_progress(subject.scenario, planned.result)
    if subject.scenario.run.updates is not None:
        return
    reached = planned.result.summary["updates"]
    longer = subject.scenario.evolve({"run": None, "evaluate": None, "engine": {"kind": "serial"}}, run={"updates": reached + 3})
    subject.plans += 1
    attempt("plan of a longer run", lambda: asyncsim.plan(longer))


DATA = re.compile("training samples|samples are more than|the privacy that is told")
"""In a refusal that only a run can come to."""

CHECKS: dict[str, Callable[[Subject], None]] = {
    check.__name__: check for check in (
        round_trip, laws_of_plan, reference, lively, laws_of_run, plan_is_run, trajectory, threaded, batched, again,
    )

}


def same_end(check: str, one: Outcome, other: Outcome) -> None:
    """Both finish, or both are refused in the same words. A run may be refused for its data, which a plan does not load."""
    if DATA.search(other.refusal or ""):
        return
    if (one.result is None) != (other.result is None):
        raise Finding(check, "one ends and the other is refused", (one.refusal or other.refusal)[:200])
    if one.refusal != other.refusal:
        raise Finding(check, "refused in other words", f"{one.refusal[:150]} / {other.refusal[:150]}")


def same(check: str, one: Outcome, other: Outcome, detail: str = "", but: tuple[str, ...] = ()) -> None:
    """Two runs have the same bits, and the same numbers in their summaries ``but`` for some."""
    same_end(check, one, other)
    if one.result is None or other.result is None:
        return
    mine, theirs = one.result, other.result
    for table in TABLES:
        if not getattr(mine, table).equals(getattr(theirs, table)):
            raise Finding(check, f"another table {table}", detail)
    if mine.fingerprints != theirs.fingerprints:
        raise Finding(check, "other fingerprints", detail)
    for key in mine.summary.keys() | theirs.summary.keys():
        if key not in ("wall_seconds", *but) and mine.summary.get(key) != theirs.summary.get(key):
            raise Finding(check, f"another {key} in the summary", f"{detail} {mine.summary.get(key)} {theirs.summary.get(key)}")
    if not np.array_equal(mine.parameters, theirs.parameters, equal_nan=True):
        raise Finding(check, "other parameters", detail)


def refusal_is_clear(refused: tuple[dict[str, Any], BaseException]) -> None:
    """The validator says no to a scenario with a ``UserError`` for people."""
    clear(refused[1])


def subject_of(document: dict[str, Any], seed: int = 0) -> Subject:
    return Subject(built(document), seed)


__all__ = ["CHECKS", "FOLDER", "Result", "Subject", "refusal_is_clear", "subject_of"]
