"""The ways to begin a run: with gradients, as a timeline alone, or from a checkpoint."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncsim.assembling import foreseen
from asyncsim.checkpoint.loading import Checkpoint, check_identity, newest_checkpoint
from asyncsim.errors import UserError
from asyncsim.records import Result, RunDirectory, load_result, read_manifest
from asyncsim.run.conditions import identity, versions
from asyncsim.run.execution import Wait, execute
from asyncsim.run.moments import Progress
from asyncsim.run.preparing import prepared
from asyncsim.scenario import Document, Scenario, build_scenario, load_scenario

if TYPE_CHECKING:
    from asyncsim.tasks.task import Task
    from asyncsim.trackers import Followers, Tracker

COLLECT_AFTER = 50_000
"""New objects of a timeline between two looks for cyclic garbage."""


ScenarioLike = Scenario | str | Path | Mapping[str, Any]
"""A scenario, the file that describes it, or its sections as a mapping."""


def as_scenario(given: ScenarioLike) -> Scenario:
    """The scenario that was given. Raises ``UserError`` with a line for each problem, also for a file of several runs."""
    if isinstance(given, Scenario):
        return given
    if isinstance(given, str | Path):
        return load_scenario(given)
    if isinstance(given, Mapping):
        return build_scenario(Document(dict(given), "scenario"))
    raise UserError(f"scenario: must be a scenario, a file or a mapping of sections, not a {type(given).__name__}")


def simulate(
    scenario: ScenarioLike,
    out: str | Path | None = None,
    progress: Progress | None = None,
    wait: Wait | None = None,
    trackers: Sequence[Tracker | str] | None = None,
    fresh: bool = False,
) -> Result:
    """Run a scenario (or the file of one, or its sections as a mapping) with real gradients.

    With ``out`` the run is written to that folder while it goes on; if this very run was begun there and not finished, it goes
    on from its newest checkpoint, unless ``fresh``: the bits are the same. ``progress`` is called a few times a wall second.
    ``wait`` is for fleets. ``trackers`` (objects, or names such as ``tensorboard:logs``) are told about every evaluation; None:
    those named in ``$ASYNCSIM_TRACKERS``. Raises ``UserError`` (missing data, no such device, a deadlock, a folder that can't
    be written; more events foreseen than ``run.most_events``). Divergence is no error but a result.
    """
    scenario = as_scenario(scenario)
    foreseen(scenario)
    followers = _followers(trackers)
    with prepared(scenario) as task:
        if out is None:
            return execute(scenario, task, None, progress, wait, followers)
        directory = RunDirectory(Path(out)).lock()
        try:
            start = None if fresh else _begun(scenario, task, directory)
            if start is None:
                directory.begin()
        except BaseException:  # an interruption, too, gives the folder back at once
            directory.close()
            raise
        return execute(scenario, task, directory, progress, wait, followers, start)


def plan(scenario: ScenarioLike, progress: Progress | None = None) -> Result:
    """Simulate the timeline alone: throughput, staleness, utilisation. Imports no torch, loads no data, computes no gradient.

    The timeline is that of ``simulate``, bit for bit. A target on a metric cannot be met and is ignored. In the summary,
    ``unknown`` names the numbers that only ``simulate`` can tell; with ``stops_early`` a run may end before this timeline does.
    Raises ``UserError`` for a method whose timeline depends on numbers.
    """
    scenario = as_scenario(scenario)
    bundle = scenario.bundle()
    if bundle.decided_by_values:
        names = ", ".join(f"`{name}`" for name in bundle.decided_by_values)
        raise UserError(
            f"method `{scenario.method.kind}` cannot be planned: {names} decides by gradients, parameters or losses what happens "
            "in virtual time, and a plan computes none; simulate it (asyncsim run)"
        )
    with _seldom_collected():
        foreseen(scenario)
        return execute(scenario, None, None, progress)


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
    return execute(scenario, task, directory, progress, start=start)


def _followers(trackers: Sequence[Tracker | str] | None) -> Followers | None:
    """Those who are told of the run; None if nobody is, which needs no trackers at all."""
    if not trackers and (trackers is not None or not os.environ.get("ASYNCSIM_TRACKERS")):
        return None
    from asyncsim.trackers import Followers

    return Followers(trackers)


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


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Python looks for cyclic garbage less often: there is hardly any, and many workers are many objects to look through."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], COLLECT_AFTER) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
