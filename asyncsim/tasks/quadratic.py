"""A noisy quadratic, whose convergence can be computed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from asyncsim.tasks.spec import MOST_BATCH, MOST_PARAMETERS, TaskSpec, tasks

if TYPE_CHECKING:
    from asyncsim.tasks.task import Task

Eigenvalue = Annotated[float, Field(ge=0)]


@tasks.register("quadratic")
class Quadratic(TaskSpec):
    """Minimise ``0.5 sum_i h_i x_i^2`` from ``x = start``, with gradient ``h_i x_i + noise * n_i``, n_i standard normal.

    ``curvature`` is one h for all dimensions or a list of them. The noise of (worker, step) is the mean over ``batch``
    samples, so its deviation is noise / sqrt(batch). The optimum is 0. Metrics, free of noise: loss, and the distance
    ``|x|``. Every split is the same.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "distance")

    batch: int = Field(default=1, ge=1, le=MOST_BATCH)
    dim: int | None = Field(default=None, ge=1, le=MOST_PARAMETERS, description="the length of `curvature` or `start`, else 10")
    curvature: Eigenvalue | tuple[Eigenvalue, ...] = 1.0
    noise: float = Field(default=0.0, ge=0)
    start: float | tuple[float, ...] = 1.0

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        for name in ("curvature", "start"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.num_parameters():
                raise ValueError(f"`{name}` has {len(value)} entries for {self.num_parameters()} dimensions")
        if not self.num_parameters():
            raise ValueError("`curvature` or `start` is empty; give at least one number")
        return self

    def num_parameters(self) -> int:
        if self.dim is not None:
            return self.dim
        return next((len(value) for value in (self.curvature, self.start) if isinstance(value, tuple)), 10)

    def build(self, seed: int, device: str = "cpu", dtype: str = "float32", num_workers: int = 1) -> Task:
        from asyncsim.tasks.bowl import bowl

        return bowl(self.num_parameters(), self.curvature, self.noise, self.start, self.batch, seed, device, dtype)
