"""asyncsim: deterministic discrete-event simulation of asynchronous distributed training, with real gradients.

An example, run from a checkout of the project::

    import asyncsim

    scenario = asyncsim.load_scenario("scenarios/digits_quickstart.yaml")
    result = asyncsim.simulate(scenario.evolve({"cluster.workers": 16}, method="gap_aware"))
    print(result.summary["test_accuracy"], result.fingerprints)
"""

import os
from importlib import import_module
from typing import Any

# Before the first use of MKL: results must not depend on the memory alignment of what is multiplied.
os.environ.setdefault("MKL_CBWR", "AUTO")

__version__ = "0.1.0"

_HOMES = {
    "experiment": "asyncsim.scenario.python", "allow_code": "asyncsim.tasks", "make_scenario": "asyncsim.scenario.python",
    "Result": "asyncsim.records", "load_result": "asyncsim.records",
    "Scenario": "asyncsim.scenario", "Study": "asyncsim.scenario",
    "load_scenario": "asyncsim.scenario", "load_study": "asyncsim.scenario",
    "simulate": "asyncsim.run", "plan": "asyncsim.run", "resume": "asyncsim.resuming",
    "simulate_study": "asyncsim.sweep", "run_sweep": "asyncsim.sweep.python",
    "simulate_many": "asyncsim.sweep",
    "calibrate": "asyncsim.calibration",
    "UserError": "asyncsim.errors",
    "registries": "asyncsim.registries",
    "Delay": "asyncsim.cluster", "Consistency": "asyncsim.consistency", "Gossip": "asyncsim.gossip", "Need": "asyncsim.needs",
    "Exchange": "asyncsim.exchange",
    "Transform": "asyncsim.policies", "StepRule": "asyncsim.policies", "Schedule": "asyncsim.policies",
    "Method": "asyncsim.methods", "Bundle": "asyncsim.methods", "Program": "asyncsim.simulation.programs",
    "TaskSpec": "asyncsim.tasks", "ModelSpec": "asyncsim.tasks", "Partition": "asyncsim.tasks",
}  # fmt: skip

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that torch is imported only where gradients are computed."""
    if name not in _HOMES:
        raise AttributeError(f"module 'asyncsim' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return home if home.__name__ == f"{__name__}.{name}" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
