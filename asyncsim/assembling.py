"""Put the parts of a run together, as the scenario describes them."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from asyncsim.engine.spec import EngineSpec
from asyncsim.methods import Bundle
from asyncsim.needs import Need
from asyncsim.policies import Message, Policy, Shapes, Transform, Uplink, by_layer, message_bytes
from asyncsim.records import Recorder, RunDirectory
from asyncsim.records.fates import Fates
from asyncsim.records.rows import COSTS
from asyncsim.scenario import Scenario
from asyncsim.simulation.foreseeing import MOST_EVENTS, Foreseen, foresee
from asyncsim.simulation.hierarchy import Hierarchy
from asyncsim.simulation.peers import Own, Peers
from asyncsim.simulation.progress import WorkerProgress
from asyncsim.simulation.rows import Mixed, Row
from asyncsim.simulation.server import Server
from asyncsim.simulation.shard import Shard
from asyncsim.simulation.shards import AnyShard
from asyncsim.simulation.simulation import Simulation
from asyncsim.simulation.worker import Costs
from asyncsim.streams import Streams
from asyncsim.tasks.cutting import Cut

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.tasks.task import Task

K = TypeVar("K", bound=Shard)


def assemble(
    scenario: Scenario,
    task: Task | None = None,
    spec: EngineSpec | None = None,
    directory: RunDirectory | None = None,
    fates: Fates | None = None,
) -> Simulation:
    """A simulation that is about to begin. Without ``task`` and ``spec`` it simulates the timeline alone. ``fates`` tells an
    engine that computes ahead which work will be used; by default all of it."""
    bundle, cut = scenario.bundle(), scenario.cut()
    streams = Streams(scenario.seed)
    recorder = Recorder(
        tuple(name for name in scenario.columns if task is not None or name in COSTS), directory,
        updates=scenario.records.updates, events=scenario.records.events,
        notes=bundle.notes,
    )  # fmt: skip
    if task is not None and (scenario.stages.count > 1 or Need.PASSES in bundle.needs):
        task.split(cut.layers)
    shards = [_shard(scenario, bundle, task, stage) for stage in range(scenario.stages.count)]
    engine = None
    if task is not None and spec is not None:
        engine = spec.build(task, streams, fates, Need.MEANS in bundle.needs)
    return Simulation(
        scenario.cluster, bundle.program, bundle.consistency, Server(shards, task, scenario.run, scenario.evaluate, recorder),
        engine, recorder, streams, costs(scenario, cut, bundle), bundle.exchange, scenario.stream, bundle.hierarchy,
    )  # fmt: skip


def foreseen(scenario: Scenario) -> Foreseen:
    """About what will happen in the run, from the means of its delays.

    Raises ``UserError`` where that is more than the scenario allows.
    """
    bundle = scenario.bundle()
    program = bundle.program
    found = foresee(
        scenario.cluster, program, bundle.consistency, bundle.transforms, scenario.run, scenario.evaluate,
        costs(scenario, scenario.cut(), bundle), scenario.task.batch * program.batches // program.num_micro_batches,
        scenario.stream,
    )  # fmt: skip
    found.refuse(scenario.run.most_events or MOST_EVENTS)
    return found


def _shard(scenario: Scenario, bundle: Bundle, task: Task | None, stage: int) -> AnyShard:
    """The shard of one stage, or of a whole model."""
    program, count, groups = bundle.program, scenario.stages.count, scenario.groups
    layers: tuple[slice, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    params: Tensor | None = None
    statistics: Tensor | None = None
    if task is not None:
        params, layout, statistics = task.init(), task.layout, task.init_statistics()
        if count > 1:
            piece = task.stages[stage]
            params, layout = params[piece.parameters].clone(), piece.layout
            statistics = None if statistics is None else statistics[piece.statistics]
        layers, shapes = layout.layers, layout.shapes
        if task.batch_norm != "running":
            statistics = None
    messages = None if scenario.push is not None or _alone(scenario) else untreated(scenario, scenario.cut(), bundle)
    message = None if messages is None else messages[stage]
    progress = WorkerProgress(groups, bundle.consistency, Streams(scenario.seed), bundle.exchange)

    def shard(kind: type[K]) -> K:
        policy = Policy(bundle.transforms, bundle.step, params, groups, bundle.downlink)
        one = kind(
            policy, params, layers, scenario.schedule, scenario.run, progress,
            scenario.task.batch * program.batches // program.num_micro_batches,
            uplink=Uplink(bundle.uplink, params, groups, message) if bundle.uplink else None,
            notes=bundle.notes, shard_sizes=() if task is None else task.shard_sizes,
            scheduled=Need.LOCAL_RATE not in program.needs,
            keep=program.keep(stage), stage=stage, num_stages=count,
        )  # fmt: skip
        one.statistics = statistics
        one.tables = () if task is None or count > 1 else task.layout.tables
        one.average = None if task is None else task.average_statistics
        one.shapes = shapes
        one.samples_per_batch = scenario.task.batch
        one.streams = Streams(scenario.seed)  # for what transforms draw
        one.stream = scenario.stream
        return one

    exchange, hierarchy = bundle.exchange, bundle.hierarchy
    if hierarchy is not None:
        places = hierarchy.places(groups)
        regions = places[-1] + 1
        policy = Policy((), hierarchy.step, params, regions)
        length, schedule = scenario.run, scenario.schedule
        center = Shard(policy, params, layers, schedule, length, WorkerProgress(regions), 0, scheduled=False)
        return Hierarchy([shard(Own) for _ in range(regions)], center, hierarchy, places)
    if exchange is None:
        return shard(Shard)
    if exchange.in_rounds is None:
        return Peers([shard(Own) for _ in range(groups)], exchange)
    return Mixed([shard(Row) for _ in range(groups)], exchange, exchange.in_rounds)


def untreated(scenario: Scenario, cut: Cut, bundle: Bundle) -> list[Message] | None:
    """The size of a message of each stage before any transform; None where sizes have no effect."""
    cluster = scenario.cluster
    sized = any(_sized(profile) for profile in _link_owners(scenario))
    sized = sized or (bundle.hierarchy is not None and any(link.bandwidth for link in bundle.hierarchy.links))
    if not (cluster.priced or cluster.network is not None or sized):
        return None
    counted = bundle.uplink or bundle.downlink or bundle.exchange is not None
    numbers = cut.parameters or (scenario.task.num_parameters() if counted else 1,)
    shapes: list[Shapes] = [((part,),) for part in numbers]
    if by_layer(bundle.uplink + bundle.downlink):
        shapes = _apart(scenario.task.layer_shapes(), numbers)
    parts = [scenario.message_bytes * part / sum(numbers) for part in numbers]
    if bundle.exchange is not None:
        parts = [bundle.exchange.nbytes(nbytes, count) for nbytes, count in zip(parts, numbers, strict=True)]
    return [Message(nbytes, its) for nbytes, its in zip(parts, shapes, strict=True)]


def _apart(shapes: Shapes, numbers: tuple[int, ...]) -> list[Shapes]:
    """The shapes of the parameter tensors of each stage, which has so many numbers."""
    left, stages = list(shapes), []
    for count in numbers:
        stage: list[tuple[int, ...]] = []
        while sum(map(math.prod, stage)) < count:
            stage.append(left.pop(0))
        stages.append(tuple(stage))
    return stages


def costs(scenario: Scenario, cut: Cut, bundle: Bundle) -> Costs:
    """What travels, and how long each stage takes."""
    width = 8 if scenario.dtype == "float64" else 4
    messages = untreated(scenario, cut, bundle)
    stages = len(cut.parameters) or 1

    def sizes(transforms: tuple[Transform, ...], given: float | None) -> tuple[float | None, ...]:
        """Bytes of a message of each stage: its share of those given by hand, or what the transforms make of its parameters."""
        if _alone(scenario) or messages is None:
            return (None if _alone(scenario) else 0.0,) * stages
        if given is not None:
            parts = [message.numbers for message in messages]
            return tuple(given * part / sum(parts) for part in parts)
        return tuple(message_bytes(transforms, message) for message in messages)

    if bundle.exchange is not None and Need.PEERS in bundle.needs:  # rows lie on the workers
        message = Message(0.0, ((1,),)) if messages is None else messages[0]
        nbytes = message.nbytes
        if messages is not None and scenario.push is not None:
            nbytes = bundle.exchange.nbytes(scenario.push, message.numbers)
        return Costs(message_bytes=(None,), push_bytes=(None,), exchange_bytes=nbytes)
    reads, pushes = sizes(bundle.downlink, None), sizes(bundle.uplink, scenario.push)
    if scenario.stages.count == 1:
        relayed = 0.0 if bundle.hierarchy is None or messages is None else messages[0].nbytes
        whole = Costs(message_bytes=reads, push_bytes=pushes, forward=scenario.stages.forward, relay_bytes=relayed)
        if Need.SUB_MODELS in bundle.needs:
            whole = whole._replace(part=partial(bundle.cost, shapes=scenario.task.layer_shapes()))
        return whole
    micro_batches = bundle.program.num_micro_batches
    boundaries = tuple(float(outputs * width * scenario.task.batch // micro_batches) for outputs in cut.boundaries)
    return Costs(cut.shares, scenario.stages.forward, reads, pushes, boundaries, scenario.stages.link)


def _alone(scenario: Scenario) -> bool:
    """Do the parameters of a stage lie on its only worker?"""
    return scenario.stages.count > 1 and scenario.groups == 1


def _sized(profile: Any) -> bool:
    return any(link is not None and link.bandwidth is not None for link in (profile.uplink, profile.downlink))


def _link_owners(scenario: Scenario) -> list[Any]:
    """Everything in the cluster section that may define a link."""
    cluster = scenario.cluster
    return [cluster, *cluster.groups, *cluster.overrides.values()]
