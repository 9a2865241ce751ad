"""Fingerprints of every shipped scenario, cut short, as they are written in ``golden.json``."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from asyncsim.scenario import Scenario, load_study

SCENARIOS = sorted(path for path in (Path(__file__).parents[2] / "scenarios").iterdir() if path.suffix in (".yaml", ".toml"))
FILE = Path(__file__).with_name("golden.json")
SHORT = {"run": {"updates": 60}}
SHORTER = {
    "mnist5k_resnet8": {"run": {"updates": 8}, "evaluate": {"updates": 8, "splits": ["test"]}},
    "decoupled_resnet8": {"run": {"updates": 3}},
    "digits_sub_models": {"run": {"updates": 8}},
    "decoupled_depth": {"run": {"updates": 8}},
    "mnist5k_ferret": {"run": {"time": "3s"}},
    "mnist5k_phones": {"run": {"updates": 8, "time": "10min"}},
    "claims_decoupled": {"run": {"updates": 3}},
    "claims_gap_aware": {"run": {"updates": 8}},
    "claims_momentum": {"run": {"updates": 8}},
    "claims_softsync": {"run": {"updates": 8}},
    "clicks_gba": {"run": {"updates": 8}},
    "digits_halos": {"run": {"time": 30}},
}
"""A convolutional network takes its time, and so do many runs."""
ENDS = ("claims_gap_aware", "claims_momentum")
"""Of these sweeps the first and the last point: those between differ in one number."""


def runs(path: Path) -> Iterator[tuple[str, Scenario]]:
    """(key in the file, shortened scenario) of every run that a scenario file describes, the first seed of each."""
    study = load_study(path)
    first = study.scenarios[0].seed
    ends = (study.points[0], study.points[-1])
    for label, scenario, point in zip(study.labels, study.scenarios, study.points, strict=True):
        if scenario.seed == first and (path.stem not in ENDS or point in ends):
            key = path.stem if label == study.name else f"{path.stem}/{label}"
            yield key, scenario.evolve(SHORTER.get(path.stem, SHORT))


def environment() -> str:
    """What decides the bits of a trajectory: build of PyTorch, model of the CPU, and what its kernels may use of it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"torch {torch.__version__}; {model or platform.machine()}; {torch.backends.cpu.get_cpu_capability()}"


def read() -> dict[str, Any]:
    return json.loads(FILE.read_text())
