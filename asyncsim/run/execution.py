"""One run from its first event to its last, recorded while it goes on."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from asyncsim import stopping
from asyncsim.ambient import Watch
from asyncsim.assembling import assemble
from asyncsim.checkpoint.keeper import Keeper
from asyncsim.checkpoint.loading import Checkpoint
from asyncsim.checkpoint.state import restore
from asyncsim.errors import UserError
from asyncsim.records import Recorder, Result, RunDirectory
from asyncsim.records.checkpoints import drop_checkpoints
from asyncsim.records.reading import FORMAT
from asyncsim.run.conditions import identity, versions
from asyncsim.run.moments import Display, Progress, moment
from asyncsim.run.summarising import summarise
from asyncsim.run.timelines import used_work
from asyncsim.scenario import Scenario, dump_scenario
from asyncsim.simulation.verifying import Verifier

if TYPE_CHECKING:
    from asyncsim.tasks.task import Task
    from asyncsim.trackers import Followers


Wait = Callable[[list[Any]], None]
"""The function that an engine calls to have futures computed together with those of other runs."""


def execute(
    scenario: Scenario,
    task: Task | None,
    directory: RunDirectory | None,
    progress: Progress | None = None,
    wait: Wait | None = None,
    followers: Followers | None = None,
    start: Checkpoint | None = None,
) -> Result:
    """Carry a run out; without a ``task`` it is the timeline alone. With ``start`` it goes on from there.

    The ``directory``, which is held, is given back in any case, and left alone until ``start`` has proved good. Raises
    ``UserError``, and saves what there is before it lets go of any error.
    """
    run = None
    try:
        run = _Execution(scenario, task, directory, followers, start)
        run.begin()
        run.go(progress, wait)
        result = run.finish()
    except BaseException as error:
        if run is not None:
            run.fail(error)
        if isinstance(error, RuntimeError) and "without overflow" in str(error):  # PyTorch says so of any number it is given
            raise UserError(
                f"dtype: a number among the settings of optimizer, schedule or method is larger than {scenario.dtype} can hold"
            ) from error
        raise
    finally:
        if run is not None and run.sim.engine is not None:
            run.sim.engine.close()
        if directory is not None:
            directory.close()
    if progress is not None:
        progress(moment(run.sim.server, run.sim.env.now))
    return result


class _Execution:
    """A run that is about to begin, goes on, and ends or fails; ``manifest`` says how far it is."""

    def __init__(
        self,
        scenario: Scenario,
        task: Task | None,
        directory: RunDirectory | None,
        followers: Followers | None,
        start: Checkpoint | None,
    ) -> None:
        self.began = time.perf_counter() - (0.0 if start is None else start.wall_seconds)
        self.scenario, self.task, self.directory = scenario, task, directory
        self.followers, self.start = followers, start
        self.spec = None if task is None else scenario.engine_for(task)
        fates = None if self.spec is None else used_work(scenario, self.spec)
        self.sim = assemble(scenario, task, self.spec, directory, fates)
        self.manifest = self._manifest()
        self.keeper: Keeper | None = None
        self.verifier: Verifier | None = None
        self.ours = start is None  # a folder is left alone until a checkpoint has proved good

    def begin(self) -> None:
        """Take up the checkpoint, write what the folder says of a run that goes on, and tell the followers."""
        scenario, sim, start, directory = self.scenario, self.sim, self.start, self.directory
        if start is not None:
            assert directory is not None, "checkpoints are in a run's folder"
            restore(sim, start, extended=start.path.parents[1] != directory.path)
        self.verifier = Verifier(sim) if os.environ.get("ASYNCSIM_VERIFY") else None
        if directory is not None:
            sim.recorder.resumable = True
            self.keeper = Keeper(sim, scenario.checkpoint, self._identity, self.began)
            sim.observers.add(self.keeper)
            if start is not None:
                _take(directory, sim.recorder, start)
                self.ours = True
            directory.write_bytes("scenario.yaml", dump_scenario(scenario).encode())
            directory.write_json("manifest.json", self.manifest)
        if self.followers is not None:
            self.followers.start(self.manifest, sim.recorder)
            sim.observers.add(self.followers)

    def go(self, progress: Progress | None, wait: Wait | None) -> None:
        """All events up to the end of the run."""
        sim, keeper = self.sim, self.keeper
        engine: Any = sim.engine
        watch = None if engine is None else Watch(_drawing(self.scenario), self.scenario.device, engine.close)
        if wait is not None and watch is not None and hasattr(engine, "wait"):
            engine.wait = partial(watch.aside, wait)
        turns = sim.run(None if keeper is None or keeper.off else keeper.due)
        if progress is not None:
            sim.observers.add(Display(sim.server, progress, time.perf_counter()))
        for now in turns if watch is None else watch.over(turns):
            stopping.check()
            sim.observers.turn(now)

    def finish(self) -> Result:
        """Check what is to be verified, and write the last of the records."""
        scenario, sim, manifest, directory = self.scenario, self.sim, self.manifest, self.directory
        server, recorder = sim.server, sim.recorder
        if self.verifier is not None:
            self.verifier.finish()
            if self.task is not None and server.reached is None and not scenario.bundle().decided_by_values:
                self.verifier.same_decisions(assemble(scenario))
        recorder.flush(last=True)
        parameters = None if server.params is None else server.params.detach().cpu().numpy()
        manifest["fingerprints"] = recorder.fingerprints(parameters)
        manifest["status"] = "diverged" if server.diverged else "finished"
        summary = summarise(scenario, sim, manifest, time.perf_counter() - self.began)
        summary |= {"fingerprints": manifest["fingerprints"]}
        recorder.finish({"summary.json": summary} | ({} if parameters is None else {"parameters.npy": parameters}))
        if directory is not None:
            directory.write_json("manifest.json", manifest)
            directory.drop_parts()
            keeper = self.keeper
            drop_checkpoints(directory.path, keep=1 if keeper is not None and keeper.cadence.end and not keeper.off else 0)
        if self.followers is not None:
            self.followers.finish(summary)
        return Result(summary, manifest, recorder.arrays(), parameters, directory.path if directory is not None else None)

    def fail(self, error: BaseException) -> None:
        """Save what there is of a run that ends early."""
        self.manifest["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) or stopping.asked() else "failed"
        if self.directory is not None and self.ours:
            _last_words(self.sim.recorder, self.directory, self.manifest)
        if self.followers is not None:
            self.followers.finish({"status": self.manifest["status"]}, whole=False)

    def _identity(self) -> dict[str, Any]:
        assert self.task is not None, "timelines are not saved"
        return identity(self.scenario, self.task, self.scenario.hash)

    def _manifest(self) -> dict[str, Any]:
        scenario, task, spec = self.scenario, self.task, self.spec
        bundle, engine = scenario.bundle(), self.sim.engine
        manifest = {
            "format": FORMAT, "name": scenario.name, "hash": scenario.hash, "status": "running", "fingerprints": {},
            "engine": {"kind": "timing"} if spec is None or engine is None else spec.settings() | {"kernel": engine.kernel},
            "device": scenario.device, "threads": scenario.threads,
            "parameters": None if task is None else task.layout.num_parameters,
            "stage_parameters": list(scenario.cut().parameters) or None,
            "amplifies_rounding": bundle.amplifies_rounding,
            "versions": versions(), "machine": platform.machine(), "scenario": scenario.document(),
        }  # fmt: skip
        return manifest | ({"timeline": "by values"} if bundle.decided_by_values else {})


def _drawing(scenario: Scenario) -> str:
    """Who may have moved a global generator in the middle of a run."""
    return f"a part of the run (task `{scenario.task.kind}`, its model, loss or evaluation, or method `{scenario.method.kind}`)"


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
