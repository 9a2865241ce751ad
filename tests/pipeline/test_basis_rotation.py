"""Basis rotation: the rule against NumPy's eigenvectors, in a pipeline and by itself, and where it is plain AdamW."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_loops import Net, flat
from staged import final, staged

from asyncsim.methods.basis_rotation import BasisRotation
from asyncsim.policies import Adam, Policy, Push, Snapshot

STAGES, UPDATES = 3, 25
SETTINGS = {"lr": 0.01, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.05, "eps": 1e-3}
"""With an ``eps`` above rounding: after the first gradient its own bases make it diagonal, and all else is 0 / (0 + eps)."""


class Matrix:
    """One parameter matrix (or vector) in NumPy, by the equations; bases by ``eigh`` at first, then by ``qr``."""

    def __init__(self, p, rule):
        self.p, self.rule, self.t = p, rule, 0
        self.m, self.v = np.zeros_like(p), np.zeros_like(p)
        self.means, self.bases = {}, {}

    def step(self, g):
        rule, b1, b2 = self.rule, self.rule.beta1, self.rule.beta2
        self.t += 1
        if self.p.ndim != 2:
            self.m, self.v = b1 * self.m + (1 - b1) * g, b2 * self.v + (1 - b2) * g**2
            move = self.m / (1 - b1**self.t) / (np.sqrt(self.v / (1 - b2**self.t)) + rule.eps)
            self.p = self.p - rule.lr * move - rule.lr * rule.weight_decay * self.p
            return
        for axis, side, square in ((0, "left", g @ g.T), (1, "right", g.T @ g)):
            if rule.sides not in ("both", side):
                continue
            self.means[axis] = b2 * self.means.get(axis, 0.0) + (1 - b2) * square
            if (self.t - 1) % rule.refresh:
                continue
            if axis not in self.bases:
                self.bases[axis] = np.linalg.eigh(self.means[axis])[1][:, ::-1]
                continue
            basis = self.bases[axis]
            order = np.argsort(-np.diag(basis.T @ self.means[axis] @ basis), kind="stable")
            self.v = np.take(self.v, order, axis=axis)
            self.bases[axis] = np.linalg.qr(self.means[axis] @ basis[:, order])[0]
        U, V = (self.bases.get(axis, np.eye(self.p.shape[axis])) for axis in (0, 1))
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * (U.T @ g @ V) ** 2
        turned = U @ (U.T @ self.m @ V / (np.sqrt(self.v) + rule.eps)) @ V.T
        self.p = self.p - rule.lr * np.sqrt(1 - b2**self.t) / (1 - b1**self.t) * turned - rule.lr * rule.weight_decay * self.p


class Server:
    """A shard with parameter tensors of these shapes, whose gradients are given."""

    def __init__(self, rule, start, shapes):
        sizes = [int(np.prod(shape)) for shape in shapes]
        ends = np.cumsum(sizes)
        self.params, self.shapes, self.lr, self.version = torch.from_numpy(start.copy()), shapes, rule.lr, 0
        self.layers = tuple(slice(end - size, end) for end, size in zip(ends, sizes, strict=True))
        self.policy = Policy((), rule, self.params, 1)

    @property
    def state(self):
        return self.policy.state.step

    def step(self, gradient):
        push = Push(0, 0, Snapshot(None, 0, 0, 1.0), 0, 0, 1, None, replaced=torch.from_numpy(np.array(gradient)).reshape(-1))
        self.params = self.policy.apply(push, self)
        return self.params.numpy()


@pytest.mark.parametrize(("sides", "shape"), [("both", (4, 4)), ("left", (4, 7)), ("right", (7, 4))])
@pytest.mark.parametrize("refresh", [1, 3, 10])
def test_the_rule_is_its_equations(refresh, sides, shape):
    """A matrix and a vector, 24 gradients: 1e-12 of NumPy's. Other sides than those that have a basis without a choice are left
    out: where gradients have no component, eigenvectors are arbitrary. A rule that rotates another side is refused."""
    rule, rng = BasisRotation(**SETTINGS, refresh=refresh, sides=sides), np.random.default_rng(0)
    parts = [Matrix(rng.normal(size=shape), rule), Matrix(rng.normal(size=5), rule)]
    server = Server(rule, np.concatenate([part.p.ravel() for part in parts]), (shape, (5,)))
    wrong = Server(rule.model_copy(update={"sides": {"both": "left"}.get(sides, "both")}), server.params.numpy(), server.shapes)
    for _ in range(24):
        gradients = [rng.normal(size=part.p.shape) for part in parts]
        for part, gradient in zip(parts, gradients, strict=True):
            part.step(gradient)
        seen, other = (each.step(np.concatenate([gradient.ravel() for gradient in gradients])) for each in (server, wrong))
    expected = np.concatenate([part.p.ravel() for part in parts])
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-12)
    assert np.abs(other - expected).max() > 1e-3


def test_bases_are_orthogonal_after_every_refresh():
    """``U^T U`` is the identity to 1e-10, with gradients of rank 2 in 6 x 9 too, and every basis moves."""
    rng, rule = np.random.default_rng(1), BasisRotation(refresh=4)
    server, before = Server(rule, np.zeros(54), ((6, 9),)), None
    for step in range(40):
        server.step(rng.normal(size=(6, 2)) @ rng.normal(size=(2, 9)))
        for basis in (server.state.left_basis[0], server.state.right_basis[0]):
            assert (basis.t() @ basis - torch.eye(len(basis), dtype=torch.float64)).abs().max() < 1e-10
        if step % 4 == 0:
            assert before is None or not torch.equal(before, server.state.left_basis[0])
            before = server.state.left_basis[0]
        else:
            assert torch.equal(before, server.state.left_basis[0])


def adamw(gradients, start, steps=0):
    """AdamW with ``eps`` in the rule's place, beside a root that is corrected afterwards."""
    p, m, v, (lr, b1, b2, decay, eps) = start, 0.0, 0.0, SETTINGS.values()
    for t, g in enumerate(gradients, steps + 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = p - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps) - lr * decay * p
    return p


def test_without_a_rotation_it_is_adamw():
    """Bases of the identity that are not refreshed: 1e-12. With bases of its own it is another run."""
    rng = np.random.default_rng(2)
    gradients, start = rng.normal(size=(20, 12)), rng.normal(size=12)
    for own in (False, True):
        server = Server(BasisRotation(**SETTINGS, refresh=1000), start, ((3, 4),))
        if not own:
            server.state.left_basis[0] = torch.eye(3, dtype=torch.float64)
            server.state.right_basis[0] = torch.eye(4, dtype=torch.float64)
            server.state.steps = 1  # it is not the turn of a refresh
        for gradient in gradients:
            server.step(gradient)
        distance = np.abs(server.params.numpy() - adamw(gradients, start, server.state.steps - 20)).max()
        assert distance > 1e-3 if own else distance < 1e-12


def test_diagonal_means_only_permute():
    """Diagonal gradients with distinct entries: bases are permutations up to sign, ``v`` goes with them when they change, and
    the run is AdamW's, 1e-12."""
    rng = np.random.default_rng(3)
    scales = np.array([1.0, 4.0, 2.0])
    gradients = [np.diag(scales * rng.uniform(0.9, 1.1, 3) * rng.choice([-1, 1], 3)).ravel() for _ in range(12)]
    gradients += [np.diag(scales[[2, 0, 1]] * 9 * rng.uniform(0.9, 1.1, 3)).ravel() for _ in range(12)]  # another order
    start = rng.normal(size=9)
    server = Server(BasisRotation(**SETTINGS, refresh=3), start, ((3, 3),))
    orders = set()
    for gradient in gradients:
        server.step(gradient)
        orders.add(tuple(server.state.left_basis[0].abs().round().argmax(0).tolist()))
        assert set(server.state.left_basis[0].abs().reshape(-1).round(decimals=12).tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(server.params.numpy(), adamw(gradients, start), rtol=0, atol=1e-12)
    assert len(orders) > 1


@pytest.mark.parametrize("refresh", [1, 5])
def test_a_rotated_problem_has_the_same_losses(refresh):
    """``f(W) = |D W E - T|^2`` and its twin in the variable ``A^T W B``, A and B orthogonal: every step of the rule turns with
    them, so both have one loss curve, to 1e-9 relative. AdamW's curves part by a tenth."""
    rng = np.random.default_rng(4)
    A, B = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    D, E = np.diag([1.0, 0.7, 0.5, 0.2]), np.diag([1.2, 1.0, 0.6, 0.3])
    start, target = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))

    def curve(rule, turned):
        left, right = (A, B) if turned else (np.eye(4), np.eye(4))
        server, losses = Server(rule, (left.T @ start @ right).ravel(), ((4, 4),)), []
        for _ in range(30):
            W = left @ server.params.numpy().reshape(4, 4) @ right.T
            residual = D @ W @ E - target
            losses.append((residual**2).sum())
            server.step(left.T @ (2 * D @ residual @ E) @ right)
        return np.array(losses)

    rule = BasisRotation(**SETTINGS | {"lr": 0.05}, refresh=refresh)
    one, other = curve(rule, False), curve(rule, True)
    np.testing.assert_allclose(other, one, rtol=1e-9)
    plain = Adam(**SETTINGS | {"lr": 0.05}, decoupled=True)
    assert np.abs(curve(plain, True) / curve(plain, False) - 1).max() > 0.1
    assert one[-1] < 0.7 * one[0]


# In a pipeline.


def scenario(method, optimizer, stages=STAGES, **more):
    return staged(method, optimizer, stages, UPDATES, hidden=[12, 12], batch=64, **more)


def outcome(method, optimizer, **more):
    return final(scenario(method, optimizer, **more))


ADAMW = {"kind": "adam", "decoupled": True, **SETTINGS}


def test_in_a_pipeline():
    """Stage k of K on parameters K - k updates old: 1e-12 of a loop with NumPy's rule (rows alone are rotated, see above)."""
    method = {"kind": "basis_rotation", "sides": "left", "refresh": 3}
    case = scenario(method, ADAMW)
    task = case.task.build(case.seed, "cpu", "float64", 1)
    net = Net(task.module, case.cut().layers, lambda n: task.batch(0, n))
    rule = BasisRotation(**SETTINGS, sides="left", refresh=3)
    rows = [[Matrix(p.numpy().copy(), rule) for p in stage] for stage in net.start]
    history = [net.start]
    for batch in range(UPDATES):
        gradient, _ = net.gradient(batch, [history[max(0, batch - (STAGES - 1 - k))][k] for k in range(STAGES)])
        for k, stage in enumerate(rows):
            for part, found in zip(stage, gradient[k], strict=True):
                part.step(found.numpy())
        history.append([[torch.from_numpy(part.p) for part in stage] for stage in rows])
    seen = outcome(method, ADAMW)
    torch.testing.assert_close(seen, flat(history[-1]), rtol=0, atol=1e-12)
    assert (seen - outcome("pipedream", ADAMW)).abs().max() > 1e-3


def test_boundaries():
    """No side that is short enough: PipeDream's AdamW (1e-12, tiny eps). The named method is PipeDream with the step rule; one
    stage is `asgd` with it, bit for bit."""
    tiny = ADAMW | {"eps": 1e-18}
    unrotated = outcome({"kind": "basis_rotation", "largest": 1}, tiny)
    torch.testing.assert_close(unrotated, outcome("pipedream", tiny), rtol=0, atol=1e-12)
    rule = {"kind": "basis_rotation", **SETTINGS}
    named = outcome("basis_rotation", ADAMW)
    assert torch.equal(named, outcome("pipedream", rule))
    assert torch.equal(named, outcome("basis_rotation", rule))
    assert torch.equal(outcome("basis_rotation", rule, stages=1), outcome("asgd", rule, stages=1))


def test_settings_of_sgd():
    """Rate, decay and momentum, which is ``beta1``."""
    rule = scenario("basis_rotation", {"kind": "sgd", "lr": 0.02, "momentum": 0.7, "weight_decay": 0.1}).bundle().step
    assert rule == BasisRotation(lr=0.02, beta1=0.7, weight_decay=0.1)


@pytest.mark.parametrize("optimizer", [{"kind": "sgd", "momentum": 0.9, "nesterov": True}, {"kind": "adam", "weight_decay": 0.1},
                                       {"kind": "nadam"}])  # fmt: skip
def test_other_optimizers_are_refused(optimizer):
    with pytest.raises(ValueError, match=r"adam with `decoupled: true` too, takes .* sgd, not (nesterov|adam|nadam)"):
        scenario("basis_rotation", optimizer)


def test_a_first_gradient_that_is_not_finite_is_a_result():
    """A diverged run ends as one: no eigenvectors are asked of NaN."""
    server = Server(BasisRotation(), np.ones(12), ((3, 4),))
    assert np.isnan(server.step(np.full(12, np.nan))).all()
    assert np.isnan(server.step(np.ones(12))).all()
