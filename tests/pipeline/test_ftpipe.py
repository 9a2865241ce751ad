"""FTPipe as a method: every combination of its options against a loop written from the equations, and its boundaries."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from plain_loops import Net
from staged import final, staged

import asyncsim

LR, MOMENTUM, UPDATES, STAGES = 0.05, 0.6, 20, 3  # roundings grow where gaps are compared with divided steps
SGD = {"kind": "sgd", "lr": LR, "momentum": MOMENTUM, "weight_decay": 0.02}
ADAM = {"kind": "adam", "lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}  # an eps at which no rounding is divided by nothing
ADAMW = ADAM | {"weight_decay": 0.3, "decoupled": True}
PLAIN = {"kind": "ftpipe", "gap_aware": "none"}


def scenario(method, optimizer=SGD, stages=STAGES, updates=UPDATES, **more):
    hidden = [24, 20, 16][: stages - 1] or [24]
    cut = {"stages": {"count": stages, "split": "layers", "time": "equal"}}
    return staged(method, optimizer, stages, updates, hidden=hidden, **cut | more)


def outcome(method, optimizer=SGD, **more):
    return final(scenario(method, optimizer, **more))


# The loop: numbers of batches and passes only, no clock. Every stage has one flat vector.


class Stage:
    """Parameters, moments and statistics of stage ``index``, updated by the equations of the two files."""

    def __init__(self, start, index, stages, case, factor):
        self.theta, self.lag, self.last = start, stages - 1 - index, index == stages - 1
        self.method, self.rule, self.factor = case.method, case.optimizer, factor
        self.every = case.method.step_every
        zero = torch.zeros_like(start)
        self.v, self.m, self.second, self.B, self.E = (zero.clone() for _ in range(5))
        self.t, self.done, self.updates, self.largest = 0, 0, 0, 0.0
        self.pending = []
        self.views = [self.handed()]

    def rate(self, update):
        """Of the update with this number, from 1."""
        return self.rule.lr * self.factor(update)

    def handed(self):
        """What a forward pass is handed after ``done`` backward passes of the stage."""
        method, rule, theta = self.method, self.rule, self.theta
        if method.predict == "none" or self.done == 0:
            return theta
        steps = sum((batch + 1) % self.every == 0 for batch in range(self.done, self.done + self.lag))
        decay = rule.weight_decay
        if method.nag_with_predictor and self.last:
            steps, decay = 1, 0.0
        ahead = [self.updates + (s if method.scheduler_aware else 1) for s in range(1, steps + 1)]
        extra = sum(self.pending, torch.zeros_like(theta)) / self.every if method.predict == "aggmsnag" else 0.0 * theta
        if rule.kind == "sgd" and method.predict == "msnag":
            if not method.scheduler_aware:
                gam = rule.momentum
                return theta - self.rate(self.updates + 1) * (gam - gam ** (steps + 1)) / (1 - gam) * self.v
            return theta - sum(self.rate(n) * rule.momentum**s for s, n in enumerate(ahead, 1)) * self.v
        if rule.kind == "sgd":
            v = self.v
            for s, n in enumerate(ahead):
                v = rule.momentum * v + (extra if s == 0 else 0.0) + decay * theta
                theta = theta - self.rate(n) * v
            return theta
        m, second = self.m, self.second
        for s, n in enumerate(ahead, 1):
            m = rule.beta1 * m
            if s == 1 and method.predict == "aggmsnag":
                m = m + (1 - rule.beta1) * extra
                second = rule.beta2 * second + (1 - rule.beta2) * extra**2
            theta = theta * (1 - self.rate(n) * rule.weight_decay)
            root = (second / (1 - rule.beta2 ** (self.t + s))).sqrt() + rule.eps
            theta = theta - self.rate(n) / (1 - rule.beta1 ** (self.t + s)) * m / root
        return theta

    def backward(self, gradient, handed, staleness):
        self.pending.append(gradient)
        self.done += 1
        if self.done % self.every == 0:
            mean = sum(self.pending[1:], self.pending[0]) / self.every
            self.pending = []
            self.updates += 1
            lr = self.rate(self.updates)
            self.largest = max(self.largest, lr)
            self.theta = (self.sgd if self.rule.kind == "sgd" else self.adam)(mean, handed, staleness, lr)
        self.views.append(self.handed())

    def treated(self):
        return self.method.gap_aware == "all" or (self.method.gap_aware == "all_except_last" and not self.last)

    def sgd(self, g, handed, staleness, lr):
        rule, pen = self.rule, torch.ones_like(g)
        if self.treated():
            u = self.v if rule.momentum else g
            self.B, self.t = 0.999 * self.B + (1 - 0.999) * u**2, self.t + 1
            if staleness > 0:
                C = self.largest * ((self.B / (1 - 0.999**self.t)).sqrt() + 1e-8)
                gap = (self.theta - handed).abs() if self.method.stash else lr * g.abs()
                pen = 1 + gap / C
        before = self.method.penalise == "gradient"
        d = (g + rule.weight_decay * self.theta) / (pen if before else 1.0)
        self.v = rule.momentum * self.v + d
        return self.theta - lr * self.v / (1.0 if before else pen)

    def adam(self, g, handed, staleness, lr):
        rule, theta, before = self.rule, self.theta, self.method.penalise == "gradient"
        pen = torch.ones_like(g)
        if self.treated() and staleness > 0:
            pen = 1 + (theta - handed).abs() / (self.E.sqrt() + rule.eps)
        self.t += 1
        if not rule.decoupled:
            g = g + rule.weight_decay * theta
        if before:
            g = g / pen
        self.m = rule.beta1 * self.m + (1 - rule.beta1) * g
        self.second = rule.beta2 * self.second + (1 - rule.beta2) * g**2
        denom = self.second.sqrt() / math.sqrt(1 - rule.beta2**self.t) + rule.eps
        step = lr / (1 - rule.beta1**self.t) * self.m / denom
        if not before:
            step = step / pen
        self.E = rule.beta2 * self.E + (1 - rule.beta2) * step**2
        a = lr * rule.weight_decay if rule.decoupled else 0.0
        if before:
            theta = theta * (1 - a * (1 / pen - 1))
            return theta * (1 - a) - step
        return theta * (1 - a / pen) - step


def loop(case, factor=lambda update: 1.0):
    """Batch by batch: the forward pass of a batch at a stage sees ``batch - lag`` of its backward passes, and they are all the
    order that there is. Backward passes without a stash are replayed."""
    stages, groups = case.stages.count, case.groups
    task = case.task.build(case.seed, "cpu", "float64", groups)
    net = Net(task.module, case.cut().layers, lambda n: task.batch(n % groups, n // groups))
    flat = [torch.cat([p.reshape(-1) for p in stage]) for stage in net.start]
    rows = [Stage(flat[k], k, stages, case, factor) for k in range(stages)]

    def tensors(vector, k):
        sizes = [p.numel() for p in net.start[k]]
        return [piece.reshape(p.shape) for piece, p in zip(vector.split(sizes), net.start[k], strict=True)]

    def passes(batch, group, handed):
        """Both passes of a batch through all stages: the gradient of each."""
        x, y = net.batches(batch * groups + group)
        inputs, gradients, signal = [], [None] * stages, None
        for k in range(stages):
            inputs.append(x)
            x = net.forward(k, tensors(handed[k], k), x).detach()
        for k in reversed(range(stages)):
            row = rows[k]
            theta = handed[k] if case.method.stash or row.last else row.theta
            leaves = [p.detach().requires_grad_() for p in tensors(theta, k)]
            own = inputs[k].detach().requires_grad_(k > 0)
            output = net.forward(k, leaves, own)
            target = torch.nn.functional.cross_entropy(output, y) if row.last else output
            found = torch.autograd.grad(target, leaves + ([own] if k else []), signal)
            signal = found[-1] if k else None
            gradients[k] = torch.cat([g.reshape(-1) for g in found[: len(leaves)]])
        return gradients

    for batch in range(UPDATES * case.method.step_every):
        seen = [max(0, batch - row.lag) for row in rows]
        handed = [row.views[at] for row, at in zip(rows, seen, strict=True)]
        found = [passes(batch, group, handed) for group in range(groups)]
        for k, row in enumerate(rows):
            mean = sum(gradients[k] for gradients in found) / groups
            row.backward(mean, handed[k], row.updates - seen[k] // row.every)
    return torch.cat([row.theta for row in rows])


GAPS = [{"gap_aware": where, "penalise": what} for where in ("all_except_last", "all") for what in ("gradient", "direction")]
AHEAD = [{"gap_aware": "none", "predict": predict, "step_every": every, "stash": stash, "recompute": not stash}
         for predict, every, stash in itertools.product(("msnag", "aggmsnag"), (1, 2, 3), (True, False))]  # fmt: skip
BOTH = [{"predict": "msnag"}, {"predict": "aggmsnag", "penalise": "direction"}]


@pytest.mark.parametrize("optimizer", [SGD, SGD | {"momentum": 0.0}, ADAM | {"weight_decay": 0.1}, ADAMW],
                         ids=["sgd", "no momentum", "adam", "adamw"])  # fmt: skip
@pytest.mark.parametrize("options", GAPS)
def test_gap_aware(options, optimizer):
    """1e-12 of the loop; and the penalty is there, so a loop without it is refused."""
    case = scenario({"kind": "ftpipe"} | options, optimizer)
    seen = outcome(case.method.settings(), optimizer)
    torch.testing.assert_close(seen, loop(case), rtol=0, atol=1e-12)
    assert (seen - outcome(PLAIN, optimizer)).abs().max() > 1e-6


@pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW], ids=["sgd", "adam", "adamw"])
@pytest.mark.parametrize("options", AHEAD + BOTH)
def test_prediction(options, optimizer):
    """1e-12 of the loop, with and without a stash, accumulated or not."""
    case = scenario({"kind": "ftpipe"} | options, optimizer)
    seen = outcome(case.method.settings(), optimizer)
    torch.testing.assert_close(seen, loop(case), rtol=0, atol=1e-12)
    without = outcome(case.method.settings() | {"predict": "none"}, optimizer)
    assert (seen - without).abs().max() > 1e-6


@pytest.mark.parametrize("predict", ["msnag", "aggmsnag"])
@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_rates_of_the_schedule(optimizer, aware, predict):
    """A rate that moves at every update: 1e-12 of the loop, whether it is foreseen or not; the two differ."""
    schedule = {"kind": "linear", "unit": "updates", "length": UPDATES, "final": 0.1}
    method = PLAIN | {"predict": predict, "scheduler_aware": aware, "step_every": 1}
    case = scenario(method, optimizer, schedule=schedule)
    expected = loop(case, lambda update: 1 + (0.1 - 1) * min(1.0, update / UPDATES))
    torch.testing.assert_close(outcome(method, optimizer, schedule=schedule), expected, rtol=0, atol=1e-12)
    other = outcome(method | {"scheduler_aware": not aware}, optimizer, schedule=schedule)
    assert (other - expected).abs().max() > 1e-9


@pytest.mark.parametrize("predict", ["msnag", "aggmsnag"])
@pytest.mark.parametrize("every", [1, 2])
def test_the_last_stage_may_step_ahead(predict, every):
    """``nag_with_predictor``: 1e-12 of the loop; in one stage without decay it is Nesterov's SGD in another variable, whose
    parameters look ahead by ``lr * momentum * v``."""
    method = PLAIN | {"predict": predict, "nag_with_predictor": True, "step_every": every}
    torch.testing.assert_close(outcome(method), loop(scenario(method)), rtol=0, atol=1e-12)


def test_gap_of_two_stages_without_a_stash():
    """The gap of the one stale stage is ``lr * |g|``: 1e-12 of the loop."""
    method = {"kind": "ftpipe", "stash": False, "recompute": True}
    torch.testing.assert_close(outcome(method, stages=2), loop(scenario(method, stages=2)), rtol=0, atol=1e-12)


# Boundaries, bit for bit.


@pytest.mark.parametrize("optimizer", [SGD, ADAMW, {"kind": "nadam", "lr": 0.01}], ids=["sgd", "adamw", "nadam"])
def test_without_options_it_is_pipedream(optimizer):
    assert torch.equal(outcome(PLAIN, optimizer), outcome("pipedream", optimizer))
    for stash, weights in ((True, "stashed"), (False, "current")):
        method = PLAIN | {"stash": stash}
        assert torch.equal(outcome(method, optimizer), outcome({"kind": "pipedream", "backward_weights": weights}, optimizer))
    replayed = outcome({"kind": "pipedream", "backward_weights": "replayed"}, optimizer)
    assert torch.equal(outcome(PLAIN | {"stash": False, "recompute": True}, optimizer), replayed)
    assert torch.equal(outcome(PLAIN | {"recompute": True}, optimizer), outcome(PLAIN, optimizer))
    assert not torch.equal(replayed, outcome(PLAIN, optimizer))


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
def test_sgd_is_the_published_gap_aware(momentum):
    """PipeDream behind ``gap_aware`` with the code's step length, between parameters."""
    optimizer = SGD | {"momentum": momentum}
    gap = {"kind": "gap_aware", "step_length": "code", "between": "parameters"}
    expected = outcome({"kind": "pipedream", "before": [gap]}, optimizer)
    assert torch.equal(outcome("ftpipe", optimizer), expected)
    assert not torch.equal(outcome("pipedream", optimizer), expected)


@pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW], ids=["sgd", "adam", "adamw"])
@pytest.mark.parametrize("options", [*GAPS, {"predict": "msnag"}, {"predict": "aggmsnag"}])
def test_one_stage_has_no_use_for_any_option(options, optimizer):
    """Without staleness nothing is divided or predicted: the optimizer's bits."""
    alone = {"stages": 1, "workers": 1}
    assert torch.equal(outcome({"kind": "ftpipe"} | options, optimizer, **alone), outcome("asgd", optimizer, **alone))


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_equal_parameters_give_a_penalty_of_one(optimizer):
    """With a rate of 0 nothing moves, and every penalty is 1 at any staleness."""
    case = scenario("ftpipe", optimizer | {"lr": 0.0})
    updates = asyncsim.simulate(case).updates
    assert set(updates["penalty"]) == {1.0}
    assert set(updates["staleness"]) == {0, 1, 2}


def test_penalties_are_there_where_the_staleness_is():
    """All but the last stage, and there from the first stale push on."""
    updates = asyncsim.simulate(scenario("ftpipe")).updates
    stale = updates["staleness"] > 0
    assert (updates["penalty"][stale] > 1).all()
    assert (updates["penalty"][~stale] == 1).all()
    assert set(updates["worker"][stale]) == {0, 1}


@pytest.mark.parametrize("every", [1, 2, 3, 4])
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_the_steps_ahead_are_the_staleness_that_comes(stages, every, monkeypatch):
    """In a full pipeline a forward pass looks ahead by as many steps as its gradient will be stale."""
    from asyncsim.methods.ftpipe_sgd import FTPipeSGD

    foreseen = {}
    original = FTPipeSGD.rates

    def noting(self, server, worker):
        rates = original(self, server, worker)
        foreseen[server.stage, server.version, len(server.waiting)] = len(rates)
        return rates

    monkeypatch.setattr(FTPipeSGD, "rates", noting)
    updates = asyncsim.simulate(scenario(PLAIN | {"predict": "msnag", "step_every": every}, stages=stages)).updates
    checked = 0
    for row in updates[updates["step"] >= stages].itertuples():
        done = row.step - (stages - 1 - row.worker)
        key = row.worker, done // every, done % every
        assert foreseen[key] == row.staleness
        checked += 1
    assert checked > 30
    assert max(foreseen.values()) == -(-(stages - 1) // every)


def test_recomputing_takes_the_time_of_the_forward_pass():
    """Per batch F + F + B at every stage but the last, in virtual time; the numbers are the same (above)."""
    kept, again = (
        asyncsim.plan(scenario(PLAIN | {"recompute": recompute}, cluster={"workers": STAGES, "compute": "9s"}))
        for recompute in (False, True)
    )
    for result, seconds in ((kept, 2.0), (again, 3.0)):
        spans = result.events[(result.events["kind"] == "backward") & (result.events["worker"] < STAGES - 1)]
        assert set(spans["end_ns"] - spans["start_ns"]) == {seconds * 10**9}


@pytest.mark.parametrize("options", [{}, {"predict": "msnag"}, {"gap_aware": "none", "predict": "msnag", "step_every": 2}])
@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_two_groups_share_the_mean(optimizer, options):
    """Their stages read alike, so a mean gradient has one gap: 1e-12 of the loop with the mean of both groups' gradients."""
    case = scenario({"kind": "ftpipe"} | options, optimizer, workers=2 * STAGES)
    seen = outcome(case.method.settings(), optimizer, workers=2 * STAGES)
    torch.testing.assert_close(seen, loop(case), rtol=0, atol=1e-12)


REFUSED = {
    "another optimizer": ({}, {"kind": "nadam"}, {}, "sgd .without nesterov. and adam, not for nadam"),
    "nesterov": ({"gap_aware": "none", "predict": "msnag"}, SGD | {"nesterov": True}, {}, "without nesterov"),
    "accumulation": ({"step_every": 2}, SGD, {}, "would be divided again"),
    "Adam without stash": ({"stash": False}, ADAMW, {}, "compares with stashed parameters"),
    "three stages without stash": ({"stash": False}, SGD, {}, "a staleness of 1 only, and in 3 stages"),
    "coupled decay": ({"gap_aware": "none", "predict": "msnag"}, ADAM | {"weight_decay": 0.1}, {}, "decoupled: true"),
    "others' steps": ({"gap_aware": "none", "predict": "msnag", "sharing": "asynchronous"}, SGD, {"workers": 6}, "one group"),
    "nothing to foresee": ({"scheduler_aware": True}, SGD, {}, "with `predict` only"),
    "nag of Adam": ({"predict": "msnag", "nag_with_predictor": True}, ADAMW, {}, "the optimizer sgd"),
    "nag of nothing": ({"nag_with_predictor": True}, SGD, {}, "takes `predict`"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_code_cannot_do_is_refused(name):
    options, optimizer, more, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        scenario({"kind": "ftpipe"} | options, optimizer, **more)


def test_a_stage_recomputes_what_it_has_stashed():
    program = {"kind": "stage", "order": "1f1b", "recompute": True, "backward": "current"}
    with pytest.raises(ValueError, match="that is `backward: replayed`"):
        scenario({"kind": "custom", "program": program})


@pytest.mark.parametrize(("method", "optimizer", "said"), [
    ("ftpipe", SGD, True), ("ftpipe", ADAMW, True), ("ftpipe", SGD | {"momentum": 0.0}, False), (PLAIN, SGD, False),
    (PLAIN | {"predict": "msnag"}, ADAMW, False),
])  # fmt: skip
def test_it_says_where_roundings_grow(method, optimizer, said):
    """Where gaps are compared with steps that were divided themselves, as `gap_aware` says of its published form."""
    assert scenario(method, optimizer).bundle().amplifies_rounding is said
