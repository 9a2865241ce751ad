"""Run the scenarios of a study on a pool of processes of this machine. If one process is killed, only the run that it was doing
is affected.

Each process of the pool watches one end of a pipe. When the other end closes, because this process closes it or has died,
the processes save their runs and end. Ctrl-C at a terminal reaches all of them; they ignore it, and this process tells them
what to do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any

from asyncsim import stopping
from asyncsim.errors import UserError
from asyncsim.records import load_result
from asyncsim.scenario import Document, build_scenario
from asyncsim.sweep.attempt import Outcome, attempt, described
from asyncsim.sweep.runner import KILLED, Job, Report

GRACE = 20.0
"""Seconds that a process has to save its run when it is asked to end."""
ORPHAN_GRACE = 5.0
"""Seconds that a process has to save its run when the process that started it is gone, so that nobody waits for it."""
TERMINATED = 128 + signal.SIGTERM


def on_pool(job: Job) -> Iterator[tuple[int, Outcome]]:
    """Run all scenarios on a pool. Those that were under way when a process was killed are run again, each in a process of its
    own."""
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
    """Yield outcomes of ``waiting`` until all are done or a process is killed. Returns the runs that were under way then, and
    those that had not begun."""
    context = multiprocessing.get_context("spawn")
    pending: dict[Future[Any], int] = {}
    begun: set[int] = set()
    broken: tuple[list[int], list[int]] = ([], [])
    with _shielded():
        moments: Any = context.SimpleQueue()
        parent, alive = context.Pipe(duplex=False)
        count = min(processes, len(waiting))
        pool = ProcessPoolExecutor(count, context, initializer=_start, initargs=(moments, parent))
    with _stopping(pool, alive):
        with _shielded():
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
    if broken[1] and not broken[0]:  # it died before it could report which run it had begun
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
    while not moments.empty():
        yield moments.get()


@contextmanager
def _stopping(pool: ProcessPoolExecutor, alive: connection.Connection) -> Iterator[None]:
    """Context that ends the pool: on an error or Ctrl-C its processes save what they have and leave; otherwise they are waited
    for."""
    try:
        yield
        pool.shutdown(wait=True)
    except BaseException:
        processes: dict[Any, Any] = {process.sentinel: process for process in (pool._processes or {}).values()}
        pool.shutdown(wait=False, cancel_futures=True)
        alive.close()
        deadline = time.monotonic() + GRACE + ORPHAN_GRACE
        while processes and (left := deadline - time.monotonic()) > 0:
            for ended in connection.wait(list(processes), left):
                del processes[ended]
        for process in processes.values():
            process.kill()
        raise
    finally:
        alive.close()


@contextmanager
def _shielded() -> Iterator[None]:
    """Context in which signals are held back. Processes that start within inherit that, so they begin without being
    interrupted."""
    with stopping.undisturbed():
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            yield
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping.SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


# What a pool process knows.
_moments: Any = None
_ending: Any = None
_running = False


def _start(moments: Any, parent: connection.Connection) -> None:
    """Begin a process of the pool: from now on it ends when its parent does, or when SIGTERM asks it to."""
    global _moments, _ending
    _moments = moments
    ending, _ending = multiprocessing.Pipe(duplex=False)
    for number in stopping.SIGNALS:
        signal.signal(number, _end if number == signal.SIGTERM else signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping.SIGNALS)
    _ask_for_a_signal()
    threading.Thread(target=_watch, args=(parent, ending), daemon=True).start()


def _ask_for_a_signal() -> None:
    """Ask Linux to send SIGTERM when the parent dies. The pipe tells the same, unless another process that the parent forked
    holds its end open."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def _watch(parent: connection.Connection, ending: connection.Connection) -> None:
    """Wait, in a thread, until the parent wants this process to end or has died; ask the process to end, and end it if it does
    not in time."""
    if parent in connection.wait([parent, ending]):
        if hasattr(signal, "pthread_kill"):
            main = threading.main_thread().ident
            assert main is not None, "it has begun"
            signal.pthread_kill(main, signal.SIGTERM)
        else:
            signal.raise_signal(signal.SIGTERM)
    process = multiprocessing.parent_process()
    assert process is not None, "this is a process of a pool"
    process.join(GRACE)
    time.sleep(ORPHAN_GRACE)
    os._exit(TERMINATED)


def _end(*_: Any) -> None:
    """Act on SIGTERM: stop the run that is going on, once, so that it saves its records; without a run, end at once."""
    if not _running:
        os._exit(TERMINATED)
    if not stopping.asked():
        _ending.send_bytes(b"end")
    stopping.stop(signal.SIGTERM)


def _work(index: int, document: dict[str, Any], folder: Path | None, force: bool, shared: bool) -> Outcome:
    try:
        return _run(index, document, folder, force, shared)
    except KeyboardInterrupt:  # the run has saved its records
        os._exit(TERMINATED)


def _run(index: int, document: dict[str, Any], folder: Path | None, force: bool, shared: bool) -> Outcome:
    global _running
    try:
        _running = True
        _moments.put((index, None))
        scenario = build_scenario(Document(document, "scenario"))
        outcome = attempt(scenario, folder, force, lambda moment: _moments.put((index, moment)), shared=shared)
    finally:
        _running = False
    return outcome if folder is None else outcome._replace(result=None)
