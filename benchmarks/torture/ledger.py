"""Scenarios that once failed, as files that are replayed for ever."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from torture.outcomes import Finding

LEDGER = Path(__file__).parents[2] / "tests" / "torture" / "ledger"


def text(document: dict[str, Any]) -> str:
    """A scenario as it may be written by hand: what holds only plain values stands in one line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 120
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def entry(document: dict[str, Any], finding: Finding, seed: int) -> str:
    """What a file of the ledger says."""
    detail = finding.detail.splitlines()[0][:160] if finding.detail else ""
    header = [f"found: {finding.check}: {finding.what}", *([detail] if detail else []), f"seed: {seed}"]
    return "".join(f"# {line}\n" for line in header) + text(document)


def write(document: dict[str, Any], finding: Finding, seed: int, folder: Path = LEDGER) -> Path:
    """Add a file to the ledger, under a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.check.replace(' ', '_')}_{seed}.yaml"
    path.write_text(entry(document, finding, seed))
    return path


def entries(folder: Path = LEDGER) -> list[Path]:
    return sorted(folder.glob("*.yaml"))


def read(path: Path) -> dict[str, Any]:
    """The scenario of a file, as plain data."""
    return YAML(typ="safe", pure=True).load(path.read_text())
