"""Timelines alone, simulated before or beside the run that computes: what they tell is known without a gradient."""

from __future__ import annotations

from asyncsim.assembling import assemble
from asyncsim.engine.spec import EngineSpec
from asyncsim.errors import UserError
from asyncsim.needs import Need
from asyncsim.records.fates import Fates
from asyncsim.scenario import Scenario


def used_work(scenario: Scenario, spec: EngineSpec) -> Fates | None:
    """The work whose results will be used, for engines that compute gradients before they are asked for.

    It is found by simulating the timeline once before the run, without numbers. The result is None, which means that all
    work is taken to be useful, in four cases: the engine does not compute ahead; the scenario loses no work but what is in
    flight at the end, so that the extra simulation would cost more than it saves; the timeline depends on numbers, so
    that it cannot be known; or it has no end by itself, and a run may still reach its target before it gets stuck.
    """
    bundle = scenario.bundle()
    loses = scenario.cluster.losing or bool(bundle.needs & (Need.DROPS | Need.RECALLS))
    if not spec.ahead or not loses or bundle.decided_by_values:
        return None
    timeline = assemble(scenario)
    try:
        for _ in timeline.run():
            pass
    except UserError:
        return None
    timeline.recorder.flush(last=True)
    return Fates(timeline.recorder.updates.arrays())
