"""Pipelines that die: three stages, two groups, crashes and links, resumed to the same end."""

from __future__ import annotations

import pytest
from dying import made

CLUSTER = {
    "compute": {"kind": "exponential", "mean": "1s"},
    "faults": {"up": {"kind": "exponential", "mean": "12s"}, "down": "2s"},
    "uplink": {"latency": "200ms"},
    "server": {"service": "50ms"},
}
MLP = {"kind": "digits", "model": {"kind": "mlp", "hidden": [8, 6]}, "batch": 12}
DROPOUT = {"kind": "pydoc_lm", "batch": 4,
           "model": {"kind": "transformer", "context": 8, "layers": 1, "dim": 8, "heads": 2, "dropout": 0.2}}  # fmt: skip
RUNNING = {"kind": "mnist5k", "batch": 4, "model": "resnet8", "batch_norm": "running"}

FAMILIES = {
    "fdg": {"method": "fdg"},
    "current": {"method": {"kind": "fdg", "backward_weights": "current"}},
    "replayed": {"method": {"kind": "pipedream", "backward_weights": "replayed"}},
    "adl": {"method": {"kind": "adl", "accumulate": 3}},
    "ddg": {"method": "ddg"},
    "features replay": {"method": "features_replay"},
    "pipedream": {"method": "pipedream"},
    "vertical sync": {"method": {"kind": "pipedream", "vertical_sync": True}},
    "2bw": {"method": "pipedream_2bw"},
    "gpipe": {"method": "gpipe"},
    "interleaved": {"method": {"kind": "gpipe", "interleaved": True}},
    "bp": {"method": "bp"},
    "nesterov": {"method": "nesterov_pipeline"},
    "gossip": {"method": "decoupled_data_parallel"},
    "asynchronous": {"method": {"kind": "fdg", "sharing": "asynchronous"}},
    "dropped": {"method": {"kind": "fdg", "sharing": "asynchronous", "before": [{"kind": "drop_stale", "bound": 5}]}},
    "gap-aware shards": {"method": {"kind": "gap_aware", "program": {"kind": "stage", "order": "1f1b"}}},
    "pipemare": {"method": "pipemare"},
    "spectrain": {"method": "spectrain", "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9}},
    "basis rotation": {"method": {"kind": "basis_rotation", "refresh": 3}, "optimizer": "basis_rotation"},
    "pipeoptim": {"method": "pipeoptim", "optimizer": {"kind": "adam", "lr": 0.01}},
    "pipelined backprop": {
        "method": {"kind": "pipelined_backprop", "predict": "weights"}, "optimizer": {"kind": "sgd", "lr": 0.02, "momentum": 0.9}
    },
    "ftpipe": {"method": {"kind": "ftpipe", "predict": "msnag"}, "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9}},
    "ftpipe, accumulated": {
        "method": {"kind": "ftpipe", "gap_aware": "none", "predict": "aggmsnag", "step_every": 3, "recompute": True},
        "optimizer": {"kind": "adam", "lr": 0.01, "weight_decay": 0.1, "decoupled": True}},
    "ftpipe, no stash": {
        "method": {"kind": "ftpipe", "gap_aware": "none", "stash": False, "recompute": True, "predict": "msnag"}},
    "ferret": {"method": {"kind": "ferret", "accumulate": [1, 2, 1], "omit": [2, 0, 0], "recompute": [True, False, False]},
               "task": MLP | {"partition": "one_order"}, "stream": {"period": "600ms"}, "run": {"time": "60s"}},
    "dropout": {"method": "fdg", "task": DROPOUT},
    "running batch norm": {"method": "pipedream", "task": RUNNING, "run": {"updates": 6}, "checkpoint": {"updates": 1}},
}


PARTS = (90, 131, 172)  # micro-batches are pushed one by one
FEW = (20, 33, 47)
PUSHES = {
    "2bw": PARTS, "gpipe": PARTS, "interleaved": PARTS, "ftpipe, accumulated": PARTS,
    "asynchronous": FEW, "gap-aware shards": FEW, "dropped": FEW,
    "running batch norm": (25, 30),
}
"""Where the run is cut, in pushes of all workers: with a checkpoint before, and in the middle of everything."""


@pytest.mark.parametrize("name", FAMILIES)
def test_as_if_nothing_had_been(resumes, name):
    sections = {"task": MLP, "run": {"updates": 16}, "checkpoint": {"updates": 2}} | FAMILIES[name]
    case = made(6, CLUSTER, stages={"count": 3, "split": "layers"}, **sections)
    resumes(case, *PUSHES.get(name, (40, 67, 81)))


@pytest.mark.slow
def test_twenty_kills_of_stages_that_leave_passes_out(resumes):
    """What a stage has forwarded without a backward pass is needed until those above have used it, and may be lost after that."""
    case = made(6, CLUSTER, stages={"count": 3, "split": "layers"}, checkpoint={"updates": 1}, **FAMILIES["ferret"])
    resumes(case, *range(20, 80, 3))
