"""The search: seed after seed, every check, and every finding made small."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from asyncsim.assembling import foreseen
from asyncsim.errors import UserError
from torture.checking import CHECKS, Subject, refusal_is_clear
from torture.drawing import built, drawn
from torture.outcomes import Finding, impatient, limited

LIMIT = 60.0
"""CPU seconds for drawing a seed, and for each of its checks. A small scenario that takes longer hangs."""
ENOUGH = 15.0
"""CPU seconds after which a seed gets no further check: its runs are long ones (tens of thousands of crashes, say)."""
SLOW = 8.0
"""The same while a scenario that hangs is made small."""
MOST_FORESEEN = 1_000_000
"""The most events that a scenario may have to get any check: changes of speed every moment, under work of hours, are many."""
LIGHT = ("round_trip", "laws_of_plan", "reference", "lively", "trajectory")
"""Checks that compute few gradients or none."""
EVERY = 4
"""One seed in so many gets all checks, the others the light ones."""


@dataclass
class Found:
    """One way to fail: the seeds that do, the finding, and the smallest scenario."""

    finding: Finding
    document: dict[str, Any]
    seeds: list[int] = field(default_factory=list)
    smallest: dict[str, Any] | None = None


@dataclass
class Tally:
    """What a search has done."""

    seeds: int = 0
    plans: int = 0
    runs: int = 0
    refusals: int = 0
    cut: int = 0  # seeds that did not get all their checks, as they take long
    seconds: float = 0.0
    cpu: float = 0.0  # seconds of this process
    found: dict[tuple[str, str], Found] = field(default_factory=dict)


@contextmanager
def verified() -> Iterator[None]:
    """All runs check the laws of the simulation, and are given up early if they stall."""
    before = os.environ.get("ASYNCSIM_VERIFY", "")
    os.environ["ASYNCSIM_VERIFY"] = "1"
    try:
        with impatient():
            yield
    finally:
        os.environ["ASYNCSIM_VERIFY"] = before


def checks_of(seed: int) -> tuple[str, ...]:
    return tuple(CHECKS) if seed % EVERY == 0 else LIGHT


def check_seed(seed: int, tally: Tally) -> None:
    """Draw the scenario of a seed and check it; what fails is noted."""
    document: dict[str, Any] = {}
    refused: list[Any] = []
    subject: Subject | None = None
    begun = time.process_time()
    try:
        with limited(LIMIT):
            document = drawn(seed, refused.append)
            for refusal in refused:
                document_then, document = document, refusal[0]
                refusal_is_clear(refusal)
                document = document_then
            subject = Subject(built(document), seed)
        for name in checks_of(seed):
            if _long(subject) or time.process_time() - begun > ENOUGH:
                tally.cut += 1
                break
            with limited(LIMIT):
                CHECKS[name](subject)
    except Finding as finding:
        tally.found.setdefault(finding.way, Found(finding, document)).seeds.append(seed)
    tally.seeds += 1
    tally.refusals += len(refused)
    if subject is not None:
        tally.plans, tally.runs = tally.plans + subject.plans, tally.runs + subject.runs


def _long(subject: Subject) -> bool:
    """Are more events foreseen than the search has patience for?"""
    try:
        return sum(foreseen(subject.scenario)) > MOST_FORESEEN
    except UserError:
        return False


def fails(document: dict[str, Any], way: tuple[str, str], names: tuple[str, ...], limit: float = LIMIT) -> bool:
    """Does a scenario fail in this very way?"""
    try:
        with limited(limit):
            try:
                scenario = built(document)
            except UserError:
                raise
            except Exception as error:
                refusal_is_clear((document, error))
            for seed in range(3):
                subject = Subject(scenario, seed)
                for name in names:
                    CHECKS[name](subject)
                if way[0] not in ("resume", "batched"):
                    break
    except Finding as finding:
        return finding.way == way
    except UserError as error:
        return way[0] == "unclear refusal" and _unclear(error, way)
    return False


def _unclear(error: UserError, way: tuple[str, str]) -> bool:
    try:
        refusal_is_clear(({}, error))
    except Finding as finding:
        return finding.way == way
    return False


def smallest(found: Found, seconds: float = 60.0) -> dict[str, Any]:
    """The smallest scenario that fails like that."""
    from torture.shrinking import shrunk

    way, seed = found.finding.way, found.seeds[0]
    names = checks_of(seed)
    limit = SLOW if way[0] == "hang" else LIMIT
    for name in names:  # only the check that fails
        if fails(found.document, way, (name,), limit):
            names = (name,)
            break
    return shrunk(found.document, lambda document: fails(document, way, names, limit), seconds)


def search(
    first: int, seeds: int | None, seconds: float, show: Callable[[Tally], None], stop_at: int | None = None
) -> Tally:
    """Check seeds from ``first`` on until so many are done, or the time is up, or so many ways to fail are found."""
    tally, begun, seed = Tally(), time.monotonic(), first
    cpu = time.process_time()
    with verified():
        while time.monotonic() - begun < seconds and (seeds is None or seed < first + seeds):
            check_seed(seed, tally)
            tally.seconds, tally.cpu = time.monotonic() - begun, time.process_time() - cpu
            show(tally)
            seed += 1
            if stop_at is not None and len(tally.found) >= stop_at:
                break
    return tally
