"""Run the scenarios of a study on a Ray cluster.

Run folders must lie on a file system that all machines of the cluster see. Results of runs without a folder are sent back.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError, first_line
from asyncsim.records import load_result
from asyncsim.scenario import Document, build_scenario
from asyncsim.stopping import Stopped, handlers_kept, stoppable
from asyncsim.sweep.attempt import Outcome, attempt, described
from asyncsim.sweep.runner import KILLED, Job, missing

RETRIES = 3
"""How often Ray starts a run again whose process or machine died. Its bits are those of a run to which nothing happened."""
GRACE = 30.0
"""Seconds that runs have to save their records after Ctrl-C."""


def on_ray(job: Job) -> Iterator[tuple[int, Outcome]]:
    """Run all scenarios as Ray tasks. Ray decides where, by the CPUs and GPUs that a run asks for. Raises ``UserError``."""
    try:
        import ray
    except ImportError:
        raise missing("ray", "Ray") from None
    with _connected(ray, job.executor.address):
        _satisfiable(ray, job)
        work = ray.remote(max_retries=RETRIES, max_calls=0)(_work)
        pending: dict[Any, int] = {}
        for index in job.waiting:
            scenario, folder = job.study.scenarios[index], job.folders[index]
            options = work.options(num_cpus=job.executor.cpus, num_gpus=_gpus(job, index), name=job.study.labels[index])
            where = None if folder is None else folder.resolve()
            pending[options.remote(scenario.document(), where, job.force, job.study.several)] = index
        try:
            while pending:
                finished, _ = ray.wait(list(pending), num_returns=1, timeout=0.2)
                for reference in finished:
                    index = pending.pop(reference)
                    yield index, _ended(ray, reference, job.folders[index])
        except BaseException:
            _cancel(ray, list(pending))
            raise


def _gpus(job: Job, index: int) -> float:
    if job.executor.gpus is not None:
        return job.executor.gpus
    return 1.0 if job.study.scenarios[index].device.startswith("cuda") else 0.0


def _ended(ray: Any, reference: Any, folder: Path | None) -> Outcome:
    try:
        outcome = ray.get(reference)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
        return Outcome(error=f"{KILLED}, {1 + RETRIES} times")
    except Exception as error:
        return Outcome(error=described(error))
    if folder is None or outcome.error or outcome.busy:
        return outcome
    try:
        return outcome._replace(result=load_result(folder))
    except UserError:
        return Outcome(error=f"{folder}: is not here, though the run ended; the folder must be on a file system all machines see")


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Use the connection that exists, or make one: to ``address``, to RAY_ADDRESS, or to a cluster that is started on this
    machine."""
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address and (place := re.fullmatch(r"([^:/]+):(\d+)", address)):
        try:  # Ray itself tries for minutes
            socket.create_connection((place[1], int(place[2])), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"Ray: no connection to {address}: {error}") from None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    dashboard = None if address else False
    try:
        with handlers_kept():  # Ray's own for SIGTERM would end this process with another exit code
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=dashboard)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"Ray: no connection to {address or 'a cluster of its own'}: {first_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _satisfiable(ray: Any, job: Job) -> None:
    """Raise an error for resources that no machine of the cluster has; Ray itself would wait for them for ever."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, wanted in (("CPU", job.executor.cpus), ("GPU", max(_gpus(job, index) for index in job.waiting))):
        most = max((machine.get(name, 0.0) for machine in machines), default=0.0)
        if wanted > most:
            raise UserError(f"Ray: a run asks for {wanted:g} {name}, the machines of this cluster have at most {most:g}")


def _cancel(ray: Any, references: list[Any]) -> None:
    """Interrupt every run as Ctrl-C does; those that have begun save their records."""
    for reference in references:
        with suppress(Exception):
            ray.cancel(reference)
    deadline = time.monotonic() + GRACE
    while references and time.monotonic() < deadline:
        _, references = ray.wait(references, num_returns=len(references), timeout=1.0)


def _work(document: dict[str, Any], folder: Path | None, force: bool, shared: bool) -> Outcome:
    """One run, in a process of Ray's. Ray cancels it with SIGINT and ends the process with SIGTERM; it saves its records."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # inherited from a command in a shell's background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with stoppable():
            outcome = attempt(build_scenario(Document(document, "scenario")), folder, force, shared=shared)
    except Stopped as stop:
        if stop.number == signal.SIGTERM:
            sys.exit(1)  # as Ray's own handler: the run is done again elsewhere
        raise
    return outcome if folder is None else outcome._replace(result=None)
