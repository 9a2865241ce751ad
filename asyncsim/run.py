"""Simulate a scenario: put the parts together, run, and record."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncsim
from asyncsim import stopping
from asyncsim.ambient import Watch
from asyncsim.assembling import assemble, foreseen
from asyncsim.checkpoint.keeper import Keeper
from asyncsim.checkpoint.loading import Checkpoint, check_identity, data_digest, newest_checkpoint
from asyncsim.checkpoint.state import restore
from asyncsim.errors import UserError
from asyncsim.moments import Display, Progress, moment
from asyncsim.preparing import prepared, seldom_collected
from asyncsim.records import Recorder, Result, RunDirectory, load_result, read_manifest
from asyncsim.records.checkpoints import drop_checkpoints
from asyncsim.records.reading import FORMAT
from asyncsim.scenario import Scenario, dump_scenario
from asyncsim.simulation.simulation import Simulation
from asyncsim.simulation.verifying import Verifier
from asyncsim.summarising import summarise
from asyncsim.trackers import Followers, Tracker

if TYPE_CHECKING:
    import numpy as np

    from asyncsim.engine.spec import EngineSpec
    from asyncsim.tasks.task import Task


Wait = Callable[[list[Any]], None]
"""The function that an engine calls to have futures computed together with those of other runs."""


def simulate(
    scenario: Scenario,
    out: str | Path | None = None,
    progress: Progress | None = None,
    wait: Wait | None = None,
    trackers: Sequence[Tracker | str] | None = None,
    fresh: bool = False,
) -> Result:
    """Run a scenario with real gradients.

    With ``out`` the run is written to that folder while it goes on; if this very run was begun there and not finished, it goes
    on from its newest checkpoint, unless ``fresh``: the bits are the same. ``progress`` is called a few times a wall second.
    ``wait`` is for fleets. ``trackers`` (objects, or names such as ``tensorboard:logs``) are told about every evaluation; None:
    those named in ``$ASYNCSIM_TRACKERS``. Raises ``UserError`` (missing data, no such device, a deadlock, a folder that can't
    be written; more events foreseen than ``run.most_events``). Divergence is no error but a result.
    """
    foreseen(scenario)
    followers = Followers(trackers)
    with prepared(scenario) as task:
        if out is None:
            return _run(scenario, task, None, progress, wait, followers)
        directory = RunDirectory(Path(out)).lock()
        start = None if fresh else _begun(scenario, task, directory)
        return _run(scenario, task, directory if start else directory.begin(), progress, wait, followers, start)


def plan(scenario: Scenario, progress: Progress | None = None) -> Result:
    """Simulate the timeline alone: throughput, staleness, utilisation. Imports no torch, loads no data, computes no gradient.

    The timeline is that of ``simulate``, bit for bit. A target on a metric cannot be met and is ignored. In the summary,
    ``unknown`` names the numbers that only ``simulate`` can tell; with ``stops_early`` a run may end before this timeline does.
    Raises ``UserError`` for a method whose timeline depends on numbers.
    """
    bundle = scenario.bundle()
    if bundle.decided_by_values:
        names = ", ".join(f"`{name}`" for name in bundle.decided_by_values)
        raise UserError(
            f"method `{scenario.method.kind}` cannot be planned: {names} decides by gradients, parameters or losses what happens "
            "in virtual time, and a plan computes none; simulate it (asyncsim run)"
        )
    with seldom_collected():
        foreseen(scenario)
        return _run(scenario, None, None, progress)


def reusable(scenario: Scenario, path: Path) -> Result | None:
    """The finished run of this scenario in the folder ``path``; None if there is none."""
    if not (path / "manifest.json").exists():
        return None
    manifest = read_manifest(path)
    same = (
        manifest["hash"] == scenario.hash
        and manifest["versions"] == versions()
        and manifest["status"] in ("finished", "diverged")
    )
    return load_result(path) if same else None


def proceed(
    scenario: Scenario, task: Task, directory: RunDirectory, start: Checkpoint, progress: Progress | None = None
) -> Result:
    """Go on from a checkpoint: of this run in ``directory``, or of a shorter one in another folder. Call within ``prepared``.

    The folder, which is held, is left as it is if the checkpoint is refused (``UserError``), and is given back in any case.
    """
    return _run(scenario, task, directory, progress, start=start)


def identity(scenario: Scenario, task: Task, run_hash: str) -> dict[str, Any]:
    """The properties that must be the same for a checkpoint to give the same bits."""
    engine = scenario.engine_for(task).settings()
    return {
        "scenario": run_hash, "versions": versions(), "machine": platform.machine(), "device": scenario.device.partition(":")[0],
        "engine": engine, "data": data_digest(task),
    }  # fmt: skip


def _begun(scenario: Scenario, task: Task, directory: RunDirectory) -> Checkpoint | None:
    """The checkpoint from which this run can go on; None if it has to begin anew, which gives the same bits."""
    try:
        manifest = read_manifest(directory.path)
        if manifest["hash"] != scenario.hash or manifest["status"] in ("finished", "diverged"):
            return None
        start = newest_checkpoint(directory.path, scenario.columns, scenario.notes)
        if start is not None:
            check_identity(start, identity(scenario, task, scenario.hash))
    except UserError:
        return None
    return start


def _run(
    scenario: Scenario,
    task: Task | None,
    directory: RunDirectory | None,
    progress: Progress | None,
    wait: Wait | None = None,
    followers: Followers | None = None,
    start: Checkpoint | None = None,
) -> Result:
    followers = followers or Followers(())
    started = time.perf_counter() - (0.0 if start is None else start.wall_seconds)
    spec = None if task is None else scenario.engine_for(task)
    sim = assemble(scenario, task, spec, directory)
    recorder, engine = sim.recorder, sim.engine
    watch = None if task is None else Watch(_drawing(scenario), scenario.device, engine.close)
    if wait is not None and hasattr(engine, "wait"):
        engine.wait = partial(watch.aside, wait)
    manifest = _manifest(scenario, task, spec, sim)
    keeper, ours = None, start is None  # a folder is left alone until a checkpoint has proved good
    try:
        if start is not None:
            restore(sim, start, extended=start.path.parents[1] != directory.path)
        verifier = Verifier(sim) if os.environ.get("ASYNCSIM_VERIFY") else None
        if directory is not None:
            keeper = _kept(scenario, task, sim, started)
            if start is not None:
                _take(directory, recorder, start)
                ours = True
            directory.write_bytes("scenario.yaml", dump_scenario(scenario).encode())
            directory.write_json("manifest.json", manifest)
        followers.start(manifest, recorder)
        sim.observers.add(followers)
        sim.observers.add(Display(sim.server, progress, started))
        turns = sim.run(None if keeper is None or keeper.off else keeper.due)
        for now in turns if watch is None else watch.over(turns):
            stopping.check()
            sim.observers.turn(now)
        if verifier is not None:
            _balance(scenario, task, verifier)
        summary, parameters = _finish(scenario, sim, manifest, started)
        if directory is not None:
            _tidy(directory, manifest, keeper)
        followers.finish(summary)
    except BaseException as error:
        manifest["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) or stopping.asked() else "failed"
        if directory is not None and ours:
            _last_words(recorder, directory, manifest)
        followers.finish({"status": manifest["status"]}, whole=False)
        raise
    finally:
        for each in (engine, directory):
            if each is not None:
                each.close()
    if progress is not None:
        progress(moment(sim.server, sim.env.now))
    return Result(summary, manifest, recorder.arrays(), parameters, directory.path if directory is not None else None)


def _manifest(scenario: Scenario, task: Task | None, spec: EngineSpec | None, sim: Simulation) -> dict[str, Any]:
    """What a run is, as it begins."""
    manifest = {
        "format": FORMAT, "name": scenario.name, "hash": scenario.hash, "status": "running", "fingerprints": {},
        "engine": {"kind": "timing"} if spec is None else spec.settings() | {"kernel": sim.engine.kernel},
        "device": scenario.device, "threads": scenario.threads,
        "parameters": None if task is None else task.layout.num_parameters,
        "stage_parameters": list(scenario.cut().parameters) or None,
        "amplifies_rounding": scenario.bundle().amplifies_rounding,
        "versions": versions(), "machine": platform.machine(), "scenario": scenario.document(),
    }  # fmt: skip
    if scenario.bundle().decided_by_values:
        manifest["timeline"] = "by values"
    return manifest


def _balance(scenario: Scenario, task: Task | None, verifier: Verifier) -> None:
    """The laws that hold of a whole run."""
    verifier.finish()
    if task is not None and verifier.sim.server.reached is None and not scenario.bundle().decided_by_values:
        verifier.same_decisions(assemble(scenario, None, None, None))


def _kept(scenario: Scenario, task: Task, sim: Simulation, started: float) -> Keeper:
    """What saves the run in its folder from time to time."""
    sim.recorder.resumable = True
    keeper = Keeper(sim, scenario.checkpoint, lambda: identity(scenario, task, scenario.hash), started)
    sim.observers.add(keeper)
    return keeper


def _finish(
    scenario: Scenario, sim: Simulation, manifest: dict[str, Any], started: float
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Seal the records of a run that is over: its summary and its parameters."""
    sim.recorder.flush(last=True)
    parameters = None if sim.server.params is None else sim.server.params.detach().cpu().numpy()
    manifest["fingerprints"] = sim.recorder.fingerprints(parameters)
    manifest["status"] = "diverged" if sim.server.diverged else "finished"
    summary = summarise(scenario, sim, manifest, time.perf_counter() - started) | {"fingerprints": manifest["fingerprints"]}
    sim.recorder.finish({"summary.json": summary} | ({} if parameters is None else {"parameters.npy": parameters}))
    return summary, parameters


def _tidy(directory: RunDirectory, manifest: dict[str, Any], keeper: Keeper) -> None:
    """Nothing stays in the folder that a finished run does not need."""
    directory.write_json("manifest.json", manifest)
    directory.drop_parts()
    drop_checkpoints(directory.path, keep=1 if keeper.cadence.end and not keeper.off else 0)


def versions() -> dict[str, str]:
    """The versions of the software that determines the bits."""
    packages = ("simpy", "numpy", "torch")
    return {"asyncsim": asyncsim.__version__, "python": platform.python_version(), **{name: installed(name) for name in packages}}


def _drawing(scenario: Scenario) -> str:
    """The parts of a run that may move a global generator in the middle of it, for the message."""
    return f"a part of the run (task `{scenario.task.kind}`, its model, loss or evaluation, or method `{scenario.method.kind}`)"


def _take(directory: RunDirectory, recorder: Recorder, start: Checkpoint) -> None:
    """Make the folder agree with the checkpoint that the run goes on from."""
    if start.path.parents[1] == directory.path:
        directory.rewind(start.tables["parts"])
    else:
        directory.begin()
        recorder.rewrite(start.rows["updates"])


def _last_words(recorder: Recorder, directory: RunDirectory, manifest: dict[str, Any]) -> None:
    """Save what there is of a run that ends early. A further error, such as a full disk, must not hide the first one."""
    try:
        recorder.flush(last=True)
        directory.write_json("manifest.json", manifest)
    except Exception as error:
        print(f"asyncsim: the last records of {directory.path} are lost: {error}", file=sys.stderr)
