"""Every registry by its one name: what a scenario may name, and where plugins of one's own are added::

    from asyncsim import Transform, registries

    @registries.policies.register("halve_when_late")
    class HalveWhenLate(Transform):
        def update(self, push, state, server):
            if push.staleness > 4:
                push.penalise(2.0)
            return push

``registries.policies.names()`` lists what there is, ``registries.policies["clip"]`` is a class, and ``registries.policies.parse``
makes an object of what a scenario would say. The rooms that define the registries are modules of similar names
(`asyncsim.policies`); import base classes and parts from there, registries from here.
"""

from __future__ import annotations

from typing import Any

from asyncsim.cluster.delays import delays
from asyncsim.cluster.network import networks
from asyncsim.cluster.outage_sources import outages
from asyncsim.cluster.prices import instances
from asyncsim.consistency import consistencies
from asyncsim.engine.spec import engines
from asyncsim.exchange import exchanges
from asyncsim.gossip import gossips
from asyncsim.methods.method import methods
from asyncsim.policies.schedule import schedules
from asyncsim.policies.step_rule import optimizers
from asyncsim.policies.transform import policies
from asyncsim.registry import Registry
from asyncsim.simulation.orders import orders
from asyncsim.simulation.programs import programs
from asyncsim.tasks.partition import partitions
from asyncsim.tasks.spec import models, tasks

__all__ = [
    "consistencies",
    "delays",
    "engines",
    "exchanges",
    "gossips",
    "instances",
    "methods",
    "models",
    "networks",
    "optimizers",
    "orders",
    "outages",
    "partitions",
    "policies",
    "programs",
    "schedules",
    "tasks",
]

ALL: dict[str, Registry[Any]] = {
    "methods": methods, "policies": policies, "optimizers": optimizers, "schedules": schedules, "consistencies": consistencies,
    "programs": programs, "orders": orders, "exchanges": exchanges, "gossips": gossips,
    "delays": delays, "networks": networks, "outages": outages, "instances": instances,
    "tasks": tasks, "models": models, "partitions": partitions, "engines": engines,
}  # fmt: skip
"""By name, in the order in which `asyncsim list` shows them."""
