"""The section ``tune``: a field whose value is chosen for every method by the result on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from asyncsim.registry import Spec, located
from asyncsim.scenario.document import Document
from asyncsim.scenario.problems import scenario_error, shown
from asyncsim.scenario.schema import Scenario

FIRST_SEED = 1_000_000
"""The first seed of tuning runs, chosen so that they draw other batches and stragglers than the runs that are reported."""


class Tune(Spec):
    """``field`` is chosen for every variant and point, by the mean of ``metric`` at the end of runs with ``seeds`` of their own.

    ``kind: grid`` tries the values of ``grid``; ``kind: optuna`` asks Optuna's TPE sampler for ``trials`` values between
    ``low`` and ``high``, on a logarithmic scale if ``log``. Ties go to the value that was tried first.
    """

    sampler: Literal["grid", "optuna"] = "grid"
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
        """``grid: {kind: optuna, trials: 20, ...}`` is the same as these fields beside it; ``kind`` is the sampler's."""
        if not isinstance(data, Mapping):
            return data
        if isinstance(data.get("grid"), Mapping):
            data = {**{key: value for key, value in data.items() if key != "grid"}, **data["grid"]}
        if "kind" not in data:
            return data
        if data["kind"] not in ("grid", "optuna"):
            raise located("tune", [(("kind",), data["kind"], "must be grid or optuna")])
        return {"sampler": data["kind"]} | {key: value for key, value in data.items() if key != "kind"}

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
        """The reason why ``scenario`` cannot be tuned like this; None if it can."""
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


def build_tune(data: Any, document: Document, overridden: tuple[str, ...]) -> Tune:
    """Validate the section. Raises ``ScenarioError`` with located lines."""
    try:
        return Tune.model_validate(data)
    except ValidationError as error:
        lines = {place[1:]: line for place, line in document.lines.items() if place[0] == "tune" and len(place) > 1}
        inner = Document(
            data if isinstance(data, dict) else {}, document.where(("tune",)).rpartition(":")[0] or document.source, lines
        )
        made = scenario_error(error, Tune, inner, overridden)
        made.problems = [_under_tune(problem, document) for problem in made.problems]
        raise type(made)(made.problems) from None


def _under_tune(problem: str, document: Document) -> str:
    """``file:3: grid: ...`` as ``file:3: tune.grid: ...``; what concerns the whole section gets its line."""
    origin, _, rest = problem.partition(": ")
    if origin == document.source:
        origin = document.where(("tune",))
    word = rest.partition(":")[0]
    rest = rest.replace("allowed here: sampler,", "allowed here: kind,")
    inner = word.partition(".")[0] in (*Tune.model_fields, "kind") or "unknown field" in rest
    return f"{origin}: tune.{rest}" if inner and ": " in rest else f"{origin}: tune: {rest}"
