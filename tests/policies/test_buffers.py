"""Averaging pushes: how many, whose penalty, and what is computed when."""

from __future__ import annotations

import pytest
import torch
from arrivals import Toy, View, arrivals, engine, push

from asyncsim.policies import SGD, Accumulate, Adam, Policy, Push, StalenessAware, Verdict
from asyncsim.policies.mean import mean_push


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_mean_of_four_by_hand():
    """Four gradients 1, 2, 3, 6 and lr 1: nothing moves for three of them, then theta - 12 / 4 = -3. Their samples add up."""
    toy = Toy((Accumulate(count=4),), SGD(lr=1.0), vector(0.0))
    results = [toy.arrive(worker % 3, vector(g)) for worker, g in enumerate((1, 2, 3, 6))]
    assert results[:3] == [Verdict.BUFFERED] * 3
    assert results[3].samples == 4
    assert torch.equal(toy.server.params, vector(-3.0))
    assert toy.arrive(0, vector(1.0)) is Verdict.BUFFERED


def test_every_push_keeps_its_own_penalty():
    """The update is (1 / count) sum (g + wd theta) / p, weight decay divided as well (reference 1.3). theta = 4, wd 0.5,
    gradients 1, 3 with penalties 1, 2: (1 / 2) * ((1 + 2) / 1 + (3 + 2) / 2) = 2.75; lr 1, so theta = 1.25."""
    toy = Toy((StalenessAware(rule="inverse"), Accumulate(count=2)), SGD(lr=1.0, weight_decay=0.5), vector(4.0))
    toy.server.version = 2  # the pushes of workers 0 and 1, who read versions 2 and 0
    toy.reads[0] = toy.reads[0]._replace(version=2)
    toy.arrive(0, vector(1.0))
    toy.arrive(1, vector(3.0))
    torch.testing.assert_close(toy.server.params, vector(1.25), rtol=1e-15, atol=0)


def test_penalties_may_be_tensors():
    """Elementwise penalties (1, 4) and 2 of gradients (1, 2) and (3, 6): mean of g / p = ((1 + 1.5) / 2, (0.5 + 3) / 2)."""
    by = engine()
    pushes = [push(gradient, vector(0, 0), by=by) for gradient in (vector(1, 2), vector(3, 6))]
    pushes[0].penalise(vector(1, 4))
    pushes[1].penalise(2.0)
    mean = mean_push(pushes)
    torch.testing.assert_close(mean.gradient / mean.penalty, vector(1.25, 1.75), rtol=1e-15, atol=0)
    assert (mean.penalty >= 1.0).all()


def test_equal_penalties_stay_one_number():
    """Three pushes of penalty 2 are one push of penalty 2 with the mean gradient, computed only when it is asked for."""
    by = engine()
    pushes = [push(vector(g), vector(0.0), by=by) for g in (1.0, 2.0, 6.0)]
    for each in pushes:
        each.penalise(2.0)
    mean = mean_push(pushes)
    assert mean.penalty == 2.0
    assert by.computed == 0
    assert torch.equal(mean.gradient, vector(3.0))
    assert by.computed == 3


def test_gradients_that_were_replaced_are_averaged_as_they_are():
    """A transform in front of the buffer may have put other gradients in place: the mean is that of what it put there."""
    by = engine()
    pushes = [push(vector(100.0), vector(0.0), by=by) for _ in range(3)]
    pushes[0].replaced, pushes[1].replaced = vector(1.0), vector(4.0)
    assert torch.equal(mean_push(pushes).gradient, vector(35.0))


def test_adam_is_slowed_down_by_penalties_in_a_buffer():
    """Adam normalises, so the mean must carry a penalty of its own: pushes of equal gradient 1 and penalties 1 and 3 give
    weights 1 and 1 / 3, a mean gradient of 1 and a penalty of 2 / (4 / 3) = 1.5. The first Adam step is lr * sign / 1.5."""
    by = engine()
    pushes = [push(vector(1.0), vector(0.0), by=by) for _ in range(2)]
    pushes[1].penalise(3.0)
    mean = mean_push(pushes)
    assert mean.penalty == pytest.approx(1.5, rel=1e-15)
    adam = Adam(lr=1.0, eps=1e-30)
    direction = adam.direction(mean, adam.init(vector(0.0), 2), View(vector(0.0)))
    torch.testing.assert_close(direction, vector(1 / 1.5), rtol=1e-14, atol=0)


def test_who_sent_it_is_the_last():
    """Worker, snapshot and staleness of a mean are those of the push that completed it."""
    by = engine()
    pushes = [push(vector(1.0), vector(0.0), staleness=tau, worker=worker, by=by) for worker, tau in ((2, 5), (1, 3))]
    mean = mean_push(pushes)
    assert (mean.worker, mean.staleness, mean.snapshot) == (1, 3, pushes[1].snapshot)


def arrive(policy: Policy, worker: int, server: View) -> Push | Verdict:
    return policy.arrive(push(None, None, worker=worker), server)


def test_a_barrier_waits_for_every_member():
    """Without a count: complete when each of the members has pushed once."""
    policy, server = Policy((Accumulate(members=True),), SGD(), None, 3), View(None)
    assert arrive(policy, 0, server) is Verdict.BUFFERED
    assert arrive(policy, 1, server) is Verdict.BUFFERED
    assert isinstance(arrive(policy, 2, server), Push)
    assert policy.state.transforms[0].buffer == []


@pytest.mark.parametrize("count", [None, 3])
def test_who_leaves_holds_nobody_up(count):
    """Three members, two have pushed, the third leaves: what waits in the buffer is complete, and ``settle`` gives it up.
    With ``members`` a count of three, too, needs no more than the two that are left."""
    policy, server = Policy((Accumulate(count=count, members=True),), SGD(), None, 3), View(None)
    for worker in (0, 1):
        arrive(policy, worker, server)
    assert policy.settle(server) is None
    server.members, server.departed = 2, frozenset({2})
    settled = policy.settle(server)
    assert isinstance(settled, Push)
    assert settled.samples == 2
    assert policy.settle(server) is None
    assert arrive(policy, 0, server) is Verdict.BUFFERED
    assert isinstance(arrive(policy, 1, server), Push)


def test_what_a_worker_pushed_before_it_left_counts_but_stands_for_nobody_else():
    """Three members; worker 0 pushes and leaves. The other two have not pushed: the buffer waits for both, then holds three."""
    policy, server = Policy((Accumulate(members=True),), SGD(), None, 3), View(None)
    arrive(policy, 0, server)
    server.members, server.departed = 2, frozenset({0})
    assert policy.settle(server) is None
    assert arrive(policy, 1, server) is Verdict.BUFFERED
    complete = arrive(policy, 2, server)
    assert isinstance(complete, Push)
    assert complete.samples == 3


def test_a_plain_count_does_not_care_who_is_there():
    """Softsync, FedBuff and Rennala average that many, whoever sends them: a departure completes nothing."""
    policy, server = Policy((Accumulate(count=3),), SGD(), None, 3), View(None)
    for worker in (0, 1):
        arrive(policy, worker, server)
    server.members, server.departed = 2, frozenset({2})
    assert policy.settle(server) is None
    assert isinstance(arrive(policy, 1, server), Push)


def test_a_settled_push_goes_through_the_rest_of_the_chain():
    """A buffer in front of a buffer: what the first gives up when a worker leaves is the first of two for the second."""
    chain = (Accumulate(members=True), StalenessAware(rule="inverse_plus_one"), Accumulate(count=2))
    policy, server = Policy(chain, SGD(), None, 2), View(None, num_workers=2, members=2)
    arrive(policy, 0, server)
    server.members, server.departed = 1, frozenset({1})
    assert policy.settle(server) is None
    assert len(policy.state.transforms[2].buffer) == 1
    assert isinstance(arrive(policy, 0, server), Push)


def test_a_mean_of_many_against_a_loop():
    """Fifty gradients with penalties 1 to 50 and weight decay, against the sum of the definition, to 1e-12."""
    gradients = arrivals(5, 50)
    start = vector(1, 2, 3, 4, 5)
    toy = Toy((StalenessAware(rule="inverse_plus_one"), Accumulate(count=50)), SGD(lr=0.5, weight_decay=0.1), start)
    toy.server.version = 100
    for tau, gradient in enumerate(gradients):
        toy.reads[0] = toy.reads[0]._replace(version=100 - tau)
        toy.arrive(0, gradient)
    by_hand = start - 0.5 * sum((g + 0.1 * start) / (tau + 1) for tau, g in enumerate(gradients)) / 50
    torch.testing.assert_close(toy.server.params, by_hand, rtol=1e-12, atol=0)
