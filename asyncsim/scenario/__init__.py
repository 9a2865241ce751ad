"""Scenarios: the schema, reading and writing files, overrides, and errors with file and line."""

from asyncsim.scenario.document import Document, read_document
from asyncsim.scenario.dump import dump_scenario
from asyncsim.scenario.expansion import expand
from asyncsim.scenario.files import load_scenario, load_study
from asyncsim.scenario.problems import ScenarioError
from asyncsim.scenario.schema import Records, Scenario, build_scenario
from asyncsim.scenario.study import Study

__all__ = [
    "Document",
    "Records",
    "Scenario",
    "ScenarioError",
    "Study",
    "build_scenario",
    "dump_scenario",
    "expand",
    "load_scenario",
    "load_study",
    "read_document",
]
