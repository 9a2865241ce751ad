"""Measure how long this machine takes for a gradient.

Wall time never enters a simulation directly. It enters a scenario only by way of the file that is written here.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import asyncsim
from asyncsim.calibration.calibrate import Calibration, as_yaml, calibrate, write_durations
from asyncsim.errors import UserError
from asyncsim.paths import resolved
from asyncsim.records.directory import write_atomically
from asyncsim.run import prepared, versions
from asyncsim.scenario import Document, Scenario, build_scenario, load_study
from asyncsim.streams import Streams
from asyncsim.units import NANOSECONDS, show_seconds


class Measurement(NamedTuple):
    """``seconds`` has shape ``(gradients,)``, in order. ``about`` is one line that says what was timed, where, and how."""

    seconds: np.ndarray
    about: str

    def write(self, path: str | Path) -> tuple[Path, Path, Calibration]:
        """Write the durations to ``path`` (.csv), and beside it (.yaml) the piece of a scenario that draws from them.

        Neither file may exist yet. Returns the two paths and what was fitted.

        Raises:
            UserError: another ending, a file that exists already, a folder that does not, or a full disk.
        """
        path = check_place(path)
        snippet = path.with_suffix(".yaml")
        write_durations(path, {None: self.seconds})
        made = calibrate(path)
        frozen = {"kind": "empirical", "file": path.name, "sha256": made.trace.sha256}
        write_atomically(snippet, f"# {self.about}\n{as_yaml({'cluster': {'compute': frozen}})}".encode())
        return path, snippet, made


def check_place(path: str | Path) -> Path:
    """Where a measurement may be written: what was measured once is never replaced. Raises ``UserError``."""
    path = resolved(path)
    if path.suffix.lower() != ".csv":
        raise UserError(f"{path}: durations are written as CSV; name a file that ends in .csv")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    for each in (path, path.with_suffix(".yaml")):
        if each.exists():
            raise UserError(f"{each}: is there already; name another file")
    return path


def scenario_of(task: str, device: str | None = None, threads: int | None = None) -> Scenario:
    """The scenario in a file (the first one if it describes several), or a small scenario for a task that is given by name."""
    changes = {name: value for name, value in (("device", device), ("threads", threads)) if value is not None}
    if Path(task).suffix or Path(task).exists():
        return load_study(task, changes).scenarios[0]
    return build_scenario(Document({"task": task, "cluster": {"workers": 1}, "run": {"updates": 1}} | changes, "--measure"))


def measure(
    scenario: Scenario, gradients: int = 200, warm_up: int = 20, clock: Callable[[], int] = time.perf_counter_ns
) -> Measurement:
    """Time the computation of ``gradients`` gradients, one batch each, including the reading of the batch. ``warm_up``
    gradients before them are not counted.

    They are the gradients of worker 0 at the initial parameters, computed one at a time by the reference kernel on the
    scenario's device, with its number of threads. ``clock`` returns nanoseconds. Whatever else the machine does meanwhile is
    measured with them.
    """
    from asyncsim.engine.kernels import gradient

    streams = Streams(scenario.seed)
    times = np.empty(gradients + warm_up, np.int64)
    with prepared(scenario) as task:
        wait = _waiting(scenario.device)
        params = task.init()
        for step in range(len(times)):
            wait()
            started = clock()
            gradient(task, streams, params, 0, step)
            wait()
            times[step] = clock() - started
        number = task.layout.num_parameters
    seconds = times[warm_up:] / NANOSECONDS
    about = (
        f"{scenario.task.kind}: {gradients:,} gradients of batch {scenario.task.batch} ({number:,} parameters) after {warm_up:,} "
        f"to warm up; median {show_seconds(float(np.median(seconds)))}; {scenario.device}, {scenario.threads} "
        f"thread{'s' if scenario.threads > 1 else ''}, {scenario.dtype}, {platform.machine()}, torch {versions()['torch']}, "
        f"asyncsim {asyncsim.__version__}"
    )
    return Measurement(seconds, about)


def _waiting(device: str) -> Callable[[], None]:
    """A function that waits until the device has finished all work it was given. On a CPU, work is finished when a call
    returns."""
    if device == "cpu":
        return lambda: None
    import torch

    return torch.accelerator.synchronize
