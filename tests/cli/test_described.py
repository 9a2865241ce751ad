"""``list WHAT KIND`` and ``explain FIELD``: everything that a scenario may say is described, and what is wrong is named."""

from __future__ import annotations

import pytest

from asyncsim import registries
from asyncsim.cli.main import main
from asyncsim.registry import Spec
from asyncsim.scenario.beside import ScenarioFile


def told(capsys, *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_every_kind_has_a_description_with_all_its_fields(capsys):
    """All kinds of all registries: the description is there, and each field once at the beginning of a line."""
    for what, registry in registries.ALL.items():
        for name, cls in registry:
            text = told(capsys, "list", what, name)
            assert len(text.splitlines()[0]) > 20, (what, name)
            table = text.partition("field ")[2]
            for field, info in cls.model_fields.items():
                assert f"\n{info.alias or field} " in table, (what, name, field)


def test_every_section_is_explained(capsys):
    """All fields of a scenario file, and the fields of its sections."""
    for field, info in ScenarioFile.model_fields.items():
        assert told(capsys, "explain", field)
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Spec) and field not in ("task", "method", "optimizer"):
            for inner in section.model_fields:
                assert inner in told(capsys, "explain", f"{field}.{inner}") or section.model_fields[inner].alias


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("list", "methods", "gap_aware"), ["r <- decay * r + (1 - decay) * u^2", "  0.999      a number >= 0 and < 1"]),
        (("explain", "cluster.compute"), ["{kind: gamma_homogeneous, mean: 1.0}", "one of delays", "two_state"]),
        (("explain", "cluster.compute.gamma.cv"), ["cv     must be given  a number >= 0"]),
        (("explain", "optimizer.beta2"), ["adam ", "fed_amsgrad", "0.99 "]),
        (("explain", "cluster.faults"), ["text or none", "warning"]),
        (("explain", "evaluate.splits"), ["[test]", "a list of (test, validation, train)"]),
        (("explain", "seed"), ["a whole number >= 0 and < 9,223,372,036,854,775,808"]),
    ],
    ids=" ".join,
)
def test_it_says_what_is_allowed(capsys, words, expected):
    text = told(capsys, *words)
    assert not [part for part in expected if part not in text], text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list", "methods", "gap_awre"), "list methods: there is no 'gap_awre'; did you mean `gap_aware`"),
        (("list", "--needs", "methods"), "list --needs: takes no name"),
        (("explain", "run.tme"), "explain run.tme: run has no 'tme'; did you mean `time`; it has: updates, samples, time"),
        (("explain", "rum"), "explain rum: a scenario has no 'rum'; did you mean `run`"),
        (("explain", "seed.x"), "explain seed.x: seed has no 'x'; it is a single value"),
        (("explain", "optimizer.momentun"), "optimizer has no kind and no field 'momentun'; did you mean `momentum`"),
        (("explain", "optimizer.lr.x"), "explain optimizer.lr.x: optimizer has no kind and no field 'lr'"),
        (("explain", ""), "a scenario has no ''"),
        (("explain", "a\x1b[31m"), "a scenario has no"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_there_is_named(capsys, words, message):
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert "\x1b" not in error
