"""The protocol of trackers, and how a tracker is named on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from asyncsim.errors import UserError, nearest

KINDS = {
    "tensorboard": ("asyncsim.trackers.tensorboard", "TensorBoard"),
    "mlflow": ("asyncsim.trackers.mlflow", "MLflow"),
    "wandb": ("asyncsim.trackers.wandb", "WandB"),
}  # fmt: skip


class Tracker(Protocol):
    """An object that is told about runs, one after the other: ``start``, then ``log`` at every evaluation in order, then
    ``finish``.

    It cannot change a run. If one of its methods raises, it is told nothing more about that run.
    """

    def start(self, manifest: Mapping[str, Any]) -> None:
        """Take the manifest of a run that begins: its name, hash and versions, and the whole ``scenario``."""

    def log(self, metrics: Mapping[str, float], time_seconds: float, updates: int) -> None:
        """Take the metrics of an evaluation, with its virtual time and its number of updates. All numbers are finite.

        In addition to the task's metrics there are ``lr`` and ``samples``, and the means of ``staleness``, ``gap``,
        ``penalty`` and ``loss`` over the pushes since the evaluation before.
        """

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Take the summary of a run that is over; ``summary["status"]`` is finished, diverged, interrupted or failed."""


def make_tracker(name: str) -> Tracker:
    """The tracker that ``kind:where`` names, such as ``tensorboard:logs``.

    Raises ``UserError`` if there is no such kind, or if its package is not installed.
    """
    kind, colon, where = name.partition(":")
    if kind not in KINDS:
        raise UserError(f"tracker {kind!r}: unknown{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    if not colon or not where:
        raise UserError(f"tracker {name!r}: say where it should write, such as {kind}:logs/{kind}")
    module, cls = KINDS[kind]
    return getattr(import_module(module), cls)(where)


def needed(package: str, extra: str) -> Any:
    """The module ``package``. Raises ``UserError``, naming the extra to install, if it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(
            f"tracker {extra}: the package {error.name or package} is not installed; pip install 'asyncsim[{extra}]'"
        ) from None


def run_name(manifest: Mapping[str, Any]) -> str:
    """``<name>-s<seed>-<hash>``, different for different runs of a study."""
    return f"{manifest['name']}-s{manifest['scenario'].get('seed', 0)}-{manifest['hash']}"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted path; what is no number or text becomes text."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a summary."""
    return {
        name: float(value)
        for name, value in summary.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0
    }
