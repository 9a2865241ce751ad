"""Where examples of pages and docstrings run, and what they leave behind: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncsim import registries

ROOT = Path(__file__).parents[2]


@pytest.fixture
def in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the shipped scenarios: examples name files from the root of a checkout."""
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registries_as_they_were():
    """Plugins that a page defines must not be seen by other tests."""
    before = [(registry, dict(registry._classes)) for registry in registries.ALL.values() if registry.names()]
    yield
    for registry, classes in before:
        registry._classes.clear()
        registry._classes.update(classes)
