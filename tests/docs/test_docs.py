"""What the documentation says is done: scenarios validate, marked Python runs, links resolve, every method has a page, every
registry has an example, and the table of rooms is that of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest

import asyncsim
from asyncsim import registries
from asyncsim.cluster import Cluster
from asyncsim.cluster.cluster import Group
from asyncsim.cluster.happenings import Event
from asyncsim.cluster.links import Link, ServerSpec
from asyncsim.methods import Method
from asyncsim.registries import delays, methods
from asyncsim.registry import Spec
from asyncsim.scenario.beside import ScenarioFile
from asyncsim.simulation.length import Evaluation, RunLength

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted((ROOT / "asyncsim").rglob("*.py"))
MARK = "# executed by the tests"


def blocks(language: str) -> Iterator[tuple[Path, int, str]]:
    """(page, line of the first line of the block, text) of every fenced block in ``language``."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield page, text[: match.start(1)].count("\n") + 1, match[1]


def cases(language: str, wanted: str) -> list:
    return [
        pytest.param(page, line, text, id=f"{page.relative_to(ROOT)}:{line}")
        for page, line, text in blocks(language)
        if re.search(wanted, text, re.MULTILINE)
    ]


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize(("page", "line", "text"), [*cases("yaml", r"^task:"), *cases("toml", r"^task\b")])
def test_scenarios_on_a_page_are_valid(page: Path, line: int, text: str, tmp_path: Path) -> None:
    file = tmp_path / ("page.toml" if re.search(r"^task\s*=", text, re.MULTILINE) else "page.yaml")
    file.write_text(text, encoding="utf-8")
    assert len(asyncsim.load_study(file)) >= 1


@pytest.mark.parametrize(("page", "line", "text"), cases("python", rf"\A{MARK}"))
def test_marked_python_runs(
    page: Path, line: int, text: str, in_a_checkout, one_thread, registries_as_they_were
) -> None:
    code = compile("\n" * (line - 1) + text, str(page), "exec", dont_inherit=True)
    exec(code, {"__name__": f"docs_{page.stem}_{line}"})


def test_there_is_something_to_check() -> None:
    assert len(cases("yaml", r"^task:")) >= 17
    assert len(cases("python", rf"\A{MARK}")) >= 5


def test_methods_and_pages_are_the_same() -> None:
    assert {page.stem for page in (ROOT / "docs" / "methods").glob("*.md")} == set(methods.names())


@pytest.mark.parametrize("name", methods.names())
def test_a_method_s_page_names_all_its_fields(name: str) -> None:
    text = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    common = {"before", "uplink", "downlink", "consistency", "program", "exchange"}
    missing = [field for field in methods[name].model_fields if field not in common and f"`{field}`" not in text]
    assert not missing


@pytest.mark.parametrize("name", ["policies", "optimizers", "consistencies", "programs", "exchanges"])
def test_the_page_of_custom_has_every_part(name: str) -> None:
    text = (ROOT / "docs" / "methods" / "custom.md").read_text(encoding="utf-8")
    own = [part for part, cls in getattr(registries, name) if cls.__module__.startswith("asyncsim.")]
    assert [part for part in own if f"`{part}`" not in text] == []


def test_every_delay_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    assert [name for name in delays.names() if f"| `{name}` |" not in text] == []


def test_the_index_links_every_page() -> None:
    folder = ROOT / "docs"
    linked = set(re.findall(r"\]\(([\w/]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8")))
    assert linked == {str(path.relative_to(folder)) for path in folder.rglob("*.md")} - {"README.md"}


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("Sections", ScenarioFile), ("`method`", Method), ("`run`", RunLength), ("`evaluate`", Evaluation),
        ("`cluster`", Cluster), ("Links", Link), ("Server", ServerSpec), ("Groups and overrides", Group), ("Events", Event),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)  # fmt: skip
def test_the_reference_has_every_field(section: str, fields: type[Spec]) -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^##+ (.+)\n((?:(?!##).*\n)*)", text, re.MULTILINE))
    told = re.findall(r"\w+", " ".join(re.findall(r"`[^`\n]+`", sections[section])))
    assert not set(fields.model_fields) - set(told)


def test_every_registry_has_an_example() -> None:
    """Each has a row in the table of docs/extend.md, which names what to import; a block that is executed registers something."""
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", text, re.MULTILINE))
    everywhere = "\n".join(block for _, _, block in blocks("python") if block.startswith(MARK))
    registry = r'^\w+(?:: [\w\[\]]+)? = Registry\("([\w ]+)"'
    made = [re.findall(registry, path.read_text(encoding="utf-8"), re.MULTILINE) for path in SOURCES]
    assert sorted(rows) == sorted(chain.from_iterable(made))
    for name, path in rows.items():
        home, _, attribute = path.rpartition(".")
        assert getattr(import_module(home), attribute).what == name
        assert re.search(rf"^@{attribute}\.register\(", everywhere, re.MULTILINE), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        if not other.exists():
            broken.append(target)
        elif anchor and other.suffix == ".md":
            headings = re.findall(r"^#+ +(.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in map(slug, headings):
                broken.append(target)
    assert not broken
