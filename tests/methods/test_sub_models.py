"""Sub-models (reference, family of parameter servers, 9): FLuID, invariant dropout of fixed sizes, random and ordered dropout."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from arrivals import View, push
from test_identities import same_bits
from torch import Tensor, nn

import asyncsim
from asyncsim.errors import UserError
from asyncsim.methods.fluid import Recalibrated, size_for
from asyncsim.policies import SubModels
from asyncsim.policies.mean import mean_push
from asyncsim.policies.sub_models import Neurons, agreed, kept, mask
from asyncsim.registries import models
from asyncsim.scenario import ScenarioError
from asyncsim.simulation.progress import WorkerProgress
from asyncsim.streams import Streams
from asyncsim.tasks import ModelSpec

SERVER = {"kind": "sgd", "lr": 1.0}
FLEET = {"workers": 5, "compute": "1s", "overrides": {4: {"compute": "1.6s"}, 2: {"compute": "1.5s"}}}
TASK = {"kind": "digits", "model": {"kind": "mlp", "hidden": [12, 9]}, "batch": 8}
FLUID = {"kind": "fluid", "local_steps": 2, "local_lr": 0.1}
SIZES = {"kind": "weight_update_magnitudes", "local_steps": 2, "local_lr": 0.1}
EVEN = {"workers": 4, "compute": "1s"}


@pytest.fixture
def small(make):
    """A run of ten rounds of five workers, two of them slower, in float64."""

    def small(method, cluster=FLEET, updates=10, **sections):
        sections = {"task": TASK, "optimizer": SERVER, "dtype": "float64", "run": {"updates": updates}} | sections
        return make(1, method=method, cluster=cluster, **sections)

    return small


# The loop.


class Loop:
    """Federated averaging with sub-models once more, from the rules of the reference, on named tensors."""

    def __init__(self, scenario, result):
        self.scenario, self.method = scenario, scenario.method
        self.workers = scenario.cluster.num_workers
        self.task = scenario.task.build(scenario.seed, "cpu", "float64", self.workers)
        self.names = [(name, each.shape) for name, each in self.task.module.named_parameters()]
        self.widths = [shape[0] for name, shape in self.names if name.endswith("weight")][:-1]
        ends = result.updates.query("outcome == 'applied'")["time_ns"].tolist()
        begins = dict(zip(range(len(ends)), [0, *ends], strict=False))
        pushes = list(result.updates.itertuples())
        self.took = {(row.read_version, row.worker): row.time_ns - begins[row.read_version] for row in pushes}
        self.seen = {(row.read_version, row.worker): row.share for row in pushes}

    def pieces(self, theta):
        """The tensors of each layer: weights and biases."""
        parts = theta.split([shape.numel() for _, shape in self.names])
        return [part.view(shape) for part, (_, shape) in zip(parts, self.names, strict=True)]

    def keeping(self, dropped):
        """1 where a sub-model without these neurons has a parameter."""
        flags = torch.ones(sum(shape.numel() for _, shape in self.names), dtype=torch.float64)
        tensors = self.pieces(flags)
        for layer, neurons in enumerate(dropped):
            for neuron in neurons:
                tensors[2 * layer][neuron] = tensors[2 * layer + 1][neuron] = 0
                following = tensors[2 * layer + 2]
                each = following.shape[1] // self.widths[layer]
                following[:, neuron * each : (neuron + 1) * each] = 0
        return flags

    def steps(self, theta, flags, worker, round_):
        x = theta * flags
        for index in range(round_ * 2, round_ * 2 + 2):
            inputs, targets = self.task.batch(worker, index)
            x = x.detach().requires_grad_()
            named = dict(zip([name for name, _ in self.names], self.pieces(x), strict=True))
            output = torch.func.functional_call(self.task.module, named, (inputs,))
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(output, targets), x)
            x = x.detach() - 0.1 * flags * gradient
        return x

    def changes(self, old, new):
        """The largest relative change of each neuron, layer by layer."""
        relative = [((after - before).abs() / (before.abs() + 1e-12)) for before, after in
                    zip(self.pieces(old), self.pieces(new), strict=True)]  # fmt: skip
        result = []
        for layer, width in enumerate(self.widths):
            into, bias, out = relative[2 * layer : 2 * layer + 3]
            each = out.shape[1] // width
            result.append([
                max(into[n].max().item(), bias[n].item(), out[:, n * each : (n + 1) * each].max().item()) for n in range(width)
            ])  # fmt: skip
        return result

    def stragglers(self, version, shares, skip):
        """The shares of the round ``version``, and whether the next comparison is left out."""
        if version < 2 or skip:
            return shares, False
        whole = {w: self.took[version - 1, w] * (1 if w not in shares else self.method.estimate / shares[w]) for w in
                 range(self.workers)}  # fmt: skip
        ranked = sorted(whole.items(), key=lambda pair: (-round(pair[1]), pair[0]))
        count = self.method.stragglers
        table = [(0.9, 0.95), (0.8, 0.85), (0.7, 0.75), (0.6, 0.65), (0, 0.5)]
        found = {w: next(p for q, p in table if ranked[count][1] / t >= q) for w, t in ranked[:count]}
        return found, bool(shares) and set(found) != set(shares)

    def run(self):
        theta = self.task.init()
        shares, skip, invariant, thresholds, last = {}, False, [[] for _ in self.widths], None, {}
        for version in range(self.scenario.run.updates):
            shares, skip = self.stragglers(version, shares, skip)
            total, count, reports, now = torch.zeros_like(theta), torch.zeros_like(theta), [], {}
            for worker in range(self.workers):
                share = shares.get(worker, 1.0)
                assert self.seen[version, worker] == share
                if share < 1:
                    now[worker] = [self.drop(share, n, worker, version, layer, invariant[layer], last.get(worker))
                                   for layer, n in enumerate(self.widths)]  # fmt: skip
                flags = self.keeping(now.get(worker, []))
                x = self.steps(theta, flags, worker, version)
                total, count = total + flags * (theta - x), count + flags
                if worker not in now:
                    reports.append(self.changes(theta, x))
            least = [[sorted(report[layer][n] for report in reports)[-(-3 * len(reports) // 4) - 1] for n in range(width)]
                     for layer, width in enumerate(self.widths)]  # fmt: skip
            ended, after = version + 1, self.method.raise_after
            if ended == 2:
                thresholds = [min(layer) for layer in least]
            if ended == 3:
                thresholds = [(old + min(layer)) / 2 for old, layer in zip(thresholds, least, strict=True)]
            for layer, values in enumerate(least if thresholds else []):
                lacks = max((len(dropped[layer]) for dropped in now.values()), default=0)
                if ended > after and (ended - after) % 2 == 0 and sum(value <= thresholds[layer] for value in values) < lacks:
                    thresholds[layer] += self.method.raise_by
                    self.raised = True
                invariant[layer] = [n for n, value in enumerate(values) if value <= thresholds[layer]]
            theta = theta - torch.where(count > 0, total / count.clamp(min=1), 0.0)
            last = now
        return theta

    def drop(self, share, width, worker, version, layer, invariant, before):
        wanted = width - int(share * width)
        if self.method.dropout == "ordered":
            return list(range(width - wanted, width))
        drawn = Streams(self.scenario.seed)("sub_model", worker, version, layer).permutation(width).tolist()
        if self.method.dropout == "random":
            return drawn[:wanted]
        again = [n for n in invariant if before and n in before[layer]]
        self.again = getattr(self, "again", 0) + len(again)
        rest = again + [n for n in invariant if n not in again]
        return (rest + [n for n in drawn if n not in rest])[:wanted]


@pytest.mark.parametrize("dropout", ["invariant", "random", "ordered"])
def test_the_loop(small, dropout):
    """theta <- theta - mean over those who trained a parameter of theta - x, with two stragglers that the durations name, ten
    rounds, 1e-12; thresholds of rounds 2 and 3 that are raised, neurons that stay left out. Without sub-models it goes
    elsewhere."""
    method = FLUID | {"dropout": dropout, "stragglers": 2, "raise_after": 4, "raise_by": 40.0}
    scenario = small(method)
    result = asyncsim.simulate(scenario)
    loop = Loop(scenario, result)
    end = loop.run()
    np.testing.assert_allclose(result.parameters, end, rtol=1e-12, atol=1e-12)
    assert set(result.updates["share"]) == {0.65, 1.0}
    if dropout == "invariant":
        assert loop.raised
        assert loop.again > 10
    averaging = asyncsim.simulate(small({"kind": "local_sgd", "local_steps": 2, "local_lr": 0.1})).parameters
    assert np.abs(averaging - result.parameters).max() > 1e-3


def test_the_loop_with_a_straggler_that_changes(small):
    """Worker 2 is slowed down fourfold from 14.5 s on and becomes the straggler in a network of convolutions;
    nothing is compared in the round after. The whole model's time is taken for 1.15 times what the share suggests."""
    cluster = FLEET | {"events": [{"at": "14.5s", "workers": [2], "slowdown": 4, "duration": "1h"}]}
    scenario = small(FLUID | {"estimate": 1.15}, cluster, task=TASK | {"model": {"kind": "cnn", "width": 2}})
    result = asyncsim.simulate(scenario)
    np.testing.assert_allclose(result.parameters, Loop(scenario, result).run(), rtol=1e-12, atol=1e-12)
    smaller = result.updates.query("share < 1")
    assert smaller["worker"].tolist() == [4] * 3 + [2] * 5
    assert smaller["share"].tolist() == [0.95, 0.85, 0.85, 0.65, 0.65, *[0.5] * 3]


# A sub-model is a smaller model.


def shrunk(module: nn.Sequential, dropped: list[list[int]]) -> tuple[nn.Sequential, list[Tensor]]:
    """A smaller network with the weights that are left, and where those are in the large one (flat, in the smaller one's
    order)."""
    layers = [layer for layer in module if hasattr(layer, "weight")]
    offset, before, smaller, places = 0, None, [], []
    for layer in module:
        if layer not in layers:
            smaller.append(copy.deepcopy(layer))
            continue
        place = layers.index(layer)
        out = [n for n in range(len(layer.weight)) if place == len(layers) - 1 or n not in dropped[place]]
        into = torch.arange(layer.weight.shape[1])
        if before is not None:
            width, left = before
            into = into.view(width, -1)[left].flatten()
        new = copy.deepcopy(layer)
        new.weight = nn.Parameter(layer.weight[out][:, into].detach().clone())
        new.bias = nn.Parameter(layer.bias[out].detach().clone())
        if isinstance(new, nn.Conv2d):
            new.out_channels, new.in_channels = new.weight.shape[:2]
        index = torch.arange(layer.weight.numel()).view(layer.weight.shape)[out][:, into]
        places += [offset + index.flatten(), offset + layer.weight.numel() + torch.tensor(out)]
        offset += layer.weight.numel() + len(layer.bias)
        before = len(layer.weight), out
        smaller.append(new)
    return nn.Sequential(*smaller), places


def trained(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    for batch, labels in zip(inputs, targets, strict=True):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(batch), labels).backward()
        optimiser.step()
    return torch.cat([each.detach().flatten() for each in module.parameters()])


@pytest.mark.parametrize("model", [
    {"kind": "mlp", "hidden": [12, 9]}, {"kind": "mlp", "hidden": [7], "activation": "tanh"}, {"kind": "cnn", "width": 4},
], ids=["relu", "tanh", "cnn"])  # fmt: skip
def test_a_sub_model_is_a_smaller_model(make, model):
    """Three steps of a network that is really smaller, with only the weights and channels that are left: what it comes to is what
    the masked one does, 1e-12, and the masked one is zero elsewhere."""
    spec = make(1, task=TASK | {"model": model}).task
    module = spec.build(0, "cpu", "float64", 1).module
    flat = torch.cat([each.detach().flatten() for each in module.parameters()])
    shapes = tuple(tuple(each.shape) for each in module.parameters())
    ends = np.cumsum([each.numel() for each in module.parameters()]).tolist()
    layers = tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))
    dropped = [[1, 3], [0, 5], [2, 6]][: len(shapes) // 2 - 1]
    left = mask(dropped, View(flat, layers=layers, shapes=shapes))
    small, places = shrunk(module, dropped)
    inputs = torch.randn(3, 4, *spec.signature.inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1, 2, 3], [3, 1, 0, 2], [2, 2, 1, 0]])
    nn.utils.vector_to_parameters(flat * left, module.parameters())
    whole, part = trained(module, inputs, targets), trained(small, inputs, targets)
    assert left.sum() == len(part)
    assert not whole[~left].any()
    torch.testing.assert_close(whole[torch.cat(places)], part, rtol=1e-12, atol=1e-12)
    assert (part - flat[torch.cat(places)]).abs().max() > 1e-3


# The mean.


def part_of(gradient, trained, worker, penalty=1.0):
    each = push(gradient, None, worker=worker)
    each.replaced, each.trained, each.penalty = gradient * trained, trained, penalty
    return each


@pytest.mark.parametrize("penalties", [(1.0, 1.0, 1.0), (2.0, 0.5, 4.0)], ids=["equal", "by_samples"])
def test_weights_of_a_parameter_add_up_to_one(penalties):
    """Of differences that are 1 where trained, the mean is 1 wherever anybody trained, and 0 elsewhere; weights are those of the
    penalties. A mean of all would give less."""
    flags = torch.tensor([[1, 1, 0, 0, 1], [1, 0, 1, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.bool)
    ones = torch.ones(5, dtype=torch.float64)
    mean = mean_push([part_of(ones, own, worker, p) for worker, (own, p) in enumerate(zip(flags, penalties, strict=True))])
    torch.testing.assert_close(mean.gradient, torch.tensor([1, 1, 1, 0, 1.0], dtype=torch.float64), rtol=1e-15, atol=0)
    assert mean.trained.tolist() == [True, True, True, False, True]
    values = torch.tensor([[3.0], [5.0], [4.0]], dtype=torch.float64) * ones
    mean = mean_push([part_of(v, own, 0, p) for v, own, p in zip(values, flags, penalties, strict=True)])
    weights = torch.tensor([1 / p for p in penalties], dtype=torch.float64).view(3, 1) * flags
    torch.testing.assert_close(mean.gradient[[0, 1, 2, 4]], ((weights * values).sum(0) / weights.sum(0))[[0, 1, 2, 4]])
    assert mean.penalty == pytest.approx(3 / sum(1 / p for p in penalties))


def test_what_nobody_trains_keeps_its_value(small):
    """Both workers leave the last third of each layer out from round 3 on: those weights are after eight rounds what they were
    after two, to the last bit, and all others have moved. One who trains all moves them."""
    cluster = {"workers": 2, "compute": "1s"}
    method = SIZES | {"shares": {0: 0.67, 1: 0.67}, "dropout": "ordered"}
    early, late = (asyncsim.simulate(small(method, cluster, updates)).parameters for updates in (2, 8))
    task = small(method, cluster).task.build(0, "cpu", "float64", 2)
    shapes = tuple(tuple(each.shape) for each in task.module.parameters())
    server = View(torch.from_numpy(early), layers=task.layout.layers, shapes=shapes)
    out = ~mask([[8, 9, 10, 11], [6, 7, 8]], server).numpy()
    assert (early[out] == late[out]).all()
    assert np.mean(early[~out] != late[~out]) > 0.7  # some pixels are never on
    alone = asyncsim.simulate(small(method | {"shares": {0: 0.67}}, cluster, 8)).parameters
    assert np.mean(early[out] != alone[out]) > 0.7


def test_a_share_of_one_is_federated_averaging(make):
    """p = 1: local_sgd, bit for bit and event for event, in float32 and with weights by data; p = 0.95 is not."""
    common = {"optimizer": SERVER, "run": {"updates": 30}, "cluster": FLEET, "task": TASK | {"partition": "iid_shards"}}
    steps = {"local_lr": 0.1, "before": ["data_weights"]}
    average, whole, part = (make(1, method=steps | each, **common) for each in (
        {"kind": "local_sgd"}, {"kind": "weight_update_magnitudes", "shares": {4: 1.0, 2: 1.0}},
        {"kind": "weight_update_magnitudes", "shares": {4: 0.95}},
    ))  # fmt: skip
    same_bits(average, whole)
    assert (asyncsim.simulate(part).parameters != asyncsim.simulate(whole).parameters).any()


# Which neurons.


NETWORK = {"layers": (slice(0, 20), slice(20, 30), slice(30, 60), slice(60, 63)), "shapes": ((10, 2), (10,), (3, 10), (3,))}


def rounds(transform: SubModels, changed: list[Tensor], share: float = 0.7, **view) -> list[list[int]]:
    """The neurons of a layer of ten that worker 3 lacks after each round in which two workers had these relative changes
    ``(10,)``, from parameters that are all 2."""
    params = torch.full((63,), 2.0, dtype=torch.float64)
    state, found = transform.init(params, 4), []
    for version, relative in enumerate(changed):
        server = View(params, version=version, streams=Streams(5), **NETWORK, **view)
        for worker in range(2):
            arrived = push(torch.cat([torch.zeros(20), 2 * relative, torch.zeros(33)]).double(), params, worker=worker)
            transform.update(arrived, state, server)
        transform.applied(params, state, server)
        server.version += 1
        transform.sub_model(share, state, server, 3)
        found.append(state.drawn[3].dropped[0])
    return found


def test_with_no_bound_neurons_stay_out_in_their_order():
    """A threshold that all meet: the first three are left out, and stay so."""
    changes = [torch.rand(10, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    assert rounds(SubModels(threshold=1e300), changes) == [[0, 1, 2]] * 4


def test_with_threshold_zero_only_what_has_not_changed_at_all_is_invariant():
    """Neurons 4 and 8 have not: they are left out first, and what else is left out is drawn anew."""
    changes = torch.full((10,), 1e-9)
    changes[[4, 8]] = 0
    found = rounds(SubModels(threshold=0), [changes] * 6)
    assert all({4, 8} < set(each) and len(each) == 3 for each in found)
    assert len(set(map(tuple, found))) > 2
    loose = rounds(SubModels(threshold=1e-8), [changes] * 6)
    assert loose == [[0, 1, 2]] * 6


def test_those_left_out_before_go_first():
    """In round 2 neurons 6 to 8 are invariant, then 1, 2, 6 and 7: 6 and 7 stay out, 1 follows them."""
    one, two = torch.ones(10), torch.ones(10)
    one[[6, 7, 8]], two[[1, 2, 6, 7]] = 0, 0
    assert rounds(SubModels(threshold=0.5), [one, two]) == [[6, 7, 8], [1, 6, 7]]


def test_thresholds_are_of_rounds_two_and_three_and_grow():
    """Without a threshold: the smallest change in round 2, 0.3; the mean with round 3's 0.5 then; it grows by 0.2 after rounds 5
    and 7 of a layer with too few invariant neurons, and not where there are enough."""
    changes = [torch.linspace(low, low + 9, 10) for low in (0.1, 0.3, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)]
    transform = SubModels(raise_after=3)
    params = torch.full((63,), 2.0, dtype=torch.float64)
    for share, expected in ((0.7, [0, 0.3, 0.4, 0.4, 0.6, 0.6, 0.8]), (0.9, [0, 0.3, 0.4, 0.4, 0.6, 0.6, 0.6])):
        state, seen = transform.init(params, 4), []
        for version, relative in enumerate(changes[:7]):
            server = View(params, version=version, **NETWORK)
            transform.sub_model(share, state, server, 3)
            sent = torch.cat([torch.zeros(20), 2 * relative, torch.zeros(33)]).double()
            transform.update(push(sent, params), state, server)
            transform.applied(params, state, server)
            seen.append(state.thresholds[0] if state.thresholds else 0)
        assert seen == pytest.approx(expected, abs=1e-6)


def test_three_quarters_of_the_workers_have_to_agree():
    """The smallest threshold at which so many say that a neuron has not changed, for four workers and for five."""
    reports = [torch.tensor([each, 5.0]) for each in (4.0, 1.0, 3.0, 2.0)]
    assert agreed(reports, 0.75).tolist() == [3.0, 5.0]
    assert agreed([*reports, torch.tensor([9.0, 0.0])], 0.75).tolist() == [4.0, 5.0]
    assert agreed(reports, 1.0).tolist() == [4.0, 5.0]


def test_a_layer_keeps_the_whole_part(small):
    """int(p n) neurons, and one at least."""
    assert [kept(0.75, n) for n in (1, 2, 10, 13)] == [1, 1, 7, 9]
    assert [kept(share, 20) for share in (0.95, 0.85, 0.75, 0.65, 0.5)] == [19, 17, 15, 13, 10]
    state, params = Neurons(), torch.zeros(63)
    for share in (0.95, 0.85, 0.75, 0.65, 0.5, 0.01):
        for dropout in ("invariant", "random", "ordered"):
            left = SubModels(dropout=dropout).sub_model(share, state, View(params, version=7, **NETWORK), 0)
            assert len(state.drawn.pop(0).dropped[0]) == 10 - kept(share, 10)
            assert left.sum() == kept(share, 10) * (2 + 1 + 3) + 3


# Who, and how long it takes.


class Rounds(SimpleNamespace):
    """The progress of workers in rounds of given durations; ``shares`` of each round."""

    def __init__(self, **rule):
        self.rule = Recalibrated(**rule)
        super().__init__(version=0, now=0, state=self.rule.init(0, None), note=lambda name, value: None)

    def go(self, *durations):
        """A round in which whole models would take so long (s)."""
        self.present = lambda: list(range(len(durations)))
        shares = [self.rule.share(worker, self) for worker in self.present()]
        start = self.now
        for worker, (seconds, share) in enumerate(zip(durations, shares, strict=True)):
            self.now = start + round(seconds * share * 1e9)
            self.rule.arrived(worker, self)
        self.now, self.version = max(self.now, start), self.version + 1
        return shares


def test_workers_of_equal_speed_have_a_straggler_all_the_same():
    """q = 1, p = 0.95 by the table: the first of them, for good. Two rounds are whole."""
    fleet = Rounds()
    assert [fleet.go(1, 1, 1) for _ in range(6)] == [[1, 1, 1]] * 2 + [[0.95, 1, 1]] * 4
    assert [size_for(q) for q in (1, 0.9, 0.89, 0.8, 0.7, 0.6, 0.59, 0)] == [0.95, 0.95, 0.85, 0.85, 0.75, 0.65, 0.5, 0.5]


def test_a_comparison_is_left_out_after_the_straggler_has_changed():
    """Worker 2 becomes the slowest in round 4, seen from round 5 on. That it is worker 1 in round 5 is not looked at: round 7
    follows round 6."""
    fleet = Rounds()
    slow = [fleet.go(*each) for each in [(1, 1, 2)] * 3 + [(1, 2, 1)] + [(4, 1, 1)] * 4]
    assert slow[2:4] == [[1, 1, 0.5], [1, 1, 0.5]]
    assert slow[4:6] == [[1, 0.5, 1], [1, 0.5, 1]]
    assert slow[6] == [0.5, 1, 1]


def test_the_whole_time_of_a_straggler_is_an_estimate():
    """1.15 times what the share suggests makes 0.85 of 0.95: a straggler at 0.92 has 0.95, then 0.85. Several have sizes of their
    own, against the fastest of the slow."""
    fleet = Rounds(estimate=1.15)
    assert [fleet.go(0.93, 1)[1] for _ in range(5)] == [1, 1, 0.95, 0.85, 0.85]
    fleet = Rounds(stragglers=2)
    assert [fleet.go(0.7, 0.5, 1, 0.65) for _ in range(3)][-1] == [0.95, 1, 0.65, 1]


@pytest.mark.parametrize("share", [0.0, 1.5, -0.5])
def test_a_share_is_above_0_and_at_most_1(share):
    class Wild(Recalibrated):
        def share(self, worker, progress):
            return share

    progress = WorkerProgress(3, Wild(), Streams(0))
    with pytest.raises(UserError, match=rf"gives worker 1 the share {share} of the model; allowed: 0 < share <= 1"):
        progress.read(1)


@pytest.mark.parametrize(("time", "part"), [("share", 0.75), ("flops", (9 * 65 + 6 * 10 + 10 * 7) / 997)])
def test_times_and_bytes_follow_the_share(small, time, part):
    """Two batches of 1.5 s and a message of 8 P bytes at 8 P bytes a second each way, from round 3 on times 0.75, or times the
    weights that are left of 64-12-9-10: 64-9-6-10. A plan says the same."""
    numbers = 12 * 65 + 9 * 13 + 10 * 10
    assert numbers == 997
    link = {"bandwidth": f"{64 * numbers}bit/s"}
    cluster = {"workers": 3, "compute": "0.1s", "overrides": {1: {"compute": "1.5s", "uplink": link, "downlink": link}}}
    scenario = small(SIZES | {"shares": {1: 0.75}, "time": time}, cluster, 6)
    plan, run = asyncsim.plan(scenario), asyncsim.simulate(scenario)
    assert plan.fingerprints["timeline"] == run.fingerprints["timeline"]
    spans = plan.events.query("worker == 1 and kind != 'wait'")
    seconds = ((spans["end_ns"] - spans["start_ns"]) / 1e9).groupby(spans["kind"]).apply(list)
    assert seconds["compute"] == pytest.approx([3, 3, *[3 * part] * 4], abs=1e-8)
    for kind in ("download", "upload"):
        assert seconds[kind][:6] == pytest.approx([1, 1, *[part] * 4], abs=1e-8)


def test_a_straggler_keeps_up(small):
    """Two batches of 1.6 s against 1.5 s and 1 s: q = 0.94, so rounds of 2 * 0.95 * 1.6 s. With two stragglers q = 0.63 and 0.67:
    both have the share 0.65, and rounds take 2 * 0.65 * 1.6 s. Averaging waits 3.2 s."""
    lengths = []
    for method in (FLUID, FLUID | {"stragglers": 2}, {"kind": "local_sgd", "local_steps": 2}):
        plan = asyncsim.plan(small(method, updates=20))
        ends = plan.updates.query("outcome == 'applied'")["time_ns"].to_numpy() / 1e9
        lengths.append(np.diff(ends)[-1])
    assert lengths == pytest.approx([3.04, 2.08, 3.2])


# Trouble.


def test_workers_that_crash_and_leave(small):
    """Crashes, a queue at the server, and the straggler leaves for good: the run is that of its plan, and of the batched engine
    to 1e-12; whoever is then the slowest has a sub-model."""
    cluster = FLEET | {
        "faults": {"up": {"kind": "exponential", "mean": "20s"}, "down": "2s"}, "server": {"service": "50ms"},
        "events": [{"at": "40s", "workers": [4], "stop": True}],
    }  # fmt: skip
    scenario = small(FLUID, cluster, 30)
    run = asyncsim.simulate(scenario)
    assert run.summary["crashes"] > 3
    assert asyncsim.plan(scenario).fingerprints["timeline"] == run.fingerprints["timeline"]
    assert {2, 4} <= set(run.updates[run.updates["share"] < 1]["worker"])
    batched = asyncsim.simulate(scenario.evolve({"engine": "batched"}))
    np.testing.assert_allclose(batched.parameters, run.parameters, rtol=1e-12, atol=1e-12)


@models.register("tests_half")
class Half(ModelSpec):
    """A dense layer whose activation is 1/2 at zero, or is added to its input."""

    shortcut: bool = False

    def module(self, signature) -> nn.Module:
        class Shortcut(nn.Linear):
            def forward(self, x):
                return x + torch.relu(super().forward(x))

        features = math.prod(signature.inputs)
        inner = [Shortcut(12, 12)] if self.shortcut else [nn.Sigmoid()]
        return nn.Sequential(nn.Flatten(), nn.Linear(features, 12), *inner, nn.Linear(12, signature.outputs))


@pytest.mark.parametrize("shortcut", [True, False])
def test_neurons_that_are_not_out_when_their_weights_are(small, shortcut):
    """What shapes do not tell is found by what was trained."""
    scenario = small(SIZES | {"shares": {1: 0.5}}, EVEN, 4, task=TASK | {"model": {"kind": "tests_half", "shortcut": shortcut}})
    with pytest.raises(UserError, match=r"worker 1 has trained neurons that were left out .*shortcuts"):
        asyncsim.simulate(scenario)


def test_a_run_that_diverges_says_so(small):
    """Numbers that are none any more are no sign of a shortcut."""
    run = asyncsim.simulate(small(SIZES | {"shares": {1: 0.5}, "local_lr": 1e150}, EVEN, 8))
    assert run.summary["status"] == "diverged"


IMAGES = {"kind": "mnist5k", "batch": 4}
REFUSED = [
    (FLUID | {"stragglers": 4}, {}, "`stragglers` is below the number of workers"),
    (SIZES | {"shares": {9: 0.5}}, {}, "`shares` names worker 9"),
    (SIZES | {"shares": {}}, {}, "shares"),
    (SIZES | {"shares": {0: 0.0}}, {}, "shares"),
    (FLUID, {"task": TASK | {"model": "softmax"}}, "with a hidden layer at least"),
    (FLUID, {"task": IMAGES | {"model": "resnet8"}}, "dense layers and convolutions with biases"),
    (FLUID, {"task": {"kind": "pydoc_lm", "model": "transformer", "batch": 4}}, "dense layers and convolutions with biases"),
    (FLUID, {"task": {"kind": "pydoc_lm", "model": "char_mlp", "batch": 4}}, "dense layers and convolutions with biases"),
    (FLUID, {"task": {"kind": "quadratic", "dim": 4}}, "dense layers and convolutions with biases"),
    (FLUID | {"time": "flops"}, {"task": IMAGES | {"model": "cnn"}}, "take `time: share`"),
    (FLUID | {"program": "replica"}, {}, "lacks the property `local_rate`"),
    (FLUID | {"program": {"kind": "local_sgd", "overlap": True}}, {}, "`overlaps`"),
    (FLUID | {"program": "local_adamw"}, {}, "`worker_state`"),
    (FLUID | {"uplink": ["gradient_dropping"]}, {}, "`worker_state`"),
    (FLUID | {"before": ["sub_models"]}, {}, "one transform has to make"),
    (FLUID | {"exchange": "push_sum"}, {}, "has the propert"),
    ({"kind": "local_sgd", "consistency": "recalibrated"}, {}, "one transform has to make"),
    (FLUID, {"cluster": EVEN | {"all_reduce": "ring"}}, "sub_models"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "sections", "words"), REFUSED)
def test_what_is_refused(small, method, sections, words):
    with pytest.raises(ScenarioError, match=words):
        small(method, **({"cluster": EVEN} | sections))


def test_drawn_at_the_read_and_masked_at_the_arrival():
    """Who reads twice in a round, as after a crash, has the same sub-model; what an uplink adds elsewhere is taken off."""
    transform, params = SubModels(dropout="random"), torch.ones(63, dtype=torch.float64)
    server = View(params, version=4, **NETWORK)
    state = transform.init(params, 2)
    left, again = (transform.sub_model(0.5, state, server, 0) for _ in range(2))
    assert (left == again).all()
    sent = push(torch.zeros(63, dtype=torch.float64), params * left)
    sent.replaced, sent.trained = torch.ones(63, dtype=torch.float64), left
    assert (transform.update(sent, state, server).gradient == left).all()


def test_a_server_that_crashes(small):
    """It forgets which sub-models it has handed out; those who train them know, and their pushes are taken for what they are."""
    server = {"faults": {"up": {"kind": "exponential", "mean": "15s"}, "down": "1s"}, "checkpoint": "7s"}
    run = asyncsim.simulate(small(FLUID | {"dropout": "random", "stragglers": 2}, FLEET | {"server": server}, 30))
    assert run.summary["server_restarts"] > 2
    assert run.summary["status"] == "finished"
