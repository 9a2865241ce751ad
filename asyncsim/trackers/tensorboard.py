"""The tracker that writes TensorBoard event files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncsim.trackers.tracker import needed, numbers, run_name


class TensorBoard:
    """Writes to the folder ``folder/<run>/``. Steps are updates; wall times in the files are virtual, so the axis "Relative"
    shows virtual time."""

    def __init__(self, folder: str | Path) -> None:
        needed("tensorboard", "tensorboard")
        self.folder = Path(folder)
        self._writer: Any = None

    def start(self, manifest: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder / run_name(manifest)))
        scenario = json.dumps(manifest["scenario"], indent=2)
        self._writer.add_text("scenario", "\n".join(f"    {line}" for line in scenario.splitlines()), 0, walltime=0.0)

    def log(self, metrics: Mapping[str, float], time_seconds: float, updates: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, updates, walltime=time_seconds)
        self._writer.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        text = "\n".join(f"| {name} | {value:g} |" for name, value in numbers(summary).items())
        self._writer.add_text(
            "summary", f"| {summary.get('status')} | |\n|---|---|\n{text}", 0, walltime=summary.get("time") or 0.0
        )
        self._writer.close()
