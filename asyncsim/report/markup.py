"""The HTML that the report needs: escaped text, tags, sortable tables, and the frame of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

__all__ = ["Cell", "document", "escape", "table", "tag"]

STYLE = """
:root { color-scheme: light dark; --ink: #1c2026; --soft: #5d6673; --paper: #ffffff;
  --line: #dfe3e8; --bad: #b3261e; --mark: #f4f6f8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #9aa4b1; --paper: #14171b; --line: #333a43; --bad: #ff8a80; --mark: #1e2329 } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 76rem; margin: 0 auto; padding: 2.2rem 1.4rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .7rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line) }
p.lead { color: var(--soft); margin: 0 } .bad { color: var(--bad) } .soft { color: var(--soft) }
.wide { overflow-x: auto } code, pre, .mono { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { color: var(--soft); font-weight: 600; white-space: nowrap } td { white-space: nowrap } td.n, th.n { text-align: right }
th[aria-sort] button::after { content: " \\2191" } th[aria-sort=descending] button::after { content: " \\2193" }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer }
th button:focus-visible { outline: 2px solid currentColor }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1.2rem; align-items: start }
figure { margin: 0 } figure img { width: 100%; max-width: 34rem; background: #fff; border-radius: 6px; padding: .5rem;
  border: 1px solid var(--line) }
figcaption { color: var(--soft); font-size: 13px; margin-top: .25rem }
details { margin: .4rem 0 } summary { cursor: pointer } pre { background: var(--mark); padding: .8rem 1rem; border-radius: 6px;
  overflow-x: auto; margin: .5rem 0 1rem }
@media print { details > * { display: block } .figures { break-inside: avoid } }
"""
SCRIPT = """
for (const head of document.querySelectorAll("th")) head.querySelector("button")?.addEventListener("click", () => {
  const down = head.getAttribute("aria-sort") === "ascending", place = head.cellIndex, body = head.closest("table").tBodies[0];
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = row => row.cells[place].dataset.key ?? row.cells[place].textContent;
  const numbers = [...body.rows].every(row => key(row) === "" || !isNaN(key(row)));
  const order = (a, b) => key(a) === "" ? 1 : key(b) === "" ? -1
    : (numbers ? key(a) - key(b) : key(a).localeCompare(key(b), "en", {numeric: true})) * (down ? -1 : 1);
  body.append(...[...body.rows].sort(order));
});
"""


NONE = ("-", "never")


class Cell(NamedTuple):
    """A cell of a table: the text that is shown, and the value by which it is sorted. Empty cells are sorted last. The text may
    be a link to ``href``, and have a second, small line ``below``."""

    text: str
    key: float | str | None = None
    style: str = ""
    href: str = ""
    below: str = ""


def tag(name: str, inside: str | None, **attributes: str) -> str:
    """An HTML element. Its attributes are escaped; its contents must be HTML already, or None for an element without contents."""
    words = "".join(f' {key.rstrip("_")}="{escape(value, quote=True)}"' for key, value in attributes.items() if value)
    return f"<{name}{words}>" if inside is None else f"<{name}{words}>{inside}</{name}>"


def table(
    titles: Sequence[str], rows: Iterable[Sequence[Cell]], sortable: bool = True, above: Sequence[str] | None = None
) -> str:
    """An HTML table. Columns of numbers are aligned to the right, and columns without any entry are left out. ``above`` gives
    each column a second title, which stands once over neighbours that share it."""
    rows = [list(row) for row in rows]
    shown = [place for place in range(len(titles)) if any(row[place].text not in ("", "-") for row in rows)]
    right = {place for place in shown if all(isinstance(row[place].key, int | float) or row[place].text in NONE for row in rows)}
    heads = "".join(
        tag("th", tag("button", escape(titles[place]), type="button") if sortable else escape(titles[place]), scope="col",
            class_="n" if place in right else "")
        for place in shown
    )  # fmt: skip
    lines = "".join(tag("tr", "".join(_cell(row[place], place in right) for place in shown)) for row in rows)
    over = ""
    if above is not None:
        spans = [(title, len(list(same))) for title, same in groupby(above[place] for place in shown)]
        over = tag("tr", "".join(tag("th", escape(title), colspan=str(span), scope="colgroup") for title, span in spans))
    return tag("div", tag("table", tag("thead", over + tag("tr", heads)) + tag("tbody", lines)), class_="wide")


def _cell(cell: Cell, right: bool) -> str:
    key = "" if cell.key is None and cell.text in NONE else f"{cell.key if cell.key is not None else cell.text}"
    key = "Infinity" if cell.key == math.inf else key  # as the script spells it
    style = " ".join(word for word in ("n" if right else "", cell.style) if word)
    text = tag("a", escape(cell.text), href=cell.href) if cell.href else escape(cell.text)
    text += tag("small", escape(cell.below)) if cell.below else ""
    return f'<td data-key="{escape(key, quote=True)}"' + (f' class="{style}"' if style else "") + f">{text}</td>"


def document(title: str, body: str, style: str = "") -> str:
    """The whole page, with ``style`` after that of all pages. Its content security policy forbids every request to another
    place."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n'
        f"<body>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
