"""Muon against singular value decompositions, and against PyTorch's in the same precision."""

from __future__ import annotations

import pytest
import torch
from arrivals import Toy, arrivals, push

from asyncsim.policies import Adam, Muon
from asyncsim.policies.muon import QUINTIC, orthogonal

SHAPES = ((6, 4), (6,), (3, 5), (2, 2, 3))
SIZE = sum(torch.Size(shape).numel() for shape in SHAPES)
RATES = [0.1] * 6 + [0.03] * 4


def trained(step: object, shapes: tuple = SHAPES, tables: tuple = ()) -> tuple[list, list, torch.Tensor]:
    """Parameters after each of ten updates, the gradients, and the start, in float64."""
    start, gradients = arrivals(SIZE, 1, seed=1)[0], arrivals(SIZE, 10)
    toy = Toy((), step, start, num_workers=1)
    ends = torch.tensor([torch.Size(shape).numel() for shape in shapes]).cumsum(0).tolist()
    pieces = tuple(slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True))
    toy.server.layers, toy.server.shapes, toy.server.tables = pieces, shapes, tuple((pieces[i], 4) for i in tables)
    seen = []
    for gradient, rate in zip(gradients, RATES, strict=True):
        toy.server.lr = rate
        toy.server.params = toy.policy.apply(push(gradient, toy.server.params, by=toy.engine), toy.server)
        seen.append(toy.server.params)
    return seen, gradients, start


@pytest.mark.parametrize("nesterov", [True, False], ids=["nesterov", "heavy"])
@pytest.mark.parametrize("scale", ["shape", "rms"])
def test_muon_maps_singular_values_by_its_polynomial(nesterov, scale):
    """Ten float64 updates of three matrices (one of them a convolution) and a vector, within 1e-11 of a loop that takes the
    singular values apart, maps them five times by the polynomial, and gives the vector AdamW steps. Without the size factor of
    the matrix it would be wrong."""
    settings = {"nesterov": nesterov, "scale": scale, "weight_decay": 0.1, "lr": 0.1, "adam_lr": 0.01}
    ours, gradients, start = trained(Muon(**settings))
    a, b, c = QUINTIC
    theta, first_piece = start.clone(), 0
    pieces = []
    for shape in SHAPES:
        pieces.append((slice(first_piece, first_piece + torch.Size(shape).numel()), shape))
        first_piece = pieces[-1][0].stop
    mean, m, v, wrong = torch.zeros(SIZE).double(), torch.zeros(SIZE).double(), torch.zeros(SIZE).double(), False
    for t, (g, rate, seen) in enumerate(zip(gradients, RATES, ours, strict=True), 1):
        mean = 0.95 * mean + 0.05 * g
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        adam = (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
        theta = theta * (1 - rate * 0.1)
        for piece, shape in pieces:
            if len(shape) == 1:
                theta[piece] -= rate / 0.1 * 0.01 * adam[piece]
                continue
            ahead = (0.05 * g + 0.95 * mean if nesterov else mean)[piece].reshape(shape[0], -1)
            u, s, vt = torch.linalg.svd(ahead / ahead.norm(), full_matrices=False)
            for _ in range(5):
                s = a * s + b * s**3 + c * s**5
            rows, columns = ahead.shape
            size = max(1, rows / columns) ** 0.5 if scale == "shape" else 0.2 * max(rows, columns) ** 0.5
            theta[piece] -= rate * size * (u @ s.diag() @ vt).reshape(-1)
            wrong |= size != 1
        assert (seen - theta).abs().max() < 1e-11
    assert wrong


def test_muon_is_pytorchs(monkeypatch):
    """A matrix alone, ten float64 updates: within 1e-12 of ``torch.optim.Muon`` computing in float64. As it is, in bfloat16,
    PyTorch's differs by more than a thousandth."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    ours, gradients, start = trained(Muon(lr=0.1, weight_decay=0.1), shapes=((3, SIZE // 3),))

    def theirs() -> torch.Tensor:
        parameter = torch.nn.Parameter(start.view(3, -1).clone())
        optimizer = torch.optim.Muon([parameter], lr=0.1, weight_decay=0.1)
        for gradient, rate in zip(gradients, RATES, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            parameter.grad = gradient.view(3, -1).clone()
            optimizer.step()
        return parameter.detach().reshape(-1)

    assert (theirs() - ours[-1]).abs().max() > 1e-3
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    assert (theirs() - ours[-1]).abs().max() < 1e-12


def test_embeddings_and_vectors_take_adamws_steps():
    """Where every tensor is a vector or a table, Muon is AdamW with ``adam_lr`` in place of ``lr``, to rounding."""
    ours, gradients, start = trained(Muon(lr=0.1, adam_lr=0.05, weight_decay=0.0), tables=(0, 2), shapes=(*SHAPES[:3], (12,)))
    toy = Toy((), Adam(beta2=0.95), start, num_workers=1)
    for gradient, rate, seen in zip(gradients, RATES, ours, strict=True):
        toy.server.lr = rate / 2
        toy.server.params = toy.policy.apply(push(gradient, toy.server.params, by=toy.engine), toy.server)
        assert (toy.server.params - seen).abs().max() < 1e-13


def test_a_matrix_of_zeros_stays_one():
    assert torch.equal(orthogonal(torch.zeros(3, 2), 5), torch.zeros(3, 2))
