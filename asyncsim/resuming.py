"""Continue a run that was interrupted, or make a finished run longer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncsim.assembling import foreseen
from asyncsim.checkpoint.loading import check_identity, newest_checkpoint
from asyncsim.errors import UserError
from asyncsim.policies.schedule import Constant
from asyncsim.records import Result, RunDirectory, load_result, read_manifest
from asyncsim.records.checkpoints import checkpoint_files
from asyncsim.records.reading import MOST_MANIFEST
from asyncsim.run import identity, proceed, reusable, simulate, versions
from asyncsim.run.moments import Progress
from asyncsim.run.preparing import prepared
from asyncsim.scenario import Document, Scenario, build_scenario, dump_scenario
from asyncsim.userfiles import read_text

OVER = ("finished", "diverged")
LENGTH = ("run.updates", "run.samples", "run.time", "checkpoint")


def resume(path: str | Path, changes: Mapping[str, Any] | None = None, progress: Progress | None = None) -> Result:
    """Go on with the run in a folder: the same tables, fingerprints and summary as if it had never been interrupted.

    It goes on from its newest whole checkpoint, or from the start if none was written; a finished run is loaded. ``changes`` of
    ``run.updates``, ``run.samples`` or ``run.time`` make it longer: the longer run gets a folder of its own, beside this one, and
    starts from this one's newest checkpoint if there is one. Raises ``UserError``, and leaves the folder as it is, where that
    would not give the same bits.
    """
    path = Path(path)
    manifest = read_manifest(path)
    scenario = recorded_scenario(path)
    if changes:
        return _extend(path, scenario, lengthened(scenario, changes), progress)
    if manifest["status"] in OVER:
        return load_result(path)
    _same_versions(path, manifest)
    with prepared(scenario) as task:
        directory = RunDirectory(path).lock()
        try:
            start = newest_checkpoint(path, scenario.columns, scenario.notes)
            if start is not None:
                check_identity(start, identity(scenario, task, scenario.hash))
        except BaseException:
            directory.close()
            raise
        if start is not None:
            return proceed(scenario, task, directory, start, progress)
        directory.close()
    _say(f"{path}: ended before its first checkpoint; it begins again")
    return simulate(scenario, path, progress)


def recorded_scenario(path: Path) -> Scenario:
    """The scenario of a run folder. Raises ``UserError`` if it was changed since the run began."""
    manifest = read_manifest(path)
    scenario = build_scenario(Document(manifest["scenario"], str(path / "manifest.json")))
    text = read_text(path / "scenario.yaml", MOST_MANIFEST)
    if scenario.hash != manifest["hash"] or text != dump_scenario(scenario):
        raise UserError(f"{path}: its scenario was changed since the run began; run the changed one with `asyncsim run`")
    return scenario


def lengthened(scenario: Scenario, changes: Mapping[str, Any]) -> Scenario:
    """``scenario`` with another length. Raises ``UserError`` where the run so far is not the beginning of the longer one."""
    other = [key for key in changes if not key.startswith(LENGTH)]
    if other:
        raise UserError(f"a run can be made longer (run.updates, run.samples, run.time), not changed in {', '.join(other)}")
    longer = scenario.evolve(changes)
    foreseen(longer)
    schedule = scenario.schedule
    if schedule.unit == "run" and (schedule.warmup or not isinstance(schedule, Constant)):
        raise UserError(
            f"schedule: {schedule.kind!r} is laid out in fractions of the run, so a longer run has other learning rates from the "
            "start; only one with `unit: updates` can be extended"
        )
    if scenario.evaluate.against(scenario.run) != longer.evaluate.against(longer.run):
        raise UserError(
            "evaluate: without a cadence of its own a run is evaluated 40 times, whatever its length, so a longer run is "
            "evaluated at other moments; only one with evaluate.updates, samples or time can be extended"
        )
    for name in ("updates", "samples", "time"):
        before, after = getattr(scenario.run, name), getattr(longer.run, name)
        if after is not None and (before is None or after < before):
            raise UserError(f"run.{name}: {after} is shorter than the run in the folder ({before or 'no limit'})")
    return longer


def extend(scenario: Scenario, folder: Path, progress: Progress | None = None) -> Result | None:
    """Make a shorter run of this scenario in ``folder`` as long as the scenario says, in a folder beside it.

    It is that with the most updates, among those with a checkpoint to go on from; None if there is none. Raises ``UserError``
    where the run so far is not the beginning of the longer one.
    """
    shorter: list[tuple[int, Path]] = []
    for manifest in sorted(folder.glob("*/manifest.json")):
        path = manifest.parent
        try:
            recorded = recorded_scenario(path)
            alike = recorded.hash != scenario.hash and _without_length(recorded) == _without_length(scenario)
            if alike and checkpoint_files(path):
                shorter.append((load_result(path).summary.get("updates", 0), path))
        except UserError:
            continue
    if not shorter:
        return None
    _, path = max(shorter, key=lambda each: each[0])
    lengths = {f"run.{name}": getattr(scenario.run, name) for name in ("updates", "samples", "time")}
    return resume(path, {key: value for key, value in lengths.items() if value is not None}, progress)


def _without_length(scenario: Scenario) -> dict[str, Any]:
    document = {key: value for key, value in scenario.document().items() if key not in ("name", "checkpoint", "run")}
    return document | {"target": scenario.run.target}


def _extend(path: Path, scenario: Scenario, longer: Scenario, progress: Progress | None) -> Result:
    out = path.with_name(f"{path.name.removesuffix(f'-{scenario.hash}')}-{longer.hash}")
    if longer.hash == scenario.hash:
        return resume(path, progress=progress)
    found = reusable(longer, out)
    if found is not None:
        return found
    if out.exists() and checkpoint_files(out):
        return simulate(longer, out, progress)
    _same_versions(path, read_manifest(path))
    start = newest_checkpoint(path, scenario.columns, scenario.notes) if checkpoint_files(path) else None
    if start is None:
        _say(f"{path}: has no checkpoint to go on from (`checkpoint: {{end: true}}` keeps one); the longer run begins at 0")
        return simulate(longer, out, progress)
    with prepared(longer) as task:
        check_identity(start, identity(longer, task, scenario.hash))
        return proceed(longer, task, RunDirectory(out).lock(), start, progress)


def _same_versions(path: Path, manifest: dict[str, Any]) -> None:
    then, now = manifest["versions"], versions()
    different = [f"{name} {then.get(name)}, now {now[name]}" for name in now if then.get(name) != now[name]]
    if different:
        raise UserError(f"{path}: made with other versions ({'; '.join(different)}), which may give other bits; run it again")


def _say(text: str) -> None:
    print(f"asyncsim: {text}", file=sys.stderr)
