"""One sentence about where a planned scenario stands: the largest stable step, the best number of workers, what is not known."""

from __future__ import annotations

import numpy as np

from asyncsim.standing.facts import Document, Facts, facts_of
from asyncsim.standing.limits import Limits, law_of, limits_of
from asyncsim.theory.best_workers import best_workers


def standing(document: Document, staleness: np.ndarray, workers: int) -> str:
    """The sentence for a resolved scenario and the staleness ``(pushes,)`` of its timeline, dropped pushes left out.

    On a quadratic it compares the learning rate with the largest stable one. Elsewhere the curvature is not known, and it
    says how large that may be. Empty if nothing was pushed.
    """
    if not len(staleness):
        return ""
    facts = facts_of(document, workers)
    if facts.pipeline:
        return "theory: nothing about this run (every stage of a pipeline has a staleness of its own)"
    law = law_of(staleness, workers)
    mean = f"mean staleness {float(law @ np.arange(len(law))):.3g}"
    if facts.silent is not None:
        plain = limits_of(facts._replace(by_staleness=False), law)
        what = "plain SGD" + (f" with momentum {facts.momentum:g}" if facts.momentum else "")
        return f"theory: nothing about this run ({facts.silent}); {what} at its {mean} is stable while {_allowed(plain)}"
    limits = limits_of(facts, law)
    if not facts.quadratic:
        most = f"{limits.safe / facts.lr:.3g}" if facts.lr else "anything"
        return (
            f"theory: at {mean}{_treatment(facts)}, steps are stable while {_allowed(limits)}: with lr {facts.lr:g} the largest "
            f"curvature may be {most}; how large it is, and so the best N, a plan cannot know"
        )
    steepest = float(facts.curvatures.max())
    if not steepest or not facts.lr:
        return f"theory: at {mean}, nothing moves: lr {facts.lr:g}, largest curvature {steepest:g}"
    return f"theory: at {mean}{_treatment(facts)}, {_verdict(facts, limits, steepest)}{_best(facts)}"


def _allowed(limits: Limits) -> str:
    """What the step may be, and how much that is of what fresh gradients bear."""
    share = limits.safe / limits.fresh
    told = f"{100 * share:.3g} %" if share > 0.095 else f"1/{1 / share:.0f}"
    stale = f" ({told} of what fresh gradients bear)" if share < 0.9995 else ""
    return f"lr x curvature < {limits.safe:.3g}{stale}"


def _verdict(facts: Facts, limits: Limits, steepest: float) -> str:
    a, safe, mean = facts.lr * steepest, limits.safe / steepest, limits.mean / steepest
    rate = f"lr {facts.lr:g}" + ("" if facts.constant_rate else " (the largest of its schedule)")
    if a >= limits.mean:
        return f"{rate} diverges: stable is less than {mean:.4g}"
    if a >= limits.safe:
        return f"{rate} is at the edge: the mean converges below {mean:.4g}, its square for sure below {safe:.4g}"
    return f"{rate} is stable: {100 * a / limits.safe:.3g} % of the largest stable one, {safe:.4g}"


def _best(facts: Facts) -> str:
    """The best number of workers at this step, where the law of staleness is known for every number of them."""
    if not facts.free_asgd or facts.spread is None or not facts.gamma_fleet:
        return "; the best N is not known for this method, step rule or fleet"
    if facts.tiny_step:
        return "; at so small a step more workers are always faster"
    best = best_workers(facts.lr, facts.moving, facts.spread)
    if best.rate <= 0:
        return "; no number of workers converges at this lr"
    noisy = ", without noise" if facts.noise else ""
    return f"; at this lr N = {best.workers:,} would converge fastest{noisy} (here N = {facts.workers:,})"


def _treatment(facts: Facts) -> str:
    momentum = f" and momentum {facts.momentum:g}" if facts.momentum else ""
    return momentum + (", each gradient divided by its staleness" if facts.by_staleness else "")
