"""A real run replayed bit for bit, and real runs predicted from distributions that were fitted to another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

import asyncsim
from asyncsim import Result
from asyncsim.calibration import Fit, fit
from asyncsim.scenario import Document, Scenario, build_scenario
from validation.real_server import Real, run_real, task_of

MEANS = (0.06, 0.09, 0.13, 0.18)  # seconds of sleep: workers that differ threefold
CV = 0.5
SPANS = ("compute", "download", "upload")


def setting(workers: int, updates: int, seed: int, cluster: dict[str, Any] | None = None) -> Scenario:
    """Plain asynchronous SGD on the digits; ``cluster`` is the model of the fleet."""
    return build_scenario(Document({
        "name": "real", "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [64]}},
        "cluster": {"workers": workers} | (cluster or {}), "method": "asgd", "optimizer": {"kind": "sgd", "lr": 0.1},
        "run": {"updates": updates}, "evaluate": {"updates": max(1, updates // 40)}, "engine": "serial", "seed": seed,
    }, "validation"))  # fmt: skip


def real_run(means: tuple[float, ...], updates: int, seed: int) -> tuple[Scenario, Real]:
    """Processes that sleep for gamma times of these means and CV 0.5."""
    scenario = setting(len(means), updates, seed)
    sleeps = np.random.default_rng(seed).gamma(1 / CV**2, CV**2, (len(means), updates)) * np.array(means)[:, None]
    return scenario, run_real(scenario, sleeps, scenario.evaluate.updates)


# Replay.


class Replay(NamedTuple):
    result: Result
    same_order: bool  # every row of the updates: time, worker, step, version read, version, staleness
    same_bits: bool  # of the parameters at the end


def replay(scenario: Scenario, real: Real, file: Path) -> Replay:
    """Write the log to ``file`` and run it through the delay `recorded`: compute times and both links, to the nanosecond."""
    real.events.to_csv(file, index=False)
    delays = {span: {"kind": "recorded", "file": str(file), "span": span} for span in SPANS}
    links = {"uplink": {"latency": delays["upload"]}, "downlink": {"latency": delays["download"]}}
    cluster = {"workers": scenario.cluster.num_workers, "compute": delays["compute"], **links}
    result = asyncsim.simulate(setting(scenario.cluster.num_workers, scenario.run.updates, scenario.seed, cluster))
    table = result.updates[list(real.updates.columns)]
    return Replay(
        result, len(table) == len(real.updates) and bool((table.to_numpy() == real.updates.to_numpy()).all()),
        result.parameters.tobytes() == real.parameters.tobytes(),
    )  # fmt: skip


def exchanged(real: Real) -> Real:
    """The same log, but one push in the middle comes a nanosecond after the one that followed it."""
    times, workers, steps = (real.updates[name].to_numpy() for name in ("time_ns", "worker", "step"))
    half = len(times) // 2
    late = half + int(np.flatnonzero(workers[half:-1] != workers[half + 1 :])[0])
    events = real.events.copy()
    row = (events["kind"] == "upload") & (events["worker"] == workers[late]) & (events["step"] == steps[late])
    events.loc[row, "end_ns"] += times[late + 1] - times[late] + 1
    return real._replace(events=events)


# Prediction.


def fitted_fleet(events: pd.DataFrame) -> dict[int, dict[str, Fit]]:
    """By worker and span: what fits the log of a real run, as `asyncsim calibrate` fits it."""
    seconds = (events["end_ns"] - events["start_ns"]) / 1e9
    return {
        int(worker): {span: fit(seconds[rows.index[rows["kind"] == span]].to_numpy()) for span in SPANS}
        for worker, rows in events.groupby("worker")
    }


def as_cluster(fits: list[dict[str, Fit]]) -> dict[str, Any]:
    """The section ``cluster`` for workers with these fits."""
    overrides = {
        index: {
            "compute": found["compute"].family.delay(), "uplink": {"latency": found["upload"].family.delay()},
            "downlink": {"latency": found["download"].family.delay()},
        }
        for index, found in enumerate(fits)
    }  # fmt: skip
    return {"workers": len(fits), "overrides": overrides}


def equal_workers(fits: list[dict[str, Fit]]) -> dict[str, Any]:
    """A wrong model: all workers alike and memoryless, with the mean of the fleet's mean times."""
    means = [sum(found[span].mean for span in SPANS) for found in fits]
    return {"workers": len(fits), "compute": {"kind": "exponential", "mean": float(np.mean(means))}}


class Prediction(NamedTuple):
    """A real run beside simulations of it that have never seen it."""

    real: Real
    curve: pd.DataFrame  # time, loss: test loss of the real parameters
    runs: list[Result]  # the first one has the real run's seed: its first parameters and its batches

    @property
    def throughput(self) -> tuple[float, float]:
        """Pushes a second: real, simulated (mean of the runs)."""
        updates = self.real.updates
        simulated = np.mean([run.summary["pushes_per_second"] for run in self.runs])
        return len(updates) / (float(updates["time_ns"].iloc[-1]) / 1e9), float(simulated)

    def staleness(self, worker: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Of every push: real, simulated (all runs), of one worker or of all."""
        tables = [self.real.updates, pd.concat([run.updates for run in self.runs])]
        real, simulated = (table if worker is None else table[table["worker"] == worker] for table in tables)
        return real["staleness"].to_numpy(), simulated["staleness"].to_numpy()

    def loss_difference(self) -> float:
        """Mean absolute difference of the logarithms of the test losses, over the times of the real evaluations."""
        return _log_distance(self.curve, curve_of(self.runs[0]))

    def loss_scatter(self) -> float:
        """The same between the simulations of other seeds and the first one: what is left to chance."""
        return float(np.mean([_log_distance(curve_of(run), curve_of(self.runs[0])) for run in self.runs[1:]]))


def ks(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference of the two cumulative distributions."""
    return float(stats.ks_2samp(first, second).statistic)


def predict(scenario: Scenario, real: Real, cluster: dict[str, Any], seeds: int = 8) -> Prediction:
    """Simulate the real run's scenario on a modelled fleet; only the first run shares its seed with reality."""
    workers, updates = scenario.cluster.num_workers, scenario.run.updates
    runs = [asyncsim.simulate(setting(workers, updates, scenario.seed + 100 * index, cluster)) for index in range(seeds)]
    task = task_of(scenario, workers)
    times = np.concatenate([[0], real.updates["time_ns"].to_numpy()]) / 1e9
    losses = [task.evaluate(params)["loss"] for params in real.kept.values()]
    return Prediction(real, pd.DataFrame({"time": times[list(real.kept)], "loss": losses}), runs)


def curve_of(run: Result) -> pd.DataFrame:
    return pd.DataFrame({"time": run.metrics["time"], "loss": run.metrics["test_loss"]})


def _log_distance(first: pd.DataFrame, second: pd.DataFrame) -> float:
    """Where both have been evaluated; the second is interpolated."""
    there = first["time"] <= second["time"].iloc[-1]
    other = np.interp(first["time"][there], second["time"], np.log(second["loss"]))
    return float(np.abs(np.log(first["loss"][there]) - other).mean())
