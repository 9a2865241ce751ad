"""MSPipe: train on a temporal graph while the memory of its nodes is read and written in the background, a few batches late::

    a batch:   1 sample   2 fetch features   3 fetch memory   4 train   5 write memory         t1 to t5
    one batch at a time in each;  2 and 3 share the copy engine:  2 of batch i begins after 3 of batch i - 1
    3 of batch i begins when 5 of batch i - k has ended:  the memory that it reads lacks at most k - 1 writes

G. Sheng, J. Su, C. Huang, C. Wu 2024, *MSPipe: efficient temporal GNN training via staleness-aware pipeline* (KDD 2024, arXiv
2402.15113). The constraints are from a transcription of the paper and from its code (github.com/PeterSH6/MSPipe), whose pool of
three threads never gets further than two; the paper's text was not at hand.

Order: memory is read when 3 begins, and a write counts as done when 5 has ended, also at that instant; parameters are read when 4
begins, so they are never stale. With ``postpone`` 3 begins as late as it can without making 4 wait, with times that are known
ahead. What a batch writes follows from what it read: writes of the same node that it lacked are lost.
With ``blend``, of the nodes of a batch those that were remembered longest ago (above ``quantile``) get a share of the mean memory
of their ``similar`` nodes that were remembered later::

    s <- (1 - blend) * s + blend * mean(s of these)                     nothing if there is none

What is similar (the share of common partners), and that it is done before mail is read, is a reconstruction.
Differs: an epoch begins with an empty memory, which no write of the epoch before reaches, so the pipeline is never drained. A
worker that goes down loses memory and pipeline; several have a memory each. On a task that remembers nothing it is SGD.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Gradient, Push, ServerView
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import State, StepRule, Transform
from asyncsim.policies.transform import policies
from asyncsim.simulation.programs import Program, programs
from asyncsim.simulation.stations import Stations, StationTimes

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Snapshot
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker
    from asyncsim.streams import Streams
    from asyncsim.tasks.remembering import LinkTask


class Settings(StationTimes):
    """Of the program, and of the method that holds one."""

    blend: float = Field(default=0.0, ge=0, le=1)
    quantile: float = Field(default=0.99, ge=0, le=1)
    similar: int = Field(default=10, ge=1)


@dataclass(frozen=True)
class Remembering:
    """A kernel that carries a task's memory: the rows of all nodes, shape ``(N, W)``, and the writes that were under way. All but
    the last ``missing`` of those are done before it reads."""

    missing: int
    blend: float
    quantile: float
    similar: int
    carries: ClassVar[bool] = True

    def __call__(self, task: Any, streams: Streams, params: Tensor, worker: int, step: int, carry: Any) -> Gradient:
        if not task.remembers:
            from asyncsim.engine.kernels import gradient

            return gradient(task, streams, params, worker, step)
        rows, late = (task.unwritten(), []) if carry is None or step % task.stream.epoch == 0 else carry
        due = max(0, len(late) - self.missing)
        rows = rows.clone() if due else rows
        for nodes, written in late[:due]:
            rows[nodes] = written
        batch, targets = task.batch(worker, step)
        own = self.blended(task, rows, batch) if self.blend else rows[batch.nodes]
        result, write = task.learn(params, batch._replace(rows=own), targets)
        return result._replace(carry=(rows, [*late[due:], write]))

    def blended(self, task: LinkTask, rows: Tensor, batch: Any) -> Tensor:
        """The rows of the nodes of a batch, shape ``(U, W)``; the memory of those that have waited longest is mixed."""
        width = task.module.width
        own, since = rows[batch.nodes], rows[:, width]
        local = batch.ends[:2].unique()
        waited = batch.time[-1] - own[local, width]
        local = local[waited > waited.quantile(self.quantile)]
        like = task.similar(self.similar)[batch.nodes[local]]
        later = (like >= 0) & (since[like] > own[local, width].unsqueeze(1))
        local, like, later = (each[later.any(1)] for each in (local, like, later))
        mean = (rows[like, :width] * later.unsqueeze(2)).sum(1) / later.sum(1, keepdim=True)
        own[local, :width] = (1 - self.blend) * own[local, :width] + self.blend * mean
        return own


@programs.register("memory_pipeline")
class MemoryPipeline(Settings, Program):
    """One gradient on one batch, which is sampled and fetched, with what the task remembers of it, while others are trained; what
    it leaves to be remembered is written while others are, too (MSPipe, Sheng et al. 2024)."""

    needs: ClassVar[Need] = Need.MEMORY | Need.WORKER_STATE

    def kernel(self, snapshot: Snapshot) -> Any:
        return Remembering(snapshot.missing, self.blend, self.quantile, self.similar)

    def round(self, sim: Verbs, worker: Worker) -> Generator[Any, Any, None]:
        now = sim.env.now
        worker.stations = worker.stations or Stations.of(self, sim.streams, worker.index, now)
        fetched, missing = worker.stations.fetch(worker.step, now)
        if fetched > now:
            yield from sim.wait(worker, sim.env.timeout(fetched - now))
        snapshot = (yield from self.begin(sim, worker))._replace(missing=missing)
        work = sim.submit(worker, snapshot, self.kernel)
        yield from sim.compute(worker, worker.seconds(1))
        worker.stations.write(worker.step, sim.env.now)
        yield from sim.upload(worker)
        yield from sim.push(worker, snapshot, work)


@policies.register("missing_writes")
class MissingWrites(Transform):
    """Note how many writes of memory a push had to do without."""

    notes: ClassVar[tuple[str, ...]] = ("missing_writes",)

    def update(self, push: Push, state: State, server: ServerView) -> Push:
        push.note("missing_writes", float(push.snapshot.missing))
        return push


@methods.register("mspipe")
class MSPipe(Settings, Method):
    """MSPipe, Sheng et al. 2024: a temporal graph's memory is read and written in the background, ``k`` batches late at most, so
    that training need not wait for it."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((MissingWrites(),), optimizer, ASP(), self.part(MemoryPipeline))
