"""The section "Real processes"."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from measure import machine

from asyncsim.calibration import Fit
from validation import figures
from validation.markdown import FIGURES, Section, picture, table
from validation.real import (
    CV,
    MEANS,
    SPANS,
    Prediction,
    Replay,
    as_cluster,
    equal_workers,
    exchanged,
    fitted_fleet,
    ks,
    predict,
    real_run,
    replay,
)
from validation.real_server import Real

FIRST, AGAIN, ENDS = "four workers", "four workers, another seed", "the fastest and the slowest alone"
REPLAY_HEAD = [
    "run", "pushes", "seconds", "beyond the sleep, ms: mean, 99 %", "order, times, versions", "parameters",
    "one push exchanged with the next",
]  # fmt: skip
PREDICTION_HEAD = [
    "run", "model", "pushes a second: real", "simulated", "off by", "staleness: KS distance", "worst worker", "test loss: off by",
]  # fmt: skip


def real(pushes: int) -> Section:
    """Three real runs: replayed, and two of them predicted from the first."""
    runs = {}
    for seed, (name, means) in enumerate({FIRST: MEANS, AGAIN: MEANS, ENDS: (MEANS[0], MEANS[-1])}.items()):
        runs[name] = real_run(means, pushes * len(means) // len(MEANS), seed)
        print(f"  ran: {name}", flush=True)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        replays = {name: replay(*run, log) for name, run in runs.items()}
        controls = {name: replay(scenario, exchanged(run), log) for name, (scenario, run) in runs.items()}
    exact = all(same.same_order and same.same_bits for same in replays.values())
    exact = exact and not any(late.same_order or late.same_bits for late in controls.values())
    print(f"  replayed: {'exact' if exact else 'NOT EXACT'}", flush=True)
    fits = fitted_fleet(runs[FIRST][1].events)
    fleets = {AGAIN: list(fits.values()), ENDS: [fits[0], fits[len(MEANS) - 1]]}
    fitted = {name: predict(*runs[name], as_cluster(fleet)) for name, fleet in fleets.items()}
    wrong = {name: predict(*runs[name], equal_workers(fleet)) for name, fleet in fleets.items()}
    figures.staleness(fitted, FIGURES / "real_staleness.png")
    figures.loss(fitted, FIGURES / "real_loss.png")
    sleeps = ", ".join(f"{1000 * mean:g}" for mean in MEANS)
    chance = " and ".join(f"{found.loss_scatter():.3f} ({name})" for name, found in fitted.items())
    return [
        f"{machine()}, {os.cpu_count()} cores; load average of the machine {load:.1f} at the end of the runs. Workers sleep for",
        f"gamma times of mean {sleeps} ms and CV {CV:g}.", "",
        "### Replay", "",
        *table(REPLAY_HEAD, [_replayed(name, run, replays[name], controls[name]) for name, (_, run) in runs.items()]), "",
        "### Prediction", "",
        "Fitted to the log of the first run:", "",
        *table(["worker", *SPANS], [[str(worker), *(_fit(found[span]) for span in SPANS)] for worker, found in fits.items()]), "",
        "What these fits predict of the other two runs (8 simulations each), and what a wrong model predicts: equal memoryless",
        "workers with the fleet's mean time.", "",
        *table(PREDICTION_HEAD, [
            _predicted(name, model, found[name]) for name in fitted for model, found in (("fitted", fitted), ("wrong", wrong))
        ]), "",
        "The loss is off by the mean absolute difference of its logarithm, over time, from the simulation with the same batches.",
        f"Between that one and simulations of other seeds it is {chance}.",
        *picture("real_staleness", "Staleness of real processes, and as predicted"),
        *picture("real_loss", "Test loss of real processes, and as predicted"),
    ], exact  # fmt: skip


def _replayed(name: str, run: Real, same: Replay, late: Replay) -> list[str]:
    return [
        name, f"{len(run.updates):,}", f"{run.updates['time_ns'].iloc[-1] / 1e9:.1f}",
        f"{1000 * run.beyond.mean():.2f}, {1000 * np.quantile(run.beyond, 0.99):.1f}",
        "the same" if same.same_order else "**different**", "the same bits" if same.same_bits else "**different**",
        "**the same bits**" if late.same_bits else "other parameters",
    ]  # fmt: skip


def _fit(found: Fit) -> str:
    return f"{found.chosen.kind}: mean {1000 * found.mean:.3g} ms, CV {found.cv:.2g} (KS {found.chosen.ks:.2f})"


def _predicted(name: str, model: str, found: Prediction) -> list[str]:
    seen, simulated = found.throughput
    worst = max(ks(*found.staleness(worker)) for worker in range(found.real.updates["worker"].nunique()))
    return [
        name, model, f"{seen:.2f}", f"{simulated:.2f}", f"{simulated / seen - 1:+.1%}", f"{ks(*found.staleness()):.3f}",
        f"{worst:.3f}", f"{found.loss_difference():.3f}",
    ]  # fmt: skip
