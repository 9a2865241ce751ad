"""From a scenario to the parts of a run, put together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from asyncsim.engine.spec import EngineSpec
from asyncsim.methods import Bundle
from asyncsim.needs import Need
from asyncsim.policies import Policy, Transform, Uplink, message_bytes
from asyncsim.records import Recorder, RunDirectory
from asyncsim.records.fates import Fates
from asyncsim.records.rows import COSTS
from asyncsim.scenario import Scenario
from asyncsim.simulation.foreseeing import MOST_EVENTS, Foreseen, foresee
from asyncsim.simulation.mixing import Mixed, Row
from asyncsim.simulation.progress import WorkerProgress
from asyncsim.simulation.server import Server
from asyncsim.simulation.shard import Shard
from asyncsim.simulation.simulation import Simulation
from asyncsim.simulation.worker import Costs
from asyncsim.streams import Streams
from asyncsim.tasks.cutting import Cut

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.tasks.task import Task


def assemble(
    scenario: Scenario,
    task: Task | None = None,
    spec: EngineSpec | None = None,
    directory: RunDirectory | None = None,
    fates: Fates | None = None,
) -> Simulation:
    """A simulation that is about to begin; no ``task`` and ``spec``: the timeline alone. ``fates`` tells an engine that computes
    ahead which work will be used; by default all of it."""
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
    if spec is not None:
        engine = spec.build(task, streams, fates, Need.MEANS in bundle.needs)
    return Simulation(
        scenario.cluster, bundle.program, bundle.consistency, Server(shards, task, scenario.run, scenario.evaluate, recorder),
        engine, recorder, streams, costs(scenario, cut, bundle),
    )  # fmt: skip


def foreseen(scenario: Scenario) -> Foreseen:
    """About what will happen in the run, from the means of its delays.

    Raises ``UserError`` where that is more than the scenario allows.
    """
    bundle = scenario.bundle()
    program = bundle.program
    found = foresee(
        scenario.cluster, program, bundle.consistency, bundle.transforms, scenario.run, scenario.evaluate,
        costs(scenario, scenario.cut(), bundle), scenario.task.batch * program.batches // program.parts,
    )  # fmt: skip
    found.refuse(scenario.run.most_events or MOST_EVENTS)
    return found


def _shard(scenario: Scenario, bundle: Bundle, task: Task | None, stage: int) -> Shard | Mixed:
    """The shard of one stage, or of a whole model."""
    program, count, groups = bundle.program, scenario.stages.count, scenario.groups
    layers: tuple[slice, ...] = ()
    params: Tensor | None = None
    statistics: Tensor | None = None
    if task is not None:
        params, layers, statistics = task.init(), task.layout.layers, task.init_statistics()
        if count > 1:
            piece = task.stages[stage]
            params, layers = params[piece.parameters].clone(), piece.layout.layers
            statistics = None if statistics is None else statistics[piece.statistics]
        if task.batch_norm != "running":
            statistics = None
    progress = WorkerProgress(groups, bundle.consistency, Streams(scenario.seed))

    def shard(kind: type[Shard]) -> Shard:
        policy = Policy(bundle.transforms, bundle.step, params, groups, bundle.downlink)
        one = kind(
            policy, params, layers, scenario.schedule, scenario.run, progress,
            scenario.task.batch * program.batches // program.parts,
            uplink=Uplink(bundle.uplink, params, groups) if bundle.uplink else None,
            notes=bundle.notes, scheduled=Need.LOCAL_RATE not in program.needs,
            keep=program.keep(stage), stage=stage, num_stages=count,
        )  # fmt: skip
        one.statistics = statistics
        return one

    return shard(Shard) if bundle.gossip is None else Mixed([shard(Row) for _ in range(groups)], bundle.gossip)


def costs(scenario: Scenario, cut: Cut, bundle: Bundle) -> Costs:
    """What travels, and how long each stage takes."""
    numbers = _travelling(scenario, cut, bundle)
    reads = _sizes(scenario, numbers, bundle.downlink, None)
    pushes = _sizes(scenario, numbers, bundle.uplink, scenario.push)
    if scenario.stages.count == 1:
        return Costs(message_bytes=reads, push_bytes=pushes, forward=scenario.stages.forward)
    width = 8 if scenario.dtype == "float64" else 4
    samples = scenario.task.batch
    boundaries = tuple(float(outputs * width * samples // bundle.program.parts) for outputs in cut.boundaries)
    return Costs(cut.shares, scenario.stages.forward, reads, pushes, boundaries, scenario.stages.link)


def _travelling(scenario: Scenario, cut: Cut, bundle: Bundle) -> tuple[int, ...]:
    """Parameters of each stage, or of the whole model; any number where nothing depends on it, as counting them takes time."""
    counted = _sized(scenario) and (bundle.uplink or bundle.downlink)
    return cut.parameters or (scenario.task.num_parameters() if counted else 1,)


def _sizes(
    scenario: Scenario, numbers: tuple[int, ...], transforms: tuple[Transform, ...], given: float | None
) -> tuple[float | None, ...]:
    """Bytes of a message of each stage: its share of those ``given`` by hand, or what the ``transforms`` make of its parameters;
    0 where sizes cost nothing. None: there are no messages, as a stage's parameters lie on its one worker."""
    if scenario.stages.count > 1 and scenario.groups == 1:
        return (None,) * len(numbers)
    if not _sized(scenario):
        return (0.0,) * len(numbers)
    whole = scenario.message_bytes if given is None else given
    dense = [whole * part / sum(numbers) for part in numbers]
    return tuple(dense) if given is not None else tuple(map(partial(message_bytes, transforms), dense, numbers))


def _sized(scenario: Scenario) -> bool:
    """Does the size of a message matter: to a price, a network, or the bandwidth of some link?"""
    cluster = scenario.cluster
    owners = [cluster, *cluster.groups, *cluster.overrides.values()]
    links = [link for owner in owners for link in (owner.uplink, owner.downlink) if link is not None]
    return cluster.priced or cluster.network is not None or any(link.bandwidth is not None for link in links)
