"""What the process has set or drawn before does not reach a run, and is as it was afterwards."""

from __future__ import annotations

import decimal
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import asyncsim
from asyncsim.ambient import Generators, sheltered, switches
from asyncsim.checkpoint.keeper import Keeper
from asyncsim.records import Result
from asyncsim.registries import models, tasks
from asyncsim.scenario import Document, Scenario, build_scenario
from asyncsim.tasks import Arrays, ClassificationTask, Dropout, ModelSpec, Signature, Task

TEXT = {"kind": "pydoc_lm", "batch": 4,
        "model": {"kind": "transformer", "context": 8, "layers": 1, "dim": 8, "heads": 2, "dropout": 0.2}}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "closed form": {},
    "serial": {"engine": "serial"},
    "threaded": {"engine": {"kind": "threaded", "cores": 2}},
    "float64": {"dtype": "float64", "engine": "serial"},
    "text": {"task": TEXT, "run": {"updates": 6}},
    "stages": {"method": "features_replay", "stages": 2},
    "vectorised": {"task": TEXT | {"model": "char_mlp"}, "engine": {"kind": "batched", "width": 2}, "run": {"updates": 6}},
    "quadratic": {"task": {"kind": "quadratic", "noise": 0.1}},
}


def made(**sections: Any) -> Scenario:
    base = {"task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8]}, "batch": 4}, "cluster": {"workers": 2},
            "run": {"updates": 12}, "evaluate": {"updates": 6}}  # fmt: skip
    return build_scenario(Document(base | sections, "here"))


@contextmanager
def setting(write: Callable[[Any], Any], value: Any, back: Any) -> Iterator[None]:
    write(value)
    try:
        yield
    finally:
        write(back)


def deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


@contextmanager
def strict_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def doubled(saved: Tensor) -> Tensor:
    return saved * 2 if saved.is_floating_point() else saved


class Halving(TorchFunctionMode):
    """Results of products are halved."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        return result * 0.5 if function in (torch.matmul, F.linear, torch.Tensor.matmul, torch.bmm, torch.baddbmm) else result


class Doubling(TorchDispatchMode):
    """Sums are doubled."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        return result * 2 if function is torch.ops.aten.add.Tensor else result


@contextmanager
def hooked() -> Iterator[None]:
    """Hooks in every module of the process, one of each kind."""
    handles = [
        module.register_module_forward_hook(lambda _, given, output: output * 2),
        module.register_module_forward_pre_hook(lambda _, given: (given[0] * 2,)),
        module.register_module_full_backward_hook(lambda _, inputs, outputs: tuple(each and each * 2 for each in inputs)),
        module.register_module_full_backward_pre_hook(lambda _, outputs: tuple(each and each * 2 for each in outputs)),
    ]  # fmt: skip
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "default dtype": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "half by default": lambda: setting(torch.set_default_dtype, torch.float16, torch.float32),
    "default device": lambda: setting(torch.set_default_device, "meta", None),
    "device as a context": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "anomalies": lambda: setting(torch.autograd.set_detect_anomaly, True, False),
    "deterministic": lambda: setting(deterministic, (True, False), (False, False)),
    "precision": lambda: setting(torch.set_float32_matmul_precision, "medium", "highest"),
    "denormals": lambda: setting(torch.set_flush_denormal, True, False),
    "no oneDNN": lambda: setting(lambda on: torch.backends.mkldnn.set_flags(_enabled=on), False, True),
    "threads": lambda: setting(torch.set_num_threads, 2, torch.get_num_threads()),
    "seeds": nullcontext,
    "a mode of functions": Halving,
    "a mode of operations": Doubling,
    "saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(torch.Tensor.detach, doubled),
    "hooks in modules": hooked,
    "NumPy's errors": lambda: np.errstate(all="raise"),
    "warnings": strict_warnings,
    "decimal": lambda: decimal.localcontext(decimal.Context(prec=2)),
    "printing": lambda: np.printoptions(precision=1, legacy="1.13"),
}
WANTED: dict[str, Result] = {}


def wanted(case: str) -> Result:
    if case not in WANTED:
        WANTED[case] = asyncsim.simulate(made(**CASES[case]))
    return WANTED[case]


def settings() -> list[Any]:
    return [switch.read() for switch in switches("cpu", 1)] + [torch.get_default_device(), torch.is_inference_mode_enabled()]


@pytest.mark.parametrize("case", CASES)
def test_settings_of_the_process(case):
    expected = wanted(case)
    for name, surroundings in SURROUNDINGS.items():
        with surroundings():
            torch.manual_seed(len(name)), np.random.seed(len(name)), random.seed(name)
            before, drawn = settings(), Generators.read()
            result = asyncsim.simulate(made(**CASES[case]))
            assert settings() == before, name
            assert Generators.read() == drawn, name
        assert result.fingerprints == expected.fingerprints, name


@pytest.mark.parametrize("name", ["a mode of functions", "a mode of operations", "saved tensors", "hooks in modules"])
def test_what_intercepts_is_left_out_and_put_back(name):
    """Outside it has an effect, before and after; inside it has none."""
    layer, inputs = nn.Linear(3, 1, bias=False), torch.ones(1, 3)

    def seen() -> list[float]:
        weight = layer.weight.detach().clone().requires_grad_()
        output = F.linear(inputs, weight) + 1.0
        (gradient,) = torch.autograd.grad((output * output).sum(), weight)
        return [float(output.detach().sum()), float(layer(inputs).detach().sum()), *gradient.flatten().tolist()]

    plain = seen()
    with SURROUNDINGS[name]():
        changed = seen()
        assert changed != plain
        with sheltered():
            assert seen() == plain
        assert seen() == changed
    assert seen() == plain


def test_every_switch_is_turned_and_put_back():
    """Inside, the values of the table; what is set inside does not leak."""
    before = settings()
    with sheltered("cpu", 1):
        assert all(switch.read() == switch.value for switch in switches("cpu", 1))
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
    assert settings() == before


@pytest.mark.parametrize("name", ["default dtype", "default device", "inference", "autocast"])
def test_resumed_measured_and_in_a_fleet(tmp_path, name):
    from asyncsim.calibration.measuring import measure
    from asyncsim.sweep.fleet import simulate_many

    scenario = made(checkpoint={"updates": 5}, engine="serial")
    expected = asyncsim.simulate(scenario)

    with SURROUNDINGS[name]():
        kill_in_the_middle(scenario, tmp_path / "run")
        assert asyncsim.resume(tmp_path / "run").fingerprints == expected.fingerprints
        assert [each.fingerprints for each in simulate_many([scenario, scenario])] == [expected.fingerprints] * 2
        assert len(measure(scenario, gradients=2, warm_up=1).seconds) == 2
        samples = [[0.1, 0.2]], [1]
        linear = Task.from_module(nn.Linear(2, 3, device="cpu", dtype=torch.float32), samples, samples, batch=1)
        assert linear.init().dtype == torch.float32
        assert linear.source.inputs.tolist() == torch.tensor([[0.1, 0.2]], dtype=torch.float32, device="cpu").tolist()


class Stop(BaseException):
    pass


def kill_in_the_middle(scenario: Scenario, out: Path) -> None:
    """Leave a run folder that ends at a checkpoint."""
    turn = Keeper.turn

    def stopping(self: Keeper, now: int) -> None:
        turn(self, now)
        if self.sim.server.version >= 7:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keeper, "turn", stopping)
        patch.setattr(Keeper, "due", lambda self: True)
        with pytest.raises(Stop):
            asyncsim.simulate(scenario, out)


# Global generators.


class Noisy(nn.Module):
    """Draws from one of the global generators."""

    def __init__(self, owner: str, when: str) -> None:
        super().__init__()
        self.owner = owner
        self.when = when
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.when == "always" or (self.when == "later" and self.calls > 4) or (self.when == "evaluated" and not self.training):
            return x * {"torch": lambda: torch.rand(()), "numpy": np.random.rand, "python": random.random}[self.owner]()
        return x


@pytest.fixture
def plugins() -> Iterator[None]:
    @models.register("noisy")
    class NoisyModel(ModelSpec):
        owner: str = "torch"
        when: str = "always"

        def module(self, signature: Signature) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Noisy(self.owner, self.when), nn.Linear(8, 10))

    @models.register("functional_dropout")
    class FunctionalDropout(ModelSpec):
        def module(self, signature: Signature) -> nn.Module:
            class Masked(nn.Linear):
                def forward(self, x: Tensor) -> Tensor:
                    return F.dropout(super().forward(x), 0.1, self.training)

            return nn.Sequential(nn.Flatten(), Masked(64, 10))

    @models.register("own_masks")
    class OwnMasks(ModelSpec):
        def module(self, signature: Signature) -> nn.Module:
            class Jitter(Dropout):
                def forward(self, x: Tensor) -> Tensor:
                    return x + torch.randn(x.shape, generator=self.generator) if self.training else x

            return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Jitter(0.5))

    @tasks.register("drawn")
    class Drawn(ClassificationTask):
        shape: ClassVar = (3,)
        classes: ClassVar = 2

        def arrays(self) -> Arrays:
            x, y = np.random.randn(60, 3).astype(np.float32), np.array([random.randrange(2) for _ in range(60)])
            return Arrays(train=(x[:40], y[:40]), test=(x[40:], y[40:]))

    yield
    for name in ("noisy", "functional_dropout", "own_masks"):
        models._classes.pop(name)
    tasks._classes.pop("drawn")


ENGINES = ["serial", {"kind": "batched", "width": 2}, {"kind": "threaded", "cores": 2}]


def refused(scenario: Scenario, *words: str) -> None:
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    before = Generators.read()
    with pytest.raises(asyncsim.UserError) as caught:
        asyncsim.simulate(scenario)
    for word in (*words, "global generator", "asyncsim.tasks.Dropout"):
        assert word in str(caught.value)
    assert Generators.read() == before


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("owner", "name"), [("torch", "torch's"), ("numpy", "NumPy's"), ("python", "Python's")])
def test_a_layer_that_draws(plugins, engine, owner, name):
    task = {"kind": "digits", "batch": 4, "model": {"kind": "noisy", "owner": owner}}
    refused(made(task=task, engine=engine), "task `digits`", "layer '2' (Noisy)", name)


def test_functional_dropout(plugins):
    refused(made(task={"kind": "digits", "model": "functional_dropout"}), "layer '1' (Masked)", "torch's")
    refused(made(task={"kind": "digits", "model": "functional_dropout"}, method="fdg", stages=1), "layer '1' (Masked)")


@pytest.mark.parametrize("engine", [ENGINES[0], ENGINES[2]])
@pytest.mark.parametrize("when", ["later", "evaluated"])
def test_what_draws_seldom(plugins, engine, when):
    task = {"kind": "digits", "batch": 4, "model": {"kind": "noisy", "when": when}}
    refused(made(task=task, engine=engine), "a part of the run (task `digits`")


def test_a_resumed_run_that_draws(plugins, tmp_path):
    task = {"kind": "digits", "batch": 4, "model": {"kind": "noisy", "when": "later"}}
    scenario = made(task=task, engine="serial", checkpoint={"updates": 2}, run={"updates": 60})
    for go in (lambda: asyncsim.simulate(scenario, tmp_path / "run"), lambda: asyncsim.resume(tmp_path / "run")):
        with pytest.raises(asyncsim.UserError, match="global generator"):
            go()


def test_a_loss_that_draws():
    from asyncsim.tasks.probing import refuse_draws

    x, y = torch.ones(8, 2), torch.ones(8, 1)
    noisy = Task.from_module(nn.Linear(2, 1), (x, y), (x, y), batch=4, loss=lambda a, b: ((a - b) ** 2).mean() * torch.rand(()))
    with pytest.raises(asyncsim.UserError, match="task `mine`: its loss draws from torch's global generator"):
        refuse_draws(noisy, "mine")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_way_out(plugins, engine):
    """A layer that draws from the generator of the package's dropout: the same bits every time, on every engine."""
    task = {"kind": "digits", "batch": 4, "model": "own_masks"}
    one, other = asyncsim.simulate(made(task=task, engine=engine)), asyncsim.simulate(made(task=task, engine="serial"))
    assert one.fingerprints == other.fingerprints


def test_data_drawn_while_a_task_is_built(plugins):
    """They are functions of the scenario, and the same for all seeds, as loaders may keep them."""
    runs = []
    for seed in (5, 6):
        np.random.seed(seed), random.seed(seed)
        before = Generators.read()
        runs.append(asyncsim.simulate(made(task="drawn")))
        assert Generators.read() == before
    assert runs[0].fingerprints == runs[1].fingerprints


def test_a_tracker_may_draw():
    class Drawing:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: random.random()

    expected = asyncsim.simulate(made())
    result = asyncsim.simulate(made(), trackers=[Drawing()], progress=lambda _: np.random.rand())
    assert result.fingerprints == expected.fingerprints


def test_threads_take_turns():
    """Four threads that build and run at once, in models that draw as they are built: each has the results that it has alone."""
    scenarios = [made(seed=seed, engine="serial") for seed in range(4)]
    expected = [asyncsim.simulate(scenario).fingerprints for scenario in scenarios]
    before, interval = settings(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(asyncsim.simulate, scenarios * 2))
    finally:
        sys.setswitchinterval(interval)
    assert [result.fingerprints for result in results] == expected * 2
    assert settings() == before
