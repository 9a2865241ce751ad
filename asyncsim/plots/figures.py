"""The figures that a run or a study writes by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asyncsim.plots.convergence import convergence
from asyncsim.plots.gantt import gantt
from asyncsim.plots.staleness import staleness_histogram
from asyncsim.plots.style import RC
from asyncsim.records import Result


def write_figures(results: Sequence[Result], labels: Sequence[str], folder: Path) -> list[Path]:
    """Convergence against virtual time and updates, staleness, and a Gantt chart of one run a label; PNG files in ``folder``."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []

    def save(name: str) -> None:
        written.append(folder / f"{name}.png")
        plt.savefig(written[-1])
        plt.close()

    with plt.rc_context(RC):
        metric = _headline(results[0])
        if metric is not None:
            _, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.4), layout="constrained", sharey=True)
            convergence(results, metric, "time", labels, left).set_xscale("log")
            convergence(results, metric, "updates", labels, right).set_ylabel("")
            right.get_legend().remove()
            save("convergence")
        if all(result.tables.get("updates") is not None for result in results):
            plt.subplots(figsize=(5.4, 3.2), layout="constrained")
            staleness_histogram(results, labels, plt.gca())
            save("staleness")
        first: dict[str, Result] = {}
        for label, result in zip(labels, results, strict=True):
            if result.tables.get("events") is not None:
                first.setdefault(label, result)
        distinct = _distinct(first)
        if distinct:
            _, lanes = plt.subplots(
                1, len(distinct), figsize=(4.2 * len(distinct) + 0.6, 3.6), layout="constrained", squeeze=False
            )  # fmt: skip
            for ax, (label, run) in zip(lanes[0], distinct.items(), strict=True):
                gantt(run, ax=ax).set_title(label)
            save("gantt")
    return written


def _headline(result: Result) -> str | None:
    """The metric to draw: the test error where there is an accuracy, else the last metric of the task."""
    columns = [name for name in result.metrics if "_" in name and name != "time_ns"]
    accuracies = [name for name in columns if name.endswith("_accuracy")]
    if accuracies:
        return accuracies[0].removesuffix("_accuracy") + "_error"
    return columns[-1] if columns else None


def _distinct(runs: dict[str, Result], most: int = 3) -> dict[str, Result]:
    """One run for each different timeline with more than one worker (any, if there is none), labels joined."""
    shared: dict[str, list[str]] = {}
    several = {label: run for label, run in runs.items() if run.summary["workers"] > 1} or runs
    for label, run in several.items():
        shared.setdefault(run.fingerprints["timeline"], []).append(label)
    return {", ".join(labels): runs[labels[0]] for labels in list(shared.values())[:most]}
