"""The parameters once more: a plain loop over the recorded arrivals, with one gradient at a time at what was read.

It covers replicas with averaging, dropping and the division by the staleness, before SGD with momentum, on any timeline: the
arrivals say which gradient was taken at which version, and what became of it.
"""

from __future__ import annotations

import numpy as np
import torch

from asyncsim.needs import Need
from asyncsim.records import Result
from asyncsim.run import prepared
from asyncsim.scenario import Scenario
from torture.drawing import has_kind
from torture.outcomes import Finding

APPLIED, BUFFERED, DROPPED = range(3)
NEAR = 1e-7
"""Times the largest parameter on the way: rounding that grows with it is none of the loop's business."""
HUGE = 1e30


def covered(scenario: Scenario) -> bool:
    bundle, cluster = scenario.bundle(), scenario.cluster
    kinds = [transform.kind for transform in bundle.transforms]
    chain = all(kind in ("drop_stale", "accumulate") or _inverse(t) for kind, t in zip(kinds, bundle.transforms, strict=True))
    order = "accumulate" not in kinds[:-1] and Need.CLOSES not in bundle.needs
    leaving = any(event.stop or event.leave for event in (*cluster.events, *(cluster.script.events if cluster.script else ())))
    leaving = leaving or has_kind(scenario, "recorded") or cluster.server.faults is not None
    one_sided = not (scenario.staged or bundle.exchange or bundle.uplink or bundle.downlink)
    plain = bundle.program.kind == "replica" and one_sided
    return plain and chain and order and not leaving and bundle.step.kind == "sgd"


def _inverse(transform: object) -> bool:
    return getattr(transform, "kind", "") == "staleness_aware" and getattr(transform, "rule", "") == "inverse"


def check_parameters(scenario: Scenario, result: Result | None) -> bool:
    """Raises ``Finding`` where the final parameters of a run in double precision are not those of the loop.

    False if it does not cover the scenario; without ``result`` that is all that is asked.
    """
    if not covered(scenario):
        return False
    if result is None or result.summary["status"] == "diverged":
        return True
    expected, largest = replayed(scenario, result)
    if not np.isfinite(expected).all() or largest > HUGE:
        return True
    away = float(np.abs(expected - result.parameters).max())
    if not away <= NEAR * max(1.0, largest):
        raise Finding("trajectory", "other parameters", f"{away:.3g} away, the largest is {largest:.3g}")
    return True


def replayed(scenario: Scenario, result: Result) -> tuple[np.ndarray, float]:
    """The final parameters, shape ``(P,)``, and the largest number among all on the way."""
    rule, divisors = scenario.bundle().step, sum(_inverse(transform) for transform in scenario.bundle().transforms)
    names = ("worker", "step", "read_version", "staleness", "outcome", "lr")
    rows = zip(*(result.tables["updates"][name].tolist() for name in names), strict=True)
    with prepared(scenario) as task:
        versions = [task.init()]
        velocity, waiting = None, []
        for worker, step, read, staleness, outcome, lr in rows:
            if outcome == DROPPED:
                continue
            current = versions[-1]
            waiting.append((_gradient(task, versions[read], worker, step), max(1, staleness) ** divisors))
            if outcome == BUFFERED:
                continue
            total = len(waiting) if _total(scenario) else 1
            direction = sum((g * total + rule.weight_decay * current) / penalty for g, penalty in waiting) / len(waiting)
            waiting = []
            velocity = direction if velocity is None else rule.momentum * velocity + direction
            step_by = direction + rule.momentum * velocity if rule.nesterov else velocity if rule.momentum else direction
            versions.append(current - lr * step_by)
        largest = max(float(version.abs().max()) for version in versions)
    return versions[-1].numpy(), largest


def _total(scenario: Scenario) -> bool:
    return any(getattr(transform, "total", False) for transform in scenario.bundle().transforms)


def _gradient(task: object, params: torch.Tensor, worker: int, step: int) -> torch.Tensor:
    inputs, targets = task.batch(worker, step)
    leaves = params.clone()
    task.bind(leaves)
    loss = task.loss(task.module(inputs), targets)
    return torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, task.parameters)])
