"""The engines that a scenario may choose. This module is free of torch; the engine itself is imported when it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.registry import Registry, Spec

if TYPE_CHECKING:
    from asyncsim.engine.engine import Engine, Useful
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task

engines: Registry[EngineSpec] = Registry("engine", default="auto")

BATCHED_BELOW = 2e7
"""Floating-point operations of a gradient below which stacking several of them pays on a CPU."""
THREADED_ABOVE = 5e7
"""Floating-point operations of a gradient (some milliseconds) above which a pool of threads pays on a CPU."""
WIDTH = 8


def width_for(num_workers: int) -> int:
    """A width of calls that the pending work of a fleet fills, also where the workers differ in speed."""
    return WIDTH if num_workers >= 2 * WIDTH else WIDTH // 2 if num_workers >= WIDTH // 2 else 1


class EngineSpec(Spec):
    """The way in which gradients are evaluated. It is part of a run's identity: engines of different numeric families differ in
    the last bits."""

    ahead: ClassVar[bool] = False
    """Does the engine compute gradients before they are asked for? Then it wants to know which of them will be."""

    def resolve(self, task: Task, num_workers: int) -> EngineSpec:
        """The engine to use for this task. It follows from a static rule, never from load or timing."""
        return self

    def build(self, task: Task, streams: Streams, useful: Useful | None, averaged: bool) -> Engine:
        raise NotImplementedError


@engines.register("serial")
class Serial(EngineSpec):
    """Computes one gradient at a time, when it is needed. This is the reference."""

    def build(self, task: Task, streams: Streams, useful: Useful | None, averaged: bool) -> Engine:
        from asyncsim.engine.serial import SerialEngine

        return SerialEngine(task, streams, useful, averaged)


@engines.register("batched")
class Batched(EngineSpec):
    """Computes pending gradients together, ``width`` in each call; for small models. Fully connected classifiers have a closed
    form."""

    ahead: ClassVar[bool] = True
    width: int = Field(default=WIDTH, ge=1, le=1024)

    def build(self, task: Task, streams: Streams, useful: Useful | None, averaged: bool) -> Engine:
        from asyncsim.engine.batched import BatchedEngine

        return BatchedEngine(task, streams, useful, averaged, self.width)


@engines.register("threaded")
class Threaded(EngineSpec):
    """Computes gradients on a pool of ``cores`` threads, for gradients that take more than a millisecond. The bits are the
    serial engine's."""

    ahead: ClassVar[bool] = True
    cores: int = Field(default=2, ge=1, le=1024)

    def build(self, task: Task, streams: Streams, useful: Useful | None, averaged: bool) -> Engine:
        from asyncsim.engine.threaded import ThreadedEngine

        return ThreadedEngine(task, streams, useful, averaged, self.cores)


@engines.register("graphed")
class Graphed(EngineSpec):
    """Computes one gradient at a time; on CUDA as a graph that is recorded once and replayed. It has not been measured on a GPU
    yet."""

    def build(self, task: Task, streams: Streams, useful: Useful | None, averaged: bool) -> Engine:
        from asyncsim.engine.graphed import GraphedEngine

        return GraphedEngine(task, streams, useful, averaged)


@engines.register("auto")
class Auto(EngineSpec):
    """A static rule from task, device, fleet and the ``cores`` asked for; what it chose stands in the manifest.

    On a CPU: gradients above ``THREADED_ABOVE`` operations run on a pool, if more than one core is asked for; fully connected
    classifiers in closed form, stacked if they have fewer than ``BATCHED_BELOW`` operations and there are workers enough; the
    rest serially. On other devices: serially.
    """

    cores: int = Field(default=1, ge=1, le=1024)

    def resolve(self, task: Task, num_workers: int) -> EngineSpec:
        from asyncsim.engine.dense import DenseNetwork

        if task.parameters[0].device.type != "cpu":
            return Serial()
        network = DenseNetwork.of(task)
        operations = operations_of(task, network)
        if self.cores > 1 and operations > THREADED_ABOVE:
            return Threaded(cores=self.cores)
        if network is not None:
            return Batched(width=width_for(num_workers) if operations < BATCHED_BELOW else 1)
        return Serial()


def operations_of(task: Task, network: object | None) -> float:
    """Floating-point operations of one gradient: counted for dense networks, else by a forward pass on one sample times three."""
    from asyncsim.engine.dense import DenseNetwork

    if isinstance(network, DenseNetwork):
        return float(network.operations * task.batch_size)
    from torch.utils.flop_counter import FlopCounterMode

    inputs, _ = task.batch(0, 0)
    task.bind(task.init())
    with FlopCounterMode(display=False) as counter:
        task.module(inputs)
    return 3.0 * counter.get_total_flops()
