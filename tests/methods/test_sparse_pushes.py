"""Methods whose pushes are sparse or coarse: against loops written from the equations, bytes to the last one, and what is left.

The loops know who pushed what in which order, and nothing else of asyncsim. Layers are those of a 64-16-10 network.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from arrivals import View
from test_independent_loops import DECAY, MOMENTUM, OPTIMIZER, WORKERS, Fleet
from torch import Tensor

import asyncsim
from asyncsim.errors import UserError
from asyncsim.methods.dgs import Held, Kept, SAMomentum, SparseDifference
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
    (kind, per, ratio) for kind in ("gradient_dropping", "dgc") for per in ("layer", "model") for ratio in (0.01, 0.1)
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


@pytest.mark.parametrize("masking", [True, False])
@pytest.mark.parametrize("nesterov", [True, False])
def test_dgc(make, nesterov, masking):
    """Lin et al. 2018: g clipped to 3 / sqrt(N); u <- gam u + d, a <- a + u (Nesterov: + d + gam u), send the largest of a,
    a <- 0 there, u <- 0 there. In the warm-up of 10 pushes each: 25 %, 6.25 %, then 5 %."""
    method = {"kind": "dgc", "ratio": 0.05, "masking": masking, "clip": 3.0, "warmup": 10}
    fleet = Fleet(make, method, task=TASK, optimizer=OPTIMIZER | {"nesterov": nesterov})
    a, u, clipped = zeros(fleet), zeros(fleet), 0
    for worker, step, _, read, lr in fleet.walk():
        g = fleet.gradient(read, worker, step)
        clipped += bool(g.norm() > 3.0 / WORKERS**0.5)
        d = g * min(1.0, 3.0 / WORKERS**0.5 / float(g.norm())) + DECAY * read
        u[worker] = MOMENTUM * u[worker] + d
        a[worker] += d + MOMENTUM * u[worker] if nesterov else u[worker]
        mask = largest(a[worker], 0.25 if step < 10 else 0.0625 if step < 20 else 0.05)
        sent = torch.where(mask, a[worker], 0.0)
        a[worker] = torch.where(mask, 0.0, a[worker])
        if masking:
            u[worker] = torch.where(mask, 0.0, u[worker])
        fleet.applied(fleet.theta - lr * sent)
    fleet.agree()
    assert 0 < clipped < 240
    assert max(row.step for row in fleet.result.updates.itertuples()) > 30


def test_dgc_that_sends_all_and_masks_nothing_is_multi_asgd_bit_for_bit(make):
    """A momentum for each worker: DANA without look-ahead, weight decay 0."""
    optimizer = OPTIMIZER | {"weight_decay": 0}
    runs = [asyncsim.simulate(make(method=method, optimizer=optimizer)) for method in (
        {"kind": "dgc", "ratio": 1, "masking": False}, {"kind": "dana", "look_ahead": False}, {"kind": "dgs", "ratio": 1},
    )]  # fmt: skip
    assert np.array_equal(runs[0].parameters, runs[1].parameters)
    assert np.array_equal(runs[2].parameters, runs[1].parameters)


@pytest.mark.parametrize("per", ["layer", "model"])
def test_compression_without_momentum_is_gradient_dropping_bit_for_bit(make, per):
    plain = {"kind": "sgd", "lr": 0.05}
    runs = [asyncsim.simulate(make(method={"kind": kind, "ratio": 0.1, "per": per} | more, optimizer=plain)) for kind, more in (
        ("gradient_dropping", {}), ("dgc", {}), ("dgc", {"masking": False}), ("dgs", {"download_ratio": 1}),
    )]  # fmt: skip
    for run in runs[1:]:
        assert np.array_equal(run.parameters, runs[0].parameters)


def test_dgc_that_sends_all_and_masks_has_no_momentum(make):
    """Masking takes the momentum of everything that was sent."""
    one = make(method={"kind": "dgc", "ratio": 1}, optimizer={"kind": "sgd", "lr": 0.05, "momentum": 0.9})
    other = make(method="asgd", optimizer={"kind": "sgd", "lr": 0.05})
    assert np.array_equal(asyncsim.simulate(one).parameters, asyncsim.simulate(other).parameters)


def test_the_warm_up_is_seen_on_the_link(make):
    """Two pushes each of 25 %, 6.25 % and 1.5625 % (and one entry of each layer at least), then 1 %."""
    took = seconds(make, {"kind": "dgc", "ratio": 0.01, "warmup": 2}, task=TASK)
    shares = [0.25, 0.25, 0.0625, 0.0625, 0.015625, 0.015625] + [0.01] * 6
    most = np.array([8 * entries(share) / 1000 for share in shares])
    assert (took <= most + 1e-9).all()  # pixels that are black in a whole batch have no gradient, and zeros are not sent
    assert (took[2:] == pytest.approx(most[2:], abs=1e-9))
    with pytest.raises(UserError, match="cannot be planned: `dgc`"):
        asyncsim.plan(make(method={"kind": "dgc", "warmup": 2}))


@pytest.mark.parametrize("per", ["layer", "model"])
def test_dgs(make, per):
    """The code's rule (reference 7.1, 7.2) with the rate at the server: u <- gam u + g + wd w, send the largest, u / gam for the
    others; M <- M - lr received, D = M - sent_i, the largest of D are added to w_i and to sent_i."""
    sizes = SIZES if per == "layer" else (sum(SIZES),)
    fleet = Fleet(make, {"kind": "dgs", "ratio": 0.05, "download_ratio": 0.1, "per": per}, task=TASK)
    start = fleet.theta.clone()
    u, sent, moved = zeros(fleet), zeros(fleet), torch.zeros_like(fleet.theta)
    for worker, step, _, read, lr in fleet.walk():
        torch.testing.assert_close(read, start + sent[worker], rtol=0, atol=1e-14)
        u[worker] = MOMENTUM * u[worker] + fleet.gradient(read, worker, step) + DECAY * read
        mask = largest(u[worker], 0.05, sizes)
        moved = moved - lr * torch.where(mask, u[worker], 0.0)
        u[worker] = torch.where(mask, u[worker], u[worker] / MOMENTUM)
        difference = moved - sent[worker]
        reply = torch.where(largest(difference, 0.1, sizes), difference, 0.0)
        sent[worker] += reply
        fleet.applied(start + moved, read + reply)
    fleet.agree()
    assert (sent - moved).norm(dim=1).min() > 1e-3  # nobody holds the server's model


def test_what_dgs_does_not_send_is_kept_without_decay(arrive):
    """Unsent for T steps, then sent: u = gam u_0 + sum g (reference 7.6); exact for multiples of 1/64 and momentum 1/2."""
    transform, state = SAMomentum(ratio=0.5, momentum=0.5), Kept()
    arrive(transform, state, torch.tensor([4.0, 1.0, 4.0, 1.0]))  # sends the first and the third
    assert torch.equal(state.velocity, torch.tensor([2.0, 1.0, 2.0, 1.0]))
    small = torch.tensor([8.0, 0.25, 8.0, -0.25])
    for _ in range(5):
        assert torch.equal(arrive(transform, state, small) != 0, torch.tensor([True, False, True, False]))
    assert torch.equal(state.velocity[1::2], torch.tensor([1 + 5 * 0.25, 1 - 5 * 0.25]))
    out = arrive(transform, state, torch.tensor([0.0, 100.0, 0.0, 100.0]))
    assert torch.equal(out, torch.tensor([0.0, 102.25, 0.0, 99.75]))


def test_repeated_replies_drain_the_difference(arrive):
    """Reference 7.6: with no new pushes a worker holds theta exactly after at most ceil(n / k) replies."""
    transform = SparseDifference(ratio=0.1, per="model")
    start, theta = torch.zeros(103), torch.randn(103, generator=torch.Generator().manual_seed(0))
    state, replies = Held(start), 0
    while not torch.equal(state.held.get(0, start), theta):
        view = transform.view(theta, state, View(theta), 0)
        transform.handed(view, state, View(theta), 0)
        replies += 1
    assert replies == -(-103 // 10) == 11


def test_dgs_pays_for_its_entries_both_ways(make):
    """Every upload and every download takes the time of its entries; the bill has their sum."""
    scenario = make(3, "1s", method={"kind": "dgs", "ratio": 0.02, "download_ratio": 0.1}, run={"updates": 30})
    cluster = {"workers": 3, "compute": {"kind": "gamma", "mean": "1s", "cv": 0.3}, **LINKS,
               "instance": {"price": "1/h", "egress": "0.1/GB"}}  # fmt: skip
    scenario = scenario.evolve(cluster=cluster)
    run = asyncsim.simulate(scenario)
    events = run.events[run.events["complete"]]
    counts = {}
    for kind, ratio in (("upload", 0.02), ("download", 0.1)):
        spans = events[events["kind"] == kind]
        assert (spans["end_ns"] - spans["start_ns"] == round(1e9 * 8 * entries(ratio) / 1000)).all()
        counts[kind] = len(spans)
    sent = 8 * (counts["upload"] * entries(0.02) + counts["download"] * entries(0.1))
    assert run.summary["bytes_sent"] == pytest.approx(sent, rel=1e-12)
    assert asyncsim.plan(scenario).fingerprints["timeline"] == run.fingerprints["timeline"]


def test_what_does_not_fit_is_refused(make):
    for kind, optimizer in (("dgc", "adam"), ("dgs", "adam"), ("dgs", {"kind": "sgd", "momentum": 0.9, "nesterov": True})):
        with pytest.raises(UserError, match=r"needs the optimizer sgd"):
            make(method=kind, optimizer=optimizer)
    with pytest.raises(UserError, match="its `handed` would never be called in an `uplink`"):
        make(method={"kind": "asgd", "uplink": ["sparse_difference"]})
