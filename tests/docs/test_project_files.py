"""The files around the package agree with it and with each other."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ruamel.yaml import YAML

import asyncsim

ROOT = Path(__file__).parents[2]


def test_citation_project_and_package_say_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert project["version"] == asyncsim.__version__ == citation["version"]
    assert project["license"] == citation["license"] == "Apache-2.0"
    assert [author["name"] for author in project["authors"]] == [author["name"] for author in citation["authors"]]
    assert not any(classifier.startswith("License") for classifier in project["classifiers"])  # an error beside `license`
    for file in project["license-files"]:
        assert "Apache License" in (ROOT / file).read_text(encoding="utf-8")


def test_hooks_call_what_make_test_has_installed() -> None:
    """Local hooks only: nothing is downloaded before a commit. Tests that they name are there."""
    repositories = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [each["repo"] for each in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        command, *arguments = hook["entry"].split()
        assert command.startswith(".venv/bin/")
        assert hook["language"] == "system"
        assert all((ROOT / each).exists() for each in arguments if each.endswith(".py"))
