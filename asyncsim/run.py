"""From a scenario to a result: put the parts together, run, record."""

from __future__ import annotations

import gc
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncsim
from asyncsim import stopping
from asyncsim.ambient import Watch, seeded, sheltered
from asyncsim.assembling import assemble, foreseen
from asyncsim.checkpoint.keeper import Keeper
from asyncsim.checkpoint.loading import Checkpoint, check_identity, data_digest, newest_checkpoint
from asyncsim.checkpoint.state import restore
from asyncsim.errors import UserError
from asyncsim.memory import check_memory
from asyncsim.records import Recorder, Result, RunDirectory, load_result, read_manifest
from asyncsim.records.checkpoints import drop_checkpoints
from asyncsim.records.reading import FORMAT
from asyncsim.records.stages import stage_summary
from asyncsim.records.summary import rounded, staleness_summary, time_shares, unknown_to_a_plan
from asyncsim.scenario import Scenario, dump_scenario
from asyncsim.simulation.metering import spending
from asyncsim.simulation.server import Server
from asyncsim.simulation.simulation import Simulation
from asyncsim.simulation.verifying import Verifier
from asyncsim.streams import Streams
from asyncsim.trackers import Followers, Tracker
from asyncsim.units import NANOSECONDS

if TYPE_CHECKING:
    import numpy as np
    import torch

    from asyncsim.engine.spec import EngineSpec
    from asyncsim.tasks.task import Task


class Moment(NamedTuple):
    """What a progress display may show of a run that goes on."""

    done: float  # fraction of the run
    updates: int
    pushes: int
    time: float  # virtual seconds
    metrics: dict[str, float]  # of the last evaluation
    diverged: bool


COLLECT_AFTER = 50_000
"""New objects of a timeline between two looks for cyclic garbage."""
Progress = Callable[[Moment], None]
Wait = Callable[[list[Any]], None]
"""What an engine calls to have futures computed together with those of other runs."""


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
    with _seldom_collected():
        foreseen(scenario)
        return _run(scenario, None, None, progress)


def reusable(scenario: Scenario, path: Path) -> Result | None:
    """The finished run of this very scenario in ``path``, if there is one."""
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
    """What must be the same for a checkpoint to give the same bits."""
    engine = scenario.engine_for(task).settings()
    return {
        "scenario": run_hash, "versions": versions(), "machine": platform.machine(), "device": scenario.device.partition(":")[0],
        "engine": engine, "data": data_digest(task),
    }  # fmt: skip


def _begun(scenario: Scenario, task: Task, directory: RunDirectory) -> Checkpoint | None:
    """The checkpoint from which this very run goes on; None: it has to begin, which gives the same bits."""
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
        verifier = _watched(sim) if os.environ.get("ASYNCSIM_VERIFY") else None
        if directory is not None:
            keeper = _kept(scenario, task, sim, started)
            if start is not None:
                _take(directory, recorder, start)
                ours = True
            directory.write_bytes("scenario.yaml", dump_scenario(scenario).encode())
            directory.write_json("manifest.json", manifest)
        followers.start(manifest, recorder)
        sim.observers.add(followers)
        if progress is not None:
            sim.observers.add(_Display(sim.server, progress, started))
        turns = sim.run(None if keeper is None or keeper.off else keeper.due)
        for now in turns if watch is None else watch.over(turns):
            stopping.check()
            sim.observers.turn(now)
        if verifier is not None:
            verifier.finish()
            if task is not None and sim.server.reached is None and not scenario.bundle().decided_by_values:
                verifier.same_decisions(assemble(scenario, None, None, None))
        summary, parameters = _finish(scenario, sim, manifest, started)
        if directory is not None:
            directory.write_json("manifest.json", manifest)
            directory.drop_parts()
            drop_checkpoints(directory.path, keep=1 if keeper.cadence.end and not keeper.off else 0)
        followers.finish(summary)
    except BaseException as error:
        manifest["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) or stopping.asked() else "failed"
        if directory is not None and ours:
            _last_words(recorder, directory, manifest)
        followers.finish({"status": manifest["status"]}, whole=False)
        raise
    finally:
        if engine is not None:
            engine.close()
        if directory is not None:
            directory.close()
    if progress is not None:
        progress(_moment(sim.server, sim.env.now))
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


def _watched(sim: Simulation) -> Verifier:
    """A verifier that watches the simulation from here on."""
    verifier = Verifier(sim)
    sim.observers.add(verifier)
    return verifier


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


class _Display:
    """An observer that shows how far a run is, ten times a second of wall time at most."""

    def __init__(self, server: Server, show: Progress, started: float) -> None:
        self._server, self._show, self._shown = server, show, started

    def turn(self, now: int) -> None:
        if time.perf_counter() - self._shown > 0.1:
            self._shown = time.perf_counter()
            self._show(_moment(self._server, now))


def summarise(scenario: Scenario, sim: Simulation, manifest: dict[str, Any], wall_seconds: float) -> dict[str, Any]:
    """The run in one flat dictionary; times are virtual seconds, except ``wall_seconds``."""
    server, recorder = sim.server, sim.recorder
    seconds = sim.env.now / NANOSECONDS
    reading = [each.version - each.reading(member) for each in sim.progress for member in each.in_flight()]
    values: dict[str, Any] = {
        "name": scenario.name, "method": scenario.method.kind, "seed": scenario.seed, "workers": server.num_workers,
        "status": "diverged" if server.diverged else "finished",
        "updates": server.updates, "pushes": server.pushes, "samples": server.samples, "time": seconds,
        "pushes_per_second": server.pushes / seconds if seconds else None,
        "updates_per_second": server.updates / seconds if seconds else None,
        "samples_per_second": server.samples / seconds if seconds else None,
        "dropped": server.dropped, "recalled": sim.lives.recalled, "crashes": sim.lives.crashes,
        "in_flight": len(reading), "in_flight_staleness": sum(reading),
    }  # fmt: skip
    if sim.arrivals.restarts is not None:
        values |= {"server_restarts": sim.arrivals.restarts.count, "lost_updates": sim.arrivals.restarts.lost_updates,
                   "lost_pushes": server.shards[0].lost_pushes}  # fmt: skip
    if sim.pipes is not None and sim.pipes.spec.loss is not None:
        values["resent"] = sim.pipes.resent
    if sim.pipes is not None and sim.pipes.spec.duplicate:
        values["duplicates"] = sim.pipes.duplicates
    if server.diverged:
        values |= {"diverged_at_update": server.diverged[0], "diverged_at_time": server.diverged[1] / NANOSECONDS}
    if sim.engine is not None:
        values |= {"gradients_computed": sim.engine.computed, "gradients_cancelled": sim.engine.cancelled}
    target = scenario.run.target is not None
    if target and sim.engine is not None:
        values["time_to_target"] = None if server.reached is None else server.reached / NANOSECONDS
    if sim.meter is not None:
        values |= spending(sim.meter.bill(sim.env.now), server, recorder.metrics.arrays(), target and sim.engine is not None)
    values |= server.last_metrics
    if sim.engine is None:
        values["unknown"] = unknown_to_a_plan(scenario.metrics, target, priced=sim.meter is not None)
        values["stops_early"] = target and scenario.run.target.stop
    if recorder.updates.keep:
        values |= staleness_summary(recorder.updates.arrays(), numeric=sim.engine is not None)
    if recorder.events.keep:
        values |= time_shares(recorder.events.arrays(), server.num_workers, sim.env.now)
    kept = (table.arrays() if table.keep else None for table in (recorder.events, recorder.updates))
    values |= stage_summary(*kept, manifest, server.num_workers, seconds)
    return rounded(values | {"wall_seconds": wall_seconds})


def versions() -> dict[str, str]:
    """Versions of what decides the bits."""
    packages = ("simpy", "numpy", "torch")
    return {"asyncsim": asyncsim.__version__, "python": platform.python_version(), **{name: installed(name) for name in packages}}


def _drawing(scenario: Scenario) -> str:
    """Who may have moved a global generator in the middle of a run."""
    return f"a part of the run (task `{scenario.task.kind}`, its model, loss or evaluation, or method `{scenario.method.kind}`)"


def _moment(server: Server, now: int) -> Moment:
    done = server.length.done(server.updates, server.samples, now)
    return Moment(
        min(1.0, done), server.updates, server.pushes, now / NANOSECONDS, dict(server.last_metrics), server.diverged is not None
    )  # fmt: skip


def _take(directory: RunDirectory, recorder: Recorder, start: Checkpoint) -> None:
    """Make the folder agree with the checkpoint that the run goes on from."""
    if start.path.parents[1] == directory.path:
        directory.rewind(start.tables["parts"])
    else:
        directory.begin()
        recorder.rewrite(start.rows["updates"])


def _last_words(recorder: Recorder, directory: RunDirectory, manifest: dict[str, Any]) -> None:
    """Save what there is of a run that ends early; a disk that is full must not hide the first error."""
    try:
        recorder.flush(last=True)
        directory.write_json("manifest.json", manifest)
    except Exception as error:
        print(f"asyncsim: the last records of {directory.path} are lost: {error}", file=sys.stderr)


def _device(name: str) -> torch.device:
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device: {name!r} is not available here: {str(error).splitlines()[0]}") from None
    return device


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Python looks for cyclic garbage less often: there is hardly any, and many workers are many objects to look through."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], COLLECT_AFTER) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def prepared(scenario: Scenario) -> Iterator[Task]:
    """The task of a scenario, on its device, with PyTorch as the run needs it, and nothing in it that draws without a seed."""
    check_memory(scenario)
    with sheltered(scenario.device, scenario.threads):
        from asyncsim.tasks.probing import refuse_draws

        device = _device(scenario.device)
        with seeded(Streams(scenario.seed).integer("build")):
            task = scenario.task.build(scenario.seed, str(device), scenario.dtype, scenario.groups)
        refuse_draws(task, scenario.task.kind)
        yield task
