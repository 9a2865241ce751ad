"""Runs on a pool of processes of this machine. A process that is killed takes no other run with it."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError
from asyncsim.records import load_result
from asyncsim.scenario import Document, build_scenario
from asyncsim.sweep.attempt import Outcome, attempt, described
from asyncsim.sweep.runner import KILLED, Job, Report

GRACE = 20.0
"""Seconds that processes have to save their runs after Ctrl-C."""


def on_pool(job: Job) -> Iterator[tuple[int, Outcome]]:
    """All runs on a pool; those that were under way when a process was killed again, each on a process of its own."""
    suspects: list[int] = []
    waiting = list(job.waiting)
    while waiting:
        broken = yield from _round(job, waiting, job.executor.processes)
        suspects += broken[0]
        waiting = broken[1]
    for index in suspects:
        killed, _ = yield from _round(job, [index], 1)
        if killed:
            yield index, Outcome(error=KILLED)


def _round(job: Job, waiting: list[int], processes: int) -> Any:
    """Outcomes of ``waiting``, until a process is killed; then (what was under way, what had not begun)."""
    context = multiprocessing.get_context("spawn")
    moments: Any = context.Queue()
    pool = ProcessPoolExecutor(min(processes, len(waiting)), context, initializer=_start, initargs=(moments,))
    pending: dict[Future[Any], int] = {}
    begun: set[int] = set()
    broken: tuple[list[int], list[int]] = ([], [])
    with _stopping(pool):
        with _later():
            for index in waiting:
                scenario = job.study.scenarios[index].document()
                task = pool.submit(_work, index, scenario, job.folders[index], job.force, job.study.several)
                pending[task] = index
        while pending:
            finished, _ = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
            for index, moment in _drain(moments):
                begun.add(index)
                if moment is not None:
                    job.report(Report(index, moment))
            for task in finished:
                index = pending.pop(task)
                if isinstance(task.exception(), BrokenProcessPool):
                    broken[index not in begun].append(index)
                    continue
                yield index, _ended(task, job.folders[index])
    if broken[1] and not broken[0]:  # it died before it could say what it had begun
        return broken[1], []
    return broken


def _ended(task: Future[Any], folder: Path | None) -> Outcome:
    try:
        outcome = task.result()
        return outcome if folder is None or outcome.error or outcome.busy else outcome._replace(result=load_result(folder))
    except UserError as error:
        return Outcome(error=str(error))
    except Exception as error:  # what cannot be sent from process to process
        return Outcome(error=described(error))


def _drain(moments: Any) -> Iterator[Any]:
    while True:
        try:
            yield moments.get_nowait()
        except queue.Empty:
            return


@contextmanager
def _stopping(pool: ProcessPoolExecutor) -> Iterator[None]:
    """On an error or Ctrl-C, let the processes save what they have and go; otherwise wait for them."""
    try:
        yield
    except BaseException:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + GRACE
        while any(process.is_alive() for process in processes):
            sent = signal.SIGINT if time.monotonic() < deadline else signal.SIGKILL
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, sent)
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
    _moments.cancel_join_thread()  # a process that ends does not wait until somebody has read what it reported
    signal.signal(signal.SIGINT, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _interrupt(*_: Any) -> None:
    """The first Ctrl-C ends a run; the next ones do not disturb it while it saves its records."""
    global _running
    if _running:
        _running = False
        raise KeyboardInterrupt


def _work(index: int, document: dict[str, Any], folder: Path | None, force: bool, shared: bool) -> Outcome:
    global _running
    _running = True
    try:
        _moments.put((index, None))
        scenario = build_scenario(Document(document, "scenario"))
        outcome = attempt(scenario, folder, force, lambda moment: _moments.put((index, moment)), shared=shared)
    finally:
        _running = False
    return outcome if folder is None else outcome._replace(result=None)
