"""What is never written to, and what is never computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import asyncsim
from asyncsim.engine.serial import SerialEngine
from asyncsim.tasks.task import Task

METHODS = [
    {"kind": "asgd"}, {"kind": "gap_aware"}, {"kind": "gap_aware", "per": "layer"}, {"kind": "dana"}, {"kind": "dana_gap_aware"},
    {"kind": "dana", "compensate": 1.0}, {"kind": "dc_asgd"}, {"kind": "softsync", "n": 2}, {"kind": "bsp"},
    {"kind": "local_sgd", "local_momentum": 0.5}, {"kind": "fedbuff"}, {"kind": "fedasync"}, {"kind": "rennala"},
    {"kind": "asgd", "before": [{"kind": "clip", "max_norm": 0.5}]}, {"kind": "dana_slim"}, {"kind": "smega2"}, {"kind": "ormo"},
    {"kind": "delayed_nesterov"}, {"kind": "momentum_look_ahead"}, {"kind": "heloco"}, {"kind": "fadas"},
    {"kind": "momentum_approximation"}, {"kind": "momentum_approximation", "form": "full", "clip": 0.1, "noise": 0.1},
    {"kind": "abs"}, {"kind": "adasync"}, {"kind": "gba", "threshold": 0}, {"kind": "ringleader"},
    {"kind": "mindflayer", "trials": 2, "limit": "900ms"}, {"kind": "fluid"},
    {"kind": "iter_fisher", "eta_lam": 1e-3},
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_nobody_writes_to_a_snapshot(make, monkeypatch, method):
    """Workers of one version share one tensor, and the module's parameters are views of it: after a run every snapshot ever
    handed out equals the copy taken when it was, and so do the training and test sets."""
    handed: list[tuple[torch.Tensor, torch.Tensor]] = []
    submit = SerialEngine.submit

    def watched(self: SerialEngine, kernel: Any, params: torch.Tensor, *rest: Any) -> Any:
        handed.append((params, params.clone()))
        return submit(self, kernel, params, *rest)

    monkeypatch.setattr(SerialEngine, "submit", watched)
    scenario = make(method=method, run={"updates": 40}, evaluate={"updates": 5})
    data = scenario.task.build(scenario.seed, "cpu", "float32", 6).splits
    copies = {name: [tensor.clone() for tensor in part] for name, part in data.items()}
    assert asyncsim.simulate(scenario).summary["status"] == "finished"
    assert len(handed) > 40
    assert all(torch.equal(params, copy) for params, copy in handed)
    for name, part in data.items():
        assert all(torch.equal(tensor, copy) for tensor, copy in zip(part, copies[name], strict=True))


FAULTS = {"faults": {"up": {"kind": "exponential", "mean": "5s"}, "down": "1s"}}
WASTEFUL = {
    "asgd": ({"kind": "asgd"}, {}),
    "asgd_faults": ({"kind": "asgd"}, FAULTS),
    "ringmaster": ({"kind": "ringmaster", "threshold": 4}, {}),
    "ringmaster_stops": ({"kind": "ringmaster", "threshold": 4, "stops": True}, {}),
    "ringmaster_faults": ({"kind": "ringmaster", "threshold": 4, "stops": True}, FAULTS),
    "k_sync_cancel": ({"kind": "k_sync", "k": 3}, {}),
    "k_sync_patient": ({"kind": "k_sync", "k": 3, "cancel": False}, {}),
    "backup_workers": ({"kind": "backup_workers", "backups": 2}, {}),
    "rennala": ({"kind": "rennala", "batch": 4}, {}),
    "gap_aware_drop": ({"kind": "gap_aware", "before": [{"kind": "drop_stale", "bound": 4}]}, {}),
    "softsync": ({"kind": "softsync", "n": 3}, {}),
    "fedbuff": ({"kind": "fedbuff", "buffer": 4, "local_steps": 1}, {}),
}
AMPLE = {"ringmaster", "k_sync_cancel", "k_sync_patient", "backup_workers", "rennala", "gap_aware_drop"}


@pytest.mark.parametrize("name", WASTEFUL)
def test_work_that_nobody_needs_is_never_computed(make, monkeypatch, name):
    """Exact accounting: the batches that were looked at are those of the pushes that became part of an update, each once. What
    was dropped, recalled, lost in a crash, is still in flight at the end, or waits in a buffer that never filled, costs
    nothing; its recorded loss is NaN. ``gradients_computed`` says the same number."""
    looked: list[tuple[int, int]] = []
    batch = Task.batch
    monkeypatch.setattr(Task, "batch", lambda self, worker, step: (looked.append((worker, step)), batch(self, worker, step))[1])
    method, cluster = WASTEFUL[name]
    result = asyncsim.simulate(make(method=method, cluster=cluster, run={"updates": 60}))
    assert looked.pop(0) == (0, 0)  # of the gradient before the run that shows whether the task draws without a seed
    updates, summary = result.updates, result.summary
    last = updates.index[updates["outcome"] == "applied"][-1]
    counted = updates[(updates["outcome"] != "dropped") & (updates.index <= last)]
    assert sorted(looked) == sorted(zip(counted["worker"], counted["step"], strict=True))
    assert summary["gradients_computed"] == len(looked)
    assert updates["loss"].notna().sum() == len(looked)
    assert updates.loc[counted.index, "loss"].notna().all()
    wasted = summary["dropped"] + summary["recalled"]
    if name in AMPLE:
        assert wasted > 5
    if not cluster:
        assert summary["gradients_cancelled"] == wasted
    else:
        assert summary["crashes"] > 3


def test_how_many_gradients_an_update_takes(make):
    """K-sync: k an update; Rennala: its batch; Ringmaster and ASGD: one; local SGD counts rounds: one for each of the six."""
    wanted = {
        "k_sync": ({"kind": "k_sync", "k": 3}, 3), "rennala": ({"kind": "rennala", "batch": 4}, 4),
        "ringmaster": ({"kind": "ringmaster", "threshold": 4}, 1), "asgd": ({"kind": "asgd"}, 1),
        "local_sgd": ({"kind": "local_sgd", "local_steps": 2}, 6),
    }  # fmt: skip
    for method, each in wanted.values():
        summary = asyncsim.simulate(make(method=method, run={"updates": 30})).summary
        assert summary["updates"] == 30
        assert summary["gradients_computed"] == 30 * each


def test_a_plan_computes_nothing(make, monkeypatch):
    """The timeline alone asks for no task: building one is an error here."""
    scenario = make()
    monkeypatch.setattr(type(scenario.task), "build", lambda *_: pytest.fail("a plan built the task"))
    assert asyncsim.plan(scenario).summary["updates"] == 120
