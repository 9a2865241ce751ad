"""The figures of docs/validation.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator

from asyncsim.plots.style import DOUBLE, PALETTE, RC

mpl.use("Agg")
import matplotlib.pyplot as plt

from validation.laws import Outcome
from validation.published import DGS_COMMUNICATION, DGS_WORKERS, Contention, Ratio
from validation.real import Prediction, curve_of

BLUE, RED, GREEN = PALETTE[:3]
MOST = 1e4


@contextmanager
def _drawn(path: Path, columns: int = 1, height: float = 2.6) -> Iterator[Any]:
    with plt.rc_context(RC | {"savefig.dpi": 130}):
        figure, axes = plt.subplots(1, columns, figsize=(DOUBLE, height), layout="constrained", squeeze=False)
        yield axes[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})
        plt.close(figure)


def closed_forms(outcomes: list[Outcome], path: Path) -> None:
    """Distance of every law and of its wrong model, in standard errors."""
    rows = np.arange(len(outcomes))[::-1]
    with _drawn(path, height=0.8 + 0.19 * len(outcomes)) as (ax,):
        ax.axvspan(0, 3, color=GREEN, alpha=0.15, linewidth=0)
        ax.plot([outcome.distance for outcome in outcomes], rows, "o", color=BLUE, label="the simulation and the closed form")
        refused = [min(outcome.refused, MOST) for outcome in outcomes]
        ax.plot(refused, rows, "x", color=RED, label="the wrong model")
        ax.set_xscale("symlog", linthresh=3, linscale=1.2)
        ax.set_xlim(-0.1, 2 * MOST)
        ax.set_xticks([0, 1, 2, 3, 10, 100, 1000, MOST], ["0", "1", "2", "3", "10", "100", "1,000", "≥ 10,000"])
        ax.set_yticks(rows, [re.sub(r" \([^)]*\)", "", outcome.law.name) for outcome in outcomes])
        ax.set_ylim(-0.7, len(outcomes) - 0.3)
        ax.set_xlabel("distance from the closed form, standard errors")
        ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)


def staleness(predictions: dict[str, Prediction], path: Path) -> None:
    """Real and predicted shares of each staleness."""
    with _drawn(path, len(predictions)) as axes:
        for ax, (name, prediction) in zip(axes, predictions.items(), strict=True):
            real, simulated = prediction.staleness()
            most = int(np.quantile(real, 0.999)) + 1
            bins = np.arange(most + 1)
            shares = [np.bincount(values, minlength=most + 1)[: most + 1] / len(values) for values in (real, simulated)]
            ax.bar(bins, shares[0], color=BLUE, alpha=0.45, label="real processes")
            ax.plot(bins, shares[1], "o-", color=RED, label="simulated, fitted to another run")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.set(xlabel="staleness, versions", ylabel="share of the pushes", title=name)
            ax.legend()


def loss(predictions: dict[str, Prediction], path: Path) -> None:
    """Real and predicted test loss over time."""
    with _drawn(path, len(predictions)) as axes:
        for ax, (name, prediction) in zip(axes, predictions.items(), strict=True):
            for index, run in enumerate(prediction.runs):
                curve = curve_of(run)
                style = {"color": RED, "zorder": 2} if index == 0 else {"color": "0.75", "zorder": 1, "linewidth": 0.8}
                label = {0: "simulated, same batches", 1: "simulated, other seeds"}.get(index)
                ax.plot(curve["time"], curve["loss"], label=label, **style)
            real = prediction.curve
            ax.plot(real["time"], real["loss"], "o", color=BLUE, markersize=3, label="real processes", zorder=3)
            ax.set_yscale("log")
            ax.set(xlabel="real or virtual time, s", ylabel="test loss", title=name)
            ax.legend()


def ratios(found: list[Ratio], path: Path) -> None:
    """Asynchronous over synchronous throughput against the number of workers."""
    settings = list(dict.fromkeys(row.setting for row in found))
    with _drawn(path, len(settings)) as axes:
        for ax, setting in zip(axes, settings, strict=True):
            rows = [row for row in found if row.setting == setting]
            workers = [row.workers for row in rows]
            expected = np.array([row.expected.mean() for row in rows])
            scatter = np.array([2 * row.expected.std() / 8**0.5 for row in rows])
            ax.fill_between(workers, expected - scatter, expected + scatter, color="0.85", label="closed form, means of 8 fleets")
            ax.plot(workers, [row.simulated.mean() for row in rows], "o-", color=BLUE, label="simulated")
            ax.plot(workers, [row.reference for row in rows], "x", color=RED, markersize=7, label="reference")
            ax.set_xscale("log", base=2)
            ax.set_xticks(workers, [str(each) for each in workers])
            ax.set(xlabel="workers", ylabel="asynchronous / synchronous", title=setting)
            ax.legend(loc="upper left")


def contention(found: Contention, path: Path) -> None:
    """Communication time of dense asynchronous SGD against the number of workers."""
    with _drawn(path) as (ax,):
        for (bits, source), colour in zip(DGS_COMMUNICATION.items(), (BLUE, RED), strict=True):
            ax.plot(DGS_WORKERS, found.seconds[bits], "o-", color=colour, label=f"simulated, {bits / 1e9:g} Gbit/s")
            ax.plot(DGS_WORKERS, source, "x", color=colour, markersize=7, label=f"DGS's notebook, {bits / 1e9:g} Gbit/s")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(DGS_WORKERS, [str(each) for each in DGS_WORKERS])
        ax.set(xlabel="workers", ylabel="communication, s an iteration")
        ax.legend()
