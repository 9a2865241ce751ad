"""The tracker for MLflow, by default in a local database."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from asyncsim.records.locks import held
from asyncsim.trackers.tracker import flat, needed, numbers, run_name

EXPERIMENT = "asyncsim"
PATIENCE = 300.0
"""Seconds for which a run waits while another one creates the database."""
STATUS = {"finished": "FINISHED", "diverged": "FAILED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflow:
    """``where`` is a folder (its ``mlflow.db`` takes the runs) or a tracking URI. A point's step is its update, its time stamp is
    virtual, so MLflow's axis "Time (Relative)" shows virtual time; ``virtual_seconds`` is a metric besides."""

    def __init__(self, where: str | Path) -> None:
        needed("mlflow", "mlflow")
        self.folder = None if ":" in str(where) and not Path(where).is_absolute() else Path(where).resolve()
        self.uri = str(where) if self.folder is None else f"sqlite:///{self.folder / 'mlflow.db'}"
        self._client: Any = None
        self._run = ""

    def start(self, manifest: Mapping[str, Any]) -> None:
        from mlflow.entities import Param, RunTag
        from mlflow.tracking import MlflowClient

        with self._alone():
            self._client = MlflowClient(tracking_uri=self.uri)
            experiment = self._client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                place = None if self.folder is None else (self.folder / "artifacts").as_uri()
                number = self._client.create_experiment(EXPERIMENT, artifact_location=place)
            else:
                number = experiment.experiment_id
        run = self._client.create_run(number, start_time=0, run_name=run_name(manifest))
        self._run = run.info.run_id
        settings = [Param(name, str(value)[:500]) for name, value in flat(manifest["scenario"]).items()]
        tags = [RunTag("asyncsim.hash", manifest["hash"]), RunTag("asyncsim.device", manifest["device"])]
        self._client.log_batch(self._run, params=settings[:100], tags=tags)
        for first in range(100, len(settings), 100):
            self._client.log_batch(self._run, params=settings[first : first + 100])

    def _alone(self) -> AbstractContextManager[None]:
        """The first run makes the database's tables, and runs of other processes wait: MLflow breaks a database that two make at
        once. A server takes care of itself."""
        if self.folder is None:
            return nullcontext()
        return held(self.folder / ".lock", f"{self.folder}: another process does not end making a database", PATIENCE)

    def log(self, metrics: Mapping[str, float], time_seconds: float, updates: int) -> None:
        self._write({**metrics, "virtual_seconds": time_seconds}, time_seconds, updates)

    def finish(self, summary: Mapping[str, Any]) -> None:
        seconds = summary.get("time") or 0.0
        ends = {f"summary.{name}": value for name, value in numbers(summary).items()}
        self._write(ends, seconds, int(summary.get("updates") or 0))
        self._client.set_terminated(self._run, STATUS.get(str(summary.get("status")), "FAILED"), end_time=round(seconds * 1000))

    def _write(self, metrics: Mapping[str, float], time_seconds: float, updates: int) -> None:
        from mlflow.entities import Metric

        stamp = round(time_seconds * 1000)
        self._client.log_batch(self._run, metrics=[Metric(name, value, stamp, updates) for name, value in metrics.items()])
