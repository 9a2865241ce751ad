"""Plugins: decorators, entry points, hints."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from pydantic import ValidationError

import asyncsim
from asyncsim import registries, registry
from asyncsim.errors import UserError
from asyncsim.registries import policies
from asyncsim.registry import Registry, Spec
from asyncsim.scenario import Document, build_scenario


class Shape(Spec):
    size: int = 1


def test_the_same_class_may_be_defined_again_and_another_may_not():
    shapes = Registry("test shape a")
    for _ in range(2):  # a notebook cell that is run twice

        @shapes.register("round")
        class Round(Shape):
            pass

    with pytest.raises(UserError, match="already defined"):
        shapes.register("round")(type("Square", (Shape,), {}))
    assert shapes.parse("round") == shapes.parse({"kind": "round", "size": 1})


def test_an_unknown_kind_names_the_nearest_and_the_known():
    shapes = Registry("test shape b")
    shapes.register("circle")(type("Circle", (Shape,), {}))
    with pytest.raises(ValidationError, match="did you mean `circle`; known: circle"):
        shapes.parse({"kind": "circel"})


def test_a_policy_of_an_installed_package_is_found(tmp_path, monkeypatch):
    """An entry point of group asyncsim.policy is loaded when a name is looked up, and the policy runs by its name."""
    (tmp_path / "halving_package.py").write_text(
        textwrap.dedent("""
        from asyncsim.policies import Transform

        class Halve(Transform):
            after: int = 2

            def update(self, push, state, server):
                if push.staleness >= self.after:
                    push.penalise(2.0)
                return push
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = {"asyncsim.policy": [EntryPoint("halve", "halving_package:Halve", "asyncsim.policy")]}
    monkeypatch.setattr(registry, "entry_points", lambda group: points.get(group, []))
    monkeypatch.setattr(policies, "_loaded", False)
    monkeypatch.setattr(policies, "_classes", dict(policies._classes))
    data = {
        "task": "quadratic", "cluster": {"workers": 4, "compute": "1s"}, "run": {"updates": 8},
        "method": {"kind": "custom", "policy": [{"kind": "halve", "after": 3}]},
    }  # fmt: skip
    result = asyncsim.simulate(build_scenario(Document(data, "test")))
    assert list(result.updates["penalty"]) == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]  # staleness 0, 1, 2, 3, 3, ...
    sys.modules.pop("halving_package")


def test_a_broken_package_is_named(monkeypatch):
    shapes = Registry("test shape c")
    point = EntryPoint("hexagon", "no_such_package:Hexagon", shapes.group)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == shapes.group else [])
    for _ in range(2):  # whoever asks again is told again, not given what is left
        with pytest.raises(UserError, match=r"hexagon.*no_such_package"):
            shapes.names()


def test_a_module_of_an_installed_package_registers_all_it_has(tmp_path, monkeypatch):
    """An entry point of group asyncsim.plugins is a module: asked for one of its plugins, any registry imports it."""
    (tmp_path / "plugin_of_two.py").write_text(
        textwrap.dedent("""
        from asyncsim.registry import Registry, Spec

        corners = Registry("test corner")

        @corners.register("sharp")
        class Sharp(Spec):
            pass
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = {registry.PLUGINS: [EntryPoint("two", "plugin_of_two", registry.PLUGINS)]}
    monkeypatch.setattr(registry, "entry_points", lambda group: points.get(group, []))
    assert Registry("test shape d").names() == []
    assert sys.modules.pop("plugin_of_two").corners.names() == ["sharp"]


def test_registries_of_parts_know_the_papers_parts_by_themselves():
    """Asked first thing in a fresh interpreter, before anybody has imported a method."""
    script = (
        "from asyncsim.simulation.programs import programs\n"
        "from asyncsim.policies.transform import policies\n"
        "print('stage' in programs.names(), 'gap_aware' in policies.names(), type(policies.parse('mixing')).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True True Mixing\n", done.stdout + done.stderr


def test_every_registry_has_its_one_name():
    """`asyncsim.registries` holds all that the package makes, each under the plural of what it is; nobody else exports one."""
    ours = {each for each in registry._registries.values() if not each.what.startswith("test ")}
    assert set(registries.ALL.values()) == ours
    assert sorted(registries.ALL) == sorted(registries.__all__)
    for name, each in registries.ALL.items():
        assert getattr(registries, name) is each
        assert name in (f"{each.what}s", "policies", "consistencies")
        assert {"policies": "policy", "consistencies": "consistency"}.get(name, each.what) == each.what
    for room in ("asyncsim", "asyncsim.cluster", "asyncsim.methods", "asyncsim.policies", "asyncsim.tasks"):
        module = importlib.import_module(room)
        assert not [name for name in module.__all__ if isinstance(getattr(module, name), Registry)], room


def test_the_front_door_has_the_base_class_of_every_kind():
    """What a plugin derives from can be imported from `asyncsim` without knowing the rooms."""
    assert asyncsim.registries is registries
    for name in ("Transform", "StepRule", "Schedule", "Consistency", "Program", "Gossip", "Method", "Delay", "TaskSpec",
                 "ModelSpec", "Partition"):  # fmt: skip
        assert issubclass(getattr(asyncsim, name), Spec)


def test_defaults_are_named():
    """`Field(0.1, ge=0)` is a required argument to type checkers, `Field(default=0.1, ge=0)` is not: `GapAware()` has to pass."""
    unnamed = [
        f"{path.name}:{node.lineno}"
        for path in Path(asyncsim.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field" and node.args
    ]
    assert unnamed == []


def test_a_field_has_the_default_of_the_class_that_python_would_ask_first():
    """Of several bases with a field, pydantic takes the first base's, though that may have inherited it from a class which stands
    behind the others in Python's order of bases."""
    for kind, known in registries.ALL.items():
        for name, cls in known:
            for field, info in cls.model_fields.items():
                owner = next(each for each in cls.__mro__ if field in vars(each).get("__annotations__", {}))
                assert repr(info.default) == repr(owner.model_fields[field].default), (kind, name, field)
