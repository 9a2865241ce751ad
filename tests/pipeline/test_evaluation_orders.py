"""The result of a future is a function of what it was made from, never of when it is evaluated: other orders, the same bits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import asyncsim
from asyncsim.engine.forward_backward import Backward, Forward
from asyncsim.engine.serial import SerialEngine
from asyncsim.messages import Future
from asyncsim.methods.pipelines import PipelineMethod
from asyncsim.registries import methods, models
from asyncsim.scenario import Document, Scenario, build_scenario
from asyncsim.simulation.stage_program import Stage
from asyncsim.streams import Streams
from asyncsim.tasks import ModelSpec, Signature, Task

MOMENTUM = {"optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9}}
GROUPS = {"cluster": {"workers": 6, "compute": {"kind": "exponential", "mean": "1s"}}}
TEXT = {"kind": "pydoc_lm", "batch": 4,
        "model": {"kind": "transformer", "context": 8, "layers": 1, "dim": 8, "heads": 2, "dropout": 0.2}}  # fmt: skip
NORMED = {"task": {"kind": "mnist5k", "batch": 4, "model": "resnet8", "batch_norm": "running"}, "run": {"updates": 5}}

CASES: dict[str, dict[str, Any]] = {
    "bp": {"method": "bp"},
    "gpipe": {"method": "gpipe"},
    "fdg": {"method": "fdg"},
    "fdg, current, shrunk": {"method": {"kind": "fdg", "backward_weights": "current", "beta": 0.5}},
    "adl": {"method": {"kind": "adl", "accumulate": 3}},
    "ddg": {"method": "ddg"},
    "features_replay": {"method": "features_replay"},
    "features_replay, dropout": {"method": "features_replay", "task": TEXT},
    "features_replay, batch norm": {"method": "features_replay", **NORMED},
    "pipedream": {"method": "pipedream"},
    "pipedream, replayed": {"method": {"kind": "pipedream", "backward_weights": "replayed"}},
    "pipedream, vertical sync": {"method": {"kind": "pipedream", "vertical_sync": True}},
    "pipedream_2bw": {"method": "pipedream_2bw"},
    "pipemare": {"method": "pipemare"},
    "pipemare, warmed up": {"method": {"kind": "pipemare", "warmup": 5}},
    "spectrain": {"method": "spectrain", **MOMENTUM},
    "basis_rotation": {"method": {"kind": "basis_rotation", "refresh": 3}, "optimizer": "basis_rotation"},
    "pipeoptim": {"method": "pipeoptim", "optimizer": {"kind": "adam", "lr": 0.01}},
    "pipelined_backprop": {"method": {"kind": "pipelined_backprop", "predict": "weights"}, **MOMENTUM},
    "ftpipe": {"method": {"kind": "ftpipe", "predict": "msnag"}, **MOMENTUM},
    "ftpipe, accumulated": {
        "method": {"kind": "ftpipe", "gap_aware": "none", "predict": "aggmsnag", "step_every": 3, "recompute": True}, **MOMENTUM},
    "nesterov_pipeline": {"method": "nesterov_pipeline", **MOMENTUM},
    "decoupled_data_parallel": {"method": "decoupled_data_parallel", **GROUPS},
    "asynchronous groups, replayed": {"method": {"kind": "features_replay", "sharing": "asynchronous"}, **GROUPS},
    "asynchronous groups, drops": {
        "method": {"kind": "fdg", "sharing": "asynchronous", "before": [{"kind": "drop_stale", "bound": 5}]}, **GROUPS},
}  # fmt: skip

Choice = Callable[[list[Future]], list[Future]]
"""Which of the pending futures are evaluated before the one that is asked for, in which order."""


def some(seed: int) -> tuple[Choice, Callable[[], bool]]:
    rng = random.Random(seed)
    return lambda pending: rng.sample(pending, rng.randint(0, len(pending))), lambda: rng.random() < 0.5


ORDERS: dict[str, tuple[Choice, Callable[[], bool]]] = {
    "at submission": (lambda pending: [], lambda: True),
    "newest first": (lambda pending: pending[::-1], lambda: False),
    "oldest first": (lambda pending: list(pending), lambda: False),
    "any, 1": some(1),
    "any, 2": some(2),
}
"""A choice among the pending, and whether what is new is computed at once: a gradient, or a forward pass."""


def scenario(name: str) -> Scenario:
    base = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8, 6]}, "batch": 12},
        "cluster": {"workers": 3, "compute": {"kind": "exponential", "mean": "1s"}}, "stages": {"count": 3, "split": "layers"},
        "run": {"updates": 12}, "evaluate": {"updates": 6},
    }  # fmt: skip
    return build_scenario(Document(base | CASES[name], "here"))


def in_order(patch: pytest.MonkeyPatch, choice: Choice, at_once: Callable[[], bool]) -> list[int]:
    """Make the engine evaluate in this order; the list that is returned counts how often something came before its need."""
    pending: list[Future] = []
    early = [0]
    submit, evaluate, activation = SerialEngine.submit, SerialEngine.evaluate, Stage._activation

    def submitting(self: SerialEngine, *arguments: Any) -> Future:
        future = submit(self, *arguments)
        if at_once():
            early[0] += 1
            future.result()
        else:
            pending.append(future)
        return future

    def evaluating(self: SerialEngine, future: Future) -> None:
        alive = [other for other in pending if other.pending and other is not future]
        pending.clear()  # those that this evaluation asks for in turn go first
        for other in choice(alive):
            if other.pending:
                early[0] += 1
                other.result()
        pending.extend(other for other in alive if other.pending)
        if future.pending:
            evaluate(self, future)

    def activating(self: Stage, sim: Any, *arguments: Any) -> Any:
        content = activation(self, sim, *arguments)
        if content is not None and at_once():
            content.run(sim.server.task, sim.engine.streams)
        return content

    patch.setattr(SerialEngine, "submit", submitting)
    patch.setattr(SerialEngine, "evaluate", evaluating)
    patch.setattr(Stage, "_activation", activating)
    return early


@pytest.mark.parametrize("name", CASES)
def test_every_order_gives_the_same_bits(name):
    case = scenario(name)
    expected = asyncsim.simulate(case)
    for order, (choice, at_once) in ORDERS.items():
        with pytest.MonkeyPatch.context() as patch:
            early = in_order(patch, choice, at_once)
            result = asyncsim.simulate(case)
        assert result.fingerprints == expected.fingerprints, order
        if order in ("at submission", "any, 1"):
            assert early[0] > 5, "nothing was evaluated before its need"


@pytest.mark.parametrize("replay", [True, False])
@pytest.mark.parametrize("first", ["upper", "lower", "forward"])
def test_two_stages_by_hand(first, replay):
    """The stage above sees the first forward pass, whether it is evaluated before or after the second one."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    samples = torch.randn(16, 5), torch.randint(3, (16,))
    task, streams = Task.from_module(module, train=samples, test=samples, batch=8), Streams(0)
    task.split((2, 1))
    read, late = task.init(), task.init() * 1.5
    below = Forward(0, 0, 0, 1, read[task.stages[0].parameters], None, copy=not replay)
    above = Forward(1, 0, 0, 1, read[task.stages[1].parameters], below, copy=False)
    signals: Any = {}
    upper = Backward((1, 0), above, None, 1.0, None, replay, signals)
    lower = Backward((0, 0), below, upper, 1.0, late[task.stages[0].parameters], replay, signals)
    if first == "forward":
        above.run(task, streams)
    order = {"upper": upper, "lower": lower}
    found = {name: order[name].run(task, streams).gradient for name in (first, "upper", "lower") if name in order}

    (x, y), (start, other) = task.batch(0, 0), (read.split([24, 15]), late.split([24, 15]))
    hidden = [nn.functional.linear(x, p[0][:20].view(4, 5), p[0][20:]).tanh() for p in (start, other)]
    weight = start[1][:12].view(3, 4)
    error = torch.softmax(nn.functional.linear(hidden[0], weight, start[1][12:]), 1) - nn.functional.one_hot(y, 3)
    error /= len(y)
    slope = 1 - hidden[1 if replay else 0] ** 2  # a current pass differentiates old activations
    raw = error @ weight * slope
    torch.testing.assert_close(found["upper"], torch.cat([(error.t() @ hidden[0]).reshape(-1), error.sum(0)]))
    torch.testing.assert_close(found["lower"], torch.cat([(raw.t() @ x).reshape(-1), raw.sum(0)]))


@pytest.fixture
def shifts() -> Iterator[None]:
    """Models `in_place` and `out_of_place`, whose first layer takes 0.3 off what it is handed."""

    class Shift(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.in_place = in_place

        def forward(self, x: Tensor) -> Tensor:
            return x.sub_(0.3) if self.in_place else x - 0.3

    class Shifted(ModelSpec):
        def module(self, signature: Signature) -> nn.Module:
            shift = Shift(self.kind == "in_place")
            return nn.Sequential(shift, nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))

    for name in ("in_place", "out_of_place"):
        models.register(name)(type(name, (Shifted,), {}))
    yield
    for name in ("in_place", "out_of_place"):
        models._classes.pop(name)


def test_a_layer_that_writes_into_its_input(shifts):
    """What a replayed forward pass starts from is what the first one started from."""
    case = scenario("features_replay").evolve({"cluster.workers": 2, "stages.count": 2})
    one, other = (asyncsim.simulate(case.evolve({"task.model": name})) for name in ("in_place", "out_of_place"))
    assert one.fingerprints == other.fingerprints


def test_every_method_with_stages_is_here():
    tested = {m if isinstance(m, str) else m["kind"] for m in (case["method"] for case in CASES.values())}
    assert tested == {name for name, cls in methods if issubclass(cls, PipelineMethod)}
