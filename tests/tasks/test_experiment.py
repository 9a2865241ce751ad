"""A task of one's own objects: the bits of a registered task and of a plain loop, a key that tells objects apart, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import asyncsim
from asyncsim.errors import UserError
from asyncsim.tasks import Digits
from asyncsim.tasks import experiment as home

X = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
PARTS: dict[str, Any] = {"train": (X[:90], Y[:90]), "test": (X[90:], Y[90:])}
SGD = {"kind": "sgd", "lr": 0.1, "momentum": 0.9}
RUN: dict[str, Any] = {"run": {"updates": 40}, "cluster": {"workers": 3}, "optimizer": SGD}


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))


def simulated(task: Any, **sections: Any) -> asyncsim.Result:
    return asyncsim.simulate(asyncsim.make_scenario(task=task, **{**RUN, **sections}))


def test_it_has_the_bits_of_the_registered_task():
    """The digits, their model and its initial values, as objects and by name: one trajectory, also on the batched engine."""
    spec = Digits(validation=0.1)
    built = spec.build(0)
    arrays = spec.arrays()
    inputs = [torch.as_tensor(part[0]).float() / arrays.divisor for part in (arrays.train, arrays.test)]
    own = asyncsim.experiment(
        built.module, train=(inputs[0], arrays.train[1]), test=(inputs[1], arrays.test[1]), validation=0.1
    )  # fmt: skip
    built.bind(built.init())
    for method in ("gap_aware", "bsp"):
        assert np.array_equal(simulated(own, method=method).parameters, simulated("digits", method=method).parameters)


class Tied(nn.Module):
    """A linear layer that is used twice, behind one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.twice, self.last = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.again = self.twice
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.again(torch.tanh(self.twice(torch.tanh(self.frozen(x)))))))


def test_one_worker_is_the_users_own_loop():
    """Forty updates of a model with tied and frozen parameters, with PyTorch's SGD over the same batches: every bit."""
    torch.manual_seed(2)
    model = Tied()
    task = asyncsim.experiment(model, **PARTS, batch=16)
    assert task.num_parameters() == 30 + 18
    ours = simulated(task, cluster={"workers": 1})
    source = task.build(0).source
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1, momentum=0.9)
    before = model.frozen.weight.clone()
    for step in range(40):
        inputs, targets = source.batch(0, step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    trained = torch.cat([each.detach().reshape(-1) for each in model.parameters() if each.requires_grad])
    assert np.array_equal(ours.parameters, trained.numpy())
    assert torch.equal(model.frozen.weight, before)


def test_a_frozen_layer_in_a_stage():
    """One group of one worker a stage, synchronous: the parameters of the whole model to 1e-6, with the first layer frozen."""
    model = net()
    model[0].bias.requires_grad_(False)
    task = asyncsim.experiment(model, **PARTS)
    whole = simulated(task, method="asgd", cluster={"workers": 1})
    cut = simulated(task, method="bp", cluster={"workers": 2}, stages=2)
    assert np.allclose(whole.parameters, cut.parameters, atol=1e-6)
    assert not np.array_equal(whole.parameters, task.build(0).init().numpy())


def test_dropout_is_a_function_of_seed_worker_and_step():
    """``nn.Dropout`` in a module is taken over: runs repeat, engines agree, and what the process has drawn does not matter."""
    task = asyncsim.experiment(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)), **PARTS)
    first = simulated(task, engine="serial").fingerprints
    torch.manual_seed(77)
    assert simulated(task, engine={"kind": "threaded", "cores": 2}).fingerprints == first
    assert simulated(task, seed=1).fingerprints != first


def test_a_function_draws_initial_values_by_seed():
    task = asyncsim.experiment(lambda: nn.Linear(4, 3), **PARTS)
    starts = [task.build(seed).init() for seed in (0, 0, 1)]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    fixed = asyncsim.experiment(net(), **PARTS)
    assert torch.equal(fixed.build(0).init(), fixed.build(1).init())


def test_what_happens_to_the_objects_afterwards_does_not_matter():
    """Module, data and loss are copied: training the module or overwriting the data in the notebook changes no run."""
    model, inputs, weights = net(), X[:90].clone(), torch.ones(3)
    loss = nn.CrossEntropyLoss(weight=weights)
    task = asyncsim.experiment(model, train=(inputs, Y[:90]), test=PARTS["test"], loss=loss)
    first = simulated(task).fingerprints
    with torch.no_grad():
        model[0].weight.zero_()
        inputs.zero_()
        weights.mul_(7)
    assert simulated(task).fingerprints == first
    state = torch.get_rng_state()
    asyncsim.experiment(lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), **PARTS)
    assert torch.equal(torch.get_rng_state(), state)


class Pairs(Dataset):
    def __len__(self) -> int:
        return 90

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return X[index], int(Y[index])


def test_all_forms_of_one_data_set_are_one_experiment():
    """Tensors, arrays, frames, data sets and loaders of the same numbers have one key; a loader brings its batch."""
    frame = pd.DataFrame(X[:90].numpy()), pd.Series(Y[:90].numpy())
    forms = [
        PARTS["train"], [X[:90].numpy(), Y[:90].numpy()], frame, TensorDataset(X[:90], Y[:90]), Pairs(),
        DataLoader(Pairs(), batch_size=9, shuffle=True), [(X[i], Y[i]) for i in range(90)],
    ]  # fmt: skip
    made = [asyncsim.experiment(net(), train=form, test=PARTS["test"]) for form in forms]
    assert len({each.key for each in made}) == 1
    assert [each.batch for each in made] == [32, 32, 32, 32, 32, 9, 32]


def test_the_key_tells_objects_apart():
    """Other weights, other data, another constant in a function, another function or what is frozen: another experiment."""
    def scaled(factor: float) -> Any:
        return lambda outputs, targets: factor * nn.functional.cross_entropy(outputs, targets)

    other, frozen = net(), net()
    with torch.no_grad():
        other[0].weight[0, 0] += 1e-6
    frozen[0].requires_grad_(False)
    made = [
        asyncsim.experiment(net(), **PARTS), asyncsim.experiment(other, **PARTS), asyncsim.experiment(frozen, **PARTS),
        asyncsim.experiment(net(), train=(X[:89], Y[:89]), test=PARTS["test"]),
        *[asyncsim.experiment(net(), **PARTS, loss=scaled(factor)) for factor in (1.0, 2.0)],
        asyncsim.experiment(net(), **PARTS, metrics={"zero": lambda outputs, targets: 0.0}),
        asyncsim.experiment(net(), **PARTS, metrics={"zero": lambda outputs, targets: 0.5}),
    ]  # fmt: skip
    assert len({each.key for each in made}) == len(made)
    assert asyncsim.experiment(net(), **PARTS, loss=scaled(2.0)).key == made[5].key


def test_metrics_are_means_over_all_samples():
    """In chunks of any size: 1,500 samples are evaluated in two, and a mean is that of all of them."""
    inputs = torch.arange(1500.0).reshape(-1, 1)
    task = asyncsim.experiment(
        nn.Linear(1, 1), train=(inputs, inputs), test=(inputs, inputs), loss=nn.functional.mse_loss,
        metrics={"target": lambda outputs, targets: targets.mean()},
    )  # fmt: skip
    assert task.metrics == ("loss", "target")
    assert task.build(0).evaluate(torch.zeros(2))["target"] == pytest.approx(749.5, abs=1e-9)


def test_a_run_is_resumed_once_its_objects_are_there_again(tmp_path):
    """A folder of a run names the key. Without the objects it is refused in a sentence; with equal ones it goes on."""
    task = asyncsim.experiment(net(), **PARTS)
    scenario = asyncsim.make_scenario(task=task, **RUN, checkpoint={"updates": 10})
    whole = asyncsim.simulate(scenario, out=tmp_path / "run")
    home._known.clear()
    with pytest.raises(UserError, match=f"experiment {task.key} has not been made in this process; call asyncsim.experiment"):
        asyncsim.resume(tmp_path / "run", {"run.updates": 60})
    assert asyncsim.experiment(net(), **PARTS).key == task.key
    longer = asyncsim.resume(tmp_path / "run", {"run.updates": 60})
    assert longer.fingerprints == asyncsim.simulate(scenario.evolve({"run.updates": 60})).fingerprints != whole.fingerprints


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        return iter(Pairs())  # type: ignore[call-overload]


class Random(Pairs):
    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return X[index] + torch.randn(4), int(Y[index])


class Named(nn.Module):
    """Returns a dictionary, as Hugging Face's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.inner(x)}


class Spare(nn.Linear):
    """Has a layer that its forward pass does not use."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.more = nn.Linear(2, 2)


NAN = X.clone()
NAN[7, 1] = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": 3}, "model: must be a torch.nn.Module or a function that returns one, not a int"),
        ({"model": nn.Linear(5, 3)}, r"model: cannot take a batch \(2, 4\) of type torch.float32: RuntimeError"),
        ({"model": Named()}, "model: returns a dict; a module that returns one tensor is needed"),
        ({"model": nn.Linear(4, 3).requires_grad_(False)}, "model: has no parameters to train"),
        ({"model": nn.LazyLinear(3)}, "model: weight has no shape yet"),
        ({"model": Spare}, "model: more.weight, more.bias has no part in the loss; freeze it"),
        ({"model": nn.Linear(4, 2)}, "train: labels run from 0 to 2; the model has 2 outputs, so 0 to 1 allowed"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, "the reduction 'none'; only a mean over samples"),
        ({"loss": nn.CrossEntropyLoss(reduction="sum")}, "the reduction 'sum'"),
        ({"loss": lambda o, t: nn.functional.cross_entropy(o, t, reduction="none")}, r"a result of shape \(2,\); the mean"),
        ({"loss": lambda o, t: 1.0}, "loss: returns a result of type float"),
        ({"loss": lambda o, t: o.detach().mean()}, "loss: does not depend on the parameters"),
        ({"loss": lambda o, t: o.nothing}, "loss: cannot take a batch .*AttributeError"),
        ({"metrics": {"loss": lambda o, t: 0.0}}, "metrics: 'loss' must be a name other than loss"),
        ({"metrics": {"odd": lambda o, t: o}}, "metrics: odd returns a Tensor; the mean over samples, one number"),
        ({"train": (X[:90], Y[:90].float())}, "loss: is missing; outputs .* are not scores"),
        ({"train": (X[:90], Y[:80])}, "the training set has 90 inputs and 80 targets"),
        ({"train": (NAN[:90], Y[:90])}, "train: the inputs of sample 7 are not finite"),
        ({"train": (X[:0], Y[:0])}, "train: the inputs are empty"),
        ({"train": ({"a": X}, Y)}, "train: the inputs are a dict; one tensor is needed"),
        ({"train": (np.array(["a", "b"]), Y[:2])}, "train: the inputs are no numbers"),
        ({"train": Endless()}, "train: an iterable data set has no samples by number"),
        ({"train": Random()}, "train: sample 0 is another one when it is read again"),
        ({"train": [(X[0], Y[0]), (X[0, :2], Y[0]), (X[1], Y[1])]}, "train: samples cannot be put into one tensor"),
        ({"train": 7}, "train: must be inputs and targets"),
        ({"train": DataLoader(Pairs(), collate_fn=lambda x: x)}, "train: the loader has a collate function of its own"),
        ({"batch": 0}, "batch: must be a whole number from 1"),
        ({"batch": 2.5}, "batch: must be a whole number from 1"),
        ({"validation": 1.5}, "experiment: validation: must be below 1"),
        ({"partition": "shufled"}, "experiment: partition: unknown partition 'shufled'; did you mean `shuffled`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # objects have addresses, which differ between processes
)  # fmt: skip
def test_wrong_uses_get_one_sentence(changes, message):
    arguments = {"model": net(), **PARTS, **changes}
    with pytest.raises(UserError, match=message) as caught:
        asyncsim.experiment(arguments.pop("model"), **arguments)
    assert len(str(caught.value).splitlines()) == 1


def test_what_a_run_alone_can_tell():
    """A batch that is too large, a functional dropout, another model than the experiment's own: a sentence each."""
    with pytest.raises(UserError, match=r"task\.batch: 91 samples are more than the training set holds"):
        simulated(asyncsim.experiment(net(), **PARTS, batch=91))

    class Drawing(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(super().forward(x), 0.5, training=self.training)

    with pytest.raises(UserError, match="draws from"):
        simulated(asyncsim.experiment(Drawing(4, 3), **PARTS))
    task = asyncsim.experiment(net(), **PARTS)
    with pytest.raises(UserError, match="an experiment has the model that it was made with"):
        asyncsim.make_scenario(task={**task.settings(), "model": "softmax"}, **RUN)
    with pytest.raises(UserError, match=r"make_scenario: run\.updates: must be at least 1"):
        asyncsim.make_scenario(task=task, run={"updates": 0})
