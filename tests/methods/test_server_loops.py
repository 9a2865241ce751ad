"""The independent loops of `test_independent_loops` for methods with a momentum, or a rate, of their own at the server: written
from the equations of the papers, 240 updates of six uneven workers in float64, 1e-12."""

from __future__ import annotations

import pytest
import torch
from test_independent_loops import DECAY, LR, MOMENTUM, OPTIMIZER, UPDATES, WORKERS, Fleet, factor

CONSTANT = {"schedule": "constant"}
OUTER = 0.3
SERVER = {"kind": "sgd", "lr": OUTER, "momentum": MOMENTUM, "weight_decay": DECAY}
LOCAL = {"local_steps": 2, "local_lr": 0.05, "local_momentum": 0.5}


def zeros(fleet):
    return torch.zeros_like(fleet.theta)


def pushes(fleet):
    """Who pushed, its staleness, and the difference ``s - x`` after two local steps at the rate of the read."""
    for worker, step, tau, read, _ in fleet.walk():
        local_lr = 0.05 * factor(fleet.version - tau + 1)
        yield worker, tau, read - fleet.local_model(read, worker, step, 2, local_lr, 0.5)


@pytest.mark.parametrize("settings", [{}, {"rule": "koloskova", "smoothness": 4.0, "after": 3}], ids=["mishchenko", "koloskova"])
def test_delay_adaptive(make, settings):
    """Mishchenko et al. 2022 (reference 7): lr N / max(N, d), d = tau + 1. Koloskova et al. 2022: lr where tau <= 3, else min(lr,
    1 / (4 L tau)), L = 4. Gradient and weight decay are scaled on their way into the momentum."""
    fleet = Fleet(make, {"kind": "delay_adaptive"} | settings)
    v, slower = zeros(fleet), 0
    for worker, step, tau, read, lr in fleet.walk():
        ours = lr * WORKERS / max(WORKERS, tau + 1)
        if settings:
            ours = lr if tau <= 3 else min(lr, 1 / (4 * 4.0 * tau))
        slower += ours < lr
        v = MOMENTUM * v + (fleet.gradient(read, worker, step) + DECAY * fleet.theta) * (ours / lr)
        fleet.applied(fleet.theta - lr * v)
    assert 0 < slower < UPDATES
    fleet.agree()


def test_koloskova_may_drop(make):
    """The other form of Koloskova's rule (reference 7): what is staler than C = N is discarded, and makes no version."""
    fleet = Fleet(make, {"kind": "delay_adaptive", "rule": "koloskova", "drop": True})
    v, dropped = zeros(fleet), 0
    for worker, step, tau, read, lr in fleet.walk():
        if tau > WORKERS:
            dropped += 1
            continue
        v = MOMENTUM * v + fleet.gradient(read, worker, step) + DECAY * fleet.theta
        fleet.applied(fleet.theta - lr * v)
    assert dropped == fleet.result.summary["dropped"] > 0
    fleet.agree()


@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_adadelay(make, offset):
    """Sra et al. 2016 (reference 7): c / sqrt(t + tau), and 1 / (L + c sqrt(t + tau)) with lr = 1 / c and offset = L / c."""
    plain = {"kind": "sgd", "lr": 0.4}
    fleet = Fleet(make, {"kind": "adadelay", "offset": offset}, optimizer=plain, **CONSTANT)
    c = 1 / 0.4
    for t, (worker, step, tau, read, _) in enumerate(fleet.walk(), start=1):
        fleet.applied(fleet.theta - fleet.gradient(read, worker, step) / (offset * c + c * (t + tau) ** 0.5))
    fleet.agree()


@pytest.mark.parametrize(("period", "c"), [(4, 0.0), (4, 0.1), (4, 0.25), (1, 0.5), (3, 1 / 3)])
def test_delayed_nesterov(make, period, c):
    """Liu et al. 2024 as coded in HALoS (reference 4.1), with weight decay in D."""
    fleet = Fleet(make, {"kind": "delayed_nesterov", "period": period, "c": c} | LOCAL, optimizer=SERVER)
    m, buf = zeros(fleet), zeros(fleet)
    for t, (_, _, delta) in enumerate(pushes(fleet), start=1):
        delta = delta + DECAY * fleet.theta
        buf = buf + delta
        if t % period == 0:
            m = MOMENTUM * m + buf / period
            buf = zeros(fleet)
            step = (1 - c * period + c) * MOMENTUM * m + delta / period
        else:
            step = c * MOMENTUM * m + delta / period
        fleet.applied(fleet.theta - OUTER * step)
    fleet.agree()


def test_dana_slim(make):
    """Reference 1: v_i <- gam v_i + g, push u = g + gam v_i, Theta <- Theta - lr u; the worker decays the point that it read."""
    fleet = Fleet(make, "dana_slim")
    v = torch.zeros(WORKERS, len(fleet.theta), dtype=torch.float64)
    for worker, step, _, read, lr in fleet.walk():
        g = fleet.gradient(read, worker, step) + DECAY * read
        v[worker] = MOMENTUM * v[worker] + g
        fleet.applied(fleet.theta - lr * (g + MOMENTUM * v[worker]))
    fleet.agree()


def test_dana_slim_walks_as_dana_hands_out(make):
    """Reference 4.3.1: for a constant rate without weight decay, Slim's Theta is what DANA-Zero hands out: DANA's loop gives
    Slim's run."""
    fleet = Fleet(make, "dana_slim", optimizer=OPTIMIZER | {"weight_decay": 0.0}, **CONSTANT)
    v, theta = torch.zeros(WORKERS, len(fleet.theta), dtype=torch.float64), fleet.theta
    for worker, step, _, read, _ in fleet.walk():
        v[worker] = MOMENTUM * v[worker] + fleet.gradient(read, worker, step)
        theta = theta - LR * v[worker]
        fleet.applied(theta - LR * MOMENTUM * v.sum(0))
    fleet.agree()
    assert (theta - fleet.theta).norm() > 1e-3


def test_dana_dc(make):
    """Reference 1: g <- g + lam g g (theta - s_i), s_i the look-ahead that was sent, then DANA-Zero."""
    fleet = Fleet(make, {"kind": "dana_dc", "strength": 0.5})
    v = torch.zeros(WORKERS, len(fleet.theta), dtype=torch.float64)
    for worker, step, _, read, lr in fleet.walk():
        g = fleet.gradient(read, worker, step)
        v[worker] = MOMENTUM * v[worker] + g + 0.5 * g * g * (fleet.theta - read) + DECAY * fleet.theta
        theta = fleet.theta - lr * v[worker]
        fleet.applied(theta, theta - lr * MOMENTUM * v.sum(0))
    fleet.agree()


@pytest.mark.parametrize(("estimate", "cycle", "damping"), [("advanced", None, 0.0), ("naive", None, 0.25), ("advanced", 4, 0.5)])
def test_smega2(make, estimate, cycle, damping):
    """Cohen et al. 2022 as in the public code (reference 5): step = d + gam m with the m before the refresh, the estimate after
    the step."""
    lr0 = 0.005
    fleet = Fleet(make, {"kind": "smega2", "estimate": estimate, "cycle": cycle, "damping": damping},
                  optimizer=OPTIMIZER | {"lr": lr0})  # fmt: skip
    m, a, s, n = zeros(fleet), zeros(fleet), 0, cycle or WORKERS
    for worker, step, _, read, lr in fleet.walk():
        lr = lr * lr0 / LR
        d = fleet.gradient(read, worker, step) + DECAY * fleet.theta
        s = (s + 1) % n
        a = a + d
        theta = fleet.theta - lr * (d + MOMENTUM * m)
        if s == 0:
            m, a = MOMENTUM * m + a * (1 - damping) / n, zeros(fleet)
        ahead = n * m if estimate == "naive" else (n + s * (MOMENTUM - 1)) * m + s / n * a
        fleet.applied(theta, theta - lr * MOMENTUM * ahead)
    fleet.agree()


@pytest.mark.parametrize("keep", ["parameters", "look_ahead"])
def test_momentum_look_ahead(make, keep):
    """Ajanthan et al. 2025 (reference 3): theta <- theta - eta gam m - eta D, m <- gam m + (1 - gam) D, sent theta - eta gam m;
    or the same written on phi, which is kept in its place. (Weight decay is of what is kept.)"""
    fleet = Fleet(make, {"kind": "momentum_look_ahead", "keep": keep} | LOCAL, optimizer=SERVER)
    m = zeros(fleet)
    for _, _, delta in pushes(fleet):
        delta = delta + DECAY * fleet.theta
        if keep == "parameters":
            theta = fleet.theta - OUTER * MOMENTUM * m - OUTER * delta
            m = MOMENTUM * m + (1 - MOMENTUM) * delta
            fleet.applied(theta, theta - OUTER * MOMENTUM * m)
        else:
            m = MOMENTUM * m + (1 - MOMENTUM) * delta
            fleet.applied(fleet.theta - OUTER * (MOMENTUM * m + delta))
    fleet.agree()


def test_ormo(make):
    """Shi et al. 2024 (reference 5): a = ceil(ite / K), b = ceil(t / K); a block that begins steps by beta u and decays u; then u
    += beta^e g and w -= eta (1 - beta^(e + 1)) / (1 - beta) g."""
    fleet = Fleet(make, "ormo")
    u = zeros(fleet)
    for worker, step, tau, read, lr in fleet.walk():
        t = fleet.version
        e = -(-t // WORKERS) + (-(t - tau) // WORKERS)
        w = fleet.theta
        if t >= 1 and (t - 1) % WORKERS == 0:
            u = MOMENTUM * u
            w = w - lr * u
        g = fleet.gradient(read, worker, step) + DECAY * fleet.theta
        u = u + MOMENTUM**e * g
        fleet.applied(w - lr * (1 - MOMENTUM ** (e + 1)) / (1 - MOMENTUM) * g)
    fleet.agree()


def test_ormo_is_synchronous_momentum_that_had_every_gradient_in_its_block(make):
    """The method's point (reference 5): for a constant rate, the parameters after any order of arrivals are those of SSGD with
    momentum that was given the sum of each block's gradients, late ones included: 240 updates, 41 blocks, 1e-12."""
    fleet = Fleet(make, "ormo", optimizer=OPTIMIZER | {"weight_decay": 0.0}, **CONSTANT)
    blocks = -(-(UPDATES - 1) // WORKERS) + 1
    sums = torch.zeros(blocks, len(fleet.theta), dtype=torch.float64)
    start, u, late = fleet.theta, zeros(fleet), 0
    for worker, step, tau, read, _ in fleet.walk():
        a, b = -(-(fleet.version - tau) // WORKERS), -(-fleet.version // WORKERS)
        late += a < b
        sums[a] += fleet.gradient(read, worker, step)
        u, w = zeros(fleet), start
        for block in sums[: b + 1]:
            u = MOMENTUM * u + block
            w = w - LR * u
        fleet.applied(w)
    assert late > UPDATES / 4
    fleet.agree()


@pytest.mark.parametrize("after", [None, 2])
def test_fadas(make, after):
    """Wang et al. 2024 (reference 11.4): D the mean of three, m and v its running means, vhat the largest v, no correction,
    eta_t = eta where the latest of the three is not above tau_c (2, or 6 workers), else min(eta, 1 / tau_max). eta = 0.2."""
    optimizer = {"kind": "sgd", "lr": 0.2, "momentum": 0.8, "weight_decay": DECAY}
    method = {"kind": "fadas", "buffer": 3, "after": after, "beta2": 0.95, "eps": 1e-2}
    fleet = Fleet(make, method | LOCAL, optimizer=optimizer)
    m, v, vhat, collected, cut = zeros(fleet), zeros(fleet), zeros(fleet), [], 0
    for _, tau, delta in pushes(fleet):
        collected.append((delta, tau))
        if len(collected) == 3:
            d = sum(delta for delta, _ in collected) / 3 + DECAY * fleet.theta
            m, v = 0.8 * m + 0.2 * d, 0.95 * v + 0.05 * d * d
            vhat = torch.maximum(vhat, v)
            latest = max(tau for _, tau in collected)
            eta = 0.2 if latest <= (6 if after is None else after) else min(0.2, 1 / latest)
            cut += eta < 0.2
            fleet.applied(fleet.theta - eta * m / (torch.sqrt(vhat) + 1e-2))
            collected = []
    assert 0 < cut < UPDATES
    fleet.agree()


@pytest.mark.parametrize("most", [1.0, 0.2])
def test_heloco(make, most):
    """Reference 4.4, the equation sheet of HeLoCo, per parameter tensor; then MLA on phi. All three branches are taken."""
    settings = {"aligned": 0.3, "opposed": 1.5, "diverging": 2.0, "most": most, "kappa": 0.5, "eps": 1e-6}
    fleet = Fleet(make, {"kind": "heloco"} | settings | LOCAL, optimizer=SERVER)
    sizes, taken = [parameter.numel() for _, parameter in fleet.layers], {"kept": 0, "opposed": 0, "turned": 0}

    def corrected(d, m):
        if not m.norm():
            return d
        c = d @ m / (d.norm() * m.norm())
        conf = d.norm() / (d.norm() + 0.5 * m.norm() + 1e-6)
        if c >= 0.3:
            taken["kept"] += 1
            return d
        if c < 0:
            taken["opposed"] += 1
            return d - min(1.5 * -c * conf, most) * c * d.norm() * m / m.norm()
        taken["turned"] += 1
        lam = min(2.0 * (1 - c) * conf, 1)
        u = (1 - lam) * d / d.norm() + lam * m / m.norm()
        return d.norm() * u / u.norm()

    m = zeros(fleet)
    for _, _, delta in pushes(fleet):
        g = torch.cat([corrected(*pair) for pair in zip(delta.split(sizes), m.split(sizes), strict=True)])
        g = g + DECAY * fleet.theta
        m = MOMENTUM * m + (1 - MOMENTUM) * g
        fleet.applied(fleet.theta - OUTER * (g + MOMENTUM * m))
    assert min(taken.values()) > 0
    fleet.agree()


def test_a_worker_of_dana_slim_loses_its_momentum_when_it_goes_down(make):
    """Reference 1: v_i is lost with its worker, and only then. Two workers go down for 3 s in the middle of the run; the loop
    forgets v_i there, and one that does not ends elsewhere."""
    cluster = {"workers": WORKERS, "compute": {"kind": "gamma_heterogeneous", "mean": "1s"},
               "events": [{"at": "8s", "workers": [1, 5], "down": "3s"}]}  # fmt: skip
    fleet = Fleet(make, "dana_slim", cluster=cluster)
    ends = {}
    for forgets in (True, False):
        v = torch.zeros(WORKERS, len(fleet.theta), dtype=torch.float64)
        thetas, down = [fleet.task.init().double()], {1, 5} if forgets else set()
        for row in fleet.result.updates.itertuples():
            if row.worker in down and row.time > 11:
                v[row.worker] = 0
                down.remove(row.worker)
            read = thetas[row.read_version]
            g = fleet.gradient(read, row.worker, row.step) + DECAY * read
            v[row.worker] = MOMENTUM * v[row.worker] + g
            thetas.append(thetas[-1] - LR * factor(len(thetas)) * (g + MOMENTUM * v[row.worker]))
        assert not down
        ends[forgets] = thetas[-1]
    fleet.theta = ends[True]
    fleet.agree()
    assert (ends[True] - ends[False]).norm() > 1e-3
