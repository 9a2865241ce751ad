"""Examples in the package's docstrings work: literal blocks of Python are executed, and what ``>>>`` shows is compared.

A literal block follows a line that ends in ``::``. One that is not Python is an equation.
"""

from __future__ import annotations

import ast
import doctest
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from asyncsim import registries

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"::\n\n((?:(?: +\S.*)?\n)+)")
LOOSE = re.compile(r"^(import \w+|from \w+(\.\w+)* import|@\w+\.register|class \w+.*:|def \w+.*:)", re.MULTILINE)


def docstrings() -> Iterator[tuple[str, str]]:
    """(name for people, text) of every docstring in the package."""
    for path in sorted((ROOT / "asyncsim").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield f"{path.relative_to(ROOT)}:{getattr(node, 'name', 'module')}", text


def is_python(block: str) -> bool:
    try:
        return bool(ast.parse(block).body)
    except SyntaxError:
        return False


DOCSTRINGS = list(docstrings())
EXAMPLES = [
    pytest.param(block, id=name)
    for name, text in DOCSTRINGS
    for block in map(textwrap.dedent, BLOCK.findall(text + "\n"))
    if is_python(block)
]
SHOWN = sorted({name.partition(":")[0] for name, text in DOCSTRINGS if ">>>" in text})


@pytest.mark.parametrize("block", EXAMPLES)
def test_a_literal_block_of_python_runs(block: str, in_a_checkout, one_thread, registries_as_they_were, capsys) -> None:
    exec(compile(block, "docstring", "exec", dont_inherit=True), {"__name__": "docstring"})


@pytest.mark.parametrize("path", SHOWN)
def test_what_is_shown_is_what_comes_out(path: str, in_a_checkout, one_thread) -> None:
    module = import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0


def test_examples_are_found_and_none_is_hidden() -> None:
    """Code outside a literal block would not be executed."""
    assert len(EXAMPLES) >= 8, [each.id for each in EXAMPLES]
    assert SHOWN
    assert [name for name, text in DOCSTRINGS if LOOSE.search(text)] == []
    assert [name for name, text in DOCSTRINGS if re.search(r"::\n\n\S", text)] == []


PLUGINS = [
    pytest.param(cls, id=f"{registry.what}:{name}")
    for registry in registries.ALL.values()
    for name, cls in registry
    if cls.__module__.startswith("asyncsim.")
]


@pytest.mark.parametrize("cls", PLUGINS)
def test_a_plugin_begins_with_sentences(cls: type) -> None:
    """The first paragraph of its docstring is what ``asyncsim list`` prints: whole sentences, of its own."""
    first = (vars(cls).get("__doc__") or "").partition("\n\n")[0].strip()
    assert first.endswith((".", ".)"))
    assert "::" not in first
