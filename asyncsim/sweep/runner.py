"""Run the scenarios of a study: in this process, or on a pool of processes. The bits are the same either way."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from asyncsim.errors import UserError
from asyncsim.records import Result, load_result
from asyncsim.run import Moment, reusable, simulate
from asyncsim.scenario import Document, Scenario, Study, build_scenario

KILLED = "the process of this run was killed (out of memory?)"


class Report(NamedTuple):
    """What happened to run ``index`` of a study: a moment of it, or its end (a result or an error)."""

    index: int
    moment: Moment | None = None
    result: Result | None = None
    error: str | None = None
    reused: bool = False


def simulate_study(
    study: Study,
    out: str | Path | None = None,
    processes: int = 1,
    force: bool = False,
    report: Callable[[Report], None] | None = None,
) -> list[Result | None]:
    """Results in the order of ``study.scenarios``; None for a run that failed (``report`` was told why).

    With ``out``, every run has a folder in it, and a finished run of the same scenario is reused unless ``force``. Plugins
    defined in a notebook exist only in this process: use one process for them.
    """
    report = report or (lambda _: None)
    results: list[Result | None] = [None] * len(study)
    folders = [None if out is None else run_folder(Path(out), study, index) for index in range(len(study))]
    waiting = []
    for index, scenario in enumerate(study.scenarios):
        if folders[index] is not None and not force:
            results[index] = reusable(scenario, folders[index])
        if results[index] is None:
            waiting.append(index)
        else:
            report(Report(index, result=results[index], reused=True))
    run = _in_process if processes == 1 or len(waiting) <= 1 else _on_pool
    for final in run(study, folders, waiting, processes, report):
        results[final.index] = final.result
        report(final)
    return results


def run_folder(out: Path, study: Study, index: int) -> Path:
    """``out/<name>-<hash>``, or ``out/<study>/<variant>-s<seed>-<hash>`` where there are several."""
    scenario = study.scenarios[index]
    if len(study) == 1:
        return out / f"{scenario.name}-{scenario.hash}"
    return out / study.name / f"{study.variants[index]}-s{scenario.seed}-{scenario.hash}"


Reporter = Callable[[Report], None]


def _in_process(
    study: Study, folders: list[Path | None], waiting: list[int], processes: int, report: Reporter
) -> Iterator[Report]:
    for index in waiting:
        try:
            moment = lambda seen, index=index: report(Report(index, seen))  # noqa: E731
            yield Report(index, result=simulate(study.scenarios[index], folders[index], moment))
        except UserError as error:
            yield Report(index, error=str(error))


def _on_pool(study: Study, folders: list[Path | None], waiting: list[int], processes: int, report: Reporter) -> Iterator[Report]:
    context = multiprocessing.get_context("spawn")
    moments: Any = context.Queue()
    pool = ProcessPoolExecutor(min(processes, len(waiting)), context, initializer=_start, initargs=(moments,))
    pending: dict[Future[Any], int] = {}
    with _stopping(pool):
        with _later():
            for index in waiting:
                task = pool.submit(_work, index, study.scenarios[index].document(), folders[index])
                pending[task] = index
        while pending:
            finished, _ = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
            for seen in _drain(moments):
                report(seen)
            for task in finished:
                index = pending.pop(task)
                yield _ended(task, index, folders[index])


def _ended(task: Future[Any], index: int, folder: Path | None) -> Report:
    try:
        error, result = task.result()
    except BrokenProcessPool:
        return Report(index, error=KILLED)
    if error is not None:
        return Report(index, error=error)
    return Report(index, result=load_result(folder) if result is None else result)


def _drain(moments: Any) -> Iterator[Report]:
    while True:
        try:
            index, moment = moments.get_nowait()
        except queue.Empty:
            return
        yield Report(index, moment)


@contextmanager
def _stopping(pool: ProcessPoolExecutor) -> Iterator[None]:
    """On an error or Ctrl-C, let the processes save what they have and go; otherwise wait for them."""
    try:
        yield
    except BaseException:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        while any(process.is_alive() for process in processes):
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGINT)
            time.sleep(0.2)
        raise
    pool.shutdown(wait=True)


@contextmanager
def _later() -> Iterator[None]:
    """Hold Ctrl-C back. Processes that start here do so too, until they are ready for work."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


# What a pool process knows.
_moments: Any = None
_running = False


def _start(moments: Any) -> None:
    global _moments
    _moments = moments
    signal.signal(signal.SIGINT, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _interrupt(*_: Any) -> None:
    """The first Ctrl-C ends a run; the next ones do not disturb it while it saves its records."""
    global _running
    if _running:
        _running = False
        raise KeyboardInterrupt


def _work(index: int, document: dict[str, Any], folder: Path | None) -> tuple[str | None, Result | None]:
    global _running
    _running = True
    try:
        scenario: Scenario = build_scenario(Document(document, "scenario"))
        result = simulate(scenario, folder, lambda moment: _moments.put((index, moment)))
    except UserError as error:
        return str(error), None
    finally:
        _running = False
    return None, (result if folder is None else None)
