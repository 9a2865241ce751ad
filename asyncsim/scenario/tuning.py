"""The section ``tune``: a field chosen for every method by its result on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator

from asyncsim.registry import Spec
from asyncsim.scenario.problems import shown
from asyncsim.scenario.schema import Scenario

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

FIRST_SEED = 1_000_000
"""Tuning draws other batches and stragglers than the runs that are reported."""


class Tune(Spec):
    """``field`` is chosen for every variant and point, by the mean of ``metric`` at the end of runs with ``seeds`` of their own.

    ``kind: grid`` tries the values of ``grid``; ``kind: optuna`` asks Optuna's TPE sampler for ``trials`` values between
    ``low`` and ``high``, on a logarithmic scale if ``log``. Ties go to the value that was tried first.
    """

    sampler: Literal["grid", "optuna"] = Field(default="grid", alias="kind")
    field: str = Field(default="optimizer.lr", pattern=r"^\w+(\.\w+)*$")
    metric: str = Field(
        default="validation_loss", pattern=r"^validation_\w+$", description="validation_loss, validation_accuracy, ..."
    )
    grid: tuple[float, ...] = ()
    trials: int = Field(default=20, ge=1, le=10_000)
    low: float | None = None
    high: float | None = None
    log: bool = True
    seeds: int = Field(default=1, ge=1, le=1000)

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, data: Any) -> Any:
        """``grid: {kind: optuna, trials: 20, ...}`` is the same as these fields beside it."""
        if not isinstance(data, Mapping) or not isinstance(data.get("grid"), Mapping):
            return data
        return {**{key: value for key, value in data.items() if key != "grid"}, **data["grid"]}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """All fields may stand under ``grid``, too."""
        described = super().__get_pydantic_json_schema__(schema, handler)
        fields = handler.resolve_ref_schema(described)["properties"]
        nested = {"type": "object", "additionalProperties": False, "properties": dict(fields)}
        fields["grid"] = {"anyOf": [fields["grid"], nested]}
        return described

    @model_validator(mode="after")
    def _complete(self) -> Tune:
        if self.sampler == "grid":
            if not self.grid:
                raise ValueError("needs `grid`, a list of values to try, or `kind: optuna` with `low` and `high`")
            if len(set(self.grid)) < len(self.grid):
                raise ValueError(f"`grid` lists a value twice: {list(self.grid)}")
            return self
        if self.grid:
            raise ValueError("`grid` is for `kind: grid`; Optuna needs `low` and `high`")
        if self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("`kind: optuna` needs `low` and `high`, low below high")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs `low` above 0 (it is {self.low:g}); or say `log: false`")
        return self

    @property
    def maximise(self) -> bool:
        return self.metric.endswith("accuracy")

    def trial(self, scenario: Scenario, value: float, seed: int) -> Scenario:
        """The run that tells how good ``value`` is: it sees no test data and stops at no target."""
        document = scenario.document()
        document["run"] = {key: value for key, value in document["run"].items() if key != "target"}
        document["seed"] = FIRST_SEED + seed
        document["evaluate"] = {**document["evaluate"], "splits": ["validation"]}
        return Scenario.model_validate(document).evolve({self.field: value})

    def problem(self, scenario: Scenario) -> str | None:
        """Why ``scenario`` cannot be tuned like this, if so."""
        if self.field.partition(".")[0] in ("seed", "name", "evaluate", "run", "records"):
            return f"tune.field: `{self.field}` is nothing that can be tuned"
        if self.metric not in self._metrics(scenario):
            return f"tune.metric: this task has {', '.join(self._metrics(scenario))} (it is {shown(self.metric)})"
        if getattr(scenario.task, "validation", None) == 0:
            return "tune: there is no validation split, as `task.validation` is 0; raise that"
        return None

    @staticmethod
    def _metrics(scenario: Scenario) -> list[str]:
        return [f"validation_{metric}" for metric in scenario.task.metrics]
