"""Run the scenarios of a study: in this process, on a pool of processes, or on Ray. The bits are the same everywhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from asyncsim.errors import UserError
from asyncsim.records import Result
from asyncsim.run import reusable
from asyncsim.run.moments import Moment
from asyncsim.scenario import Study
from asyncsim.sweep.attempt import Outcome, attempt, is_idle
from asyncsim.sweep.fleet import interleave

KILLED = "the process of this run was killed (out of memory?)"
POLL = 0.5
"""Seconds between two looks at a run that another sweep is doing."""


class Report(NamedTuple):
    """What happened to the run ``index`` of a study: a moment of it, that it is ``waiting`` for another process which is doing
    the same run, or its end (a result or an error)."""

    index: int  # type: ignore[assignment]  # it hides a method of tuples that nobody wants here
    moment: Moment | None = None
    result: Result | None = None
    error: str | None = None
    reused: bool = False
    waiting: bool = False


Reporter = Callable[[Report], None]


@dataclass(frozen=True)
class Executor:
    """Where runs are done. ``kind`` auto is a fleet in this process if ``processes`` is 1, else a pool of them.

    For Ray: ``address`` of a cluster (``auto``: the one this machine belongs to; None: RAY_ADDRESS, or one started here), and
    the ``cpus`` and ``gpus`` (fractions allowed) that a run takes there.
    """

    kind: Literal["auto", "fleet", "processes", "ray"] = "auto"
    processes: int = 1
    address: str | None = None
    cpus: float = 1.0
    gpus: float | None = None  # None: one GPU for a scenario on cuda, otherwise none


class Job(NamedTuple):
    """The work of an executor: a study, the folder of each run, and which of the runs to do."""

    study: Study
    folders: list[Path | None]
    waiting: list[int]
    force: bool
    executor: Executor
    report: Reporter


def simulate_study(
    study: Study,
    out: str | Path | None = None,
    processes: int = 1,
    force: bool = False,
    report: Reporter | None = None,
    executor: Executor | None = None,
) -> list[Result | None]:
    """Results in the order of ``study.scenarios``; None for a run that failed (``report`` was told why).

    With ``out``, every run has a folder in it, and a finished run of the same scenario is reused unless ``force``. A run that
    another sweep is doing at this moment is waited for, and its result taken. Plugins defined in a notebook exist only in this
    process: use one process for them.
    """
    report = report or (lambda _: None)
    executor = executor or Executor(processes=processes)
    results: list[Result | None] = [None] * len(study)
    folders = [None if out is None else run_folder(Path(out), study, index) for index in range(len(study))]

    def reused(index: int) -> bool:
        folder = folders[index]
        results[index] = None if folder is None or force else reusable(study.scenarios[index], folder)
        if results[index] is not None:
            report(Report(index, result=results[index], reused=True))
        return results[index] is not None

    waiting = [index for index in range(len(study)) if not reused(index)]
    run = _executor(executor, len(waiting))
    told: set[int] = set()
    while waiting:
        busy = []
        with closing(run(Job(study, folders, waiting, force, executor, report))) as outcomes:
            for index, outcome in outcomes:
                if outcome.busy:
                    busy.append(index)
                    continue
                results[index] = outcome.result
                report(Report(index, result=outcome.result, error=outcome.error, reused=outcome.reused))
        for index in busy:
            if index not in told:
                told.add(index)
                report(Report(index, waiting=True))
        waiting = _until_free(busy, folders, reused)
    return results


def _until_free(busy: list[int], folders: list[Path | None], reused: Callable[[int], bool]) -> list[int]:
    """Wait for other processes, and then do what they have left undone (because they were killed or interrupted)."""
    while busy:
        free = [index for index in busy if (folder := folders[index]) is None or is_idle(folder)]
        undone = [index for index in free if not reused(index)]
        if undone:
            return [index for index in busy if index in undone or index not in free]
        busy = [index for index in busy if index not in free]
        if busy:
            time.sleep(POLL)
    return []


def run_folder(out: Path, study: Study, index: int) -> Path:
    """``out/<name>-<hash>``, or ``out/<study>/<variant and point>-s<seed>-<hash>`` for a study of several runs."""
    scenario = study.scenarios[index]
    if not study.several:
        return out / f"{scenario.name}-{scenario.hash}"
    return out / study.name / f"{study.labels[index][:80]}-s{scenario.seed}-{scenario.hash}"


def _executor(executor: Executor, count: int) -> Callable[[Job], Any]:
    kind = executor.kind
    if kind == "auto":
        kind = "fleet" if executor.processes == 1 or count <= 1 else "processes"
    if kind == "ray":
        from asyncsim.sweep.on_ray import on_ray

        return on_ray
    if kind == "processes":
        from asyncsim.sweep.pool import on_pool

        return on_pool
    return on_fleet


def on_fleet(job: Job) -> Iterator[tuple[int, Outcome]]:
    """Run in this process: runs on the batched engine share its calls, the others are done one after the other."""

    def run(index: int, wait: Any) -> Outcome:
        moment = lambda seen: job.report(Report(index, seen))  # noqa: E731
        return attempt(job.study.scenarios[index], job.folders[index], job.force, moment, wait, job.study.several)

    yield from interleave(job.study.scenarios, job.waiting, run)


def failures(study: Study, errors: Mapping[int, str]) -> list[str]:
    """One line for each run that failed."""
    return [f"{study.labels[index]}, seed {study.scenarios[index].seed}: {errors[index]}" for index in sorted(errors)]


def missing(extra: str, package: str) -> UserError:
    """The error where an optional package is not installed."""
    return UserError(f"{package} is not installed; it comes with `pip install asyncsim[{extra}]`")
