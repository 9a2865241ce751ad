"""Programs: what a worker does between two reads. One round of its work is a generator that reads like the paper."""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from asyncsim.needs import Need
from asyncsim.registry import PAPERS, Registry, Spec
from asyncsim.simulation.sending import hand_over

if TYPE_CHECKING:
    from asyncsim.engine.kernels import Kernel
    from asyncsim.messages import Snapshot
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker

programs: Registry[Program] = Registry("program", home=PAPERS)


@cache
def _gradient() -> Kernel:
    """The plain gradient. Its module needs torch, which plans do without; to import it at every push takes time."""
    from asyncsim.engine.kernels import gradient

    return gradient


class Program(Spec):
    """One round of a worker: read, compute, push.

    An interrupt (a crash or a recall) may end a round at any point; the worker then begins the next round when it can.
    """

    needs: ClassVar[Need] = Need.NOTHING
    computes_at_once: ClassVar[bool] = True
    """Is all that a round of a whole model computes one span of time, of as many draws as it has ``batches``?"""

    @property
    def num_micro_batches(self) -> int:
        """The number of equal parts of a batch that are pushed one by one."""
        return 1

    @property
    def batches(self) -> int:
        """The number of batches, and so of compute times, in a round."""
        return 1

    def period(self, compute: float) -> float:
        """The expected seconds of a round in the long run, if it computes for ``compute`` seconds; without messages."""
        return compute

    def fits(self, stages: int) -> None:
        """Raise ``ValueError`` if it cannot compute a model in so many stages."""

    @property
    def takes_items(self) -> bool:
        """Can it learn from a stream: one item a round, when that has arrived?"""
        return False

    def keep(self, stage: int) -> int:
        """The number of versions of its parameters that the shard of ``stage`` has to keep."""
        return 1

    def kernel(self, snapshot: Snapshot) -> Kernel:
        """The kernel that is computed on the snapshot."""
        return _gradient()

    def round(self, sim: Verbs, worker: Worker) -> Generator[Any, Any, None]:
        if sim.items is not None:
            yield from sim.items.take(worker)
        snapshot = yield from self.begin(sim, worker)
        work = sim.submit(worker, snapshot, self.kernel)
        yield from sim.compute(worker, worker.seconds(self.batches))
        if sim.launches(worker):
            yield from hand_over(sim, worker, snapshot, work)
        else:
            yield from sim.upload(worker)
            yield from sim.push(worker, snapshot, work)

    def begin(self, sim: Verbs, worker: Worker) -> Generator[Any, Any, Snapshot]:
        """The snapshot on which the worker computes in this round."""
        return sim.read(worker)

    def abandon(self, sim: Verbs, worker: Worker) -> None:
        """Give up the work of a round that has been interrupted."""
        sim.give_up(worker)


class Overlapping(Program):
    """With ``overlap``, a push travels while the worker reads anew and computes; the next push waits until it has been applied.
    What the worker reads lacks its own last push, and is so much staler."""

    overlap: bool = False

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return Need.OVERLAPS if self.overlap else Need.NOTHING


@programs.register("replica")
class Replica(Overlapping):
    """One gradient on one batch: the worker of asynchronous (and synchronous) data-parallel SGD."""

    @property
    def takes_items(self) -> bool:
        return True


@programs.register("local_sgd")
class LocalSGD(Overlapping):
    """``steps`` SGD steps on the worker, then the difference is pushed as a pseudo-gradient (local SGD, FedAvg, DiLoCo).

    Each step takes one batch and one compute time. ``lr`` is the worker's learning rate; the scenario's schedule multiplies it
    (as of the read), and the optimiser's learning rate becomes the server's constant one.
    """

    steps: int = Field(default=4, ge=1)
    lr: float = Field(default=0.05, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return super().needs | Need.LOCAL_RATE

    @property
    def batches(self) -> int:
        return self.steps

    def kernel(self, snapshot: Snapshot) -> Kernel:
        from asyncsim.engine.kernels import LocalSteps

        return LocalSteps(self.steps, self.lr * snapshot.lr_factor, self.momentum)
