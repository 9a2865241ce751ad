"""FTPipe's step rules by themselves: what a prediction is, and what AdamW's penalty does to the decay."""

from __future__ import annotations

import pytest
import torch
from arrivals import Toy, arrivals, push

from asyncsim.methods.ftpipe_adam import FTPipeAdam
from asyncsim.methods.ftpipe_sgd import FTPipeSGD
from asyncsim.policies import SGD, Adam

START = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
ZERO = torch.zeros(3, dtype=torch.float64)


def driven(rule, stage=0, num_stages=4, pushes=7):
    toy = Toy((), rule, START, num_workers=1, stage=stage, num_stages=num_stages)
    for gradient in arrivals(3, pushes):
        toy.arrive(0, gradient)
        toy.read(0)
    return toy


@pytest.mark.parametrize(("predict", "decay"), [("msnag", 0.0), ("aggmsnag", 0.0), ("aggmsnag", 0.3)])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_prediction_is_steps_without_gradients(stage, predict, decay):
    """Of plain SGD from the same state, as many as stages are above: 1e-15. With decay ``msnag`` leaves that out."""
    rule = FTPipeSGD(lr=0.1, momentum=0.8, weight_decay=decay, gap_aware="none", predict=predict)
    plain = driven(SGD(lr=0.1, momentum=0.8, weight_decay=decay))
    ahead = driven(rule, stage).reads[0].params
    for _ in range(3 - stage):
        plain.arrive(0, ZERO)
    torch.testing.assert_close(ahead, plain.server.params, rtol=0, atol=1e-15)
    if decay and stage < 3:
        other = driven(rule.model_copy(update={"predict": "msnag"}), stage).reads[0].params
        assert (other - ahead).abs().max() > 1e-3


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_adamw_steps_without_gradients_but_with_its_second_moment(stage):
    """``beta1^s m`` over the root of a ``v`` that does not decay, 1e-15; looking ahead leaves the run itself alone."""
    rule = FTPipeAdam(lr=0.1, beta1=0.8, beta2=0.9, weight_decay=0.3, decoupled=True, gap_aware="none", predict="msnag")
    toy = driven(rule, stage)
    state, theta = toy.policy.state.step, toy.server.params
    for s in range(1, 4 - stage):
        theta = theta * (1 - 0.1 * 0.3)
        root = (state.second / (1 - 0.9 ** (7 + s))).sqrt() + 1e-8
        theta = theta - 0.1 / (1 - 0.8 ** (7 + s)) * 0.8**s * state.first / root
    torch.testing.assert_close(toy.reads[0].params, theta, rtol=0, atol=1e-15)
    plain = driven(Adam(lr=0.1, beta1=0.8, beta2=0.9, weight_decay=0.3, decoupled=True))
    assert torch.equal(toy.server.params, plain.server.params)


def test_the_linear_form_is_exact_at_a_steady_velocity():
    """A constant gradient without decay: v is steady at ``g / (1 - momentum)``, and the parameters n updates later are
    ``theta - n lr v``; ``msnag``, which leaves the coming gradients out, falls short of it."""
    gradient = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    toy = Toy((), FTPipeSGD(lr=0.1, momentum=0.5, gap_aware="none", predict="msnag"), START, num_workers=1, num_stages=4)
    for _ in range(60):
        toy.arrive(0, gradient)
    toy.read(0)
    theta, ahead = toy.server.params, toy.reads[0].params
    for _ in range(3):
        toy.arrive(0, gradient)
    velocity = gradient / 0.5
    torch.testing.assert_close(toy.server.params, theta - 3 * 0.1 * velocity, rtol=0, atol=1e-14)
    torch.testing.assert_close(ahead, theta - 0.1 * (0.5 + 0.25 + 0.125) * velocity, rtol=0, atol=1e-14)


def test_the_decay_of_adamw_is_divided_up_to_second_order():
    """``theta (1 - a (1/G - 1)) (1 - a)`` is ``theta (1 - a / G - a^2 (1 - 1/G))``: with a gradient of zero the parameters show
    it, and G is 1 + gap / C of the step made before."""
    lr, decay = 0.1, 0.3
    rule = FTPipeAdam(lr=lr, beta1=0.0, beta2=0.9, weight_decay=decay, decoupled=True, gap_aware="all")
    toy = Toy((), rule, START, num_workers=2)
    toy.arrive(0, arrivals(3, 1)[0])
    theta, square = toy.server.params, toy.policy.state.step.square
    penalty = 1 + (theta - START).abs() / (square.sqrt() + 1e-8)
    toy.arrive(1, ZERO)  # computed on START, one update old
    a = lr * decay
    torch.testing.assert_close(toy.server.params, theta * (1 - a / penalty - a**2 * (1 - 1 / penalty)), rtol=0, atol=1e-15)
    torch.testing.assert_close(toy.pushes[1].penalty, penalty, rtol=0, atol=1e-15)
    assert (penalty > 1.5).all()


@pytest.mark.parametrize("rule", [FTPipeSGD(gap_aware="all"), FTPipeAdam(gap_aware="all")], ids=["sgd", "adam"])
def test_statistics_move_where_nothing_is_divided(rule):
    """At staleness 0 the penalty is 1, and the mean square has taken in one more step."""
    toy = Toy((), rule, START, num_workers=1)
    seen = []
    for gradient in arrivals(3, 3):
        toy.arrive(0, gradient)
        toy.read(0)
        seen.append(toy.policy.state.step.square.clone())
    assert [each.penalty for each in toy.pushes] == [1.0] * 3
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    assert (seen[-1] > 0).all()


def test_the_gradients_so_far_are_the_worker_s_own():
    """``aggmsnag`` with two of three gradients accumulated: their sum over three enters the first step, and no other worker's."""
    rule = FTPipeSGD(lr=0.1, momentum=0.5, gap_aware="none", predict="aggmsnag", step_every=3)
    toy = Toy((), rule, START, num_workers=2, num_stages=4)
    given = arrivals(3, 4)
    toy.arrive(0, given[0])
    velocity, theta = given[0], toy.server.params
    toy.server.waiting = [push(given[1], START), push(given[2], START), push(given[3], START, worker=1)]
    moving = 0.5 * velocity + (given[1] + given[2]) / 3
    torch.testing.assert_close(rule.view(theta, toy.policy.state.step, toy.server, 0), theta - 0.1 * moving, rtol=0, atol=1e-15)
    lone = theta - 0.1 * (0.5 * velocity + given[3] / 3)
    torch.testing.assert_close(rule.view(theta, toy.policy.state.step, toy.server, 1), lone, rtol=0, atol=1e-15)
