"""A law is a closed form, a simulation that should obey it, and a wrong model that the same check must refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import asyncsim
from asyncsim import Result
from asyncsim.records.rows import EVENT_KINDS, OUTCOMES
from asyncsim.scenario import Document, Scenario, build_scenario

NARROW = 1e-7
"""Relative tolerance beside the standard errors: durations are rounded to nanoseconds, and some laws have no scatter at all."""

Plan = Callable[[int], Scenario]
"""The scenario that delivers about so many pushes."""


class Law(NamedTuple):
    """``observe`` gives one or many numbers in the order of time, whose mean ought to be ``value``.

    ``against``: what the check has to refuse. A number: another formula, tried on the same run; a plan: another model, whose run
    is tried on the same formula. ``wrong`` says in words what it is.
    """

    name: str
    formula: str
    value: float
    plan: Plan
    observe: Callable[[Result], np.ndarray]
    wrong: str
    against: float | Plan


class Outcome(NamedTuple):
    """What a check found; ``distance`` and ``refused`` in standard errors (infinite where a law without scatter is missed)."""

    law: Law
    events: int
    mean: float
    error: float
    distance: float
    refused: float

    @property
    def holds(self) -> bool:
        return self.fits(3) and self.refused > 3

    def fits(self, most: float) -> bool:
        return self.distance <= most


def check(law: Law, pushes: int, batches: int = 40) -> Outcome:
    """Simulate ``pushes`` arrivals and compare. The first twentieth of the observations is left out as the start."""
    result = asyncsim.plan(law.plan(pushes))
    mean, error = batch_means(law.observe(result), batches)
    if callable(law.against):
        other = batch_means(law.observe(asyncsim.plan(law.against(pushes))), batches)
        refused = distance(*other, law.value)
    else:
        refused = distance(mean, error, law.against)
    events = result.summary["pushes"] + result.summary["crashes"]
    return Outcome(law, events, mean, error, distance(mean, error, law.value), refused)


def batch_means(values: np.ndarray, batches: int = 40) -> tuple[float, float]:
    """Mean and its standard error, from the means of consecutive stretches, which are nearly independent."""
    values = values[len(values) // 20 :]
    means = np.array([part.mean() for part in np.array_split(values, batches)])
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(batches))


def distance(mean: float, error: float, value: float) -> float:
    """How many standard errors lie between ``mean`` and ``value``."""
    off = max(0.0, abs(mean - value) - NARROW * abs(value))
    return off / error if error > NARROW * abs(value) else math.inf if off else 0.0


def scenario(workers: int, compute: Any, method: Any = "asgd", updates: int = 1, **sections: Any) -> Scenario:
    """A timeline on a quadratic, which costs nothing; ``cluster`` is merged into the fleet."""
    cluster = {"workers": workers, "compute": compute, **sections.pop("cluster", {})}
    base = {
        "task": {"kind": "quadratic"}, "cluster": cluster, "method": method, "optimizer": {"kind": "sgd", "lr": 0.01},
        "run": {"updates": updates}, "evaluate": {"updates": updates},
    }  # fmt: skip
    return build_scenario(Document(base | sections, "validation"))


# What can be seen of a run. Times in virtual seconds.


def spans(result: Result, kind: str) -> dict[str, np.ndarray]:
    """The columns of the events of one kind, in the order of their ends."""
    events = result.tables["events"]
    chosen = np.flatnonzero(events["kind"] == EVENT_KINDS.index(kind))
    chosen = chosen[np.argsort(events["end_ns"][chosen], kind="stable")]
    return {name: column[chosen] for name, column in events.items()}


def applied(result: Result, column: str, worker: int | None = None) -> np.ndarray:
    """A column of the pushes that became updates, of one worker or of all."""
    updates = result.tables["updates"]
    chosen = updates["outcome"] == OUTCOMES.index("applied")
    return updates[column][chosen if worker is None else chosen & (updates["worker"] == worker)]


def staleness(result: Result) -> np.ndarray:
    """Of every push."""
    return result.tables["updates"]["staleness"]


def between_pushes(result: Result) -> np.ndarray:
    return np.diff(result.tables["updates"]["time_ns"]) / 1e9


def between_updates(result: Result, worker: int | None = None) -> np.ndarray:
    return np.diff(applied(result, "time_ns", worker)) / 1e9


def waits(result: Result) -> np.ndarray:
    """Seconds that each push waited at the server, in the order of service."""
    served, queued = spans(result, "serve"), spans(result, "queue")
    begun = dict(zip(_keys(queued), queued["start_ns"].tolist(), strict=True))
    arrived = [begun.get(key, start) for key, start in zip(_keys(served), served["start_ns"].tolist(), strict=True)]
    return (served["start_ns"] - np.array(arrived)) / 1e9


def _keys(found: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(found["worker"].tolist(), found["step"].tolist(), strict=True))


def number_open(starts: np.ndarray, ends: np.ndarray, until: float, windows: int = 400) -> np.ndarray:
    """How many spans are open at a time, averaged over each of ``windows`` equal windows up to ``until`` (ns)."""
    times = np.concatenate([starts, ends])
    order = np.argsort(times, kind="stable")
    times = times[order].astype(np.float64)
    levels = np.cumsum(np.concatenate([np.ones(len(starts)), -np.ones(len(ends))])[order])
    integral = np.concatenate([[0.0], np.cumsum(levels[:-1] * np.diff(times))])
    edges = np.linspace(0, until, windows + 1)
    return np.diff(np.interp(edges, times, integral)) / (until / windows)


def at_work(result: Result, kind: str) -> np.ndarray:
    """How many workers are in spans of a kind, averaged over windows; the end, where spans are not finished, is left out."""
    found = spans(result, kind)
    return number_open(found["start_ns"], found["end_ns"], 0.98 * float(result.tables["events"]["end_ns"].max()))


def at_server(result: Result) -> np.ndarray:
    """How many pushes wait or are served, averaged over windows."""
    return at_work(result, "queue") + at_work(result, "serve")


def rate(times: np.ndarray, until: float, windows: int = 400) -> np.ndarray:
    """Events a second in each of ``windows`` equal windows up to ``until`` (ns)."""
    counts, _ = np.histogram(times, bins=windows, range=(0, until))
    return counts / (until / windows / 1e9)
