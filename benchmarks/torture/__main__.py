"""Look for the next fault.

    python benchmarks/torture --minutes 10           # random scenarios, all checks; what fails is made small and shown
    python benchmarks/torture --seeds 200 --first 0  # these seeds
    python benchmarks/torture --show 17              # the scenario of a seed
    python benchmarks/torture --replay FILE.yaml     # all checks of one scenario
    python benchmarks/torture --disks                # every file operation of a run fails once
    python benchmarks/torture --planted              # bugs planted on purpose: how soon is each found?

Exits with 1 if anything was found (with ``--planted``: if any was not).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from torture import ledger  # noqa: E402
from torture.drawing import built, drawn  # noqa: E402
from torture.searching import CHECKS, Found, Subject, Tally, search, smallest, verified  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to search (default: 10)")
    parser.add_argument("--seeds", type=int, help="how many seeds, at most")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--shrink", type=float, default=60.0, help="seconds for making a finding small (default: 60)")
    parser.add_argument("--ledger", type=Path, help="folder in which findings are kept as scenario files")
    parser.add_argument("--show", type=int, metavar="SEED", help="print the scenario of a seed")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="check one scenario file")
    parser.add_argument("--disks", action="store_true", help="let file operations fail, one after the other")
    parser.add_argument("--planted", nargs="*", metavar="BUG", help="plant bugs (all by default) and find them")
    arguments = parser.parse_args()
    if arguments.show is not None:
        print(ledger.text(drawn(arguments.show)), end="")
        return 0
    if arguments.replay is not None:
        return replay(arguments.replay)
    if arguments.disks:
        from torture.disks import main as disks

        return disks()
    if arguments.planted is not None:
        from torture.planted import main as planted

        return planted(arguments.planted, 60 * arguments.minutes)
    tally = search(arguments.first, arguments.seeds, 60 * arguments.minutes, progress)
    print(file=sys.stderr)
    with verified():
        for found in tally.found.values():
            show(found, arguments)
    print(table(tally))
    return 1 if tally.found else 0


def replay(path: Path) -> int:
    """All checks of one scenario, one line each."""
    bad = 0
    with verified():
        subject = Subject(built(ledger.read(path)))
        for name, check in CHECKS.items():
            try:
                check(subject)
                print(f"{name}: holds")
            except Exception as error:
                bad = 1
                print(f"{name}: {error}")
    return bad


def show(found: Found, arguments: argparse.Namespace) -> None:
    """A finding, the scenario of its seed, and the smallest one that fails alike."""
    print(f"\n{found.finding}\n  seeds: {', '.join(map(str, found.seeds[:10]))}; as drawn:\n")
    print(indented(ledger.text(found.document)))
    found.smallest = smallest(found, arguments.shrink)
    print(f"  at its smallest:\n\n{indented(ledger.text(found.smallest))}", flush=True)
    if arguments.ledger is not None:
        print(f"  kept: {ledger.write(found.smallest, found.finding, found.seeds[0], arguments.ledger)}")


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


_shown, _told = 0.0, 0


def progress(tally: Tally) -> None:
    """One line, rewritten about once a second; what is found is told at once."""
    global _shown, _told
    for found in list(tally.found.values())[_told:]:
        _told += 1
        print(f"seed {found.seeds[0]}: {found.finding}", flush=True)
    if time.monotonic() - _shown > 1.0:
        _shown = time.monotonic()
        text = f"{tally.seeds} seeds, {tally.plans} plans, {tally.runs} runs, {tally.refusals} refusals"
        print(f"\r{tally.seconds:.0f} s: {text}, {len(tally.found)} findings", end="", file=sys.stderr, flush=True)


def table(tally: Tally) -> str:
    """The summary."""
    hour = 3600 / max(tally.cpu, 1e-9)
    rows = [(name, getattr(tally, name)) for name in ("seeds", "plans", "runs", "refusals", "cut")]
    lines = ["| | count | an hour of a core |", "|---|---|---|"]
    lines += [f"| {name} | {count:,} | {count * hour:,.0f} |" for name, count in rows]
    return "\n".join([*lines, f"| findings | {len(tally.found)} | |"])


if __name__ == "__main__":
    sys.exit(main())
