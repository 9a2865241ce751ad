"""Write a scenario as YAML that loads to an equal scenario."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML

from asyncsim.scenario.schema import Scenario


def dump_scenario(scenario: Scenario) -> str:
    """The scenario as YAML text, with the resolved value of every field."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 120
    stream = io.StringIO()
    yaml.dump(scenario.document(), stream)
    return stream.getvalue()
