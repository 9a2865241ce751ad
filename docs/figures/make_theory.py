"""Draw the figures of docs/theory.md: ``python docs/figures/make_theory.py``. Runs on the quadratic task, a minute in all."""

from pathlib import Path
from typing import Any

import asyncsim
from asyncsim.plots.kinds import figure, headless, write_figure
from asyncsim.records import Result
from asyncsim.scenario import Document, build_scenario

FOLDER = Path(__file__).parent


def runs(workers: int, lr: float, updates: int, compute: Any, seeds: int = 1, **task: Any) -> list[Result]:
    """Runs of asynchronous SGD in ten dimensions of curvature 1, unless ``task`` says otherwise."""
    scenario = build_scenario(Document({
        "name": "asgd", "dtype": "float64", "task": {"kind": "quadratic"} | task,
        "cluster": {"workers": workers, "compute": compute}, "optimizer": {"kind": "sgd", "lr": lr},
        "run": {"updates": updates}, "evaluate": {"updates": max(1, updates // 60)}, "records": {"events": False},
    }, "figures"))  # fmt: skip
    return [asyncsim.simulate(scenario.evolve({"seed": seed})) for seed in range(seeds)]


def gamma(cv: float) -> dict[str, Any]:
    return {"kind": "gamma", "mean": "1s", "cv": cv}


def convergence() -> None:
    """Four steps around the best, a noisy task."""
    steps = {"lr 0.01": 0.01, "lr 0.05": 0.05, "lr 0.15": 0.15, "lr 0.2": 0.2}
    found = {label: runs(8, lr, 600, gamma(0.1), seeds=3, noise=0.02) for label, lr in steps.items()}
    labels = [label for label, results in found.items() for _ in results]
    results = [result for group in found.values() for result in group]
    drawn = figure("convergence", results, labels, theory=True, metric="test_loss", against="updates", width=4.6)
    write_figure(drawn, FOLDER / "theory_convergence.png")


def staleness() -> None:
    """Three spreads of compute times."""
    spreads = {"CV 0.1": 0.1, "CV 0.3": 0.3, "exponential": 1.0}
    results = [runs(16, 0.001, 8000, gamma(cv))[0] for cv in spreads.values()]
    write_figure(figure("staleness", results, list(spreads), theory=True, width=4.6), FOLDER / "theory_staleness.png")


def final() -> None:
    """Equal virtual time, more and more workers."""
    results = [runs(workers, 0.02, 20 * workers, "1s")[0] for workers in (1, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64, 90)]
    write_figure(figure("final", results, ["asgd"] * len(results), theory=True, metric="test_loss", width=4.6),
                 FOLDER / "theory_final.png")  # fmt: skip


if __name__ == "__main__":
    headless()
    convergence()
    staleness()
    final()
