"""What the formulas need to know of a scenario, read from its document, and why they may not speak of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Document = Mapping[str, Any]

PLAIN = ("asgd", "ssp", "bsp", "k_sync", "backup_workers", "rennala", "ringmaster")
"""Methods whose updates are means of gradients, each with the weight 1."""
BY_STALENESS = ("staleness_aware", "softsync")
"""Methods that divide a gradient by its staleness, and do nothing else to it."""
FREE = (*PLAIN[:1], "staleness_aware", "gap_aware", "dana", "dana_gap_aware", "dc_asgd")
"""Methods whose workers never wait, and whose every push is an update."""
SPREADS = {"constant": 0.0, "exponential": 1.0, "gamma_homogeneous": 0.1}
"""Coefficients of variation of compute times by kind; that of ``gamma`` is its own."""


class Facts(NamedTuple):
    """``pipeline``: the model is cut into stages. ``silent`` says why the formulas for SGD with stale gradients do not hold;
    None where they do.

    ``by_staleness``: every gradient is divided by its staleness, or by 1 if that is 0. ``curvatures`` ``(P,)``, ``starts``
    ``(P,)`` and ``noise`` (of a batch's gradient, its deviation) are those of the quadratic task, else empty. ``spread`` is the
    coefficient of variation of gamma compute times that all workers share, None where they differ or have others; ``alone`` says
    that nothing else takes time and nobody waits or crashes, so that the law of staleness is known.
    """

    method: str
    pipeline: bool
    silent: str | None
    workers: int
    lr: float
    momentum: float
    nesterov: bool
    constant_rate: bool
    by_staleness: bool
    curvatures: np.ndarray
    starts: np.ndarray
    noise: float
    spread: float | None
    alone: bool

    @property
    def quadratic(self) -> bool:
        """Is the curvature known?"""
        return len(self.curvatures) > 0

    @property
    def moving(self) -> np.ndarray:
        """Curvatures above 0."""
        return self.curvatures[self.curvatures > 0]

    @property
    def free_asgd(self) -> bool:
        """Plain ASGD on a fleet that only computes: of which the law of staleness is known for every number of workers, if it is
        `gamma_fleet`."""
        return self.method == "asgd" and not self.momentum and self.alone

    @property
    def gamma_fleet(self) -> bool:
        """Do all workers share gamma compute times of CV up to 1?"""
        return self.spread is not None and self.spread <= 1

    @property
    def tiny_step(self) -> bool:
        """Is the step so small that more workers are always faster?"""
        return not self.lr or not len(self.moving) or self.lr * float(self.moving.min()) < 1e-8


def facts_of(document: Document, workers: int) -> Facts:
    """The facts of a resolved scenario (`Scenario.document`, or ``scenario`` in a run's manifest). Fields that an old or
    hand-made document lacks count as their defaults."""
    method, optimizer = _part(document, "method"), _part(document, "optimizer")
    task, schedule = _part(document, "task"), _part(document, "schedule")
    quadratic = task.get("kind") == "quadratic"
    size = _size(task) if quadratic else 0
    momentum = float(optimizer.get("momentum") or 0.0)
    return Facts(
        method=str(method.get("kind", "asgd")),
        pipeline=int(_part(document, "stages").get("count", 1)) > 1,
        silent=_silent(document, method, optimizer),
        workers=workers,
        lr=float(optimizer.get("lr") or 0.0),
        momentum=momentum,
        nesterov=bool(optimizer.get("nesterov")),
        constant_rate=schedule.get("kind", "constant") == "constant" and not schedule.get("warmup"),
        by_staleness=_by_staleness(method),
        curvatures=_spread_over(task.get("curvature", 1.0), size) if quadratic else np.empty(0),
        starts=_spread_over(task.get("start", 1.0), size) if quadratic else np.empty(0),
        noise=float(task.get("noise") or 0.0) / float(task.get("batch") or 1) ** 0.5 if quadratic else 0.0,
        spread=_spread(_part(document, "cluster")),
        alone=_alone(document, method),
    )


def _silent(document: Document, method: Document, optimizer: Document) -> str | None:
    kind = method.get("kind", "asgd")
    if optimizer.get("kind", "sgd") != "sgd":
        return f"steps of {optimizer.get('kind')} are not proportional to the gradient"
    if kind not in (*PLAIN, *BY_STALENESS) or method.get("lag"):
        return f"{kind} does more to a gradient than to average it"
    if kind in BY_STALENESS and method.get("rule", "inverse") != "inverse":
        return f"the rule {method.get('rule')} of {kind} is none that it knows"
    if any(method.get(place) for place in ("before", "uplink", "downlink", "program")):
        return "the method has more parts than its own"
    if optimizer.get("weight_decay") and _part(document, "task").get("kind") == "quadratic":
        return "weight decay adds a curvature of its own"
    return None


def _by_staleness(method: Document) -> bool:
    kind = method.get("kind")
    return kind == "staleness_aware" or (kind == "softsync" and method.get("staleness_aware", True))


def _spread(cluster: Document) -> float | None:
    compute = _part(cluster, "compute")
    if cluster.get("groups") or cluster.get("overrides"):
        return None
    kind = compute.get("kind", "gamma_homogeneous")
    if kind == "gamma":
        return float(compute.get("cv", 0.0))
    return SPREADS.get(kind)


def _alone(document: Document, method: Document) -> bool:
    """Do workers compute all the time, and does nothing else take time?"""
    cluster = _part(document, "cluster")
    links = (_part(cluster, name) for name in ("uplink", "downlink"))
    if any(link.get("bandwidth") or not _none(_part(link, "latency")) for link in links):
        return False
    if not _none(_part(_part(cluster, "server"), "service")) or _part(cluster, "server").get("faults"):
        return False
    happenings = ("faults", "events", "network", "all_reduce", "load", "zones", "maintenance", "outages", "script")
    if any(cluster.get(name) for name in happenings):
        return False
    more = any(method.get(place) for place in ("before", "uplink", "consistency", "program"))
    return method.get("kind", "asgd") in FREE and not more


def _none(delay: Document) -> bool:
    return delay.get("kind", "constant") == "constant" and not delay.get("mean")


def _part(document: Document, name: str) -> Document:
    """A section; a kind may stand for itself, as files write it."""
    found = document.get(name)
    return found if isinstance(found, Mapping) else {} if found is None else {"kind": str(found)}


def _size(task: Document) -> int:
    if task.get("dim"):
        return int(task["dim"])
    return next((len(task[name]) for name in ("curvature", "start") if isinstance(task.get(name), list | tuple)), 10)


def _spread_over(value: Any, size: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), size).copy()
