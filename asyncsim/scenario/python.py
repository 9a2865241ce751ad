"""Scenarios from Python: a task of one's own objects, and sections as keyword arguments::

    import asyncsim
    import torch
    from torch import nn

    X, y = torch.randn(500, 8), torch.arange(500) % 3
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    task = asyncsim.experiment(model, train=(X[:400], y[:400]), test=(X[400:], y[400:]))
    scenario = asyncsim.make_scenario(task=task, cluster={"workers": 8}, method="gap_aware", run={"updates": 200})
    print(asyncsim.simulate(scenario).summary["test_accuracy"])

The scenario is an ordinary one, and everything takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from asyncsim.errors import UserError
from asyncsim.registry import Spec
from asyncsim.scenario.document import Document
from asyncsim.scenario.problems import validated
from asyncsim.scenario.schema import Scenario, build_scenario
from asyncsim.tasks.experiment import Experiment, remember
from asyncsim.tasks.spec import MOST_BATCH

if TYPE_CHECKING:
    from torch import nn

Section = Spec | Mapping[str, Any] | str
"""A section of a scenario: settings, a mapping as in a file, or the name of a kind."""


def make_scenario(
    *,
    task: Section,
    run: Spec | Mapping[str, Any],
    cluster: Spec | Mapping[str, Any] | None = None,
    method: Section = "asgd",
    optimizer: Section = "sgd",
    schedule: Section = "constant",
    stages: Spec | Mapping[str, Any] | int = 1,
    evaluate: Spec | Mapping[str, Any] | None = None,
    seed: int = 0,
    **others: Any,
) -> Scenario:
    """A scenario from its sections, each as a file would have it (``others``: ``name``, ``engine``, ``device``, ``dtype``, ...).

    A section may be a name, a mapping, or an instance of its class (``asyncsim.methods.gap_aware.GapAwareMethod(decay=0.9)``).
    Raises ``UserError`` with one line for each problem.
    """
    sections = {
        "task": task, "run": run, "cluster": cluster, "method": method, "optimizer": optimizer, "schedule": schedule,
        "stages": stages, "evaluate": evaluate, "seed": seed, **others,
    }  # fmt: skip
    return build_scenario(Document({name: value for name, value in sections.items() if value is not None}, "make_scenario"))


def experiment(
    model: nn.Module | Callable[[], nn.Module],
    *,
    train: Any,
    test: Any,
    loss: Callable[[Any, Any], Any] | None = None,
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    batch: int | None = None,
    validation: float = 0.0,
    partition: Section = "shuffled",
    batch_norm: Literal["recalibrate", "running"] = "recalibrate",
) -> Experiment:
    """A task made of a model, data and functions; `asyncsim.scenario` and all else takes it as any task.

    ``model`` is copied, and its values are the initial parameters for every seed; a function (or a class) that returns a module
    is called with PyTorch's generator seeded by the run's seed. Parameters that require no gradients stay as they are, and
    ``nn.Dropout`` draws its masks by seed, worker and step.

    ``train`` and ``test`` are inputs ``(n, ...)`` and targets ``(n, ...)`` as tensors, arrays or frames, a map-style data set of
    pairs, or a ``DataLoader`` over one. ``batch`` is the number of samples in one gradient, by default the loader's, else 32.
    ``validation`` is the share of the training samples that is held out.

    ``loss(outputs, targets)`` is a mean over samples, 0-d; without it, it is the cross-entropy of scores ``(B, C)`` and classes
    ``(B,)``, and accuracy is measured too. ``metrics`` are more means over samples, by name; more of one is better where its name
    ends in ``accuracy``, ``auc`` or ``precision``.

    Raises ``UserError`` for what cannot be used, and says what to do.
    """
    from asyncsim.tasks.given import given

    if batch is None:
        batch = getattr(train, "batch_size", None) or 32
    if not isinstance(batch, int) or not 1 <= batch <= MOST_BATCH:
        raise UserError(f"batch: must be a whole number from 1 to {MOST_BATCH:,}, not {batch!r}")
    made = given(model, train, test, loss, metrics or {})
    remember(made)
    settings = {"key": made.key, "batch": batch, "validation": validation, "partition": partition, "batch_norm": batch_norm}
    return validated(Experiment, settings, Document(settings, "experiment"))
