"""A real asynchronous parameter server: this process serves, every worker is a process of its own, and time is the machine's.

The answer to a push is the new parameters, so a worker reads at the instant its push is applied; first reads are of version 0.
The workers are asyncsim's task and gradient kernel; the server is ``torch.optim.SGD``. Compute times are sleeps, chosen
beforehand, that are far longer than the gradient. Times in the log are nanoseconds of one monotonic clock, from the first read.
"""

from __future__ import annotations

import multiprocessing
import struct
import time
from itertools import count
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from asyncsim.engine.kernels import gradient
from asyncsim.scenario import Document, Scenario, build_scenario
from asyncsim.streams import Streams
from asyncsim.tasks.task import Task

HEAD = struct.Struct("<qq")  # when the parameters had come, when the gradient went
START = 120.0  # wall seconds that a worker process may take to start
SILENCE = 30.0  # wall seconds without any message after which a run is given up


class Real(NamedTuple):
    """What a real run leaves. ``events`` is a table for the delay `recorded`; ``updates`` has a row a push."""

    events: pd.DataFrame  # kind, worker, step, start_ns, end_ns, complete
    updates: pd.DataFrame  # time_ns, worker, step, read_version, version, staleness
    parameters: np.ndarray  # (P,) at the end
    kept: dict[int, torch.Tensor]  # version -> parameters, every so many updates
    beyond: np.ndarray  # (pushes,) seconds that a computation took beyond its sleep: the gradient, and waiting for a core


def run_real(scenario: Scenario, seconds: np.ndarray, every: int) -> Real:
    """Run ``scenario`` (task, optimiser, seed, length; its cluster is not looked at) with processes.

    ``seconds[worker, step]`` are the sleeps, shape ``(N, steps)``. Raises ``TimeoutError`` if the workers fall silent,
    ``EOFError`` if one ends. No worker outlives the call: they are ended on the way out, and end by themselves when this
    process is gone.
    """
    torch.set_num_threads(1)
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    try:
        for worker, sleeps in enumerate(seconds):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(worker, theirs, scenario.document(), sleeps), daemon=True)
            process.start()
            theirs.close()
            connections.append(ours)
            processes.append(process)
        return _serve(scenario, connections, seconds, every)
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()


def task_of(scenario: Scenario, workers: int) -> Task:
    return scenario.task.build(scenario.seed, "cpu", scenario.dtype, workers)


def _serve(scenario: Scenario, connections: list[Connection], seconds: np.ndarray, every: int) -> Real:
    workers = len(connections)
    params = torch.nn.Parameter(task_of(scenario, workers).init().clone())
    optimizer = torch.optim.SGD([params], lr=scenario.optimizer.lr)
    for connection in connections:
        if not connection.poll(START):
            raise TimeoutError("a worker process did not start")
        connection.recv_bytes()
    begin = time.monotonic_ns()
    for connection in connections:
        connection.send_bytes(params.detach().numpy())
    version, steps, read, since = 0, [0] * workers, [0] * workers, [0] * workers
    events, updates, beyond, kept = [], [], [], {0: params.detach().clone()}
    while version < scenario.run.updates:
        ready = wait(connections, SILENCE)
        if not ready:
            raise TimeoutError(f"no worker has been heard for {SILENCE:g} s, at version {version}")
        for connection in ready[: scenario.run.updates - version]:
            worker = connections.index(connection)
            message = bytearray(connection.recv_bytes())
            received, sent = (stamp - begin for stamp in HEAD.unpack_from(message))
            params.grad = torch.frombuffer(message, dtype=params.dtype, offset=HEAD.size).clone()
            optimizer.step()
            now = time.monotonic_ns() - begin
            step = steps[worker]
            events += [
                ("download", worker, step, since[worker], received, True), ("compute", worker, step, received, sent, True),
                ("upload", worker, step, sent, now, True),
            ]  # fmt: skip
            beyond.append((sent - received) / 1e9 - seconds[worker, step])
            updates.append((now, worker, step, read[worker], version + 1, version - read[worker]))
            version += 1
            steps[worker], read[worker], since[worker] = step + 1, version, now
            connection.send_bytes(params.detach().numpy())
            if version % every == 0:
                kept[version] = params.detach().clone()
    return Real(
        pd.DataFrame(events, columns=["kind", "worker", "step", "start_ns", "end_ns", "complete"]),
        pd.DataFrame(updates, columns=["time_ns", "worker", "step", "read_version", "version", "staleness"]),
        params.detach().numpy().copy(), kept, np.array(beyond),
    )  # fmt: skip


def _work(worker: int, connection: Connection, document: dict[str, Any], seconds: np.ndarray) -> None:
    torch.set_num_threads(1)
    scenario = build_scenario(Document(document, "the server's scenario"))
    task, streams = task_of(scenario, scenario.cluster.num_workers), Streams(scenario.seed)
    gradient(task, streams, task.init(), worker, 0)  # the first one is slow
    try:
        connection.send_bytes(b"ready")
        for step in count():
            message = bytearray(connection.recv_bytes())
            received = time.monotonic_ns()
            params = torch.frombuffer(message, dtype=getattr(torch, scenario.dtype)).clone()
            result = gradient(task, streams, params, worker, step)
            time.sleep(seconds[step % len(seconds)])
            connection.send_bytes(HEAD.pack(received, time.monotonic_ns()) + result.gradient.numpy().tobytes())
    except (EOFError, OSError, KeyboardInterrupt):
        return  # the run is over
