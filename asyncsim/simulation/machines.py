"""What the machines of a shard's workers are like at this moment, for consistency rules that weigh it."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from asyncsim.cluster import Instance
from asyncsim.consistency import Power
from asyncsim.simulation.foreseeing import Round, expected_round

if TYPE_CHECKING:
    from asyncsim.simulation.view import SimulationView
    from asyncsim.simulation.worker import Worker

FREE = Instance()


class Machines:
    """The machines of ``sim`` as the members of the shard of ``stage`` know them."""

    def __init__(self, sim: SimulationView, stage: int) -> None:
        self._sim = sim
        self._stage = stage
        self._round = cache(partial(_round, sim))

    def power(self, member: int) -> Power:
        worker = self._worker(member)
        app = None if worker.usage is None else worker.usage.at(self._sim.env.now)
        if app is not None:
            return Power(app.alone, app.training, True)
        instance = worker.profile.instance or FREE
        return Power(instance.idle, instance.busy, False)

    def expected_round(self, member: int) -> float:
        worker = self._worker(member)
        usual = self._round(worker.index)
        return usual.download + usual.compute * worker.speed.factor(self._sim.env.now) + usual.upload

    def _worker(self, member: int) -> Worker:
        return self._sim.workers[member * len(self._sim.progress) + self._stage]


def _round(sim: SimulationView, worker: int) -> Round:
    return expected_round(sim.workers[worker].profile, sim.program, sim.costs)
