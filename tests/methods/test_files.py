"""One file a paper: short, registered by existing, with its source and the order of its operations said."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import asyncsim.methods
from asyncsim.consistency import Consistency
from asyncsim.gossip import Gossip
from asyncsim.methods.method import Method
from asyncsim.policies import StepRule, Transform
from asyncsim.registries import consistencies, gossips, methods, optimizers, orders, policies, programs
from asyncsim.simulation.programs import Program

FOLDER = Path(asyncsim.methods.__file__).parent
SHARED = {"method", "fitting", "local_steps", "pipelines"}
"""What several papers share, and no paper's file."""
FILES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
PAPERS = [name for name in FILES if name not in SHARED]


def registered_in(name: str) -> list[str]:
    registries = (methods, policies, optimizers, consistencies, programs, orders, gossips)
    return [kind for registry in registries for kind, cls in registry if cls.__module__ == f"asyncsim.methods.{name}"]


@pytest.mark.parametrize("name", PAPERS)
def test_a_file_is_a_paper(name):
    """It registers something, fits on two screens, and its docstring has a source; all but `custom` say in which order things
    happen."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text)) or ""
    assert registered_in(name)
    assert 20 <= len(text.splitlines()) <= 150
    assert re.search(r"arXiv|folklore|(19|20)\d\d|[Nn]o paper", doc)
    assert "Order" in doc or name == "custom"
    assert "::\n" in doc or name == "custom"  # an equation


@pytest.mark.parametrize("name", sorted(methods.names()))
def test_a_method_is_in_the_file_of_its_name(name):
    if methods[name].__module__.startswith("asyncsim."):
        assert methods[name].__module__ == f"asyncsim.methods.{name}"


def test_nothing_else_registers_methods():
    """What is shared brings no method of its own, and no list names the files."""
    assert [name for name in SHARED if registered_in(name)] == []
    names = {alias.name for node in ast.walk(ast.parse((FOLDER / "__init__.py").read_text(encoding="utf-8")))
             if isinstance(node, ast.ImportFrom) for alias in node.names}  # fmt: skip
    assert names.isdisjoint(FILES)


@pytest.mark.parametrize("name", sorted(methods.names()))
def test_a_method_holds_parts_and_is_none(name):
    """It has the settings of a transform, not its behaviour."""
    assert not issubclass(methods[name], Transform | StepRule | Consistency | Program | Gossip)
    assert issubclass(methods[name], Method)
