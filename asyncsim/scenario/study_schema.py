"""The JSON Schema of scenario files, for editors."""

from __future__ import annotations

from typing import Any


def study_schema(scenario: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a file: that of one scenario, and ``variants``, ``sweep``, ``seeds``, ``baseline`` and ``tune``."""
    several = {
        "variants": {
            "type": "object",
            "additionalProperties": {"type": "object"},
            "description": "name: changes (dotted paths allowed)",
        },
        "seeds": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": {"type": "integer"}}]},
        "baseline": {
            "type": ["string", "object"],
            "description": "what speed-ups are against: a variant, or values of swept fields such as {cluster.workers: 1}",
        },
        "sweep": {
            "type": "object",
            "additionalProperties": False,
            "description": "fields and their values: grid is a product, zip goes together, list is explicit points",
            "properties": {
                "grid": {"type": "object", "minProperties": 1},
                "zip": {"type": "object", "minProperties": 1},
                "list": {"type": "array", "minItems": 1, "items": {"type": "object"}},
                "seeds": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": {"type": "integer"}}]},
            },
        },
        "advise": {
            "type": "object",
            "additionalProperties": False,
            "description": "candidates of `asyncsim advise`: fleets (changes of cluster, by name) times methods",
            "properties": {
                "fleets": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object"}},
                "methods": {"type": ["object", "array"]},
            },
        },
        "tune": {
            "type": "object",
            "description": "a field chosen for every method on the validation split: field, grid or low and high, metric, seeds",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **scenario,
        "title": "asyncsim scenario file",
        "properties": {**scenario["properties"], **several},
    }
