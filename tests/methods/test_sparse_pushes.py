"""Methods whose pushes are sparse or coarse: against loops written from the equations, bytes to the last one, and what is left.

The loops know who pushed what in which order, and nothing else of asyncsim. Layers are those of a 64-16-10 network.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_independent_loops import DECAY, MOMENTUM, OPTIMIZER, WORKERS, Fleet
from torch import Tensor

import asyncsim
from asyncsim.errors import UserError
from asyncsim.methods.gradient_dropping import GradientDropping, Residual

SIZES = (64 * 16, 16, 16 * 10, 10)
TASK = {"kind": "digits", "model": {"kind": "mlp", "hidden": [16], "activation": "tanh"}, "batch": 8}
"""Without exact ties: behind a rectifier one sample alone may have reached a unit, and pixels have 17 values."""
LINKS = {"uplink": {"bandwidth": "1kB/s"}, "downlink": {"bandwidth": "1kB/s"}}


def largest(vector: Tensor, ratio: float, sizes: tuple[int, ...] = SIZES) -> Tensor:
    """A mask of the ``max(1, int(n * ratio))`` largest entries of each piece, by sorting."""
    masks = []
    for piece in vector.split(sizes):
        mask = torch.zeros(len(piece), dtype=torch.bool)
        mask[piece.abs().sort(descending=True).indices[: max(1, int(len(piece) * ratio))]] = True
        masks.append(mask)
    return torch.cat(masks)


def entries(ratio: float, sizes: tuple[int, ...] = SIZES) -> int:
    return sum(max(1, int(size * ratio)) for size in sizes)


def seconds(make, method, workers: int = 1, **more) -> np.ndarray:
    """How long each upload takes."""
    scenario = make(workers, "1s", method=method, run={"updates": 12}, **more)
    scenario = scenario.evolve(cluster={"workers": workers, "compute": "1s", **LINKS})
    events = asyncsim.simulate(scenario).events
    spans = events[(events["kind"] == "upload") & events["complete"]]
    return (spans["end_ns"] - spans["start_ns"]).to_numpy() / 1e9


def zeros(fleet: Fleet) -> Tensor:
    return torch.zeros(WORKERS, len(fleet.theta), dtype=torch.float64)


@pytest.mark.parametrize("per", ["layer", "model"])
def test_gradient_dropping(make, per):
    """Aji and Heafield 2017: a_i <- a_i + g, send the largest, a_i <- 0 there; momentum SGD on what is sent."""
    fleet = Fleet(make, {"kind": "gradient_dropping", "ratio": 0.05, "per": per}, task=TASK)
    a, v = zeros(fleet), torch.zeros_like(fleet.theta)
    for worker, step, _, read, lr in fleet.walk():
        a[worker] += fleet.gradient(read, worker, step)
        mask = largest(a[worker], 0.05, SIZES if per == "layer" else (sum(SIZES),))
        sent = torch.where(mask, a[worker], 0.0)
        a[worker] = torch.where(mask, 0.0, a[worker])
        v = MOMENTUM * v + sent + DECAY * fleet.theta
        fleet.applied(fleet.theta - lr * v)
    fleet.agree()
    assert int(mask.sum()) == entries(0.05, SIZES if per == "layer" else (sum(SIZES),))


def test_dropping_by_threshold(make):
    """The same with every entry of at least 0.02."""
    fleet = Fleet(make, {"kind": "gradient_dropping", "threshold": 0.02})
    a, v, counts = zeros(fleet), torch.zeros_like(fleet.theta), set()
    for worker, step, _, read, lr in fleet.walk():
        a[worker] += fleet.gradient(read, worker, step)
        mask = a[worker].abs() >= 0.02
        counts.add(int(mask.sum()))
        v = MOMENTUM * v + torch.where(mask, a[worker], 0.0) + DECAY * fleet.theta
        a[worker] = torch.where(mask, 0.0, a[worker])
        fleet.applied(fleet.theta - lr * v)
    fleet.agree()
    assert len(counts) > 20


@pytest.mark.parametrize("method", [{"ratio": 1}, {"threshold": 0.0}], ids=["all", "threshold 0"])
def test_dropping_nothing_is_asgd_bit_for_bit(make, method):
    one, other = (asyncsim.simulate(make(method=kind, optimizer=OPTIMIZER))
                  for kind in ("asgd", {"kind": "gradient_dropping"} | method))  # fmt: skip
    assert np.array_equal(one.parameters, other.parameters)
    assert one.fingerprints["timeline"] == other.fingerprints["timeline"]


def test_nothing_of_a_gradient_is_lost_to_the_bit(arrive):
    """What was sent in all, and what is left, is the sum of all gradients: to the bit where sums are exact (multiples of 1/64).
    """
    state, total, sent = Residual(), torch.zeros(12), torch.zeros(12)
    transform = GradientDropping(ratio=0.25)
    for step in range(40):
        gradient = torch.randint(-64, 65, (12,), generator=torch.Generator().manual_seed(step)) / 64
        before = torch.zeros(12) if state.residual is None else state.residual.clone()
        out = arrive(transform, state, gradient)
        assert torch.equal(out + state.residual, before + gradient)
        assert not ((out != 0) & (state.residual != 0)).any()
        total, sent = total + gradient, sent + out
        assert torch.equal(sent + state.residual, total)
    assert 0 < out.count_nonzero() <= 2 * max(1, int(6 * 0.25))
    assert state.residual.count_nonzero()


@pytest.mark.parametrize(("kind", "per", "ratio"), [
    (kind, per, ratio) for kind in ("gradient_dropping",) for per in ("layer", "model") for ratio in (0.01, 0.1)
])  # fmt: skip
def test_a_sparse_push_takes_the_time_of_its_entries(make, kind, per, ratio):
    """A value and an index are 8 bytes; a thousand bytes a second; beside it the dense push, and the plan without numbers."""
    count = entries(ratio, SIZES if per == "layer" else (sum(SIZES),))
    method = {"kind": kind, "ratio": ratio, "per": per}
    assert seconds(make, method) == pytest.approx(8 * count / 1000, abs=1e-9)
    assert seconds(make, method | {"entry_bytes": 16}) == pytest.approx(16 * count / 1000, abs=1e-9)
    assert seconds(make, "asgd") == pytest.approx(4 * sum(SIZES) / 1000, abs=1e-9)
    scenario = make(3, "1s", method=method, run={"updates": 12}).evolve(cluster={"workers": 3, "compute": "1s", **LINKS})
    assert asyncsim.plan(scenario).fingerprints["timeline"] == asyncsim.simulate(scenario).fingerprints["timeline"]


def test_a_message_is_never_longer_than_the_whole(make):
    assert seconds(make, {"kind": "gradient_dropping", "ratio": 1}) == pytest.approx(4 * sum(SIZES) / 1000, abs=1e-9)
    assert seconds(make, {"kind": "gradient_dropping", "ratio": 0.7}) == pytest.approx(4 * sum(SIZES) / 1000, abs=1e-9)


def test_by_threshold_a_push_takes_the_time_of_what_it_has(make):
    took = seconds(make, {"kind": "gradient_dropping", "threshold": 0.05})
    assert len(set(took)) > 6
    assert np.allclose(took * 125, np.round(took * 125), atol=1e-6)  # a whole number of entries, 8 ms each
    with pytest.raises(UserError, match="cannot be planned: `gradient_dropping`"):
        asyncsim.plan(make(method={"kind": "gradient_dropping", "threshold": 0.05}))


def test_stages_have_layers_of_their_own(make):
    """A pipeline of two stages: each sends the entries of its own layers."""
    cluster = {"workers": 4, "compute": "1s", **LINKS}
    scenario = make(4, "1s", method={"kind": "pipedream", "sharing": "asynchronous", "uplink": [
        {"kind": "gradient_dropping", "ratio": 0.1}]}, stages=2, run={"updates": 6}).evolve(cluster=cluster)  # fmt: skip
    events = asyncsim.simulate(scenario).events
    spans = events[(events["kind"] == "upload") & events["complete"]]
    took = (spans["end_ns"] - spans["start_ns"]) / 1e9
    for stage, sizes in enumerate((SIZES[:2], SIZES[2:])):
        assert took[spans["worker"] % 2 == stage].to_numpy() == pytest.approx(8 * entries(0.1, sizes) / 1000, abs=1e-9)
