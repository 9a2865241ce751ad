"""docs/methods.md against the code: every method has its row and its entry, and what can be derived is derived.

A short run of each method tells what it keeps, the costs of its scenario what it sends, its class the settings, ``list --needs``
what it declares, and the sources which tests there are.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from math import ceil, prod
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torch import Tensor

from asyncsim.assembling import assemble, costs
from asyncsim.cli.declared import example, of_methods
from asyncsim.engine.spec import Serial
from asyncsim.messages import Push
from asyncsim.methods import Method
from asyncsim.needs import Need
from asyncsim.registries import methods
from asyncsim.scenario import Scenario

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "methods.md"
TEXT = PAGE.read_text(encoding="utf-8")
OWN = [name for name, cls in methods if cls.__module__.startswith("asyncsim.")]
CELLS = ("stale", "kept", "sent", "declares")
PARTS = ("paper", "settings", "proof", "ours", "claimed")
ROW = r"^\| \[`(\w+)`\]\(methods/(\w+)\.md\) \|" + r" (.+?) \|" * len(CELLS) + "$"
ENTRY = r"^- `(\w+)`, (.+)\. \*Settings:\* (.+)\. \*Proof:\* (.+)\. \*Ours:\* (.+)\. \*Claimed:\* (.+)\.$"
PLACES = dict(re.findall(r"^\[(\w+)\]: \.\./(\S+)$", TEXT, re.MULTILINE))
WORKERS, STAGES, BATCH = 3, 2, 16


class Told(NamedTuple):
    """What the page says of a method."""

    family: str
    common: str  # the words in front of the family's table
    cells: dict[str, str]
    parts: dict[str, str]


def told() -> tuple[list[str], list[str], dict[str, Told]]:
    """Names in the tables, names of the entries, and what both say of those that have both in one family."""
    rows, entries, found = [], [], {}
    for family, body in re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", TEXT, re.MULTILINE):
        cells = {name: dict(zip(CELLS, rest, strict=True)) for name, _, *rest in re.findall(ROW, body, re.MULTILINE)}
        parts = {name: dict(zip(PARTS, rest, strict=True)) for name, *rest in re.findall(ENTRY, body, re.MULTILINE)}
        rows += [name for name, *_ in re.findall(ROW, body, re.MULTILINE)]
        entries += [name for name, *_ in re.findall(ENTRY, body, re.MULTILINE)]
        common = body.partition("\n| ")[0]
        found |= {name: Told(family, common, cells[name], parts[name]) for name in cells if name in parts}
    return rows, entries, found


ROWS, ENTRIES, FOUND = told()
NEEDS = {name: ", ".join(needs.names) or "nothing" for name, needs in of_methods()}
HERE = [name for name in OWN if name in FOUND]


def wanted(name: str) -> str:
    """The two lines of a method that the page lacks, with all that the code knows."""
    row = f"| [`{name}`](methods/{name}.md) | ... | `P` | `4 P` up, `4 P` down | {NEEDS[name]} |"
    given = ", ".join(f"`{field}` ({plain(info)})" for field, info in settings(name).items()) or "none of its own"
    return f"{row}\n- `{name}`, PAPER. *Settings:* {given}. *Proof:* [`test_...`][FILE] (loop). *Ours:* none. *Claimed:* ...."


def test_every_method_has_one_row_and_one_entry() -> None:
    """Both in one family, and no lines that only look like one."""
    missing = [name for name in OWN if name not in FOUND]
    assert not missing, (
        "docs/methods.md lacks a method: put the first line into the table of its family and the second below that table, and "
        'fill them in as "How to read it" there says (files of tests are named at the end of the page):\n'
        + "\n".join(map(wanted, missing))
    )
    assert Counter(ROWS) == Counter(ENTRIES) == Counter(OWN)
    families = TEXT.partition("\n## How to read it\n")[2].partition("\n## ")[2]
    assert len(re.findall(r"^\| [^-m]", families, re.MULTILINE)) == len(ROWS)
    assert len(re.findall(r"^- ", families, re.MULTILINE)) == len(ENTRIES)


def settings(name: str) -> dict[str, Any]:
    """The fields that a method does not share with all others."""
    return {field: info for field, info in methods[name].model_fields.items() if field not in Method.model_fields}


def plain(info: Any) -> str:
    """The default of a field as the page writes it; ``none`` may be told by words instead."""
    if info.is_required():
        return "required"
    default = info.default
    if getattr(default, "shorthand", None):  # a delay that a bare value stands for
        default = getattr(default, default.shorthand)
    if default is None or default == ():
        return "none"
    if isinstance(default, bool | int | float):
        return f"{default:g}" if not isinstance(default, bool) else str(default).lower()
    return f"`{getattr(default, 'kind', default)}`"


def agrees(written: str, info: Any) -> bool:
    """Is this the default of a field? Numbers may be written in any way, and what stands for none in words."""
    default = plain(info)
    if default == "none":
        return not re.search(r"\d|true|false|required", written)
    try:
        return float(written) == float(default)
    except ValueError:
        return written.strip("`") == default.strip("`")


@pytest.mark.parametrize("name", HERE)
def test_settings_and_defaults(name: str) -> None:
    """Every setting of a method's own stands in its entry, or for the whole family in front of the table."""
    pairs = r"`(\w+)` \(((?:`[^`]*`|[^()`])+)\)"
    ours, family = (dict(re.findall(pairs, text)) for text in (FOUND[name].parts["settings"], FOUND[name].common))
    own = settings(name)
    assert not set(ours) - set(own), "no such setting"
    written = {field: default for field, default in family.items() if field in own} | ours
    wrong = {f: plain(info) for f, info in own.items() if f not in written or not agrees(written[f], info)}
    assert not wrong, "defaults by the code"


def test_a_wrong_default_is_noticed() -> None:
    fields = methods["softsync"].model_fields | methods["k_sync"].model_fields | methods["smega2"].model_fields
    right = {"n": "1", "staleness_aware": "true", "k": "required", "cycle": "the number of workers", "damping": "0.0"}
    wrong = {"n": "2", "staleness_aware": "false", "k": "1", "cycle": "4", "damping": "none", "estimate": "`naive`"}
    assert [field for field, text in right.items() if not agrees(text, fields[field])] == []
    assert [field for field, text in wrong.items() if agrees(text, fields[field])] == []


@pytest.mark.parametrize("name", OWN)
def test_defaults_on_the_page_of_a_method(name: str) -> None:
    """The first table of its section `Parameters`, where several fields may share a row."""
    page = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    table = page.partition("\n## Parameters\n")[2].lstrip().partition("\n\n")[0] if settings(name) else ""
    wrong = []
    for names, told in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]*) \|", table, re.MULTILINE):
        fields = [field for field in re.findall(r"\w+", names) if field in settings(name)]
        if fields and not told.startswith("as in "):
            defaults = told.split(", ") if len(fields) > 1 else [told]
            pairs = zip(fields, defaults, strict=True)
            wrong += [field for field, default in pairs if not agrees(default, settings(name)[field])]
    assert not wrong


@pytest.mark.parametrize("name", HERE)
def test_what_is_declared(name: str) -> None:
    assert FOUND[name].cells["declares"] == NEEDS[name]


# What is kept and sent.


@cache
def scenario(name: str) -> Scenario:
    """The method at its defaults, with links that need sizes; three workers, or one group of two stages."""
    cls = methods[name]
    stages = STAGES if cls.staged_parts is not Method.staged_parts else 1
    required = {field: getattr(example(cls), field) for field, info in cls.model_fields.items() if info.is_required()}
    return Scenario.model_validate({
        "task": {"kind": "digits", "batch": BATCH, "model": {"kind": "mlp", "hidden": [16]}},
        "cluster": {"workers": stages if stages > 1 else WORKERS, "compute": {"kind": "gamma_heterogeneous", "mean": "1s"},
                    "uplink": {"bandwidth": "1MB/s"}, "downlink": {"bandwidth": "1MB/s"}},
        "stages": {"count": stages}, "method": {"kind": name, **required},
        "optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.9}, "run": {"updates": 13}, "evaluate": {"updates": 13},
    })  # fmt: skip


def value(name: str, text: str) -> float:
    """The number that a formula of the page is for the scenario of a method."""
    case = scenario(name)
    shapes = case.task.layer_shapes()
    layers = [prod(shape) for shape in shapes]
    ratio, rank = getattr(case.method, "ratio", 0.0), getattr(case.method, "rank", 0)
    thin = [each for each in shapes if len(each) > 1 and rank * sum(each) < prod(each)]
    letters = {
        "N": WORKERS, "P": sum(layers), "E": sum(max(1, int(n * ratio)) for n in layers), "B": BATCH, "ceil": ceil,
        "round": round,
        "L": sum(prod(each) for each in shapes if each not in thin) + sum(rank * sum(each) for each in thin),
        "Q": sum(rank * each[1] for each in thin),
        "A": sum(case.cut().boundaries), "m": case.bundle().program.num_micro_batches,
    }  # fmt: skip
    return float(eval(re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", text), {"__builtins__": {}}, letters))


@pytest.mark.parametrize("name", HERE)
def test_what_is_sent(name: str) -> None:
    """The formulas of a row are the bytes that the links, the network and the bill get."""
    case = scenario(name)
    cost = costs(case, case.cut(), case.bundle())
    if Need.PEERS in case.bundle().needs:
        answered = case.bundle().exchange.answered
        expected = [cost.exchange_bytes] * (1 + answered)
    elif case.staged:
        expected = [*cost.boundary_bytes] * 2
    else:
        expected = [cost.push_bytes[0], cost.message_bytes[0]]
    assert [value(name, text) for text in re.findall(r"`([^`]+)`", FOUND[name].cells["sent"])] == expected


def tensors(part: Any) -> Iterator[Tensor]:
    """The tensors in a state; not those of pushes that wait."""
    if isinstance(part, Tensor):
        yield part
    elif dataclasses.is_dataclass(part) and not isinstance(part, Push):
        yield from tensors([getattr(part, field.name) for field in dataclasses.fields(part)])
    elif isinstance(part, dict | list | tuple):
        for each in part.values() if isinstance(part, dict) else part:
            yield from tensors(each)


def numbers(part: Any) -> int:
    """How many numbers a state has, each tensor once."""
    return sum(each.numel() for each in {id(each): each for each in tensors(part)}.values())


@pytest.mark.parametrize("name", HERE)
def test_what_is_kept(name: str) -> None:
    """The formulas of a row are the numbers in the states of the method's parts after a short run."""
    case = scenario(name)
    sim = assemble(case, case.task.build(case.seed, "cpu", case.dtype, case.groups), Serial(), None)
    for _ in sim.run(lambda: True):
        pass
    shards = sim.server.shards
    policies = [numbers(getattr(shard, "rows", [shard])[0].policy.state) for shard in shards]
    uplinks = [numbers(state) for shard in shards if getattr(shard, "uplink", None) for state in shard.uplink.states.values()]
    assert len(set(uplinks)) <= 1, "all workers keep alike"
    at_worker = Need.OWN_PARAMETERS in case.bundle().needs and not case.staged
    found = {"worker ": sum(policies)} if at_worker else {"": sum(policies), "worker ": max(uplinks, default=0)}
    cell = FOUND[name].cells["kept"]
    kept = {place: value(name, text) for place, text in re.findall(r"(worker )?`([^`]+)`", cell)}
    if cell.startswith("at least "):
        found[""] = min(found[""], kept[""])
    assert dict.fromkeys(found, 0.0) | kept == found


# What proves it, and where it comes from.


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests in a file, without importing it."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


@pytest.mark.parametrize("name", HERE)
def test_the_tests_that_are_named_exist(name: str) -> None:
    named = re.findall(r"\[`(test_\w+)`\]\[(\w+)\]", " ".join(FOUND[name].parts.values()))
    assert re.search(r"\[`test_\w+`\]\[\w+\]", FOUND[name].parts["proof"])
    assert [test for test, place in named if test not in names_in(PLACES[place])] == []


def test_every_file_of_tests_is_used() -> None:
    assert set(re.findall(r"`\]\[(\w+)\]", TEXT)) == set(PLACES)
    assert all((ROOT / file).is_file() for file in PLACES.values())


@pytest.mark.parametrize("name", HERE)
def test_papers_are_those_of_the_page(name: str) -> None:
    """A row links a method's own page, and an entry the papers that the page's section `Source` links; at least one of them."""
    assert f"[`{name}`](methods/{name}.md)" in TEXT
    page = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    source = page.partition("\n## Source\n")[2].partition("\n## ")[0]
    link = r"https://(?:arxiv|doi)\.org/[\w./]+"
    ours, theirs = (set(re.findall(link, text)) for text in (FOUND[name].parts["paper"], source))
    assert ours <= theirs
    assert bool(ours) == bool(theirs)
