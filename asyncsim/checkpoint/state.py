"""Save a run between two events as plain data, and bring a fresh simulation to that point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncsim.checkpoint.packing import Packer, Unpacker
from asyncsim.errors import UserError
from asyncsim.policies import PolicyState, State
from asyncsim.simulation.replay import OtherTimeline, StandIn, replay

if TYPE_CHECKING:
    import numpy as np

    from asyncsim.checkpoint.loading import Checkpoint
    from asyncsim.simulation.simulation import Simulation


def capture(sim: Simulation) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Everything that replaying the timeline does not give: server, policy, work in flight, and rows that wait for a loss.

    Returns plain data for JSON, and arrays. Raises ``Unsaveable``, naming the transform and the key, if a state holds
    something that cannot be saved.
    """
    packer = Packer()
    server, engine = sim.server.state(), sim.engine
    assert engine is not None, "timelines alone are not saved"
    shards = [_pack_shard(packer, shard) for shard in server.pop("shards")]
    held = [[*key, packer.pack(list(value), "the work in flight")] for key, value in sim.held.items()]
    state = {
        "server": packer.pack(server, "the server"),
        "shards": shards,
        "held": held,
        "left": [
            [worker.index, packer.pack(worker.left, f"what worker {worker.index} carries on")]
            for worker in sim.workers
            if worker.left is not None and (worker.left.pending or worker.left._carry is not None)
        ],
        "signals": [[*key, packer.pack(value, "an error signal")] for key, value in sim.signals.items()],
        "late": [[*key, packer.pack(value, "the parameters of a backward pass")] for key, value in sim.late.items()],
        "rows": [[*map(_number, row[:-1]), packer.pack(_loss(row[-1]), "a row")] for row in sim.recorder.updates.rows],
        "engine": [engine.computed, engine.cancelled],
        "point": point(sim),
        "finished": sim.server.finished,
    }
    state["snapshots"] = [[*key, packer.pack(value, "the work in flight")] for key, value in list(packer.snapshots.items())]
    return state | {"futures": packer.futures, "devices": packer.devices}, packer.arrays


def _pack_shard(packer: Packer, shard: dict[str, Any]) -> Any:
    """The state of a shard. If a part of the policy's state cannot be saved, the error names the transform."""
    if "rows" in shard:
        rest = {key: value for key, value in shard.items() if key != "rows"}
        return {"rest": packer.pack(rest, "the server"), "rows": [_pack_shard(packer, row) for row in shard["rows"]]}
    policy, (transforms, downlink, rule) = shard.pop("policy"), shard.pop("kinds")
    return {
        "rest": packer.pack(shard, "the server"),
        "transforms": [_pack_state(packer, *each) for each in zip(transforms, policy.transforms, strict=True)],
        "downlink": [_pack_state(packer, *each) for each in zip(downlink, policy.downlink, strict=True)],
        "step": packer.pack(policy.step, f"the optimizer `{rule}`"),
    }


def _pack_state(packer: Packer, kind: str, state: State) -> Any:
    return packer.pack(state, f"the transform `{kind}`")


def _unpack_shard(unpacker: Unpacker, value: Any) -> dict[str, Any]:
    rest = unpacker.unpack(value["rest"])
    if "rows" in value:
        return rest | {"rows": [_unpack_shard(unpacker, row) for row in value["rows"]]}
    return rest | {"policy": PolicyState(*(unpacker.unpack(value[part]) for part in ("transforms", "downlink", "step")))}


def point(sim: Simulation) -> dict[str, Any]:
    """Counts that tell where the timeline stands; a replay must arrive at the same ones."""
    reading = [each.reading(member) for each in sim.progress for member in each.in_flight()]
    up = sim.over and not sim.server.finished  # the run ended because its time was up
    return {
        "steps": sim.steps, "time": None if up else sim.env.now, "version": sim.server.version, "pushes": sim.server.pushes,
        "recalled": sim.lives.recalled, "crashes": sim.lives.crashes, "reading": reading,
        "waiting": list(sim.admission.waiting), "held": [list(key) for key in sim.held],
    }  # fmt: skip


def restore(sim: Simulation, checkpoint: Checkpoint, extended: bool = False) -> None:
    """Bring a fresh simulation to the point of a checkpoint by a replay. ``extended`` says that the run has become longer
    since.

    Raises ``UserError`` if the replayed timeline is not the recorded one, or not the beginning of that of the longer run.
    """
    state, recorder = checkpoint.state, sim.recorder
    for name, rows in checkpoint.rows.items():
        if len(rows["time_ns"]):
            getattr(recorder, name).add(rows)
    engine = sim.engine
    assert engine is not None, "timelines alone are not saved"
    unpacker = Unpacker(checkpoint.arrays, state["devices"], state["futures"], engine)
    held = {(worker, step): unpacker.unpack(value[0]) for worker, step, value in state["held"]}
    held |= {(worker, step): unpacker.unpack(value) for worker, step, value in state["snapshots"]}
    server = unpacker.unpack(state["server"])
    late = {(worker, batch): unpacker.unpack(value) for worker, batch, value in state["late"]}
    stand_in = StandIn(sim, server, held, late, unpacker.submit, finished=state["finished"] and not extended)
    try:
        replay(sim, stand_in, state["point"]["steps"])
        server["shards"] = [_unpack_shard(unpacker, each) for each in state["shards"]]
        sim.server.restore(server)
        sim.signals.update({(worker, batch): unpacker.unpack(value) for worker, batch, value in state["signals"]})
        _agree(checkpoint, sim)
        for worker in sim.workers:
            worker.left = None
        for index, value in state["left"]:
            sim.workers[index].left = unpacker.unpack(value)
    except (OtherTimeline, ValueError) as error:
        raise UserError(
            f"{checkpoint.path}: the timeline that this version simulates is not the recorded one ({error}); run it again"
        ) from None
    if extended and sim.server.pushes > sum(shard.pushes for shard in sim.server.shards):
        raise UserError(
            f"{checkpoint.path}: stages that had made all updates of the shorter run ignored what arrived after that, which a "
            "longer run would have used; run the longer one from the start"
        )
    recorder.updates.rows.extend((*row[:-1], unpacker.unpack(row[-1])) for row in state["rows"])
    engine.computed, engine.cancelled = state["engine"]
    if extended and sim.server.finished:
        target = sim.server.length.target
        sim.server.finished = sim.server.reached is not None and target is not None and target.stop
    sim.over = sim.server.finished


def _agree(checkpoint: Checkpoint, sim: Simulation) -> None:
    recorder, point_then, point_now = sim.recorder, checkpoint.state["point"], point(sim)
    for name, value in point_then.items():
        if value is not None and point_now[name] != value:  # no time: the run ended when it was up, between two events
            raise OtherTimeline(f"{name} is {str(point_now[name])[:80]}, it was {str(value)[:80]}")
    recorder.flush(everything=True, to_disk=False)
    if recorder.events.digest() != checkpoint.tables["digests"]["events"]:
        raise OtherTimeline("other events")


def _number(value: Any) -> Any:
    """The number in a row's cell, which may be kept in a tensor."""
    return value if type(value) in (int, float) else float(value)


def _loss(value: Any) -> Any:
    """The loss in a row's cell: a number if it is known, otherwise the future that will give it."""
    return value if getattr(value, "pending", False) else float(value)
