"""How long this machine takes for a gradient. The only place where wall time gets into a scenario: by way of a file."""

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
        """Freeze the durations in ``path`` (.csv), and beside it (.yaml) the piece of a scenario that draws from them.

        Neither may be there yet. Returned with the two paths is what was fitted.

        Raises:
            UserError: another ending, a file that is there, a folder that is not, a full disk.
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
    """The scenario in a file (the first, if it describes several), or a small one around the name of a task."""
    changes = {name: value for name, value in (("device", device), ("threads", threads)) if value is not None}
    if Path(task).suffix or Path(task).exists():
        return load_study(task, changes).scenarios[0]
    return build_scenario(Document({"task": task, "cluster": {"workers": 1}, "run": {"updates": 1}} | changes, "--measure"))


def measure(
    scenario: Scenario, gradients: int = 200, warm_up: int = 20, clock: Callable[[], int] = time.perf_counter_ns
) -> Measurement:
    """Time ``gradients`` gradients of one batch each, with the reading of the batch, after ``warm_up`` that are not counted.

    They are those of worker 0 at the initial parameters, one at a time, by the reference kernel, with the scenario's device and
    threads. ``clock`` tells nanoseconds. Other work on the machine is measured with them.
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
    """What waits until a device has done what it was told; a CPU has when a call returns."""
    if device == "cpu":
        return lambda: None
    import torch

    return torch.accelerator.synchronize
