"""Turn a trace into a piece of a scenario."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ruamel.yaml import YAML

from asyncsim.calibration.families import digits
from asyncsim.calibration.fitting import Fit, fit
from asyncsim.calibration.fleet import Differences, differences
from asyncsim.calibration.reading import Trace, read_trace
from asyncsim.cluster import Cluster
from asyncsim.cluster.durations import Layout, Span, Times, Unit
from asyncsim.cluster.fields import MAX_WORKERS
from asyncsim.errors import UserError
from asyncsim.paths import resolved
from asyncsim.records.directory import write_atomically

FORMAT = 1
LISTED = 32
"""Largest number of workers for which the snippet lists a factor for each. Larger fleets are described by the delay `cvb`,
which draws its machines anew."""
FEW = 30
"""Number of durations below which a fit is not to be relied on."""
FAR = 0.1
"""Kolmogorov-Smirnov distance above which none of the families describes the trace."""
PERSISTENT = 0.2
"""Autocorrelation above which independent draws would lose something that the trace has."""
LINKS = {"upload": "uplink", "download": "downlink"}


class Calibration(NamedTuple):
    """A trace, and what was fitted to it. ``fits`` has one entry for each part of the trace, by the part's name."""

    trace: Trace
    fits: dict[str, Fit]
    differences: Differences | None
    """How the workers of a trace of durations differ; None for a trace of availability."""
    snippet: dict[str, Any]
    """Part of a scenario, as plain data: a section `cluster` that validates."""
    notes: tuple[str, ...]

    @property
    def yaml(self) -> str:
        """The ``snippet`` as YAML text, ready to be pasted into a scenario."""
        return as_yaml(self.snippet)

    def document(self) -> dict[str, Any]:
        """Everything as plain data for JSON. The keys are the same for every trace."""
        return {
            "format": FORMAT,
            "trace": {
                "path": str(self.trace.path), "sha256": self.trace.sha256,
                "kind": "availability" if self.trace.availability else "durations", "left_out": self.trace.left_out,
                "read": self.trace.said,
            },
            "fits": {name: each.document() for name, each in self.fits.items()},
            "differences": None if self.differences is None else self.differences.document(),
            "snippet": self.snippet, "yaml": self.yaml, "notes": list(self.notes),
        }  # fmt: skip


def calibrate(
    trace: str | Path,
    column: str = "seconds",
    worker: str = "worker",
    span: Span = "compute",
    empirical: str | Path | None = None,
    unit: Unit | None = None,
    times: Times = "durations",
) -> Calibration:
    """Read a trace, fit every family of distributions, choose one, and express it as a piece of a scenario.

    Workers that differ (``Differences.heterogeneous``) are fitted together after each duration was divided by its worker's
    factor; the snippet multiplies again. ``empirical`` names a CSV file that these durations are written to, and the snippet
    draws from it instead of from a family. ``times`` and ``unit`` say what the columns hold, as in the delay `empirical`.

    Raises:
        UserError: the trace cannot be read, or ``empirical`` cannot be written.
    """
    read = read_trace(trace, Layout(column, worker, span, times, unit))
    if read.availability:
        if empirical is not None:
            raise UserError(f"{read.path}: is a trace of availability; `empirical` is for traces of durations")
        fits = {name: fit(_pool(workers)) for name, workers in read.parts.items()}
        snippet: dict[str, Any] = {"faults": {name: each.family.delay() for name, each in fits.items()}}
        return _checked(Calibration(read, fits, None, {"cluster": snippet}, _notes(read, fits, None)))
    workers = read.parts[span]
    if len(workers) > MAX_WORKERS:
        raise UserError(f"{read.path}: {len(workers):,} workers; allowed are 1 to {MAX_WORKERS:,}")
    found = differences(workers)
    if found.heterogeneous:
        workers = {label: x / factor for (label, x), factor in zip(workers.items(), found.factors, strict=True)}
    fits = {span: fit(_pool(workers))}
    delay = fits[span].family.delay()
    if empirical is not None:
        if resolved(empirical).resolve() == read.path.resolve():
            raise UserError(f"{read.path}: is the trace itself; name another file for the durations to draw from")
        delay = {"kind": "empirical", "file": str(write_durations(empirical, workers))}
    if found.heterogeneous:
        if len(workers) <= LISTED or empirical is not None:
            delay = {"kind": "tiers", "base": delay, "factors": [digits(factor) for factor in found.factors]}
        else:
            parts = {"mean": found.mean, "cv_machine": found.cv_machine, "cv_task": found.cv_batch}
            delay = {"kind": "cvb"} | {name: digits(value) for name, value in parts.items()}
    fleet: dict[str, Any] = {} if None in workers else {"workers": len(workers)}
    place = {"compute": delay} if span == "compute" else {LINKS[span]: {"latency": delay}}
    return _checked(Calibration(read, fits, found, {"cluster": fleet | place}, _notes(read, fits, found)))


def write_durations(path: str | Path, workers: dict[Any, np.ndarray]) -> Path:
    """Write durations as a trace, whole or not at all: columns ``worker`` (if they are known) and ``seconds``."""
    path = resolved(path)
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    named = None not in workers
    lines = ["worker,seconds" if named else "seconds"]
    for label, values in workers.items():
        first = f"{_quoted(label)}," if named else ""
        lines += [f"{first}{value!r}" for value in values.tolist()]
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    return path


def as_yaml(snippet: dict[str, Any]) -> str:
    """Plain data as YAML text, with each innermost mapping on one line."""
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = None
    writer.sort_base_mapping_type_on_output = False
    writer.width = 160
    stream = io.StringIO()
    writer.dump(snippet, stream)
    return stream.getvalue()


def _quoted(label: Any) -> str:
    text = str(label)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n\r') else text


def _pool(workers: dict[Any, np.ndarray]) -> np.ndarray:
    return np.concatenate(list(workers.values()))


def _checked(made: Calibration) -> Calibration:
    """The snippet itself, after it has been validated as part of a scenario, so that nothing is handed out that would be
    refused later."""
    Cluster.model_validate(made.snippet["cluster"])
    return made


def _notes(trace: Trace, fits: dict[str, Fit], found: Differences | None) -> tuple[str, ...]:
    notes = []
    if trace.left_out:
        notes.append(f"left out, as their ends were not seen: {trace.left_out:,} spans, which favours short ones")
    for name, each in fits.items():
        if len(each.values) < FEW:
            notes.append(f"{name}: {len(each.values)} durations say little about a distribution")
        elif each.chosen.ks is not None and each.chosen.ks > FAR:
            notes.append(f"{name}: no family comes near the trace (distance {each.chosen.ks:.2f}); draw from the trace itself")
    if found is None:
        return tuple(notes)
    if found.autocorrelation is not None and abs(found.autocorrelation) > max(PERSISTENT, 3 / sum(found.counts) ** 0.5):
        notes.append(
            f"a worker's durations follow each other (autocorrelation {found.autocorrelation:.2f}), which independent draws "
            "lose; `recorded` replays them, `two_state` models slow periods"
        )
    if found.heterogeneous and len(found.workers) > LISTED:
        notes.append(f"{len(found.workers):,} workers differ: the snippet draws machines anew; the fits are of batches alone")
    return tuple(notes)
