"""Clicks: who clicks on what, a table of IDs and a yes or no, from a file of the user or drawn from a known law."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from asyncsim.paths import ScenarioPath
from asyncsim.tasks.data import click_law
from asyncsim.tasks.data.arrays import Arrays
from asyncsim.tasks.data.click_table import Column, Reading, load
from asyncsim.tasks.data_task import AnyModel, DataTask
from asyncsim.tasks.models.clicks import DeepFm
from asyncsim.tasks.spec import MOST_BATCH, Signature, tasks

if TYPE_CHECKING:
    from asyncsim.tasks.objective import Objective


MOVIES = (
    Column(name="user", rows=943), Column(name="item", rows=1682), Column(name="age", rows=7), Column(name="gender", rows=2),
    Column(name="occupation", rows=21), Column(name="genres", rows=19, values=3),
)  # fmt: skip
"""The columns of MovieLens-100K, and its numbers of users, items and so on."""


@tasks.register("click_through")
class ClickThrough(DataTask):
    """Predict whether somebody clicks, from a table with a row for each impression. Metrics: the loss, a binary cross-entropy in
    nats, and ``auc``, the area under the ROC curve.

    ``file`` is a CSV or Parquet file with the ``columns`` and one named ``label``, which is 0 or 1; or, with ``threshold``, any
    number, and a click where it is at least that. A share ``test`` of the rows is for testing: chosen at random, or the last ones
    (for a file in the order of time). An empty cell has no value, and adds nothing.

    Without a file, ``samples`` rows with the same columns are drawn from a law with latent vectors (`data.click_law`), whose IDs
    follow Zipf's law with the exponent ``zipf``; ``data_seed`` gives other tables, and the run's seed does not.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "auc")

    batch: int = Field(default=256, ge=1, le=MOST_BATCH)
    model: AnyModel = DeepFm()
    columns: tuple[Column, ...] = Field(default=MOVIES, min_length=1, max_length=1000)
    file: ScenarioPath | None = None
    label: str = "label"
    threshold: float | None = None
    test: float = Field(default=0.2, gt=0, lt=1)
    split: Literal["random", "last"] = "random"
    samples: int = Field(default=50_000, ge=10, le=10**7)
    zipf: float = Field(default=1.0, ge=0, le=10)
    data_seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _either_file_or_law(self) -> Self:
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"each column once: {', '.join(names)}")
        if self.label in names:
            raise ValueError(f"{self.label!r} is the label, and cannot be a column to predict it from")
        of = ("samples", "zipf", "data_seed") if self.file else ("label", "threshold", "split")
        for name in of:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` is for a task {'without' if self.file else 'with'} a `file`")
        return self

    @property
    def signature(self) -> Signature:
        tables = tuple((column.size, column.values) for column in self.columns)
        return Signature("ids", (sum(values for _, values in tables),), 2, tables)

    def arrays(self) -> Arrays:
        if self.file is None:
            return click_law.load(self.signature.tables, self.samples, self.zipf, self.test, self.data_seed)
        return load(Path(self.file), Reading(self.columns, self.label, self.threshold, self.test, self.split))

    def objective(self) -> Objective:
        from asyncsim.tasks.objective import Clicks

        return Clicks()
