"""The tracker for Weights & Biases, which is offline unless the user says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncsim.trackers.tracker import needed, numbers, run_name

PROJECT = "asyncsim"


class WandB:
    """Writes ``folder/wandb/offline-run-*``; ``wandb sync`` uploads it. ``WANDB_MODE=online`` sends at once instead. Every metric
    is drawn over ``updates``; choose ``virtual_seconds`` as the axis to see virtual time."""

    def __init__(self, folder: str | Path) -> None:
        self._wandb = needed("wandb", "wandb")
        self.folder = Path(folder)
        self._run: Any = None

    def start(self, manifest: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self._wandb.Settings(silent=True, console="off", disable_git=True, save_code=False)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=run_name(manifest), dir=str(self.folder),
            config=dict(manifest["scenario"]), mode=os.environ.get("WANDB_MODE", "offline"), settings=settings,
            reinit="create_new",
        )  # fmt: skip
        for axis in ("updates", "virtual_seconds"):
            self._run.define_metric(axis)
        self._run.define_metric("*", step_metric="updates")

    def log(self, metrics: Mapping[str, float], time_seconds: float, updates: int) -> None:
        self._run.log({**metrics, "updates": updates, "virtual_seconds": time_seconds})

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update({**numbers(summary), "status": summary.get("status")})
        self._run.finish(exit_code=0 if summary.get("status") in ("finished", "diverged") else 1)
