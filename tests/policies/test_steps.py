"""Step rules against PyTorch's optimisers, and DANA's bookkeeping against the sum it stands for."""

from __future__ import annotations

import pytest
import torch
from arrivals import Toy, arrivals, push

from asyncsim.methods.dana import WorkerMomentum, WorkerVelocities
from asyncsim.policies import SGD, Adam

RATES = [0.1] * 20 + [0.03] * 15 + [0.5] * 15  # the rate changes between updates, as a schedule does


def alone(step: object, start: torch.Tensor, gradients: list[torch.Tensor], rates: list[float], penalty: float = 1.0) -> list:
    """Parameters after each update of one worker's gradients."""
    toy = Toy((), step, start, num_workers=1)
    seen = []
    for gradient, rate in zip(gradients, rates, strict=True):
        toy.server.lr = rate
        arrived = push(gradient, toy.server.params, by=toy.engine)
        arrived.penalise(penalty)
        toy.server.params = toy.policy.apply(arrived, toy.server)
        seen.append(toy.server.params)
    return seen


def with_torch(make: object, start: torch.Tensor, gradients: list[torch.Tensor], rates: list[float]) -> list:
    """The same with an optimiser of PyTorch's, ``make(parameters)``."""
    parameter = torch.nn.Parameter(start.clone())
    optimiser = make([parameter])
    seen = []
    for gradient, rate in zip(gradients, rates, strict=True):
        optimiser.param_groups[0]["lr"] = rate
        parameter.grad = gradient.clone()
        optimiser.step()
        seen.append(parameter.detach().clone())
    return seen


@pytest.mark.parametrize("weight_decay", [0.0, 5e-4], ids=["plain", "decay"])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)], ids=["sgd", "heavy", "nesterov"])
def test_sgd_is_pytorchs_bit_for_bit(momentum, nesterov, weight_decay):
    """Fifty float32 updates of 1,000 parameters: every bit is that of ``torch.optim.SGD``, whose operations these are."""
    start, gradients = arrivals(1000, 1, torch.float32, seed=1)[0], arrivals(1000, 50, torch.float32)
    settings = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
    ours = alone(SGD(**settings), start, gradients, RATES)
    theirs = with_torch(lambda p: torch.optim.SGD(p, lr=0.1, **settings), start, gradients, RATES)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("decoupled", [False, True], ids=["adam", "adamw"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1], ids=["plain", "decay"])
def test_adam_is_pytorchs_to_rounding(decoupled, weight_decay):
    """Fifty float64 updates, within 1e-12 of ``torch.optim.Adam`` or ``AdamW``, weight decay and a changing rate included."""
    start, gradients = arrivals(200, 1, seed=1)[0], arrivals(200, 50)
    rates = [rate / 100 for rate in RATES]
    ours = alone(Adam(weight_decay=weight_decay, decoupled=decoupled), start, gradients, rates)
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    theirs = with_torch(lambda p: kind(p, weight_decay=weight_decay), start, gradients, rates)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1, "decoupled": True}], ids=["adam", "adamw"])
def test_a_penalty_slows_adam_down(settings):
    """A constant penalty 4 divides the finished update: Adam with a quarter of the rate. (Had it divided the gradient, Adam would
    have divided it out again.)"""
    start, gradients = arrivals(50, 1, seed=1)[0], arrivals(50, 40)
    ours = alone(Adam(**settings), start, gradients, [0.01] * 40, penalty=4.0)
    slow = alone(Adam(**settings), start, gradients, [0.0025] * 40)
    plain = alone(Adam(**settings), start, gradients, [0.01] * 40)
    torch.testing.assert_close(ours[-1], slow[-1], rtol=1e-13, atol=1e-13)
    assert (ours[-1] - plain[-1]).abs().max() > 0.05


def test_a_penalty_of_sgd_divides_gradient_and_weight_decay():
    """Reference 1.3 and 2.2: v <- gam v + (g + wd theta) / G. By hand: theta = 2, g = 3, wd 0.5, G = 4, momentum 0.5, then once
    more: v = 1, theta = 2 - 0.5 = 1.5; v = 0.5 + (3 + 0.75) / 4 = 1.4375, theta = 0.78125. All exact in binary."""
    gradient = torch.tensor([3.0], dtype=torch.float64)
    seen = alone(SGD(momentum=0.5, weight_decay=0.5), torch.tensor([2.0], dtype=torch.float64), [gradient] * 2, [0.5] * 2, 4.0)
    assert [float(params) for params in seen] == [1.5, 0.78125]


SCHEDULE = [0, 1, 2, 1, 1, 0, 2, 2, 0, 1, 0, 2, 1, 0, 0, 2]


def test_dana_keeps_the_sum_of_all_velocities():
    """DANA-Zero (reference 4.2), N = 3, against the algorithm with explicit velocities: v_i <- gam v_i + g + wd theta,
    theta <- theta - lr v_i, sent: theta - lr gam sum_j v_j, while the rate changes; to 1e-13 at every one of 48 arrivals."""
    gam, decay = 0.9, 0.01
    start = arrivals(20, 1, seed=1)[0]
    toy = Toy((), WorkerMomentum(lr=0.1, momentum=gam, weight_decay=decay), start)
    theta, velocities = start.clone(), torch.zeros(3, 20, dtype=torch.float64)
    for index, (worker, gradient) in enumerate(zip(SCHEDULE * 3, arrivals(20, 48), strict=True)):
        rate = RATES[index]
        toy.arrive(worker, gradient, rate)
        toy.read(worker)
        velocities[worker] = gam * velocities[worker] + gradient + decay * theta
        theta = theta - rate * velocities[worker]
        torch.testing.assert_close(toy.server.params, theta, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(toy.policy.state.step.sum, velocities.sum(0), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(toy.reads[worker].params, theta - rate * gam * velocities.sum(0), rtol=1e-13, atol=1e-13)


def test_multi_asgd_hands_out_the_parameters():
    """Without look-ahead a worker reads theta itself; the updates are the same for the same gradients."""
    start = arrivals(5, 1, seed=1)[0]
    plain = Toy((), WorkerMomentum(look_ahead=False), start)
    ahead = Toy((), WorkerMomentum(), start)
    for worker, gradient in zip(SCHEDULE, arrivals(5, 16), strict=True):
        for toy in (plain, ahead):
            toy.arrive(worker, gradient)
            toy.read(worker)
        assert plain.reads[worker].params is plain.server.params
        assert not torch.equal(ahead.reads[worker].params, ahead.server.params)
        assert torch.equal(plain.server.params, ahead.server.params)


def test_dana_zero_is_dana_slim():
    """Reference 4.3.1: for a constant rate the look-ahead theta - lr gam sum v of DANA-Zero walks as DANA-Slim's parameters:
    Theta <- Theta - lr (gam v_i + g) with v_i <- gam v_i + g. N = 3, 48 arrivals, to 1e-13."""
    gam, rate = 0.9, 0.05
    start = arrivals(7, 1, seed=1)[0]
    zero = Toy((), WorkerMomentum(lr=rate, momentum=gam), start)
    slim, velocities = start.clone(), torch.zeros(3, 7, dtype=torch.float64)
    for worker, gradient in zip(SCHEDULE * 3, arrivals(7, 48), strict=True):
        zero.arrive(worker, gradient)
        zero.read(worker)
        velocities[worker] = gam * velocities[worker] + gradient
        slim = slim - rate * (gam * velocities[worker] + gradient)
        torch.testing.assert_close(zero.reads[worker].params, slim, rtol=1e-13, atol=1e-13)


def test_dana_without_momentum_is_sgd():
    """Reference 4.3.4: momentum 0 keeps no velocities, hands out the parameters, and gives SGD's bits."""
    start = arrivals(9, 1, torch.float32, seed=1)[0]
    dana = Toy((), WorkerMomentum(lr=0.1, momentum=0.0, weight_decay=0.01), start)
    plain = Toy((), SGD(lr=0.1, weight_decay=0.01), start)
    for worker, gradient in zip(SCHEDULE, arrivals(9, 16, torch.float32), strict=True):
        for toy in (dana, plain):
            toy.arrive(worker, gradient)
            toy.read(worker)
        assert torch.equal(dana.server.params, plain.server.params)
        assert dana.reads[worker].params is dana.server.params
    assert dana.policy.state.step == WorkerVelocities()
