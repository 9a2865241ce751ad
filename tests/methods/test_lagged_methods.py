"""Methods whose rounds travel while the next one is computed: each once more as a plain loop over rounds, and its boundaries.

A loop goes round by round, as the papers do, and knows nothing of who is slow; the run says who arrived when. Both must agree to
1e-12 in float64. The loops check first that the run's arrivals are rounds: everybody once, at the version that the loop says.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from arrivals import Toy, arrivals, push
from test_independent_loops import DECAY, LR, MOMENTUM, OPTIMIZER, Fleet
from torch import Tensor

import asyncsim
from asyncsim.methods.sapipe import ShadowStep
from asyncsim.policies import SGD
from asyncsim.scenario import ScenarioError

N, UPDATES = 4, 24
UNEQUAL = {"compute": {"kind": "gamma_heterogeneous", "mean": "1s"}, "uplink": "300ms"}
SLOW = {"compute": "1s", "uplink": {"latency": {"kind": "exponential", "mean": "2s"}}}
REDUCED = {"compute": {"kind": "gamma", "mean": "1s", "cv": 0.3}, "uplink": "200ms", "all_reduce": "ring"}
CLUSTERS = pytest.mark.parametrize("cluster", [UNEQUAL, SLOW, REDUCED], ids=["unequal", "slow links", "all-reduce"])
EXACT = {"dtype": "float64", "schedule": "constant", "optimizer": OPTIMIZER, "run": {"updates": UPDATES}}


class Rounds(Fleet):
    """A run of ``N`` workers in rounds, and the pieces of a plain loop."""

    def __init__(self, make: Callable[..., Any], method: Any, cluster: dict[str, Any] = UNEQUAL, **sections: Any) -> None:
        super().__init__(make, method, **EXACT | {"cluster": {"workers": N, **cluster}} | sections)
        self.workers = self.scenario.groups

    def step(self, theta: Tensor, v: Tensor, g: Tensor, lr: float = LR) -> tuple[Tensor, Tensor]:
        """Heavy ball with weight decay: the parameters and the momentum after it."""
        v = MOMENTUM * v + g + DECAY * theta
        return theta - lr * v, v

    def mean(self, params: Tensor, round_: int, batches: int = 1) -> Tensor:
        """Over all workers and ``batches`` batches of each at ``params``."""
        steps = range(round_ * batches, (round_ + 1) * batches)
        total = sum(self.gradient(params, worker, step) for worker in range(self.workers) for step in steps)
        return total / self.workers / batches

    def read(self, versions: Callable[[int], int]) -> None:
        """In round ``r`` of the run everybody has read the version ``versions(r)`` that the loop says, and arrived once."""
        table = self.result.updates
        assert (table["read_version"] == table["step"].map(versions)).all()
        assert not table.duplicated(["worker", "step"]).any()
        assert set(table["worker"]) == set(range(self.workers))


# LAGA and Pipe-SGD.


def lagged(fleet: Rounds, batches: int = 1, warmup: int = 0, zero: bool = True, lag: int = 1) -> Tensor:
    """The parameters after ``UPDATES`` steps: x(k + 1) = x(k) - lr d(mean gradient of round k - 1 at x(k - 1)), with rounds
    before ``warmup`` that do not lag. ``zero``: the first step after them is that of a zero gradient, else there is none."""
    x, v, under_way, updates, round_ = fleet.theta, torch.zeros_like(fleet.theta), None, 0, 0
    while updates < UPDATES:
        launched = fleet.mean(x, round_, batches)
        if round_ < warmup or not lag:
            under_way, launched = launched, None
        if under_way is None and zero:
            under_way = torch.zeros_like(x)
        if under_way is not None:
            x, v = fleet.step(x, v, under_way)
            updates += 1
        under_way, round_ = launched, round_ + 1
    return x


@CLUSTERS
@pytest.mark.parametrize("batches", [1, 3])
def test_laga(make, cluster, batches):
    """The authors' loop (reference, section 6) with momentum and weight decay. Wrong models: no first step on a zero gradient
    (weight decay acts on it), and no lag."""
    fleet = Rounds(make, {"kind": "laga", "accumulate": batches}, cluster)
    fleet.read(lambda round_: round_)
    assert set(fleet.result.updates["staleness"]) == {1}
    for wrong in ({"zero": False}, {"lag": 0}):
        assert (lagged(fleet, batches, **wrong) - torch.from_numpy(fleet.result.parameters)).abs().max() > 1e-6
    fleet.theta = lagged(fleet, batches)
    fleet.agree()


def test_laga_with_adamw(make):
    """The first step counts for Adam's corrections, too: PyTorch's AdamW, given a zero gradient first."""
    optimizer = {"kind": "adam", "lr": 0.01, "weight_decay": 0.1, "decoupled": True}
    fleet = Rounds(make, "laga", optimizer=optimizer)
    x = torch.nn.Parameter(fleet.theta.clone())
    theirs = torch.optim.AdamW([x], lr=0.01, weight_decay=0.1)
    under_way = torch.zeros_like(fleet.theta)
    for round_ in range(UPDATES):
        launched = fleet.mean(x.detach().clone(), round_)
        x.grad = under_way
        theirs.step()
        under_way = launched
    fleet.theta = x.detach()
    fleet.agree()


@pytest.mark.parametrize("engine", ["serial", {"kind": "threaded"}, {"kind": "batched", "width": 4}], ids=str)
def test_every_engine_computes_accumulated_batches(make, engine):
    fleet = Rounds(make, {"kind": "laga", "accumulate": 3}, engine=engine)
    fleet.theta = lagged(fleet, 3)
    fleet.agree()


def test_one_worker_is_sgd_of_staleness_one(make):
    """x(k + 1) = x(k) - lr g(x(k - 1)) bit for bit (reference, section 6: world 1), in float32 by PyTorch's own SGD."""
    scenario = make(1, method="laga", optimizer={"kind": "sgd", "lr": 0.1}, run={"updates": 40})
    result = asyncsim.simulate(scenario)
    task = scenario.task.build(scenario.seed, "cpu", "float32", 1)
    x, under_way = task.init(), None
    for step in range(40):
        read = x.clone()
        if under_way is not None:
            x = x.sub(under_way, alpha=0.1)
        inputs, targets = task.batch(0, step)
        task.bind(read)
        loss = task.loss(task.module(inputs), targets)
        under_way = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, task.parameters)])
    assert torch.equal(torch.from_numpy(result.parameters), x)


def quadratic(make, eta: float, updates: int) -> np.ndarray:
    scenario = make(
        3, method="laga", task={"kind": "quadratic", "dim": 1, "noise": 0.0}, optimizer={"kind": "sgd", "lr": eta},
        run={"updates": updates}, dtype="float64", evaluate={"updates": 1},
    )  # fmt: skip
    return asyncsim.simulate(scenario).metrics["test_distance"].to_numpy()


def test_stability_on_a_parabola(make):
    """z^2 = z - eta h (reference, section 6 and 1.1): stable up to eta h = 1, and at 1/4, the double root 1/2, the fastest that
    does not oscillate: x(k) = (1 + k) / 2^k, where 0.3 crosses zero, and 0.2 is slower."""
    assert quadratic(make, 0.98, 300)[-1] < 0.1
    assert quadratic(make, 1.02, 300)[-1] > 5
    at_a_quarter = quadratic(make, 0.25, 40)
    k = np.arange(1, 41)
    np.testing.assert_allclose(at_a_quarter[1:], (1 + k) / 2.0**k, rtol=1e-9)
    assert quadratic(make, 0.2, 40)[-1] > 10 * at_a_quarter[-1]
    oscillating = quadratic(make, 0.3, 40)
    assert (np.diff(oscillating[:12]) > 0).any()
    assert (np.diff(at_a_quarter[2:12]) < 0).all()


@pytest.mark.parametrize("batches", [1, 2, 3, 5])
@pytest.mark.parametrize("latency", [0.1, 0.4])
def test_a_round_takes_the_longer_of_computing_and_reducing(make, batches, latency):
    """max(A t_c, t_ar) (reference, section 6), where rounds without the lag take the sum; t_ar is 6 messages of a ring of 4. Who
    accumulates for as long as that is never idle."""
    cluster = {"workers": 4, "compute": "1s", "uplink": latency, "all_reduce": "ring"}
    reduction, rounds = 6 * latency, 19
    plan = asyncsim.plan(make(method={"kind": "laga", "accumulate": batches}, cluster=cluster, run={"updates": rounds + 1}))
    each = max(batches, reduction)
    assert plan.summary["time"] == pytest.approx(batches + reduction + (rounds - 1) * each)
    spans = plan.events
    waits = spans[spans["kind"] == "wait"]
    idle = (waits["end_ns"] - waits["start_ns"]).sum() / 1e9 / 4
    assert idle == pytest.approx((rounds - 1) * max(0, reduction - batches) if reduction > batches else 0, abs=each)
    assert (len(waits) == 0) == (batches >= reduction)
    sync = asyncsim.plan(make(method="bsp", cluster=cluster, run={"updates": rounds}))
    assert sync.summary["time"] == pytest.approx(rounds * (1 + reduction))


def published() -> list[tuple[int, float, float, float, float, float]]:
    """The table of LAGA's page: accumulated batches, images per second without communication, synchronous and of LAGA, and the
    speed-ups, measured and simulated."""
    page = (Path(__file__).parents[2] / "docs" / "methods" / "laga.md").read_text(encoding="utf-8")
    number = r"([\d.]+) \|"
    rows = re.findall(rf"^\| \w+ \| (\d+) \| {' '.join([number] * 5)}$", page, re.MULTILINE)
    return [(int(batches), *map(float, numbers)) for batches, *numbers in rows]


def test_the_published_throughputs_are_below_those_without_interference(make):
    """On LAGA's page: from the throughput without communication and the synchronous one follow t_c and t_ar, and a plan gives the
    speed-up; what was measured is below it in every row, and rounded as printed."""
    assert len(published()) == 12
    for batches, alone, synchronous, measured, ratio, simulated in published():
        compute, reduction = 1000 / alone, batches * 1000 * (1 / synchronous - 1 / alone)
        cluster = {"workers": 4, "compute": compute, "uplink": reduction / 6, "all_reduce": "ring"}
        method = {"kind": "laga", "accumulate": batches}
        first, last = (
            asyncsim.plan(make(method=method, cluster=cluster, run={"updates": updates})).summary["time"] for updates in (10, 60)
        )
        speed_up = (batches * compute + reduction) / ((last - first) / 50)
        assert speed_up == pytest.approx(simulated, abs=0.0051)
        assert measured / synchronous == pytest.approx(ratio, abs=0.0051)
        assert ratio < simulated


def test_a_round_sends_the_bytes_of_a_synchronous_one(make):
    cluster = {"workers": 4, "compute": "1s", "uplink": {"bandwidth": "1MB/s"}, "all_reduce": "ring"}
    cluster["instance"] = "aws_p3_2xlarge"
    lagging = asyncsim.plan(make(method={"kind": "laga", "accumulate": 2}, cluster=cluster, run={"updates": 21}))
    sync = asyncsim.plan(make(method="bsp", cluster=cluster, run={"updates": 20}))
    assert lagging.summary["bytes_sent"] == sync.summary["bytes_sent"] > 0


@CLUSTERS
def test_laga_of_one_batch_is_pipesgd(make, cluster):
    """Bit for bit, with momentum and weight decay."""
    one, other = (
        asyncsim.simulate(make(method=kind, **EXACT | {"dtype": "float32", "cluster": {"workers": N, **cluster}}))
        for kind in ("laga", "pipesgd")
    )
    assert one.fingerprints == other.fingerprints


@CLUSTERS
@pytest.mark.parametrize("warmup", [1, 5])
def test_pipesgd(make, cluster, warmup):
    """Synchronous rounds first, then the lag. Wrong models: one round of warm-up less, or more."""
    fleet = Rounds(make, {"kind": "pipesgd", "warmup": warmup}, cluster)
    fleet.read(lambda round_: round_)
    assert fleet.result.updates["staleness"].tolist() == [0] * N * warmup + [1] * (len(fleet.result.updates) - N * warmup)
    for wrong in (warmup - 1, warmup + 1):
        assert (lagged(fleet, warmup=wrong) - torch.from_numpy(fleet.result.parameters)).abs().max() > 1e-6
    fleet.theta = lagged(fleet, warmup=warmup)
    fleet.agree()


def test_pipesgd_that_only_warms_up_is_bsp(make):
    sections = {"optimizer": OPTIMIZER, "run": {"updates": 30}, "cluster": {"workers": N, **UNEQUAL}}
    warming = asyncsim.simulate(make(method={"kind": "pipesgd", "warmup": 30}, **sections))
    assert warming.fingerprints == asyncsim.simulate(make(method="bsp", **sections)).fingerprints


@pytest.mark.parametrize("kind", ["laga", "pipesgd"])
def test_crashes_and_departures(make, kind):
    """A crash loses the round that is computed and the one that travels; the others wait. Who leaves for good is not waited for.
    Whatever happens, a push is one version stale at most."""
    method = {"kind": "pipesgd", "warmup": 8} if kind == "pipesgd" else {"kind": kind, "accumulate": 2}
    faults = {"faults": {"up": {"kind": "exponential", "mean": "15s"}, "down": "3s"},
              "events": [{"at": "21s", "workers": [1], "stop": True}], "server": {"service": "100ms"}}  # fmt: skip
    scenario = make(method=method, cluster={"workers": N, **UNEQUAL, **faults}, run={"updates": 60})
    result = asyncsim.simulate(scenario)
    assert result.summary["updates"] == 60
    assert result.summary["crashes"] > 5
    assert result.updates["staleness"].max() == 1
    assert result.fingerprints["timeline"] == asyncsim.plan(scenario).fingerprints["timeline"]


def test_a_push_of_the_warm_up_that_queues_survives_its_worker(make):
    """It is sent in the foreground, so what waits at the server when its worker crashes is that very push, and not the one before
    it: it is applied, and the worker does not send its first step again."""
    cluster = {"workers": 2, "compute": "1s", "server": {"service": "2s"}, "events": [{"at": "2s", "workers": [1], "down": "1s"}]}
    result = asyncsim.simulate(make(method={"kind": "pipesgd", "warmup": 3}, cluster=cluster, run={"updates": 8}))
    assert result.summary["crashes"] == 1
    first = result.updates[result.updates["worker"] == 1].iloc[0]
    assert (first["step"], first["time"]) == (0, 5.0)
    assert result.summary["updates"] == 8


@pytest.mark.parametrize(("method", "words"), [
    ({"kind": "laga", "accumulate": 0}, "accumulate"),
    ({"kind": "laga", "program": "replica"}, "overlap"),
    ({"kind": "laga", "program": "replica", "consistency": "bsp"}, "launched"),
    ({"kind": "laga", "consistency": "bsp"}, "overlap"),
    ({"kind": "laga", "exchange": "all_reduce"}, "launches"),
    ({"kind": "laga", "exchange": "pairs", "consistency": "asp"}, "launches"),
    ({"kind": "asgd", "uplink": ["zero_start"]}, "zero_start"),
    ({"kind": "pipesgd", "warmup": -1}, "warmup"),
    ({"kind": "bsp", "consistency": {"kind": "bsp", "warmup": 2}}, "warmup"),
])  # fmt: skip
def test_what_cannot_be_is_refused(make, method, words):
    with pytest.raises(ScenarioError, match=words):
        make(method=method, cluster={"workers": 4})


# CO2.

OUTER = {"kind": "sgd", "lr": 0.7, "momentum": 0.5, "weight_decay": DECAY}
LOCAL = {"local_steps": 2, "local_lr": 0.1, "local_momentum": 0.3}
PLAIN = {"kind": "sgd", "lr": 1.0}


def averaged(fleet: Rounds, params: Tensor, round_: int) -> Tensor:
    """The mean of what the workers come to from ``params``."""
    return sum(fleet.local_model(params, worker, round_, 2, 0.1, 0.3) for worker in range(fleet.workers)) / fleet.workers


def co2(fleet: Rounds, penalty: float | None, clip: float | None, lag: int = 1) -> Tensor:
    """The reference's loop (1.3) with OUTER's settings; ``penalty`` None: the reconstruction, 1 + |theta - s| / C."""
    theta, m, read = fleet.theta, torch.zeros_like(fleet.theta), fleet.theta
    square, bound, gaps = torch.zeros_like(theta), 0, 0
    for round_ in range(UPDATES):
        start = read if lag else theta
        mean = averaged(fleet, start, round_)
        divisor = torch.full_like(theta, penalty or 1.0)
        if penalty is None and round_:
            length = 0.7 * (torch.sqrt(square / (1 - 0.999**round_)) + 1e-8)
            divisor = 1 + (theta - start).abs() / length
            gaps += bool((divisor > 1.5).any())
        m = 0.5 * m + (theta - mean + DECAY * theta) / divisor
        step = m if clip is None else m.clamp(-clip, clip)
        bound += bool((step != m).any())
        square = 0.999 * square + 0.001 * step**2
        read, theta = theta, theta - 0.7 * step
    assert clip is None or bound > UPDATES / 2
    assert penalty is not None or not lag or gaps > UPDATES / 2
    return theta


@CLUSTERS
@pytest.mark.parametrize(("penalty", "clip"), [(None, None), (None, 0.01), (1.5, 0.01), (1.0, None)])
def test_co2(make, cluster, penalty, clip):
    """Round k + 1 starts where round k - 1 has led to. Wrong models: no clipping, no penalty, no lag."""
    method = {"kind": "co2", "gap_penalty": penalty or "adaptive", "clip": clip} | LOCAL
    fleet = Rounds(make, method, cluster, optimizer=OUTER)
    fleet.read(lambda round_: np.maximum(round_ - 1, 0))
    wrong = [co2(fleet, penalty, clip, lag=0)]
    wrong += [co2(fleet, penalty, None)] if clip else []
    wrong += [co2(fleet, 1.0, clip)] if penalty != 1.0 else []
    for theta in wrong:
        assert (theta - torch.from_numpy(fleet.result.parameters)).abs().max() > 1e-4
    fleet.theta = co2(fleet, penalty, clip)
    fleet.agree()


def test_co2_without_momentum_and_penalty_is_two_runs_of_local_sgd(make):
    """theta(t + 1) = mean(t - 1) (reference, 1.3): even and odd rounds know nothing of each other."""
    for updates in (UPDATES, UPDATES + 1):
        fleet = Rounds(make, {"kind": "co2", "gap_penalty": 1} | LOCAL, optimizer=PLAIN, run={"updates": updates})
        for round_ in range((updates - 1) % 2, updates, 2):
            fleet.theta = averaged(fleet, fleet.theta, round_)
        fleet.agree()


@pytest.mark.parametrize("gamma", [0.1, 0.02])
def test_co2_without_overlap_is_slowmo(make, gamma):
    """u <- beta u + (x0 - mean) / gamma, x <- x0 - alpha gamma u (reference, 1.3), for any gamma; and local_sgd with the server's
    momentum is that, too."""
    outer = OUTER | {"weight_decay": 0.0}
    fleet = Rounds(make, {"kind": "co2", "gap_penalty": 1, "overlap": False} | LOCAL, optimizer=outer)
    assert set(fleet.result.updates["staleness"]) == {0}
    u = torch.zeros_like(fleet.theta)
    for round_ in range(UPDATES):
        u = 0.5 * u + (fleet.theta - averaged(fleet, fleet.theta, round_)) / gamma
        fleet.theta = fleet.theta - 0.7 * gamma * u
    fleet.agree()
    other = Rounds(make, {"kind": "local_sgd"} | LOCAL, optimizer=outer)
    np.testing.assert_allclose(other.result.parameters, fleet.result.parameters, rtol=0, atol=1e-14)


def test_co2_of_one_step_without_overlap_is_bsp(make):
    """Local rate times outer rate is the rate; the penalty is 1 where there is no gap."""
    method = {"kind": "co2", "overlap": False, "local_steps": 1, "local_lr": 0.1}
    one = Rounds(make, method, optimizer={"kind": "sgd", "lr": 0.5})
    other = Rounds(make, "bsp", optimizer={"kind": "sgd", "lr": 0.05})
    np.testing.assert_allclose(one.result.parameters, other.result.parameters, rtol=0, atol=1e-13)


def test_co2_with_an_endless_penalty_never_moves(make):
    endless = {"kind": "co2", "gap_penalty": 1e300}
    result = asyncsim.simulate(make(method=endless, optimizer=PLAIN | {"momentum": 0.5}, dtype="float64"))
    assert (result.parameters == make().task.build(0, "cpu", "float64", 6).init().numpy()).all()
    assert len(result.updates) > 200


def test_no_outer_step_of_co2_is_longer_than_its_clip(make):
    """|theta(t + 1) - theta(t)| <= alpha phi per element; some entries reach it, and without the clipping they go further."""
    clip, lr = 0.003, 0.7
    runs = {
        bound: [
            Rounds(make, {"kind": "co2", "clip": bound} | LOCAL, optimizer=OUTER, run={"updates": updates}).result.parameters
            for updates in range(6, 9)
        ]
        for bound in (clip, None)
    }
    longest = {bound: max(np.abs(after - before).max() for before, after in pairwise(points)) for bound, points in runs.items()}
    assert longest[clip] == pytest.approx(lr * clip, rel=1e-9)
    assert longest[None] > 2 * lr * clip


@pytest.mark.parametrize(("method", "optimizer", "words"), [
    ({"gap_penalty": 0}, PLAIN, "gap_penalty"), ({"gap_penalty": "often"}, PLAIN, "gap_penalty"), ({"clip": 0}, PLAIN, "clip"),
    ({}, {"kind": "adam"}, "heavy-ball"), ({}, {"kind": "sgd", "momentum": 0.9, "nesterov": True}, "heavy-ball"),
    ({"exchange": "all_reduce"}, PLAIN, "every worker has a policy of its own"),
])  # fmt: skip
def test_what_co2_cannot_is_refused(make, method, optimizer, words):
    with pytest.raises(ScenarioError, match=words):
        make(method={"kind": "co2"} | method, optimizer=optimizer)


# SAPipe.

ADAM = {"kind": "adam", "lr": 0.01, "weight_decay": 0.1, "decoupled": True}
NESTEROV = OPTIMIZER | {"nesterov": True}


def torch_step(params: Tensor, memory: dict[str, Any] | None, gradient: Tensor, optimizer: dict[str, Any]) -> tuple[Tensor, Any]:
    """One step of PyTorch's own optimiser from ``params``, with the state dictionary ``memory``: where it leads, and the state
    after it."""
    leaf = torch.nn.Parameter(params.clone())
    if optimizer["kind"] == "adam":
        theirs: Any = torch.optim.AdamW([leaf], lr=optimizer["lr"], weight_decay=optimizer["weight_decay"])
    else:
        rest = {name: value for name, value in optimizer.items() if name != "kind"}
        theirs = torch.optim.SGD([leaf], **rest)
    if memory is not None:
        theirs.load_state_dict(copy.deepcopy(memory))
    leaf.grad = gradient.clone()
    theirs.step()
    return leaf.detach(), copy.deepcopy(theirs.state_dict())


def compensated(g: Tensor, moved: Tensor, strength: float, form: str) -> Tensor:
    correction = {"elementwise": g * g * moved, "outer": (g @ moved) * g, "adaptive": g * g * moved / torch.sqrt(g * g + 1e-7)}
    return g + strength * correction[form]


def sapipe(
    fleet: Rounds, prediction: str, warmup: int = 1, strength: float = 0.0, form: str = "elementwise",
    optimizer: dict[str, Any] = OPTIMIZER,
) -> Tensor:  # fmt: skip
    """The reference's loop (1.4): every worker has a point of its own, and all have the same true parameters."""
    n, w, memory, round_, updates = fleet.workers, fleet.theta, None, 0, 0
    points, own, under_way, late, before = [w] * n, None, None, None, None
    while updates < UPDATES:
        gradients = [fleet.gradient(points[worker], worker, round_) for worker in range(n)]
        if round_ < warmup:
            w, memory = torch_step(w, memory, sum(gradients) / n, optimizer)
            points, updates = [w] * n, updates + 1
        else:
            if under_way is not None:
                g = under_way
                if prediction == "none" and before is not None:
                    g = compensated(g, w - before, strength, form)
                late, before = under_way, w
                w, memory = torch_step(w, memory, g, optimizer)
                updates += 1
            points = []
            for worker in range(n):
                estimate = gradients[worker]
                if prediction != "local" and late is not None:
                    estimate = compensated(late, w - before, strength, form)
                    if prediction == "local_prev_sync":
                        estimate = estimate + gradients[worker] / n - own[worker] / n
                points.append(w if prediction == "none" else torch_step(w, memory, estimate, optimizer)[0])
            own, under_way = gradients, sum(gradients) / n
        round_ += 1
    return w


SAPIPES = [
    ("local", 1, 0.0, "elementwise"), ("prev_sync", 1, 0.0, "elementwise"), ("local_prev_sync", 3, 0.0, "elementwise"),
    ("prev_sync", 2, 0.5, "elementwise"), ("local_prev_sync", 1, 0.5, "outer"), ("local_prev_sync", 1, 0.5, "adaptive"),
    ("none", 0, 2.0, "elementwise"), ("none", 2, 2.0, "adaptive"), ("none", 0, 0.0, "elementwise"),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", [OPTIMIZER, NESTEROV, ADAM], ids=["heavy ball", "nesterov", "adamw"])
@pytest.mark.parametrize(("prediction", "warmup", "strength", "form"), SAPIPES)
def test_sapipe(make, prediction, warmup, strength, form, optimizer):
    """Shadow steps by PyTorch's own optimisers. Wrong models: every other prediction, another strength, one more round of
    warm-up."""
    method = {"kind": "sapipe", "prediction": prediction, "warmup": warmup, "compensate": strength, "form": form}
    fleet = Rounds(make, method, optimizer=optimizer)
    fleet.read(lambda round_: np.where(round_ <= warmup, round_, round_ - 1))
    theirs = torch.from_numpy(fleet.result.parameters)
    others = {"none", "local", "prev_sync", "local_prev_sync"} - {prediction}
    for wrong in others:
        assert (sapipe(fleet, wrong, warmup, strength, form, optimizer) - theirs).abs().max() > 1e-6
    assert (sapipe(fleet, prediction, warmup + 1, strength, form, optimizer) - theirs).abs().max() > 1e-6
    if strength:
        assert (sapipe(fleet, prediction, warmup, 0.0, form, optimizer) - theirs).abs().max() > 1e-9
    fleet.theta = sapipe(fleet, prediction, warmup, strength, form, optimizer)
    fleet.agree()


@CLUSTERS
@pytest.mark.parametrize("prediction", ["local", "prev_sync", "local_prev_sync"])
def test_sapipe_on_other_fleets(make, cluster, prediction):
    fleet = Rounds(make, {"kind": "sapipe", "prediction": prediction}, cluster)
    fleet.theta = sapipe(fleet, prediction)
    fleet.agree()


@pytest.mark.parametrize("optimizer", [OPTIMIZER, NESTEROV, ADAM], ids=["heavy ball", "nesterov", "adamw"])
@pytest.mark.parametrize("prediction", ["local", "local_prev_sync"])
def test_one_worker_of_sapipe_predicts_exactly(make, prediction, optimizer):
    """The points at which it computes are those of plain training, bit for bit (reference, 1.4), so what it ends at is, too; and
    when a gradient arrives, the parameters have come to where it was computed. Wrong: to predict with what was reduced last."""
    sections = {"cluster": {"workers": 1, "compute": "1s", "uplink": "300ms"}, "optimizer": optimizer, "run": {"updates": 40}}
    plain = asyncsim.simulate(make(method="asgd", **sections))
    ours = asyncsim.simulate(make(method={"kind": "sapipe", "prediction": prediction}, **sections))
    assert (ours.parameters == plain.parameters).all() == (prediction == "local")
    np.testing.assert_allclose(ours.parameters, plain.parameters, rtol=0, atol=1e-4)  # g + (g - g') is rounded otherwise
    assert (ours.updates["gap"][2:].max() == 0) == (prediction == "local")
    assert ours.updates["gap"].max() < 1e-4
    other = asyncsim.simulate(make(method={"kind": "sapipe", "prediction": "prev_sync"}, **sections))
    assert np.abs(other.parameters - plain.parameters).max() > 1e-3
    assert other.updates["gap"][5:].min() > 1e-3


@pytest.mark.parametrize("prediction", ["none", "local", "prev_sync", "local_prev_sync"])
def test_estimates_are_exact_where_gradients_are_constant(make, prediction):
    """A slope that is the same everywhere and for all workers (curvature 1e-9 at a distance of 1e9): the parameters that a
    gradient meets are those at which it was computed; without prediction they are a step further."""
    task = {"kind": "quadratic", "dim": 3, "curvature": 1e-9, "start": 1e9, "noise": 0.0}
    optimizer = {"kind": "sgd", "lr": 0.5, "momentum": 0.9}
    result = asyncsim.simulate(make(
        N, method={"kind": "sapipe", "prediction": prediction}, task=task, optimizer=optimizer, dtype="float64",
        cluster={"workers": N, **UNEQUAL}, run={"updates": 30},
    ))  # fmt: skip
    gaps = result.updates["gap"][3 * N :]
    assert gaps.min() > 1 if prediction == "none" else gaps.max() < 1e-4


def test_the_mean_of_the_estimates(make):
    """Of ``local_prev_sync``, over the workers: gbar(t) / n + (1 - 1 / n) gbar(t - 1) (reference, 1.4). Seen in what is handed
    out: (w - p_i) / lr, with plain SGD."""
    n, lr = 3, 0.25
    start = torch.zeros(5, dtype=torch.float64)
    rule, step = ShadowStep(prediction="local_prev_sync"), SGD(lr=lr)
    server = Toy((rule,), step, start, num_workers=n)
    server.server.lr = lr
    state = server.policy.state.transforms[0]
    old, new = (arrivals(5, n, seed=seed) for seed in (0, 1))
    for gradients in (old, new):
        for worker, g in enumerate(gradients):
            server.policy.launched(push(g, start, worker=worker), server.server)
        if gradients is old:
            mean = sum(old) / n
            server.policy.arrive(push(mean, start), server.server)
    estimates = [(start - rule.view(start, state, server.server, worker)) / lr for worker in range(n)]
    torch.testing.assert_close(sum(estimates) / n, sum(new) / n / n + (1 - 1 / n) * mean, rtol=0, atol=1e-14)
    assert (estimates[0] - estimates[1]).abs().max() > 0.01


@CLUSTERS
def test_sapipe_without_prediction_is_pipesgd(make, cluster):
    """Bit for bit where the step on a zero gradient, of which SAPipe has none, does nothing: without weight decay, from the
    start. It counts one version less."""
    sections = EXACT | {"cluster": {"workers": N, **cluster}, "optimizer": OPTIMIZER | {"weight_decay": 0.0}}
    one = asyncsim.simulate(make(method={"kind": "sapipe", "prediction": "none", "warmup": 0}, **sections))
    other = asyncsim.simulate(make(method="pipesgd", **sections | {"run": {"updates": UPDATES + 1}}))
    assert (one.parameters == other.parameters).all()
    assert one.fingerprints["timeline"] == other.fingerprints["timeline"]


def test_sapipe_without_staleness_is_bsp(make):
    sections = {"optimizer": OPTIMIZER, "cluster": {"workers": N, **UNEQUAL}}
    one = asyncsim.simulate(make(method={"kind": "sapipe", "staleness": 0, "prediction": "none"}, **sections))
    assert one.fingerprints == asyncsim.simulate(make(method="bsp", **sections)).fingerprints


def test_the_shipped_scenario_says_what_the_page_says():
    """Three seeds of `scenarios/digits_lagged.yaml`: a lag of one costs accuracy, the prediction gives it back in the same time.
    The numbers are those of SAPipe's page, by a percentage point (they are another processor's elsewhere)."""
    root = Path(__file__).parents[2]
    page = (root / "docs" / "methods" / "sapipe.md").read_text(encoding="utf-8")
    study = asyncsim.load_study(root / "scenarios" / "digits_lagged.yaml")
    runs = dict(zip(study.labels, study.scenarios, strict=True))
    found = {name: [asyncsim.simulate(runs[name].evolve(seed=seed)).summary for seed in range(3)]
             for name in ("synchronous", "pipesgd", "sapipe")}  # fmt: skip
    for row, value, slack in (("digits, .*", "test_accuracy", 1.0), ("the same, virtual seconds", "time", 0.051)):
        printed = re.search(rf"^\| {row} \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
        assert printed is not None
        for name, number in zip(found, printed.groups(), strict=True):
            ours = [summary[value] * (100 if value == "test_accuracy" else 1) for summary in found[name]]
            assert float(number) == pytest.approx(np.mean(ours) if value == "test_accuracy" else ours[-1], abs=slack)


@pytest.mark.parametrize("engine", ["serial", {"kind": "threaded"}, {"kind": "batched", "width": 4}], ids=str)
def test_every_engine_computes_at_predicted_points(make, engine):
    fleet = Rounds(make, {"kind": "sapipe"}, engine=engine)
    fleet.theta = sapipe(fleet, "local_prev_sync")
    fleet.agree()


def test_who_has_been_down_has_no_gradient_of_its_own(make):
    """What a worker knew itself is lost when it crashes: when it is back it is handed the true parameters once, and then points
    of its own again, as everybody else is all the time after the warm-up."""
    held = []
    with pytest.MonkeyPatch.context() as patch:
        real = ShadowStep.view

        def view(self, params, state, server, worker):
            handed = real(self, params, state, server, worker)
            held.append((worker, handed is params))
            return handed

        patch.setattr(ShadowStep, "view", view)
        events = {"events": [{"at": "10.5s", "workers": [2], "down": "3s"}]}
        scenario = make(method={"kind": "sapipe", "prediction": "local"}, cluster={"workers": N, "compute": "1s", **events},
                        run={"updates": 20})  # fmt: skip
        asyncsim.simulate(scenario)
    for worker in range(N):
        plain = [is_true for one, is_true in held if one == worker]
        assert len(plain) > 15
        assert plain[:3] == [True, True, False]  # the warm-up, the round in which nothing has been reduced, the first prediction
        assert sum(plain) == (3 if worker == 2 else 2)


@pytest.mark.parametrize(("method", "optimizer", "words"), [
    ({"warmup": 0}, OPTIMIZER, "warmup"), ({"staleness": 0}, OPTIMIZER, "nothing is late"),
    ({"staleness": 2}, OPTIMIZER, "staleness"),
    ({"prediction": "local", "compensate": 1}, OPTIMIZER, "compensate"), ({"prediction": "global"}, OPTIMIZER, "prediction"),
    ({}, {"kind": "worker_momentum"}, "look-ahead"), ({"exchange": "all_reduce"}, OPTIMIZER, "launches"),
    ({"program": "replica", "consistency": "bsp"}, OPTIMIZER, "launched"),
])  # fmt: skip
def test_what_sapipe_cannot_is_refused(make, method, optimizer, words):
    with pytest.raises(ScenarioError, match=words):
        make(method={"kind": "sapipe"} | method, optimizer=optimizer)


# Overlap local SGD.


def pulled(fleet: Rounds, pull: float, momentum: float, lag: int = 1, before: bool = False) -> Tensor:
    """The reference's loop (1.5): two local steps with a velocity that is kept, the pull towards the anchor, then the average.
    ``lag`` 0: towards the anchor that this round's average makes; ``before``: the average of what there was before the pull."""
    n = fleet.workers
    z, x = fleet.theta, [fleet.theta] * n
    v, u, under_way, updates, round_ = torch.zeros_like(z), [torch.zeros_like(z)] * n, None, 0, 0
    while updates < UPDATES:
        for worker in range(n):
            for step in (2 * round_, 2 * round_ + 1):
                u[worker] = 0.3 * u[worker] + fleet.gradient(x[worker], worker, step)
                x[worker] = x[worker] - 0.1 * u[worker]
        if lag == 0:
            under_way = sum(x) / n
        if under_way is not None:
            v = momentum * v + under_way - z
            z, updates = z + v, updates + 1
        models = x
        x = [each - pull * (each - z) for each in x]
        under_way, round_ = sum(models if before else x) / n, round_ + 1
    return z


@CLUSTERS
@pytest.mark.parametrize(("pull", "momentum"), [(0.6, 0.7), (0.25, 0.0)])
def test_overlap_local_sgd(make, cluster, pull, momentum):
    """Wrong models: no lag, and an average of what there was before the pull."""
    fleet = Rounds(make, {"kind": "overlap_local_sgd", "pull": pull} | LOCAL, cluster, optimizer=PLAIN | {"momentum": momentum})
    fleet.read(lambda round_: np.maximum(round_ - 1, 0))
    for wrong in ({"lag": 0}, {"before": True}):
        assert (pulled(fleet, pull, momentum, **wrong) - torch.from_numpy(fleet.result.parameters)).abs().max() > 1e-4
    fleet.theta = pulled(fleet, pull, momentum)
    fleet.agree()


def test_without_pull_workers_of_overlap_local_sgd_are_alone(make):
    """The anchor is the mean of N runs of plain SGD that know nothing of each other."""
    method = {"kind": "overlap_local_sgd", "pull": 0} | LOCAL
    fleet = Rounds(make, method, optimizer=PLAIN)
    ends = [fleet.local_model(fleet.theta, worker, 0, 2 * UPDATES, 0.1, 0.3) for worker in range(N)]
    assert (ends[0] - ends[1]).abs().max() > 0.1
    fleet.theta = sum(ends) / N
    fleet.agree()


def test_a_round_of_overlap_local_sgd_takes_the_longer(make):
    cluster = {"workers": 4, "compute": "1s", "uplink": "500ms", "all_reduce": "ring"}
    plan = asyncsim.plan(make(method={"kind": "overlap_local_sgd", "local_steps": 2}, optimizer=PLAIN, cluster=cluster,
                              run={"updates": 10}))  # fmt: skip
    assert plan.summary["time"] == pytest.approx(2 + 10 * 3)


@pytest.mark.parametrize(("method", "words"), [
    ({"pull": 1}, "pull"), ({"pull": -0.1}, "pull"), ({"consistency": "bsp"}, "overlap"),
    ({"exchange": "all_reduce"}, "a policy of its own"),
])  # fmt: skip
def test_what_overlap_local_sgd_cannot_is_refused(make, method, words):
    with pytest.raises(ScenarioError, match=words):
        make(method={"kind": "overlap_local_sgd"} | method, optimizer=PLAIN)


# Eager updates of DiLoCo.


def eager(fleet: Rounds, outer: dict[str, Any], share: float = 1 / N) -> Tensor:
    """The rule (reference, 1.5) with an outer optimiser of PyTorch's for every worker, and one that steps with the means alone,
    whose parameters are returned. ``share``: the worker's own part of the mean."""
    n = fleet.workers
    theta, memory = [fleet.theta] * n, [None] * n
    w, its, updates, round_ = fleet.theta, None, 0, 0
    own = mean = torch.zeros_like(w)
    last = [torch.zeros_like(w)] * n
    while updates < UPDATES:
        own = [theta[i] - fleet.local_model(theta[i], i, round_, 2, 0.1, 0.3) for i in range(n)]
        if round_:
            w, its = torch_step(w, its, mean, outer)
            updates += 1
        for i in range(n):
            theta[i], memory[i] = torch_step(theta[i], memory[i], own[i] * share + (mean - last[i] * share), outer)
        last, mean, round_ = own, sum(own) / n, round_ + 1
    return w


@CLUSTERS
@pytest.mark.parametrize("outer", [
    {"kind": "sgd", "lr": 0.7, "momentum": 0.6, "nesterov": True}, {"kind": "sgd", "lr": 0.5, "momentum": 0.5}, PLAIN,
], ids=["nesterov", "heavy ball", "plain"])  # fmt: skip
def test_eager_diloco(make, cluster, outer):
    """Wrong models: nothing of a worker's own, and all of it."""
    fleet = Rounds(make, {"kind": "eager_diloco"} | LOCAL, cluster, optimizer=outer)
    fleet.read(lambda round_: np.maximum(round_ - 1, 0))
    for share in (0.0, 1.0):
        assert (eager(fleet, outer, share) - torch.from_numpy(fleet.result.parameters)).abs().max() > 1e-4
    fleet.theta = eager(fleet, outer)
    fleet.agree()


def test_one_worker_of_eager_diloco_is_diloco(make):
    """Its own part is all: D(t) at once (reference, 1.5), so it goes through the points of local_sgd with that optimiser."""
    sections = {"optimizer": {"kind": "sgd", "lr": 0.7, "momentum": 0.6, "nesterov": True}}
    sections |= {"cluster": {"workers": 1, "compute": "1s", "uplink": "5s"}, "dtype": "float64", "run": {"updates": 40}}
    one, other = (asyncsim.simulate(make(method={"kind": kind} | LOCAL, **sections)) for kind in ("eager_diloco", "local_sgd"))
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=0, atol=1e-12)
    assert one.updates["gap"].max() < 1e-12


def test_weight_decay_of_eager_diloco_is_that_of_the_common_parameters(make):
    """theta_i = w + e_i: w steps with the means and decays, e_i steps with (D_i(t) - D_i(t - 1)) / N and does not."""
    outer = {"kind": "sgd", "lr": 0.7, "momentum": 0.6, "nesterov": True}
    fleet = Rounds(make, {"kind": "eager_diloco"} | LOCAL, optimizer=outer | {"weight_decay": 0.02})
    w, its, mean, zero = fleet.theta, None, None, torch.zeros_like(fleet.theta)
    apart, memory, last = [zero] * N, [None] * N, [zero] * N
    for round_ in range(UPDATES + 1):
        theta = [w + each for each in apart]
        own = [theta[i] - fleet.local_model(theta[i], i, round_, 2, 0.1, 0.3) for i in range(N)]
        if mean is not None:
            w, its = torch_step(w, its, mean, outer | {"weight_decay": 0.02})
        for i in range(N):
            apart[i], memory[i] = torch_step(apart[i], memory[i], (own[i] - last[i]) / N, outer)
        last, mean = own, sum(own) / N
    fleet.theta = w
    fleet.agree()


def test_what_eager_diloco_cannot_is_refused(make):
    with pytest.raises(ScenarioError, match="whose steps add up, not adam"):
        make(method="eager_diloco", optimizer="adam")
