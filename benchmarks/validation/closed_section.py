"""The section "Closed forms"."""

from __future__ import annotations

import math

from validation import figures, machines, networks, queues, rounds, staleness
from validation.laws import Outcome, check
from validation.markdown import FIGURES, Section, picture, table

GROUPS = {
    "The server's queue": queues.LAWS, "Shared pipes and all-reduce": networks.LAWS, "Staleness": staleness.LAWS,
    "Rounds and bounds": rounds.LAWS, "Machines": machines.LAWS,
}  # fmt: skip
HEAD = ["law", "formula", "value", "simulated", "off by", "events", "wrong model", "off by"]


def closed(pushes: int) -> Section:
    """Check every law over so many arrivals."""
    outcomes: list[Outcome] = []
    lines: list[str] = []
    for title, laws in GROUPS.items():
        found = []
        for law in laws:
            found.append(check(law, pushes))
            print(f"  {'holds ' if found[-1].holds else 'MISSED'} {law.name}", flush=True)
        lines += [f"### {title}", "", *table(HEAD, [_row(outcome) for outcome in found]), ""]
        outcomes += found
    figures.closed_forms(outcomes, FIGURES / "closed_forms.png")
    held = sum(outcome.holds for outcome in outcomes)
    farthest = max(outcome.distance for outcome in outcomes)
    nearest = min(outcome.refused for outcome in outcomes)
    summary = (
        f"{held} of {len(outcomes)} laws hold within 3 standard errors and refuse their wrong model. The farthest is "
        f"{farthest:.1f} standard errors away, the nearest wrong model {nearest:.1f}. Distances are in standard errors; "
        "*exact*: to the nanosecond."
    )
    return [summary, *picture("closed_forms", "Distance of every law and of its wrong model"), *lines], held == len(outcomes)


def _row(outcome: Outcome) -> list[str]:
    law = outcome.law
    exact = outcome.error < 1e-7 * abs(law.value)
    simulated = f"{outcome.mean:.5g}" if exact else f"{outcome.mean:.5g} ± {outcome.error:.2g}"
    off = "exact" if exact and outcome.fits(3) else f"{outcome.distance:.1f}"
    wrong = law.wrong if callable(law.against) else f"{law.wrong}: {law.against:.5g}"
    return [
        law.name, f"`{law.formula}`", f"{law.value:.5g}", simulated, off if outcome.fits(3) else f"**{off}**",
        f"{outcome.events:,}", wrong, _refused(outcome.refused),
    ]  # fmt: skip


def _refused(distance: float) -> str:
    if math.isinf(distance) or distance > figures.MOST:
        return f"over {figures.MOST:,.0f}"
    return f"{distance:,.0f}" if distance >= 10 else f"{distance:.1f}" if distance > 3 else f"**{distance:.1f}**"
