"""The section ``tune``: a field chosen for every method by its result on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator

from asyncsim.metrics import rising
from asyncsim.registry import Spec, located
from asyncsim.scenario.problems import shown
from asyncsim.scenario.schema import Scenario

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

FIRST_SEED = 1_000_000
"""Tuning draws other batches and stragglers than the runs that are reported."""


FIELD = r"^\w+(\.\w+)*$"


class Other(Spec):
    """What is tuned instead for a variant to which another number matters. What is left out is as for all variants."""

    field: str | None = Field(default=None, pattern=FIELD)
    grid: tuple[float, ...] | None = None
    low: float | None = None
    high: float | None = None


class Tune(Spec):
    """``field`` is chosen for every variant and point, by the mean of ``metric`` at the end of runs with ``seeds`` of their own.

    ``kind: grid`` tries the values of ``grid``; ``kind: optuna`` asks Optuna's TPE sampler for ``trials`` values between
    ``low`` and ``high``, on a logarithmic scale if ``log``. Ties go to the value that was tried first. ``others`` gives
    variants, by name, a field or values of their own, as many of them as all have. With ``common: false`` the runs at the
    scenario's own value are left out.
    """

    sampler: Literal["grid", "optuna"] = Field(default="grid", alias="kind")
    field: str = Field(default="optimizer.lr", pattern=FIELD)
    metric: str = Field(
        default="validation_loss", pattern=r"^validation_\w+$", description="validation_loss, validation_accuracy, ..."
    )
    grid: tuple[float, ...] = ()
    trials: int = Field(default=20, ge=1, le=10_000)
    low: float | None = None
    high: float | None = None
    log: bool = True
    seeds: int = Field(default=1, ge=1, le=1000)
    others: dict[str, Other] = Field(default={}, description="variant: what is tuned for it instead")
    common: bool = Field(default=True, description="also run at the scenario's own value")

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
        if (wrong := self._incomplete()) is not None:
            raise ValueError(wrong)
        for name in self.others:
            other = self.of(name)
            wrong = other._incomplete()
            if wrong is None and len(other.grid) != len(self.grid):
                wrong = f"tries {len(other.grid)} values and the others {len(self.grid)}; as many are fair"
            if wrong is not None:
                raise located("tune", [(("others", name), None, wrong)])
        return self

    def _incomplete(self) -> str | None:
        """What is missing or too much in the values to try, if anything is."""
        if self.sampler == "grid":
            if not self.grid:
                return "needs `grid`, a list of values to try, or `kind: optuna` with `low` and `high`"
            return f"`grid` lists a value twice: {list(self.grid)}" if len(set(self.grid)) < len(self.grid) else None
        if self.grid:
            return "`grid` is for `kind: grid`; Optuna needs `low` and `high`"
        if self.low is None or self.high is None or self.low >= self.high:
            return "`kind: optuna` needs `low` and `high`, low below high"
        if self.log and self.low <= 0:
            return f"a logarithmic scale needs `low` above 0 (it is {self.low:g}); or say `log: false`"
        return None

    def of(self, variant: str) -> Tune:
        """What is tuned for a variant: the same for all but the ``others``."""
        other = self.others.get(variant)
        if other is None:
            return self
        return self.model_copy(update={key: value for key, value in other if value is not None} | {"others": {}})

    @property
    def trials_each(self) -> int:
        """The number of trials of every variant and point."""
        return self.seeds * (self.trials if self.sampler == "optuna" else len(self.grid))

    @property
    def maximise(self) -> bool:
        return rising(self.metric)

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
