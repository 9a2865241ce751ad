"""The table of random streams in docs/determinism.md lists what the code draws from: no more, no less."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from asyncsim.simulation.transport.transport import PURPOSES

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "asyncsim").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
STREAMS = {"streams", "_streams", "Streams"}
GENERATORS = {"default_rng", "Philox", "manual_seed", "Random", "RandomState", "SeedSequence", "MT19937", "PCG64"}
MAKERS = {"streams.py": {"Philox"}, "ambient.py": {"manual_seed"}, "tasks/task.py": {"manual_seed"},
          "sweep/bootstrap.py": {"default_rng"}}  # fmt: skip
"""Where generators are made or seeded without a stream, and how."""


def name_of(node: ast.expr) -> str:
    """The last name of ``a.b.c`` or of ``a.b.C(...)``."""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def drawing() -> set[str]:
    """Functions that are told a purpose, by name; a class by its constructor."""
    found = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                constructors = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
                found |= {node.name for each in constructors if "purpose" in [arg.arg for arg in each.args.args]}
            elif isinstance(node, ast.FunctionDef) and "purpose" in [arg.arg for arg in node.args.args]:
                found.add(node.name)
    return found - {"__init__", "__call__"}


def purposes() -> Iterator[str]:
    names = drawing()
    assert {"draws", "Draws", "integer", "held_out", "tries"} <= names
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and name_of(node) in names | STREAMS:
                for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield argument.value
                    elif isinstance(argument, ast.JoinedStr):
                        yield "".join(part.value if isinstance(part, ast.Constant) else "..." for part in argument.values)


def test_the_page_lists_every_stream():
    page = (ROOT / "docs" / "determinism.md").read_text(encoding="utf-8")
    section = page.partition("## Random streams")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")][2:]
    listed = [name for cell in cells for name in re.findall("`([^`]+)`", cell)]
    assert len(listed) == len(set(listed))
    assert set(listed) == {*purposes(), *PURPOSES}  # a message draws for what it is, which the transport is told
    assert len(listed) > 25


def test_no_other_generator_is_made():
    """What draws takes a stream: everything else that makes or seeds a generator is known by name."""
    for path, tree in TREES.items():
        made = {name_of(node) for node in ast.walk(tree) if isinstance(node, ast.Call)} & GENERATORS
        assert made <= MAKERS.get(path.relative_to(ROOT / "asyncsim").as_posix(), set()), path
