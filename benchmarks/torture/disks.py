"""Every file operation of a run with checkpoints fails once. Afterwards the run goes on to the same bits, or says why not."""

from __future__ import annotations

import gc
import io
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import asyncsim
from asyncsim.cli.main import main as command_line
from asyncsim.records import Result
from torture import ledger
from torture.checking import FAST, TABLES
from torture.drawing import built
from torture.failing import ERRORS, PowerCut, failing
from torture.outcomes import Finding, unexpected

SCENARIO = {
    "name": "disks", "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [4]}, "batch": 4},
    "cluster": {"workers": 3, "compute": {"kind": "exponential", "mean": 1.0}, "faults": {"up": 9.0, "down": 1.0}},
    "method": {"kind": "softsync", "n": 1}, "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9},
    "run": {"updates": 8}, "evaluate": {"updates": 3}, "checkpoint": {"updates": 3}, "engine": "serial",
}  # fmt: skip


class Said(NamedTuple):
    """How a command ended: its exit code (None: the power was cut) and what it wrote to stderr."""

    code: int | None
    text: str


def command(*words: str) -> Said:
    """The command line in this process. Raises ``Finding`` for whatever would be a traceback."""
    gc.collect()  # each command is a process of its own: what the last one held open is closed by now
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            code = command_line(words)
        except PowerCut:
            return Said(None, errors.getvalue())
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        except Exception as error:
            raise unexpected(words[0], error) from error
    if "Traceback" in errors.getvalue() or (code and not errors.getvalue().strip()):
        raise Finding("disks", f"{words[0]} ends in {code} without one clear error", errors.getvalue()[:200])
    return Said(code, errors.getvalue())


class Bench:
    """A scenario file, what its run has to come to, and a folder for each try."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "disks.yaml"
        self.file.write_text(ledger.text(SCENARIO))
        self.scenario = built(SCENARIO)
        self.expected = asyncsim.simulate(self.scenario)
        self.tries = 0

    def fresh(self) -> Path:
        self.tries += 1
        return self.folder / f"try{self.tries}"

    def run(self, out: Path) -> Said:
        return command("run", str(self.file), "--out", str(out), "--no-figures")

    def place(self, out: Path) -> Path:
        return out / f"{self.scenario.name}-{self.scenario.hash}"

    def check(self, out: Path, said: Said, what: str) -> None:
        """Whatever happened: what is there can be read and is right, and the run can be had."""
        place = self.place(out)
        if said.code == 0:
            self.same(asyncsim.load_result(place), f"{what}: it ended well")
        self.partial(place, what)
        if place.exists() and (place / "manifest.json").exists():
            again = command("resume", str(place))
            if again.code == 0:
                self.same(asyncsim.load_result(place), f"{what}, then resumed")
        again = self.run(out)
        if again.code != 0:
            raise Finding("disks", "a run cannot be had any more", f"{what}: {again.text[:300]}")
        self.same(asyncsim.load_result(place), f"{what}, then run again")

    def partial(self, place: Path, what: str) -> None:
        """The tables of a folder are the beginnings of the right ones, or are refused."""
        try:
            found = asyncsim.load_result(place)
            tables = [(name, getattr(found, name)) for name in TABLES]
        except asyncsim.UserError:
            return
        for name, table in tables:
            whole = getattr(self.expected, name)
            if not table.equals(whole.iloc[: len(table)].reset_index(drop=True)) and len(table):
                raise Finding("disks", f"a wrong table {name}", what)

    def same(self, result: Result, what: str) -> None:
        equal = all(getattr(result, name).equals(getattr(self.expected, name)) for name in TABLES)
        if result.fingerprints != self.expected.fingerprints or not equal:
            raise Finding("disks", "other bits", what)
        if not np.array_equal(result.parameters, self.expected.parameters):
            raise Finding("disks", "other parameters", what)


def torture(
    folder: Path, kinds: Sequence[str] = tuple(ERRORS), every: int = 1, show: Callable[[str], None] = lambda _: None
) -> tuple[int, dict[tuple[str, str], Finding]]:
    """Let each operation of each kind fail (every ``every``-th), first in a run, then in one that is resumed.

    How many did, and the ways in which something was found to be wrong.
    """
    bench = Bench(folder)
    found: dict[tuple[str, str], Finding] = {}
    count = 0
    for resumed in (False, True):
        counts = _try(bench, bench.fresh(), resumed)[1]
        for kind in kinds:
            for number in range(1, counts[kind] + 1, every):
                for error in ERRORS[kind]:
                    count += 1
                    what = f"{kind} {number} of {counts[kind]} ends in {error.__name__}{' while resuming' if resumed else ''}"
                    show(what)
                    try:
                        out = bench.fresh()
                        bench.check(out, _try(bench, out, resumed, kind, number, error)[0], what)
                    except Finding as finding:
                        found.setdefault(finding.way, Finding(finding.check, finding.what, f"{what}; {finding.detail}"))
    return count, found


def _try(bench: Bench, out: Path, resumed: bool, *broken: Any) -> tuple[Said, Counter[str]]:
    """A run, or the resumption of one whose power was cut late, with a broken disk; and its operations."""
    if resumed:
        with failing(out, "replace", CUT, PowerCut):
            bench.run(out)
    with failing(out, *broken) as counts:
        return (command("resume", str(bench.place(out))) if resumed else bench.run(out)), counts


CUT = 9
"""The renaming at which the run that is to be resumed died: after its second checkpoint, before its end."""


def main() -> int:
    begun = time.monotonic()

    def show(what: str) -> None:
        print(f"\r{time.monotonic() - begun:.0f} s: {what:70}", end="", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        count, found = torture(Path(folder), show=show)
    print(file=sys.stderr)
    for finding in found.values():
        print(finding)
    print(f"| failures | {count:,} |\n|---|---|\n| findings | {len(found)} |")
    return int(bool(found))
