"""Whoever looks on is told rows by name, and what they say is what the tables hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from asyncsim.assembling import assemble
from asyncsim.records import Recorder
from asyncsim.records.rows import EVENTS, SpanRow, row_type
from asyncsim.scenario import Document, build_scenario


class Onlooker:
    def __init__(self) -> None:
        self.told: dict[str, list[Any]] = {"span": [], "arrival": [], "evaluation": []}

    def span(self, row: SpanRow) -> None:
        self.told["span"].append(row)

    def arrival(self, row: Any) -> None:
        self.told["arrival"].append(row)

    def evaluation(self, row: Any) -> None:
        self.told["evaluation"].append(row)


def test_rows_are_told_by_name():
    scenario = build_scenario(
        Document({"task": {"kind": "digits", "model": "softmax"}, "cluster": {"workers": 3}, "run": {"updates": 30},
                  "evaluate": {"updates": 10}}, "here")
    )  # fmt: skip
    sim = assemble(scenario)
    onlooker = Onlooker()
    sim.observers.add(onlooker)
    for _ in sim.run():
        pass
    sim.recorder.flush(last=True)
    arrays = sim.recorder.arrays()
    for event, table in (("span", "events"), ("arrival", "updates"), ("evaluation", "metrics")):
        told, columns = onlooker.told[event], arrays[table]
        assert columns is not None
        assert len(told) == len(columns["version"]) > 3
        for name in columns:
            np.testing.assert_array_equal([float(getattr(row, name)) for row in told], columns[name].astype(float))


def test_the_named_row_of_a_span_has_the_columns_of_its_table():
    assert SpanRow._fields == tuple(EVENTS)


def test_a_column_whose_name_is_no_identifier_has_its_place():
    row = row_type("Row", ["loss", "top-5"])(0.5, 0.9)
    assert (row.loss, row._1) == (0.5, 0.9)


def test_the_recorder_keeps_plain_tuples():
    """Nobody pays for names that nobody reads."""
    recorder = Recorder(())
    recorder.span((0, 0, 0, 0, 0, 1, True))
    assert type(recorder.events.rows[0]) is tuple
