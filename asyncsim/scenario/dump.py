"""Write a scenario as YAML that loads to an equal scenario."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from asyncsim.scenario.schema import Scenario


def dump_scenario(scenario: Scenario) -> str:
    """The scenario as YAML text, with the resolved value of every field."""
    return dump_document(scenario.document())


def dump_document(document: Mapping[str, Any]) -> str:
    """Plain data as YAML text, in their own order."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 120
    stream = io.StringIO()
    yaml.dump(dict(document), stream)
    return stream.getvalue()
