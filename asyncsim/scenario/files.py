"""Scenario files: the runs that each describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError
from asyncsim.scenario.atlas_study import AtlasStudy, atlas_study
from asyncsim.scenario.candidates import with_candidates
from asyncsim.scenario.document import Document, read_document
from asyncsim.scenario.expansion import expand
from asyncsim.scenario.schema import Scenario
from asyncsim.scenario.study import Study


def load_scenario(path: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """The scenario in a file, with ``changes`` (dotted paths allowed) on top. Raises ``UserError``, also if there are several."""
    study = load_study(path, changes)
    if len(study) != 1:
        raise UserError(f"{path}: describes {len(study)} runs; read it with load_study")
    return study.scenarios[0]


def load_study(path: str | Path, changes: Mapping[str, Any] | None = None, sweep: Mapping[str, Any] | None = None) -> Study:
    """All runs of a file, validated as a whole; ``sweep`` has ``grid``, ``zip`` and ``seeds`` beside those of the file. Raises
    ``UserError`` with one line a problem."""
    document = read_document(path)
    study = expand(document, changes or {}, *_home(path), sweep)
    if "atlas" in document.data:  # its cells must be scenarios, whatever the file is read for
        atlas_study(document, changes or {}, *_home(path))
    return study


def load_atlas(
    path: str | Path, changes: Mapping[str, Any] | None = None, sweep: Mapping[str, Any] | None = None
) -> AtlasStudy:
    """The atlas of a file: its methods, at every condition and worker count of its section ``atlas``; ``sweep`` has ``seeds``.
    Raises ``UserError`` with one line a problem, also if there is no such section."""
    return atlas_study(read_document(path), changes or {}, *_home(path), sweep)


def load_candidates(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Any] | None = None,
    fleets: Mapping[str, Any] | None = None,
    methods: Mapping[str, Any] | None = None,
) -> Study:
    """The candidates of a file: fleets times methods of its section ``advise`` (``fleets`` and ``methods`` given here replace
    those of the file), or its variants; times the points of its sweep. Raises ``UserError``, also if there is only one."""
    document = read_document(path)
    section = document.data.get("advise")
    given = {key: value for key, value in (("fleets", fleets), ("methods", methods)) if value}
    if given and (section is None or isinstance(section, Mapping)):
        document = Document({**document.data, "advise": {**(section or {}), **given}}, document.source, document.lines)
    study = expand(*with_candidates(document, changes or {}), *_home(path), sweep)
    if len(set(study.labels)) < 2:
        example = "`advise: {fleets: {small: {workers: 4}, large: {workers: 16}}}`"
        raise UserError(f"{path}: describes one candidate only; give more, as {example}, variants, a sweep, or --fleet")
    return study


def _home(path: str | Path) -> tuple[str, str]:
    """The folder that relative paths start at, and the name of what has none."""
    return str(Path(path).resolve().parent), Path(path).stem
