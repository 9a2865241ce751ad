"""Gap-Aware (Barkai et al. 2020) by hand: section 2 of the reference, ``G = 1 + |theta - s| / C``."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from arrivals import Toy, View, arrivals, push

from asyncsim.methods.dana import WorkerMomentum
from asyncsim.methods.gap_aware import GapAware
from asyncsim.policies import SGD, Adam, Push

EPS = 1e-12  # so small that the hand-computed numbers need not carry it


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def server(per: str = "parameter", start: torch.Tensor | None = None, step: object = None, **fields: object) -> Toy:
    rule = GapAware(per=per, decay=0.5, eps=EPS, **fields)
    return Toy((rule,), step or SGD(lr=0.5), vector(0, 0, 0) if start is None else start, layers=(slice(0, 2), slice(2, 3)))


def test_three_arrivals_by_hand_per_parameter():
    """lr 0.5, decay b = 0.5, all three workers read theta_0 = 0.

    Arrival 1, no gap: u = g = (3, 4, 12), theta = -(1.5, 2, 6), r = u^2 / 2, and sqrt(r / (1 - b)) = |u|, so C = |u| / 2.
    Arrival 2: the gap is |u| / 2 = C, so G = 2 everywhere, and g = (8, 6, 0) becomes d = (4, 3, 0); theta = -(3.5, 3.5, 6).
    Now r / (1 - b^2) = (u1^2 / 4 + u2^2 / 2) / 0.75 = (41 / 3, 34 / 3, 48).
    Arrival 3: G = 1 + (3.5, 3.5, 6) / (0.5 sqrt of that).
    """
    toy = server()
    first = toy.arrive(0, vector(3, 4, 12))
    assert first.penalty == 1.0
    second = toy.arrive(1, vector(8, 6, 0))
    torch.testing.assert_close(second.penalty, vector(2, 2, 2), rtol=1e-11, atol=0)
    torch.testing.assert_close(toy.server.params, vector(-3.5, -3.5, -6), rtol=1e-11, atol=0)
    third = toy.arrive(2, vector(1, 1, 1))
    by_hand = vector(1 + 7 / sqrt(41 / 3), 1 + 7 / sqrt(34 / 3), 1 + 12 / sqrt(48))
    torch.testing.assert_close(third.penalty, by_hand, rtol=1e-11, atol=0)
    torch.testing.assert_close(toy.server.params, vector(-3.5, -3.5, -6) - 0.5 / by_hand, rtol=1e-11, atol=0)


def test_three_arrivals_by_hand_per_layer():
    """The same arrivals with the L2 norms of the layers {0, 1} and {2}. Norms of u1: 5 and 12, of u2: 5 and 0;
    r / (1 - b^2) = ((25 / 4 + 25 / 2) / 0.75, 48) = (25, 48); gaps 3.5 sqrt 2 and 6; so G = 1 + 1.4 sqrt 2 twice, and 1 + sqrt 3.
    """
    toy = server("layer")
    toy.arrive(0, vector(3, 4, 12))
    second = toy.arrive(1, vector(8, 6, 0))
    torch.testing.assert_close(second.penalty, vector(2, 2, 2), rtol=1e-11, atol=0)
    third = toy.arrive(2, vector(1, 1, 1))
    by_hand = vector(1 + 1.4 * sqrt(2), 1 + 1.4 * sqrt(2), 1 + sqrt(3))
    torch.testing.assert_close(third.penalty, by_hand, rtol=1e-11, atol=0)


def test_three_arrivals_by_hand_for_the_whole_model():
    """The same with one norm: |u1| = 13, |u2| = 5, r / (1 - b^2) = (169 / 4 + 25 / 2) / 0.75 = 73, gap = sqrt(242) / 2;
    G = 1 + sqrt(242 / 73) for all."""
    toy = server("model")
    toy.arrive(0, vector(3, 4, 12))
    toy.arrive(1, vector(8, 6, 0))
    third = toy.arrive(2, vector(1, 1, 1))
    torch.testing.assert_close(third.penalty, torch.full((3,), 1 + sqrt(242 / 73), dtype=torch.float64), rtol=1e-11, atol=0)


def test_the_default_decay_and_eps_are_those_of_ftpipe():
    """Reference 2.1: b = 0.999, eps = 1e-8, elementwise."""
    assert GapAware().settings() == {
        "kind": "gap_aware", "per": "parameter", "decay": 0.999, "eps": 1e-8, "between": "views",
        "step_length": "applied",
    }  # fmt: skip


@pytest.mark.parametrize("per", ["parameter", "layer", "model"])
def test_one_worker_is_the_bare_step_rule(per):
    """Reference 2.4 test 1: N = 1, no gap, G = 1: the bits of momentum SGD."""
    step = SGD(lr=0.1, momentum=0.9, weight_decay=0.01)
    toy = Toy((GapAware(per=per),), step, vector(1, 2, 3), num_workers=1, layers=(slice(0, 2), slice(2, 3)))
    plain = Toy((), step, vector(1, 2, 3), num_workers=1)
    for gradient in arrivals(3, 30):
        for each in (toy, plain):
            each.arrive(0, gradient)
            each.read(0)
        assert torch.equal(toy.server.params, plain.server.params)


@pytest.mark.parametrize("per", ["parameter", "layer", "model"])
def test_the_penalty_grows_with_the_gap_and_shrinks_with_the_rate(per):
    """Reference 2.4 test 2: G >= 1; a gap twice as wide doubles G - 1; an lr_max four times as large makes it a quarter; the
    direction of the gap does not matter; the divided gradient keeps its sign and does not grow."""
    toy = server(per)
    for gradient in arrivals(3, 6):
        toy.arrive(0, gradient)
        toy.read(0)
    rule, state, view = toy.policy.transforms[0], toy.policy.state.transforms[0], toy.server

    def penalty(moved: torch.Tensor) -> torch.Tensor:
        return rule.penalty(moved.clone(), state, view)

    moved = vector(0.3, -0.7, 0.2)
    once = penalty(moved)
    assert (once > 1.0).all()
    torch.testing.assert_close(penalty(2 * moved) - 1, 2 * (once - 1), rtol=1e-12, atol=0)
    assert torch.equal(penalty(-moved), once)
    view.lr_max *= 4
    torch.testing.assert_close(penalty(moved) - 1, (once - 1) / 4, rtol=1e-12, atol=0)
    ratio = toy.policy.step.decayed(_penalised(moved, once), view) / moved
    assert ((ratio > 0) & (ratio <= 1)).all()


def _penalised(gradient: torch.Tensor, penalty: torch.Tensor) -> Push:
    arrived = push(gradient, gradient)
    arrived.penalise(penalty)
    return arrived


def test_the_first_updates_are_no_pitfall():
    """Reference 2.4 test 3: with r = 0 C is eps, and any gap gives an absurd G. Here N = 6 workers all read theta_0. The first to
    arrive has no gap. The second has exactly the first step behind it: C is that step, G = 2, not 1e8. The k-th has m = k - 1
    steps behind it: its gap is at most lr sum |u| <= lr m rms(u) (Cauchy-Schwarz), and C = lr rms(u) up to the weights of the
    average, which differ by less than 1 % here (b = 0.999). So G <= 1 + 1.01 m.
    """
    penalties = penalties_at_the_start(GapAware(), SGD(lr=0.5), bound=lambda behind: 1.0 + behind * 1.01)
    torch.testing.assert_close(penalties[1], torch.full((8,), 2.0, dtype=torch.float64), rtol=1e-6, atol=0)


def penalties_at_the_start(transform, step, bound):
    """Six workers read theta_0. The first to arrive is not penalised, one with m steps behind it by 1 to ``bound(m)``."""
    toy = Toy((transform,), step, torch.zeros(8, dtype=torch.float64), num_workers=6)
    penalties = [toy.arrive(worker, gradient).penalty for worker, gradient in enumerate(arrivals(8, 6))]
    assert penalties[0] == 1.0
    for behind, penalty in enumerate(penalties[1:], start=1):
        assert (penalty >= 1.0).all()
        assert (penalty <= bound(behind)).all()
    return penalties


def test_a_constant_drift_of_one_step_an_update_gives_tau_plus_one():
    """Reference 2.3, corner cases: five steps of exactly C each: G = tau + 1 = 6. No net drift after five steps: G = 1."""
    rule = GapAware(eps=EPS)
    state = rule.init(vector(0, 0), 6)
    view = View(vector(0, 0), lr=0.5, lr_max=0.5)
    for _ in range(5):
        rule.applied(vector(3, -3), state, view)
    penalty = rule.penalty(5 * 0.5 * vector(-3, 3), state, view)
    torch.testing.assert_close(penalty, vector(6, 6), rtol=1e-10, atol=0)
    assert torch.equal(rule.penalty(vector(0, 0), state, view), vector(1, 1))


def test_after_a_drop_of_the_learning_rate_the_penalty_fades():
    """Reference 2.4 test 4: C uses the largest rate ever, so when lr falls to a tenth, steps of the same u leave gaps a tenth as
    wide, and G - 1 is a tenth of what it was. (With lr instead of lr_max it would stay.) u = 1 always: G - 1 = 3, then 0.3."""
    ones = torch.ones(2, dtype=torch.float64)
    toy = Toy((GapAware(eps=EPS),), SGD(lr=0.5), torch.zeros(2, dtype=torch.float64), num_workers=2)

    def three_steps_then_a_stale_push(lr: float) -> torch.Tensor:
        toy.read(0)
        stale = toy.reads[0]
        for _ in range(3):
            toy.read(1)
            toy.arrive(1, ones, lr)
        toy.reads[0] = stale
        return toy.policy.transforms[0].penalty(
            toy.server.params - stale.params, toy.policy.state.transforms[0], toy.server
        )  # fmt: skip

    torch.testing.assert_close(three_steps_then_a_stale_push(0.5) - 1, 3 * ones, rtol=1e-10, atol=0)
    torch.testing.assert_close(three_steps_then_a_stale_push(0.05) - 1, 0.3 * ones, rtol=1e-10, atol=0)
    assert toy.server.lr_max == 0.5


def test_a_dead_parameter_moves_by_weight_decay_alone():
    """A pixel that is always black: its gradient is 0, only weight decay 0.5 moves it. lr 0.5, b 0.5, from theta = 2.

    Arrival 1: d = 0.5 * 2 = 1, theta = 1.5, u = 1, C = 0.5. Arrival 2 read 2: gap 0.5 = C, G = 2, and weight decay is divided
    too (reference 1.3): d = 0.5 * 1.5 / 2 = 0.375, theta = 1.3125. Without weight decay nothing moves: gap 0 over C = lr * eps,
    G = 1, and no NaN.
    """
    toy = server(start=vector(2.0), step=SGD(lr=0.5, weight_decay=0.5))
    toy.arrive(0, vector(0))
    assert torch.equal(toy.server.params, vector(1.5))
    second = toy.arrive(1, vector(0))
    torch.testing.assert_close(second.penalty, vector(2.0), rtol=1e-11, atol=0)
    torch.testing.assert_close(toy.server.params, vector(1.3125), rtol=1e-11, atol=0)
    still = server(start=vector(2.0), step=SGD(lr=0.5))
    for worker in (0, 1, 2, 0):
        result = still.arrive(worker, vector(0))
        assert torch.equal(torch.as_tensor(result.penalty, dtype=torch.float64).reshape(-1), vector(1.0))
    assert torch.equal(still.server.params, vector(2.0))


def test_the_step_in_c_includes_the_momentum():
    """Reference 2.1: u is the momentum buffer. lr 0.5, momentum 0.5, gradients 1 and 1 of one worker: u = 1, 1.5; with b = 0.5
    r / (1 - b^2) = (1 / 4 + 2.25 / 2) / 0.75 = 11 / 6. The other worker's gap is 0.5 * 2.5, so G = 1 + 2.5 / sqrt(11 / 6)."""
    toy = server(start=vector(0.0), step=SGD(lr=0.5, momentum=0.5))
    for _ in range(2):
        toy.arrive(0, vector(1))
        toy.read(0)
    stale = toy.arrive(1, vector(1))
    torch.testing.assert_close(stale.penalty, vector(1 + 2.5 / sqrt(11 / 6)), rtol=1e-11, atol=0)


def test_the_penalty_is_taken_before_the_momentum():
    """Reference 2.2: v <- gam v + g / G. After the second arrival above of another worker (G = 2): v = 0.5 * 1 + 1 / 2 = 1."""
    toy = server(start=vector(0.0), step=SGD(lr=0.5, momentum=0.5))
    toy.arrive(0, vector(1))
    toy.arrive(1, vector(1))
    torch.testing.assert_close(toy.policy.state.step.velocity, vector(1.0), rtol=1e-11, atol=0)


def test_the_published_step_without_momentum_is_the_raw_gradient():
    """``code``: r takes in the gradient that has arrived, before G, neither divided nor decayed; t counts it. lr 0.5, b = 0.5,
    weight decay 0.5 from theta = 0; both workers read 0.

    Arrival 1: g = 3: r = 4.5, no gap, theta = -1.5. Arrival 2: g = 1: r = 2.25 + 0.5 = 2.75, t = 2, C = 0.5 sqrt(2.75 / 0.75),
    gap 1.5, so G = 1 + 3 / sqrt(11 / 3), and weight decay is divided too: d = (1 - 0.75) / G.
    """
    toy = server(start=vector(0.0), step=SGD(lr=0.5, weight_decay=0.5), step_length="code")
    first = toy.arrive(0, vector(3))
    assert first.penalty == 1.0
    second = toy.arrive(1, vector(1))
    by_hand = vector(1 + 3 / sqrt(11 / 3))
    torch.testing.assert_close(second.penalty, by_hand, rtol=1e-11, atol=0)
    torch.testing.assert_close(toy.server.params, -1.5 - 0.5 * 0.25 / by_hand, rtol=1e-11, atol=0)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_published_step_with_momentum_is_the_buffer_before_the_step(nesterov):
    """``code`` with momentum 0.5, lr 0.5, b = 0.5, gradients 1 and 1 of worker 0, then 1 of worker 1, which read 0.

    The buffers that the arrivals find are 0, 1, 1.5 (heavy ball and Nesterov alike, not the directions 1.5 and 1.75), t = 3:
    r / (1 - b^3) = (0.25 + 1.125) / 0.875 = 11 / 7, where the steps that were applied alone would give 11 / 6. theta = -0.5 *
    2.5, or with Nesterov -0.5 * (1.5 + 1.75). G = 1 + |theta| / (0.5 sqrt(11 / 7)).
    """
    toy = server(start=vector(0.0), step=SGD(lr=0.5, momentum=0.5, nesterov=nesterov), step_length="code")
    for _ in range(2):
        toy.arrive(0, vector(1))
        toy.read(0)
    stale = toy.arrive(1, vector(1))
    moved = 3.25 if nesterov else 2.5
    torch.testing.assert_close(stale.penalty, vector(1 + moved / sqrt(11 / 7)), rtol=1e-11, atol=0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_published_step_has_no_pitfall_at_the_start(momentum):
    """Six workers read theta_0. r holds 0 and the first step (or the first two gradients) at the first gap, t = 2: with b = 0.999
    C is the step over sqrt 2 at least, so G <= 1 + sqrt 2; the k-th has m = k - 1 steps behind it, and
    G <= 1 + 1.01 sqrt(m (m + 1)) (Cauchy-Schwarz, as above)."""
    step = SGD(lr=0.5, momentum=momentum)
    penalties_at_the_start(GapAware(step_length="code"), step, bound=lambda behind: 1.0 + 1.01 * sqrt(behind * (behind + 1)))


@pytest.mark.parametrize("step_length", ["applied", "code"])
def test_a_gap_before_the_first_step_is_not_penalised(step_length):
    """Under gossip the neighbours move a group's parameters before its own first step. The buffer is 0 then, C would be lr * eps,
    and G about 1e8."""
    toy = Toy((GapAware(step_length=step_length),), SGD(lr=0.5, momentum=0.5), torch.zeros(2, dtype=torch.float64))
    toy.server.params = vector(0.3, -0.2)
    first = toy.arrive(0, vector(1, 1))
    torch.testing.assert_close(torch.as_tensor(first.penalty, dtype=torch.float64).reshape(-1), vector(1.0))
    second = toy.arrive(1, vector(1, 1))
    assert (second.penalty < 3).all()


def test_a_step_rule_must_have_a_velocity_for_the_published_step():
    """Adam's moments are no momentum buffer of SGD."""
    with pytest.raises(ValueError, match="with the optimizer adam use `step_length: applied`"):
        GapAware(step_length="code").fits(Adam())
    GapAware().fits(Adam())
    GapAware(step_length="code").fits(WorkerMomentum())


@pytest.mark.parametrize(("between", "gap"), [("views", 0.0), ("parameters", 0.25)])
def test_the_gap_of_one_worker_that_looks_ahead(between, gap):
    """Reference 2.4 test 5, DANA-GA with N = 1. First g = 1, lr = momentum = 0.5: v = 1, theta = -0.5, C = 0.5, and the worker is
    handed theta - 0.25. Between views there is no gap; between parameters it is 0.25, so G = 1.5: not Nesterov's SGD."""
    toy = server(start=vector(0.0), step=WorkerMomentum(lr=0.5, momentum=0.5), between=between)
    toy.arrive(0, vector(1))
    toy.read(0)
    toy.server.look = toy.reads[0].params
    second = toy.arrive(0, vector(1))
    torch.testing.assert_close(torch.as_tensor(second.penalty, dtype=torch.float64).reshape(-1), vector(1 + gap / 0.5))
