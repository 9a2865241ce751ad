"""Check against closed forms, real processes and published figures, and write docs/validation.md (`make validation`).

    python benchmarks/validate.py [--only closed real published] [--pushes 110000]

Everything takes about ten minutes. Exits with 1 if a law is missed or a replay is not exact.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

from validation.closed_section import closed
from validation.published_section import literature
from validation.real_section import real

PAGE = Path(__file__).parents[1] / "docs" / "validation.md"
MARK = "<!-- measured: everything below is written by benchmarks/validate.py -->"
TITLES = {"closed": "Closed forms", "real": "Real processes", "published": "Published figures"}


def write(part: str, lines: list[str]) -> None:
    """Replace one section of the page, and keep the others."""
    words, _, measured = PAGE.read_text().partition(MARK)
    sections = {title: text for title, _, text in (each.partition("\n") for each in measured.split("\n## ")[1:])}
    sections[TITLES[part]] = "\n".join(["", f"Measured on {datetime.date.today():%Y-%m-%d}.", "", *lines])
    known = [f"## {title}\n\n{sections[title].strip()}\n" for title in TITLES.values() if title in sections]
    PAGE.write_text("\n".join([words + MARK + "\n", *known]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--pushes", type=int, default=110_000, help="arrivals for each closed form")
    parser.add_argument("--real-pushes", type=int, default=2000, help="pushes of a real run of four workers")
    arguments = parser.parse_args()
    good = True
    for part in arguments.only:
        print(f"{part} ...", flush=True)
        match part:
            case "closed":
                lines, fine = closed(arguments.pushes)
            case "real":
                lines, fine = real(arguments.real_pushes)
            case _:
                lines, fine = literature()
        write(part, lines)
        good = good and fine
    sys.exit(not good)


if __name__ == "__main__":
    main()
