"""The plan of the house: who may import what, and how large a module may be. Checked on the source, nothing is run.

Rooms stand on floors; imports go downward, or stay in the room. Rules for ``asyncsim`` itself, by kind of import:

- *run time*: at the top of a module or inside a function. Down or within the room only; what goes sideways on one floor stands in
  ``SIDEWAYS`` with its reason.
- *types only*: under ``if TYPE_CHECKING``. Down, within the room, or sideways; never up.

Other packages: ``PACKAGES`` says what each room may import anywhere at run time, and ``LOCAL`` what only inside functions, so
that importing the room does not import it. Standard library: free.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1] / "asyncsim"
MODULES = sorted(ROOT.rglob("*.py"))

FLOORS: dict[str, float] = {
    # 0: knows nothing of the others
    "errors": 0.0, "needs": 0.0, "userfiles": 0.05, "paths": 0.05, "numpyfiles": 0.06, "units": 0.05,
    "streams": 0.0, "stopping": 0.0, "metrics": 0.0,
    "messages": 0.1, "registry": 0.1, "records": 0.1, "ambient": 0.1, "trackers": 0.2,
    # formulas: pure functions of numbers, which know of nothing that is simulated
    "theory": 0.3,
    # 1: data about the fleet
    "cluster": 1,
    # 2: numbers without a clock
    "tasks": 2, "engine": 2, "policies": 2, "consistency": 2, "gossip": 2, "exchange": 2.1,
    # 3: the clock, and what it needs to be stopped and set going again
    "simulation": 3, "checkpoint": 3.1,
    # 4: putting it together, in this order. A paper's file in `methods` has its own transforms and step rules beside its bundle
    # of policy, consistency and program, so it stands above all of these. Nothing below imports it; the registries of parts do so
    # by name when they are first asked, as they import installed packages.
    "methods": 4.0, "scenario": 4.1, "assembling": 4.15, "memory": 4.15,
    "run": 4.2, "resuming": 4.25, "sweep": 4.3, "calibration": 4.3,
    "registries": 4.4,
    # which of the formulas speak of a scenario, and what they say
    "standing": 4.5,
    # 5: for people
    "plots": 5.0, "report": 5.05, "trace": 5.0, "cli": 5.1, "__main__": 5.2,
    # The front door: names from every room, each imported when it is first used.
    "__init__": 6,
}  # fmt: skip

SIDEWAYS = {
    ("engine", "tasks"): "a gradient in closed form must recognise the loss that it differentiates",
}

PACKAGES: dict[str, set[str]] = {
    "errors": set(), "metrics": set(), "messages": set(), "userfiles": set(), "paths": {"pydantic"},
    "numpyfiles": {"numpy"}, "ambient": {"numpy"}, "needs": set(),
    "units": {"pydantic"},
    "streams": {"numpy"}, "stopping": set(), "registry": {"pydantic", "pydantic_core"},
    "records": {"numpy", "pandas", "pyarrow", "filelock"}, "cluster": {"numpy", "pydantic"},
    "tasks": {"numpy", "pydantic"}, "engine": {"pydantic"}, "policies": {"pydantic"}, "consistency": {"pydantic"},
    "simulation": {"simpy", "pydantic"}, "checkpoint": {"numpy", "pydantic"}, "methods": {"pydantic"},
    "gossip": {"pydantic"}, "exchange": {"pydantic"},
    "registries": set(), "theory": {"numpy"}, "standing": {"numpy"},
    "scenario": {"numpy", "pydantic", "ruamel"}, "assembling": set(), "memory": set(), "run": set(), "resuming": set(),
    "sweep": {"numpy", "pandas", "greenlet"},
    "calibration": {"numpy", "scipy", "pydantic", "ruamel"},
    "plots": {"numpy", "pandas"}, "trace": {"numpy"}, "trackers": set(),
    "report": {"numpy", "pandas", "ruamel"}, "cli": {"rich", "pandas", "ruamel"}, "__main__": set(), "__init__": set(),
}  # fmt: skip
LOCAL: dict[str, set[str]] = {
    "ambient": {"torch"},  # where numbers are computed
    "tasks": {"torch", "PIL", "scipy"},  # models, images, and who is like whom in a graph, when a task is built or asked
    "engine": {"torch"},
    "checkpoint": {"torch"},  # when there are tensors to restore
    "run": {"torch"},  # `simulate`, not `plan`
    "calibration": {"torch"},  # to wait for a device when gradients are timed
    "trackers": {"torch", "mlflow"},  # those that are installed and asked for; torch has TensorBoard's writer
    "cluster": {"pyarrow"},  # a recorded run may be a Parquet table
    "sweep": {"ray", "optuna"},  # no dependencies: only where they are installed and asked for
    "theory": {"scipy"},  # gamma laws; what a plan says needs none
    "plots": {"matplotlib"},  # `write_figures` chooses the backend first
}
WITH_TORCH = {
    "tasks": {"batches", "bowl", "dropout", "given", "objective", "probing", "stages", "statistics", "task",
              "models.attention", "models.factorised", "models.residual", "models.tgn", "models.wide", "partners", "remembering"},
    "engine": {"batched", "call", "dense", "forward_backward", "graphed", "kernels", "serial", "threaded", "vectorised"},
}  # fmt: skip
"""Modules that import torch at their top: what computes. All else in these rooms is settings, and `plan` needs no torch."""
TORCH_FREE = ("errors", "messages", "units", "streams", "registry", "records", "cluster", "policies", "consistency", "simulation",
              "methods", "registries", "scenario", "plots", "report", "trace", "cli", "theory", "standing")  # fmt: skip


class Import(NamedTuple):
    """One imported module. ``where`` is top, function or types."""

    file: str
    line: int
    room: str
    target: str
    where: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.target} ({self.where})"


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


def inner(path: Path) -> str:
    """The module's name within its room."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts[1:])


def statements(path: Path) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Every import statement of a module, however deep, and where it stands: top, function or types."""

    def visit(node: ast.AST, where: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
        for child in ast.iter_child_nodes(node):
            here = where
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                here = "types"
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and where == "top":
                here = "function"
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child, where
            else:
                yield from visit(child, here)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), "top")


def imports(path: Path) -> Iterator[Import]:
    """Every import of a module, with the names resolved to modules."""
    for node, where in statements(path):
        for target in targets(node):
            yield Import(str(path.relative_to(ROOT.parent)), node.lineno, room_of(path), target, where)


def targets(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "imports are absolute in this project"
    # `from asyncsim.simulation import faults` may name a module: the deeper name decides nothing but the room
    return [f"asyncsim.{alias.name}" for alias in node.names] if node.module == "asyncsim" else [str(node.module)]


ALL = [each for path in MODULES for each in imports(path) if each.room in FLOORS]  # one test says which rooms have no floor
OWN = [each for each in ALL if each.target.split(".")[0] == "asyncsim"]
FOREIGN = [each for each in ALL if each.target.split(".")[0] not in {"asyncsim", "__future__", *sys.stdlib_module_names}]


def target_room(target: str) -> str:
    """The room of ``asyncsim.room.module``; the front door for ``asyncsim`` and the names in it."""
    parts = target.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


NAMES = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
"""Every module by its dotted name."""

LATE_CIRCLES = {
    "asyncsim.sweep": "the runner makes an executor by name, which knows the runner's reports",
}
"""Rooms in which modules import each other if imports inside functions are counted, and why. Nowhere do they at the top of a
module, at run time or for types."""


def graph(kinds: set[str]) -> dict[str, set[str]]:
    """Which module imports which, by imports of these kinds. A name of a package is that of a module in it, if there is one."""
    edges: dict[str, set[str]] = {name: set() for name in NAMES}
    for name, path in NAMES.items():
        for node, where in statements(path):
            if where not in kinds:
                continue
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            else:
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [each if each in NAMES else str(node.module) for each in inside]
            edges[name] |= {each for each in found if each in NAMES and each != name}
    return edges


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that import each other, directly or through others: what each reaches and is reached from."""

    def reach(start: str) -> set[str]:
        seen, ahead = set(), [start]
        while ahead:
            new = edges[ahead.pop()] - seen
            seen |= new
            ahead += new
        return seen

    reached = {name: reach(name) for name in edges}
    found = {frozenset(other for other in reached[name] if name in reached[other]) for name in edges}
    return [set(each) for each in found if each]


def show(wrong: list[Import]) -> str:
    return "\n".join(map(str, wrong))


def test_every_module_is_in_a_room():
    """A new room needs a floor, in the table above and in the plan."""
    assert {room_of(path) for path in MODULES} <= set(FLOORS)
    assert len(ALL) > 300  # the parser finds imports at all


def test_the_page_about_the_architecture_has_the_same_floors():
    """Rooms and floors in docs/architecture.md are those of the table above; files that the page names are there."""
    page = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d.]+) \| `(\w+)` \|", page, re.MULTILINE)
    assert {room: float(floor) for floor, room in rows} == FLOORS
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", page)) - {"tests/test_rooms.py"}
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_imports_go_downward():
    """At run time: to a lower floor, or within the room, or sideways where ``SIDEWAYS`` says why."""

    def fine(each: Import) -> bool:
        target = target_room(each.target)
        same_floor = int(FLOORS[each.room]) == int(FLOORS[target])
        return (
            each.room == target
            or FLOORS[target] < FLOORS[each.room]
            or (same_floor and (each.room, target) in SIDEWAYS)
            or each.target == "asyncsim"  # the front door holds the version, and imports nothing
        )

    wrong = [each for each in OWN if each.where != "types" and each.room != "__init__" and not fine(each)]
    assert not wrong, show(wrong)


def test_types_do_not_look_up():
    """Under ``TYPE_CHECKING``: down, within the room, or sideways."""
    wrong = [
        each for each in OWN if each.where == "types" and int(FLOORS[target_room(each.target)]) > int(FLOORS[each.room])
    ]  # fmt: skip
    assert not wrong, show(wrong)


@pytest.mark.parametrize(
    ("kinds", "known"),
    [({"top"}, {}), ({"top", "types"}, {}), ({"top", "types", "function"}, LATE_CIRCLES)],
    ids=["at run time", "by type", "inside functions too"],
)
def test_no_modules_import_each_other(kinds, known):
    """No circle of imports: a module can be read, and understood, after those that it imports."""
    found = circles(graph(kinds))
    rooms = [{name.rpartition(".")[0] for name in circle} for circle in found]
    assert all(len(room) == 1 and room <= set(known) for room in rooms), [sorted(circle) for circle in found]
    assert {name for room in rooms for name in room} == set(known)  # what is allowed is also needed


def test_a_circle_would_be_seen():
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}
    assert sorted(map(sorted, circles(edges))) == [["b", "c"], ["e"]]


def test_the_table_of_exceptions_has_no_dead_entries():
    """What is allowed is also needed: an entry nobody uses would hide the next mistake."""
    sideways = {(each.room, target_room(each.target)) for each in OWN if each.where != "types"}
    assert set(SIDEWAYS) <= sideways
    for room, packages in LOCAL.items():
        assert packages <= {each.target.split(".")[0] for each in FOREIGN if each.room == room}, room
    for room, modules in WITH_TORCH.items():
        assert modules <= {inner(path) for path in MODULES if room_of(path) == room}, room


def test_other_packages_stay_in_their_rooms():
    """matplotlib only in plots, simpy only in simulation, and every other package where the table says."""

    def fine(each: Import) -> bool:
        package = each.target.split(".")[0]
        if package in PACKAGES[each.room] or each.where == "types":
            return True
        return each.where == "function" and package in LOCAL.get(each.room, set())

    wrong = [each for each in FOREIGN if not fine(each) and not _computes(each)]
    assert not wrong, show(wrong)
    for package, room in (("matplotlib", "plots"), ("simpy", "simulation")):
        assert {each.room for each in FOREIGN if each.target.split(".")[0] == package and each.where != "types"} == {room}


def _computes(each: Import) -> bool:
    """Torch at the top of a module that computes."""
    module = inner(ROOT.parent / each.file)
    return each.target.split(".")[0] == "torch" and module in WITH_TORCH.get(each.room, set())


@pytest.mark.parametrize("room", TORCH_FREE)
def test_torch_stays_out(room):
    """In these rooms torch is named for type checkers only: not at the top of a module, nor in a function. That they handle
    tensors (policies) does not matter: tensors bring their methods with them."""
    wrong = [each for each in FOREIGN if each.room == room and each.target.split(".")[0] == "torch" and each.where != "types"]
    assert not wrong, show(wrong)


def test_a_plan_imports_neither_torch_nor_matplotlib():
    """The rule at work: a fresh interpreter that loads every shipped scenario and plans its first run has not loaded them."""
    script = (
        "import sys, asyncsim, asyncsim.cli, asyncsim.plots, asyncsim.sweep\n"
        "from pathlib import Path\n"
        "for path in sorted(Path(sys.argv[1]).glob('*.*ml')):\n"
        "    if 'stages' not in path.read_text() and path.stem != 'atlas':  # where to cut a model is for torch to say\n"
        "        asyncsim.plan(asyncsim.load_study(path, {'run': {'updates': 5}}).scenarios[0])\n"
        "print(sorted({'torch', 'matplotlib'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script, str(ROOT.parent / "scenarios")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stdout + done.stderr


MOST_LINES, MOST_OF_A_FUNCTION, MOST_BRANCHES = 300, 60, 20
BRANCHES = (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.match_case)


def test_modules_are_small():
    """No module over 300 lines; the median under 150 (packages' empty front doors not counted)."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {str(path.relative_to(ROOT)): count for path, count in lines.items() if count > MOST_LINES} == {}
    assert median(count for count in lines.values() if count > 1) < 150


def test_functions_are_small():
    """No function over 60 lines, or with more than 20 branches, those of the functions in it included."""
    large = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                branches = sum(isinstance(each, BRANCHES) for each in ast.walk(node))
                if length > MOST_OF_A_FUNCTION or branches > MOST_BRANCHES:
                    large.append(f"{path.relative_to(ROOT)}: {node.name}: {length} lines, {branches} branches")
    assert not large, "\n".join(large)
