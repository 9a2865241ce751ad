"""Partitions: which worker learns from which samples.

One of your own is one class::

    import numpy as np
    from asyncsim.registries import partitions
    from asyncsim.tasks.partition import Partition
    from asyncsim.tasks.sampling import Walk

    @partitions.register("striped")
    class Striped(Partition):
        def sampler(self, size, labels, batch, num_workers, streams):
            return Walk(size, batch, streams, [np.arange(size)[worker::num_workers] for worker in range(num_workers)])
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from pydantic import Field

from asyncsim.errors import UserError
from asyncsim.registry import Registry, Spec
from asyncsim.streams import Streams
from asyncsim.tasks.sampling import Independent, OneOrder, Sampler, Walk

ATTEMPTS = 100
"""The number of Dirichlet splits that are drawn before giving up on one in which every worker has a batch."""


class Partition(Spec):
    """A rule that gives each worker its batches."""

    common: ClassVar[bool] = False
    """Is a batch a function of the step alone, the same for all workers, as the items of a stream are?"""

    @abstractmethod
    def sampler(self, size: int, labels: np.ndarray | None, batch: int, num_workers: int, streams: Streams) -> Sampler:
        """A sampler over ``size`` training samples. ``labels`` has shape ``(size,)``, or is None where the task has none."""


partitions: Registry[Partition] = Registry("partition")


def _enough(size: int, batch: int, num_workers: int) -> None:
    """Raise UserError if there is no split in which every worker has a batch."""
    if 1 <= size // batch < num_workers:
        raise UserError(
            f"cluster.workers: {num_workers} workers cannot each have a batch of {batch} of {size} training samples; lower the "
            f"number of workers to {size // batch} or less"
            + (f", or `task.batch` to {size // num_workers} or less" if size >= num_workers else "")
            + ", or take the partition `shuffled` or `uniform`, where workers share all samples"
        )


@partitions.register("shuffled")
class Shuffled(Partition):
    """Every worker walks the whole training set in its own order. A worker's batches do not depend on who else is there."""

    def sampler(self, size: int, labels: np.ndarray | None, batch: int, num_workers: int, streams: Streams) -> Sampler:
        return Walk(size, batch, streams)


@partitions.register("uniform")
class Uniform(Partition):
    """Every sample is drawn independently, with replacement. A worker's batches do not depend on who else is there."""

    def sampler(self, size: int, labels: np.ndarray | None, batch: int, num_workers: int, streams: Streams) -> Sampler:
        return Independent(size, batch, streams)


@partitions.register("iid_shards")
class IidShards(Partition):
    """The training set is split once, at random, into shards of equal size (up to one sample); a worker walks its own.

    UserError where a worker would be left without one batch.
    """

    def sampler(self, size: int, labels: np.ndarray | None, batch: int, num_workers: int, streams: Streams) -> Sampler:
        _enough(size, batch, num_workers)
        return Walk(size, batch, streams, np.array_split(streams("shards").permutation(size), num_workers))


@partitions.register("dirichlet")
class Dirichlet(Partition):
    """Each class is split among the workers in proportions drawn from Dirichlet(alpha, ..., alpha) (Hsu et al. 2019,
    https://arxiv.org/abs/1909.06335, per class as in Li et al. 2022, https://arxiv.org/abs/2102.02079).

    A small ``alpha`` gives workers few classes each, a large one equal shares. The split is drawn again, up to 100 times,
    until every worker has at least one batch; UserError where that never happens, or where the task has no labels.
    """

    alpha: float = Field(default=0.5, gt=0)

    def sampler(self, size: int, labels: np.ndarray | None, batch: int, num_workers: int, streams: Streams) -> Sampler:
        if labels is None:
            raise UserError("task.partition: `dirichlet` needs class labels, which this task has not; use `iid_shards`")
        _enough(size, batch, num_workers)
        smallest = 0
        for attempt in range(ATTEMPTS):
            shards = self._split(labels, num_workers, streams("shards", attempt))
            smallest = max(smallest, min(map(len, shards)))
            if min(map(len, shards)) >= batch:
                return Walk(size, batch, streams, shards)
        raise UserError(
            f"task.partition.alpha: with {self.alpha:g}, {num_workers} workers and {size} samples some worker is left without "
            f"one batch of {batch} (the best of {ATTEMPTS} splits left it {smallest} samples); raise `alpha`, or lower `batch` "
            "or the number of workers"
        )

    def _split(self, labels: np.ndarray, num_workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        shares: list[list[np.ndarray]] = [[] for _ in range(num_workers)]
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            proportions = rng.dirichlet(np.full(num_workers, self.alpha))
            cuts = np.round(np.cumsum(proportions)[:-1] * len(members)).astype(np.int64)
            for share, part in zip(shares, np.split(members, cuts), strict=True):
                share.append(part)
        return [np.concatenate(share) for share in shares]


@partitions.register("one_order")
class InOneOrder(Partition):
    """All workers see one sequence of batches: the training set in random order, and in a new one each time round. For a
    stream, whose items come one after the other and belong to nobody."""

    common: ClassVar[bool] = True

    def sampler(self, size: int, labels: np.ndarray | None, batch: int, num_workers: int, streams: Streams) -> Sampler:
        return OneOrder(size, batch, streams)


@partitions.register("class_incremental")
class ClassIncremental(Partition):
    """One sequence of batches for all workers, a task after the other: the classes, in their order, are divided into ``tasks`` of
    equal number (up to one), and the samples of a task come in random order before the next begins. After the last task the
    first comes again. UserError where the task has fewer classes, or no labels."""

    common: ClassVar[bool] = True
    tasks: int = Field(default=5, ge=1)

    def sampler(self, size: int, labels: np.ndarray | None, batch: int, num_workers: int, streams: Streams) -> Sampler:
        if labels is None:
            raise UserError("task.partition: `class_incremental` needs class labels, which this task has not; use `one_order`")
        classes = np.unique(labels)
        if len(classes) < self.tasks:
            raise UserError(f"task.partition.tasks: {self.tasks} tasks need as many classes; this task has {len(classes)}")
        firsts = [group[0] for group in np.array_split(classes, self.tasks)]
        return OneOrder(size, batch, streams, np.searchsorted(firsts, labels, side="right"))
