"""Results made by hand, so that every number in a figure can be checked against the one that was put in."""

from __future__ import annotations

import numpy as np

from asyncsim.records import Result
from asyncsim.records.rows import EVENT_KINDS, EVENTS, METRICS, OUTCOMES, UPDATES


def made(
    method="asgd", workers=4, seed=0, accuracy=(0.1, 0.6, 0.9), staleness=(0, 1, 2, 1), gap=(0.0, 0.5, 1.0, 2.0), diverged=False,
    changes=None, name="made", tables=("metrics", "updates", "events"), **summary,
) -> Result:  # fmt: skip
    """A run of ``len(staleness)`` pushes, one a virtual second, evaluated every other second from 0 on."""
    second, count = 1_000_000_000, len(staleness)
    metrics = {key: np.arange(len(accuracy), dtype=dtype) for key, dtype in METRICS.items()}
    metrics |= {"time_ns": np.arange(len(accuracy)) * 2 * second, "test_accuracy": np.array(accuracy, float)}
    updates = {key: np.zeros(count, dtype) for key, dtype in UPDATES.items()}
    updates |= {"time_ns": np.arange(1, count + 1) * second, "version": np.arange(1, count + 1),
                "staleness": np.array(staleness), "gap": np.array(gap[:count], float), "penalty": np.array(gap[:count]) + 1.0,
                "outcome": np.full(count, OUTCOMES.index("applied"), "int8")}  # fmt: skip
    events = {key: np.zeros(count, dtype) for key, dtype in EVENTS.items()}
    events |= {"kind": np.full(count, EVENT_KINDS.index("compute"), "int8"), "worker": np.arange(count) % workers,
               "start_ns": np.arange(count) * second, "end_ns": np.arange(1, count + 1) * second,
               "complete": np.ones(count, bool)}  # fmt: skip
    scenario = {"name": name, "task": {"kind": "digits"}, "cluster": {"workers": workers}, "method": {"kind": method},
                "optimizer": {"kind": "sgd", "lr": 0.1}, "evaluate": {"splits": ["test"]}, "seed": seed}  # fmt: skip
    for path, value in (changes or {}).items():
        section, _, key = path.partition(".")
        scenario[section] = {**scenario[section], key: value}
    last = accuracy[-1] if np.isfinite(accuracy[-1]) and not diverged else None
    state = "diverged" if diverged else "finished"
    numbers = {"name": name, "method": method, "seed": seed, "workers": workers, "status": state, "updates": count,
               "time": float(count), "samples_per_second": 10.0 * workers, "test_accuracy": last, "utilisation": 0.7, "wait": 0.2,
               "unfinished": 0.1, "staleness_mean": float(np.mean(staleness))} | summary  # fmt: skip
    manifest = {"name": name, "hash": "0123456789", "status": state, "scenario": scenario, "format": 1, "device": "cpu",
                "fingerprints": {"timeline": f"t{workers}{seed}", "trajectory": f"{method}{workers}{seed}"},
                "engine": {"kind": "serial"}, "versions": {"asyncsim": "0"}}  # fmt: skip
    kept = {"metrics": metrics, "updates": updates, "events": events}
    return Result(numbers, manifest, {key: value if key in tables else None for key, value in kept.items()})


def lines(ax) -> dict[str, tuple[list[float], list[float]]]:
    """Label -> x and y of its line."""
    found = {}
    for line in ax.get_lines():
        if not str(line.get_label()).startswith("_"):
            found[line.get_label()] = (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())))
    return found


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]
