"""Timelines alone, simulated before or beside the run that computes: what they tell is known without a gradient."""

from __future__ import annotations

from asyncsim.assembling import assemble
from asyncsim.engine.spec import EngineSpec
from asyncsim.needs import Need
from asyncsim.records.fates import Fates
from asyncsim.scenario import Scenario


def used_work(scenario: Scenario, spec: EngineSpec) -> Fates | None:
    """Which work will be used, for engines that compute ahead: read from the whole timeline, which is simulated for that.

    None means all but what is in flight at the end, where simulating it would cost more than it saves; and that nobody can tell,
    where the timeline depends on numbers.
    """
    bundle = scenario.bundle()
    loses = scenario.cluster.losing or bool(bundle.needs & (Need.DROPS | Need.RECALLS))
    if not spec.ahead or not loses or bundle.decided_by_values:
        return None
    timeline = assemble(scenario)
    for _ in timeline.run():
        pass
    timeline.recorder.breathe(last=True)
    return Fates(timeline.recorder.updates.arrays())
