"""DyLU, dynamic local updates: slower workers take fewer local steps, so that the rounds of all take about as long::

    worker w:  H_w = max(least_steps, floor(v_w / max v * steps))            v: local steps per second, as measured
               x <- s;   H_w local steps;   push  D = s - x

B. Liu et al., "Asynchronous Local-SGD Training for Language Modeling", 2024 (arXiv 2401.09135), equation 6, from secondary notes;
``least_steps`` is from the authors' toy code, which has 5 (``scale_steps``; github.com/google-deepmind/asyncdiloco).

Order: H_w is set when the worker has delivered, and before it waits to read. v is the mean over all rounds that a worker has
completed, computing alone, in whole nanoseconds; a faster one takes ``steps``.
Ours: until a worker has been measured it takes ``steps``; who has left does not count for the maximum. To find that takes a look
at every worker in every round.
These are programs, for every method whose workers take steps: ``program: {kind: dylu, steps: 20, least_steps: 5}``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from asyncsim.methods.diloco import AdamWSteps, LocalAdamW
from asyncsim.needs import Need
from asyncsim.simulation.programs import LocalSGD, Program, programs

if TYPE_CHECKING:
    from asyncsim.messages import Snapshot
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker


def check_least_steps(least: int, steps: int, name: str) -> None:
    """Raise ``ValueError`` if ``least``, the setting ``least_steps``, is above ``steps``, the setting called ``name``."""
    if least > steps:
        raise ValueError(f"`least_steps` is at most `{name}` ({steps}), not {least}")


class Paced(Program):
    """A program of so many local steps a round, of which slower workers take fewer: at least ``least_steps``."""

    least_steps: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _least_of_them(self) -> Paced:
        check_least_steps(self.least_steps, self.batches, "steps")
        return self

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return super().needs | Need.PACES

    def begin(self, sim: Verbs, worker: Worker) -> Generator[Any, Any, Snapshot]:
        pace = worker.set_pace(self.paced(worker, sim.workers))
        snapshot = yield from super().begin(sim, worker)
        return snapshot._replace(pace=pace)

    def paced(self, worker: Worker, workers: list[Worker]) -> int:
        """Steps of the worker's next round, from what has been measured of all."""
        known = [each.measured for each in workers if each.measured[1] and not (each.gone or each.absent)]
        if not known or not worker.measured[1]:
            return self.batches
        steps, took = worker.measured
        most, fastest = max(known, key=lambda each: each[0] / each[1])
        return min(self.batches, max(self.least_steps, steps * fastest * self.batches // (took * most)))


@programs.register("dylu")
class PacedSGD(Paced, LocalSGD):
    """Local SGD whose slower workers take fewer steps: in proportion to their measured speed, at least ``least_steps`` (dynamic
    local updates, Liu et al. 2024)."""

    def kernel(self, snapshot: Snapshot) -> Any:
        from asyncsim.engine.kernels import LocalSteps

        first, steps = snapshot.pace or (None, self.steps)
        return LocalSteps(steps, self.lr * snapshot.lr_factor, self.momentum, first)


@programs.register("dylu_adamw")
class PacedAdamW(Paced, LocalAdamW):
    """The same with the steps of AdamW."""

    def kernel(self, snapshot: Snapshot) -> Any:
        first, steps = snapshot.pace or (None, self.steps)
        betas = self.beta1, self.beta2
        return AdamWSteps(steps, self.lr * snapshot.lr_factor, betas, self.eps, self.weight_decay, not self.fresh, first)
