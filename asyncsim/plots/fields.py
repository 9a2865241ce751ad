"""Labels of runs in figures: the fields of their scenarios and summaries, and which of these tell the runs apart."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from asyncsim.errors import UserError, nearest, printable
from asyncsim.records import Result

SEED = frozenset({"seed", "name"})
"""Fields that do not tell runs apart in a figure: runs that differ in nothing else are replicates."""
_FLEET = ("cluster.workers", "cluster.groups.")
MISSING = "-"


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested data as ``{"cluster.workers": 8, ...}``; lists of plain values stay whole, others are numbered."""
    if isinstance(value, Mapping):
        pairs = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        pairs = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {prefix: value}
    fields: dict[str, Any] = {}
    for key, item in ((printable(key, lines=False), item) for key, item in pairs):
        fields |= flat(item, f"{prefix}.{key}" if prefix else key)
    return fields


def scenario_fields(run: Result) -> dict[str, Any]:
    """The fields of a run's resolved scenario, by dotted path."""
    return flat(run.manifest.get("scenario") or {})


def method_of(run: Result) -> str:
    method = (run.manifest.get("scenario") or {}).get("method")
    kind = method.get("kind") if isinstance(method, Mapping) else method
    return str(run.summary.get("method") or kind or run.name)


def workers_of(run: Result) -> int | None:
    """The number of workers of a run, which need not have a summary yet."""
    if run.summary.get("workers") is not None:
        return int(run.summary["workers"])
    cluster = (run.manifest.get("scenario") or {}).get("cluster") or {}
    groups = cluster.get("groups") or []
    return sum(int(group.get("workers", 1)) for group in groups) if groups else cluster.get("workers")


def differing(runs: Sequence[Result], without: frozenset[str] = SEED) -> list[str]:
    """The scenario's fields in which ``runs`` differ, in the order of the file."""
    every = [scenario_fields(run) for run in runs]
    names = dict.fromkeys(name for fields in every for name in fields if name not in without)
    first = every[0] if every else {}
    return [name for name in names if any(fields.get(name, ...) != first.get(name, ...) for fields in every)]


def field_value(run: Result, field: str) -> Any:
    """A field by its dotted path, its last words if they are unique (``lr``), or a number of the summary (``workers``).

    None where this run has no such field.
    """
    fields = scenario_fields(run)
    if field == "method":
        return method_of(run)
    if field in ("workers", "cluster.workers"):
        return workers_of(run)
    if field in fields:
        return fields[field]
    ends = [name for name in fields if name.endswith(f".{field}")]
    if len(ends) == 1:
        return fields[ends[0]]
    return run.summary.get(field)


def check_field(runs: Sequence[Result], field: str) -> None:
    """Raises ``UserError`` when none of the runs has the field."""
    if any(field_value(run, field) is not None for run in runs):
        return
    known = list(dict.fromkeys(name for run in runs for name in (*scenario_fields(run), *run.summary)))
    ends = [name for name in known if name.endswith(f".{field}")]
    if ends:
        raise UserError(f"field {field!r} is ambiguous; say which: {', '.join(ends)}")
    raise UserError(
        f"no run has the field {field!r}{nearest(field, known)}; dotted paths of the scenario, such as optimizer.lr, and numbers "
        "of the summary, such as workers, are fields"
    )


def labels_for(runs: Sequence[Result], field: str | None = None, without: Sequence[str] = ()) -> list[str]:
    """A label for each run; runs with the same label are seeds of one thing.

    With ``field``, its value. By default the variant's name (or the method's, where all runs have one name), and whatever else
    differs between runs that would share it, so that nothing but seeds is ever averaged. Fields in ``without`` are drawn along an
    axis and are left out; ``workers`` is the fleet's size, however it is written.
    """
    if field is not None:
        check_field(runs, field)
        return [say(field_value(run, field), field) for run in runs]
    along = frozenset(without)
    bases = _variants(runs) or [method_of(run) for run in runs]
    labels = list(bases)
    for base in dict.fromkeys(bases):
        places = [place for place, name in enumerate(bases) if name == base]
        fields = [name for name in differing([runs[place] for place in places], SEED) if not _along(name, along)]
        full = [tuple(_pair(runs[place], name) for name in fields) for place in places]
        short = [tuple(_pair(runs[place], name) for name in _kinds(fields)) for place in places]
        chosen = short if len(set(short)) == len(set(full)) else full
        for place, extra in zip(places, chosen, strict=True):
            labels[place] = ", ".join([base, *extra])
    return labels


def baseline_label(results: Sequence[Result], variant: str | None) -> str | None:
    """The curve of a study's baseline against worker counts: the label that is that ``variant``, or begins with it; None if there
    is none, or several."""
    if variant is None:
        return None
    names = list(dict.fromkeys(labels_for(list(results), without=("workers",))))
    found = [name for name in names if name == variant] or [name for name in names if name.startswith(f"{variant},")]
    return found[0] if len(found) == 1 else None


def say(value: Any, field: str = "") -> str:
    """The text of a value in a legend or a table: numbers are kept short, and ``-`` stands for nothing."""
    if value is None:
        return MISSING
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return "[" + ", ".join(say(item) for item in value) + "]"
    return f"N = {value}" if field in ("workers", "cluster.workers") else printable(str(value), lines=False)


def _along(name: str, along: frozenset[str]) -> bool:
    fleet = bool(along & {"workers", "cluster.workers"}) and (name == _FLEET[0] or name.startswith(_FLEET[1]))
    return fleet or any(name == field or name.endswith(f".{field}") for field in along)


def _variants(runs: Sequence[Result]) -> list[str] | None:
    """Names without the values of a sweep (``,lr=0.1``: the fields themselves say that) and without what all have in common up to
    a ``-``; None if all are called the same."""
    names = [re.sub(r"[-,][A-Za-z_][\w.]*=.*", "", run.name) or run.name for run in runs]
    if len(set(names)) < 2:
        return None
    heads = {name.partition("-")[0] for name in names}
    return [name.partition("-")[2] for name in names] if len(heads) == 1 and all("-" in name for name in names) else names


def _kinds(fields: list[str]) -> list[str]:
    """Without those that lie beside a ``kind`` that differs too."""
    kinds = tuple(name.removesuffix("kind") for name in fields if name.endswith(".kind"))
    return [name for name in fields if name.endswith(".kind") or not name.startswith(kinds)] if kinds else fields


def _pair(run: Result, name: str) -> str:
    value = scenario_fields(run).get(name)
    if name == "cluster.workers":
        return f"N = {say(value)}"
    parts = name.split(".")
    short = parts[-2] if parts[-1] == "kind" and len(parts) > 1 else parts[-1]
    return f"{short.replace('_', ' ')} {say(value)}"
