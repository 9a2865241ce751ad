"""Run every benchmark and write docs/performance.md (`make bench`). Takes about half an hour at the default of 7 pairs.

    python benchmarks/report.py [--pairs 7]
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
SECTIONS = [
    # title, script, arguments, takes pairs
    ("The serial engine against a plain loop", "overhead.py", [], True),
    ("The engines", "engines.py", [], True),
    ("Models in stages", "stages.py", [], True),
    ("The event loop", "simpy_floor.py", [], True),
    ("Large fleets in `plan`", "plan_scale.py", [], False),
    ("A hundred thousand workers in `plan`", "plan_scale.py", ["--workers", "100000"], False),
    ("Memory", "memory.py", [], False),
    ("Sweeps", "sweep_overhead.py", [], True),
]
MARK = "<!-- measured: everything below is written by benchmarks/report.py -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    parts = [f"Measured on {datetime.date.today():%Y-%m-%d}.\n"]
    words = PAGE.read_text().partition(MARK)[0]
    for title, script, options, paired in SECTIONS:
        print(f"{title} ...", flush=True)
        pairs = ["--pairs", str(arguments.pairs)] if paired else []
        command = [sys.executable, str(HERE / script), *options, *pairs]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        parts.append(f"## {title}\n\n{done.stdout.strip()}\n")
        PAGE.write_text(f"{words}{MARK}\n\n" + "\n".join(parts))


if __name__ == "__main__":
    main()
