"""A run in one flat dictionary."""

from __future__ import annotations

from typing import Any

from asyncsim.records.stage_tables import stage_summary
from asyncsim.records.summary import rounded, staleness_summary, time_shares, unknown_to_a_plan
from asyncsim.scenario import Scenario
from asyncsim.simulation.metering import spending
from asyncsim.simulation.simulation import Simulation
from asyncsim.units import NANOSECONDS


def summarise(scenario: Scenario, sim: Simulation, manifest: dict[str, Any], wall_seconds: float) -> dict[str, Any]:
    """The run in one flat dictionary; times are virtual seconds, except ``wall_seconds``."""
    server, recorder = sim.server, sim.recorder
    values = _counts(scenario, sim) | _happened(sim)
    target = scenario.run.target
    if target is not None and sim.engine is not None:
        values["time_to_target"] = None if server.reached is None else server.reached / NANOSECONDS
    if sim.meter is not None:
        bill, metrics = sim.meter.bill(sim.env.now), recorder.metrics.arrays()
        values |= spending(bill, server, metrics, "time_to_target" in values, sim.meter.in_use)
    values |= server.last_metrics
    if sim.engine is None:
        values["unknown"] = unknown_to_a_plan(scenario.metrics, target is not None, priced=sim.meter is not None)
        values["stops_early"] = target is not None and target.stop
    if recorder.updates.keep:
        values |= staleness_summary(recorder.updates.arrays(), numeric=sim.engine is not None)
    if recorder.events.keep:
        values |= time_shares(recorder.events.arrays(), server.num_workers, sim.env.now)
    events, updates = (table.arrays() if table.keep else None for table in (recorder.events, recorder.updates))
    values |= stage_summary(events, updates, manifest, server.num_workers, values["time"])
    for transform in scenario.bundle().transforms:
        values |= transform.totals(server.updates)
    values |= sim.consistency.totals(sim.progress[0])
    return rounded(values | {"wall_seconds": wall_seconds})


def _counts(scenario: Scenario, sim: Simulation) -> dict[str, Any]:
    """What every run counts."""
    server, seconds = sim.server, sim.env.now / NANOSECONDS
    reading = [each.version - each.reading(member) for each in sim.progress for member in each.in_flight()]
    return {
        "name": scenario.name, "method": scenario.method.kind, "seed": scenario.seed, "workers": server.num_workers,
        "status": "diverged" if server.diverged else "finished",
        "updates": server.updates, "pushes": server.pushes, "samples": server.samples, "time": seconds,
        "pushes_per_second": server.pushes / seconds if seconds else None,
        "updates_per_second": server.updates / seconds if seconds else None,
        "samples_per_second": server.samples / seconds if seconds else None,
        "dropped": server.dropped, "recalled": sim.lives.recalled, "crashes": sim.lives.crashes,
        "in_flight": len(reading), "in_flight_staleness": sum(reading),
    }  # fmt: skip


def _happened(sim: Simulation) -> dict[str, Any]:
    """What only some runs count: those with a server that crashes, a network that loses, an engine, or an end in divergence."""
    server = sim.server
    values: dict[str, Any] = {}
    if sim.arrivals.restarts is not None:
        values |= {"server_restarts": sim.arrivals.restarts.count, "lost_updates": sim.arrivals.restarts.lost_updates,
                   "lost_pushes": server.whole.lost_pushes}  # fmt: skip
    if sim.pipes is not None and sim.pipes.spec.loss is not None:
        values["resent"] = sim.pipes.resent
    if sim.pipes is not None and sim.pipes.spec.duplicate:
        values["duplicates"] = sim.pipes.duplicates
    if sim.items is not None:
        values |= sim.items.summary()
    if server.diverged:
        values |= {"diverged_at_update": server.diverged[0], "diverged_at_time": server.diverged[1] / NANOSECONDS}
    if sim.engine is not None:
        values |= {"gradients_computed": sim.engine.computed, "gradients_cancelled": sim.engine.cancelled}
    return values
