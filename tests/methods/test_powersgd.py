"""PowerSGD: the loop by QR, what is kept, when nothing is lost, bytes, and the virtual time that they take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_identities import HEAVY, parameters, same_bits
from test_independent_loops import DECAY, LR, MOMENTUM, OPTIMIZER, WORKERS, Fleet

import asyncsim
from asyncsim.methods.powersgd import LowRank, orthonormal
from asyncsim.streams import Streams

UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}


EARLY = 60
"""Updates after which the loop is compared: from there on, at rank 3, roundings grow tenfold in some 10 updates."""


@pytest.mark.parametrize("rank", [1, 3])
def test_the_loop(make, rank):
    """M <- g + E; P = an orthonormal basis of M Q, here by QR: P P' M depends on the space alone, so that Q = M' P may be
    any basis of its space; E = M - P Q'."""
    common = {"schedule": "constant", "optimizer": OPTIMIZER, "dtype": "float64"}
    fleet = Fleet(make, {"kind": "powersgd", "rank": rank}, schedule="constant")
    early = parameters(make(WORKERS, UNEVEN, method={"kind": "powersgd", "rank": rank}, run={"updates": EARLY}, **common))
    shapes, streams = [tuple(parameter.shape) for _, parameter in fleet.layers], Streams(fleet.scenario.seed)
    left, bases, v, changed = {}, {}, torch.zeros_like(fleet.theta), 0
    for worker, step, _, read, _ in fleet.walk():
        whole = fleet.gradient(read, worker, step) + left.get(worker, 0.0)
        sent = []
        for index, piece in enumerate(whole.split([int(np.prod(shape)) for shape in shapes])):
            if len(shapes[index]) < 2 or rank * sum(shapes[index]) >= piece.numel():
                sent.append(piece)
                continue
            matrix = piece.reshape(shapes[index])
            start = torch.from_numpy(streams("low_rank", index, 0).standard_normal((shapes[index][1], rank)))
            basis, r = torch.linalg.qr(matrix @ bases.get((worker, index), start))
            assert r.diagonal().abs().min() > 1e-4 * r.norm()  # else a column would begin anew
            bases[worker, index] = torch.linalg.qr(matrix.T @ basis)[0]
            sent.append((basis @ basis.T @ matrix).reshape(-1))
            changed += 1
        sent = torch.cat(sent)
        left[worker] = whole - sent
        v = MOMENTUM * v + sent + DECAY * fleet.theta
        fleet.applied(fleet.theta - LR * v)
        if fleet.version == EARLY:
            np.testing.assert_allclose(fleet.theta.numpy(), early, rtol=1e-12, atol=1e-12)
    assert changed
    run, start = torch.from_numpy(fleet.result.parameters), fleet.task.init()
    assert (fleet.theta - run).norm() < 1e-3 * (run - start).norm()


def test_a_rank_at_which_nothing_is_saved_is_asgd(make):
    common = {"compute": UNEVEN, "optimizer": HEAVY, "run": {"updates": 60}}
    same_bits(make(6, method="asgd", **common), make(6, method={"kind": "powersgd", "rank": 1000}, **common))
    asgd, ours = (parameters(make(6, method=method, **common)) for method in ("asgd", {"kind": "powersgd", "rank": 1}))
    assert not np.array_equal(asgd, ours)


class Server:
    """What the transform sees of a server: one matrix and one vector."""

    shapes, stage, streams = ((8, 6), (8,)), 0, Streams(0)
    layers = (slice(0, 48), slice(48, 56))


def pushed(transform, state, gradient):
    push = asyncsim.messages.Push(0, 0, None, 0, 0, 1, None, replaced=gradient)
    return transform.update(push, state, Server).gradient


def test_nothing_is_lost():
    """What was sent and what is left are the sum of all gradients; vectors are sent whole; a matrix of the rank is sent whole."""
    generator = torch.Generator().manual_seed(0)
    transform = LowRank(rank=2)
    state, total, sent = transform.init(None, 1), torch.zeros(56, dtype=torch.float64), torch.zeros(56, dtype=torch.float64)
    for _ in range(20):
        gradient = torch.randn(56, generator=generator, dtype=torch.float64)
        total += gradient
        out = pushed(transform, state, gradient)
        assert torch.linalg.matrix_rank(out[:48].view(8, 6), rtol=1e-10) == 2
        sent += out
    torch.testing.assert_close(sent + state.left, total, rtol=1e-12, atol=1e-12)
    assert state.left[:48].norm() > 1
    assert not state.left[48:].any()
    tall, wide = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((8, 2), (2, 6)))
    fresh = torch.cat([(tall @ wide).reshape(-1), torch.zeros(8, dtype=torch.float64)])
    torch.testing.assert_close(pushed(transform, transform.init(None, 1), fresh), fresh, rtol=1e-10, atol=1e-12)


def test_a_gradient_of_zeros_does_not_end_the_iteration():
    """Q would be 0 for ever; it begins anew, so that the next gradient is found."""
    transform = LowRank(rank=1)
    state = transform.init(None, 1)
    assert not pushed(transform, state, torch.zeros(56, dtype=torch.float64)).any()
    gradient = torch.ones(56, dtype=torch.float64)
    torch.testing.assert_close(pushed(transform, state, gradient), gradient, rtol=1e-12, atol=1e-12)


def test_columns_that_depend_on_each_other():
    columns = torch.tensor([[3.0, 6.0, 0.0], [4.0, 8.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    made = orthonormal(columns)
    torch.testing.assert_close(made[:, 0], torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64))
    assert not made[:, 1].any()
    torch.testing.assert_close(made[:, 2].abs(), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), atol=1e-12, rtol=0)


def test_bytes_and_the_time_that_they_take(make):
    """digits, 64-32-10, rank 2: 2 (32 + 64) + 32 + 2 (10 + 32) + 10 = 318 of 2,410 numbers travel, so an upload over a slow link
    takes that share of the time; in a plan as well."""
    task = {"kind": "digits", "model": {"kind": "mlp", "hidden": [32]}, "batch": 8}
    cluster = {"workers": 2, "compute": "1ns", "uplink": {"bandwidth": 2410 * 4}}
    dense, thin = (asyncsim.plan(make(2, task=task, method=method, run={"updates": 50}).evolve(cluster=cluster))
                   for method in ("asgd", {"kind": "powersgd", "rank": 2}))  # fmt: skip
    assert dense.summary["time"] == pytest.approx(25.0, rel=1e-6)
    assert thin.summary["time"] == pytest.approx(25.0 * 318 / 2410, rel=1e-6)


def test_convolutions_are_matrices_of_their_filters():
    transform = LowRank(rank=2)
    assert transform.layered_bytes(400.0, ((8, 4, 3, 3), (8,))) == pytest.approx(400.0 * (2 * (8 + 36) + 8) / 296)
    assert transform.layered_bytes(400.0, ((2, 3), (8,))) == 400.0  # thin ones would be no smaller
