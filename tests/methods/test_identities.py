"""Degenerate settings: every method collapses to a simpler one at its boundary (reference 1.4.2, section 7 and section 9).

Bit for bit where both sides do the same operations in the same order; else in float64 to the tolerance that is said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import asyncsim
from asyncsim.registries import methods

HEAVY = {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
PLAIN = {"kind": "sgd", "lr": 0.05}
SERVER = {"kind": "sgd", "lr": 1.0}  # the plain algorithm's server where workers take local steps
WARM = {"kind": "multistep", "milestones": [0.5, 0.75], "gamma": 0.1, "warmup": 0.1}


def plain_loop(scenario: Any, **settings: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sequential training on worker 0's batches with ``torch.optim.SGD``, under ``WARM`` if the scenario has a schedule.
    Returns parameters and momentum buffer as flat vectors."""
    updates = scenario.run.updates
    task = scenario.task.build(scenario.seed, "cpu", scenario.dtype, 1)
    optimiser = torch.optim.SGD(task.module.parameters(), lr=1.0, **settings)
    for step in range(updates):
        position = (step + 1) / updates
        factor = 1.0 if scenario.schedule.kind == "constant" else 0.1 ** ((position > 0.5) + (position > 0.75))
        if scenario.schedule.kind != "constant" and position < 0.1:
            factor *= position / 0.1
        optimiser.param_groups[0]["lr"] = scenario.optimizer.lr * factor
        inputs, targets = task.batch(0, step)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(task.module(inputs), targets).backward()
        optimiser.step()
    parameters = torch.cat([parameter.detach().reshape(-1) for parameter in task.module.parameters()])
    if not settings.get("momentum"):
        return parameters, None
    return parameters, torch.cat([optimiser.state[p]["momentum_buffer"].reshape(-1) for p in task.module.parameters()])


def parameters(scenario: Any) -> np.ndarray:
    result = asyncsim.simulate(scenario)
    assert result.summary["status"] == "finished"
    assert np.isfinite(result.parameters).all()
    return result.parameters


def same_bits(first: Any, *others: Any, timeline: bool = True) -> None:
    """Equal parameters, bit for bit, and (unless not expected) equal timelines; and they are not those at the start."""
    one = asyncsim.simulate(first)
    assert one.summary["status"] == "finished"
    start = first.task.build(first.seed, "cpu", first.dtype, 1).init().numpy()
    assert not np.array_equal(one.parameters, start)
    for scenario in others:
        other = asyncsim.simulate(scenario)
        assert np.array_equal(one.parameters, other.parameters), scenario.method
        if timeline:
            assert one.fingerprints["timeline"] == other.fingerprints["timeline"]


# One worker.


@pytest.mark.parametrize("schedule", ["constant", WARM], ids=["constant", "warmup_multistep"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"weight_decay": 1e-2}, {"momentum": 0.9}, {"momentum": 0.9, "weight_decay": 1e-2},
     {"momentum": 0.9, "weight_decay": 1e-2, "nesterov": True}],
    ids=["sgd", "sgd_decay", "heavy", "heavy_decay", "nesterov_decay"],
)  # fmt: skip
def test_one_worker_is_a_plain_pytorch_loop(make, settings, schedule):
    """N = 1 has staleness 0 (reference 1.4.2): 200 float32 updates are those of ``torch.optim.SGD`` in a loop, every bit."""
    scenario = make(1, optimizer={"kind": "sgd", "lr": 0.05, **settings}, schedule=schedule)
    assert np.array_equal(parameters(scenario), plain_loop(scenario, **settings)[0].numpy())


ALONE = {
    "asgd": {},
    "custom": {"policy": ["staleness_aware", {"kind": "clip", "max_norm": 1e6}, {"kind": "mixing", "rate": 1.0}]},
    "staleness_aware": {}, "staleness_aware/delay_adaptive": {"rule": "delay_adaptive"},
    "staleness_aware/exponential": {"rule": "exponential"}, "staleness_aware/polynomial": {"rule": "polynomial"},
    "gap_aware": {}, "gap_aware/layer": {"per": "layer"}, "gap_aware/model": {"per": "model"},
    "gap_aware/code": {"step_length": "code"},
    "powersgd": {"rank": 1000}, "gradient_dropping": {"ratio": 1}, "gradient_dropping/threshold": {"threshold": 0.0},
    "dgc": {"ratio": 1, "masking": False}, "dgs": {"ratio": 1},
    "dc_asgd": {}, "dc_asgd/c": {"adaptive": False}, "iter_fisher": {}, "iter_fisher/learnt": {"eta_lam": 1e-3},
    "ferret": {}, "ferret/two": {"accumulate": (1,), "omit": (0,)},
    "softsync": {"n": 1}, "ssp": {"bound": 0}, "bsp": {}, "k_sync": {"k": 1}, "k_sync/patient": {"k": 1, "cancel": False},
    "backup_workers": {"backups": 0}, "rennala": {"batch": 1}, "ringmaster": {"threshold": 1},
    "ringmaster/stops": {"threshold": 1, "stops": True},
    "fdg": {}, "fdg/forward_first": {"update_first": False}, "fdg/current": {"backward_weights": "current", "beta": 0.5},
    "adl": {"accumulate": 1}, "ddg": {}, "features_replay": {}, "pipedream": {}, "pipedream/sync": {"vertical_sync": True},
    "pipemare": {}, "spectrain": {}, "ftpipe": {}, "pipeoptim": {}, "pipelined_backprop": {}, "bp": {},
    "gpipe": {"micro_batches": 1},
    "gpipe/interleaved": {"micro_batches": 1, "interleaved": True},
    "decoupled_data_parallel": {}, "decoupled_data_parallel/asynchronous": {"gossip": None, "sharing": "asynchronous"},
    "ad_psgd": {}, "ad_psgd/step_first": {"form": "adapt_then_combine"}, "sgp": {}, "sgp/overlap": {"lag": 1},
    "sparta": {},
    "delay_adaptive": {}, "delay_adaptive/koloskova": {"rule": "koloskova", "smoothness": 1e9}, "ormo": {},
    "gba": {"buffer": 1}, "gba/by_id": {"buffer": 1, "by_id": True}, "dssp": {"least": 0}, "ringleader": {},
    "adasync": {}, "mindflayer": {},
    "mspipe": {"memory": "3s", "k": 1}, "mspipe/late": {"memory": "3s", "write": "2s", "k": 4},
    "mindflayer/limit": {"limit": "99s"},
    "adasync/staleness_aware": {"staleness_aware": True},
}  # fmt: skip
ELSEWHERE = {"dana", "dana_gap_aware", "local_sgd", "fedbuff", "fedasync", "nesterov_pipeline", "pipedream_2bw"}
ELSEWHERE |= {"adadelay", "delayed_nesterov", "dana_slim", "dana_dc", "smega2", "momentum_look_ahead", "fadas", "heloco"}
ELSEWHERE |= {"qsgd", "easgd", "eamsgd", "momentum_approximation", "diloco", "basis_rotation", "abs"}
ELSEWHERE |= {"laga", "pipesgd", "co2", "sapipe", "overlap_local_sgd", "eager_diloco", "fluid", "weight_update_magnitudes"}
ELSEWHERE |= {"co_running", "async_local_sgd", "halos", "streaming_diloco"}
"""Their N = 1 is not SGD: tests of their own below, in ``test_server_identities`` and beside their loops."""


@pytest.mark.parametrize("name", ALONE)
def test_every_method_alone_is_its_sequential_optimiser(make, name):
    """Reference 1.4.2 and the right column of section 7: with N = 1 (and a buffer of one) every method is momentum SGD with
    weight decay, bit for bit."""
    scenario = make(1, method={"kind": name.split("/")[0], **ALONE[name]}, optimizer=HEAVY, schedule=WARM, run={"updates": 100})
    expected, _ = plain_loop(scenario, momentum=0.9, weight_decay=5e-4)
    assert np.array_equal(parameters(scenario), expected.numpy())


def test_no_method_was_forgotten():
    """Each method of the project is in the table above, or among those with tests of their own."""
    own = {name for name, cls in methods if cls.__module__.startswith("asyncsim.")}
    assert own == {name.split("/")[0] for name in ALONE} | ELSEWHERE


def test_dana_alone_is_nesterov_between_look_ahead_points(make):
    """Reference 4.3.2: with N = 1 the look-ahead theta - eta gam v walks as p of ``SGD(nesterov=True)``, and v is its buffer.
    A constant rate, float64, 200 updates, 1e-12: theta = p + eta gam buf."""
    scenario = make(1, method="dana", optimizer={"kind": "sgd", "lr": 0.05, "momentum": 0.9}, dtype="float64")
    p, buffer = plain_loop(scenario, momentum=0.9, nesterov=True)
    theta = torch.from_numpy(parameters(scenario))
    torch.testing.assert_close(theta, p + 0.05 * 0.9 * buffer, rtol=1e-12, atol=1e-12)
    assert (theta - p).abs().max() > 1e-3


def test_dana_gap_aware_alone(make):
    """Reference 2.4 test 5: between look-ahead points one worker has no gap, so DANA-GA is DANA, bit for bit. Between what was
    sent and theta there always is one: not DANA."""
    optimizer = {"kind": "sgd", "lr": 0.05, "momentum": 0.9}
    alone = [make(1, method=method, optimizer=optimizer, schedule=WARM) for method in
             ("dana", "dana_gap_aware", {"kind": "dana_gap_aware", "between": "parameters"})]  # fmt: skip
    same_bits(*alone[:2])
    assert not np.array_equal(parameters(alone[0]), parameters(alone[2]))


def test_the_nesterov_pipeline_alone(make):
    """One stage, one group: ``v <- gam v + (1 - gam) d`` read at ``theta - eta gam v``, which is DANA's look-ahead at the rate
    ``eta (1 - gam)``, to 1e-12; without momentum it is SGD, bit for bit."""
    at = lambda lr, momentum: {"optimizer": {"kind": "sgd", "lr": lr, "momentum": momentum}, "dtype": "float64"}  # noqa: E731
    ours, dana = make(1, method="nesterov_pipeline", **at(0.5, 0.9)), make(1, method="dana", **at(0.05, 0.9))
    np.testing.assert_allclose(parameters(ours), parameters(dana), rtol=0, atol=1e-12)
    same_bits(make(1, method="nesterov_pipeline", **at(0.05, 0.0)), make(1, method="asgd", **at(0.05, 0.0)))


def test_two_buffers_alone_are_sgd_of_staleness_one(make):
    """2BW with one stage and one micro-batch: every gradient but the first is of the parameters one update before; the bits of a
    loop."""
    scenario = make(1, method="pipedream_2bw", optimizer=PLAIN)
    task = scenario.task.build(scenario.seed, "cpu", "float32", 1)
    before = now = task.init()
    for step in range(200):
        inputs, targets = task.batch(0, step)
        task.bind(before.clone())
        loss = torch.nn.functional.cross_entropy(task.module(inputs), targets)
        gradient = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, task.parameters)])
        before, now = now, now.add(gradient, alpha=-0.05)
    assert np.array_equal(parameters(scenario), now.numpy())


def test_local_methods_alone_are_the_same_sgd(make):
    """N = 1, a buffer of one, rate 1: local SGD, FedBuff and FedAsync all put the worker's model in the server's place, so 4
    local steps a round for 50 rounds are 200 SGD steps. The first two do so by the same operations; to a loop 1e-12 in
    float64."""
    common = {"optimizer": SERVER, "dtype": "float64", "run": {"updates": 50}}
    local = {"local_steps": 4, "local_lr": 0.05}
    runs = [make(1, method={"kind": kind, **local, **extra}, **common) for kind, extra in
            (("local_sgd", {}), ("fedbuff", {"buffer": 1}), ("fedasync", {"rate": 1.0}))]  # fmt: skip
    same_bits(*runs)
    loop, _ = plain_loop(make(1, optimizer=PLAIN, dtype="float64"))
    torch.testing.assert_close(torch.from_numpy(parameters(runs[0])), loop, rtol=1e-12, atol=1e-12)


# Many workers.


@pytest.mark.parametrize(
    "method",
    [{"kind": "staleness_aware"}, {"kind": "staleness_aware", "rule": "inverse_plus_one"}, {"kind": "gap_aware"},
     {"kind": "gap_aware", "per": "model"}, {"kind": "gap_aware", "step_length": "code"}, {"kind": "dc_asgd"},
     {"kind": "dc_asgd", "adaptive": False}],
    ids=str,
)  # fmt: skip
def test_at_staleness_zero_all_treatments_are_asgd(make, method):
    """Section 9 (a): where only gradients of the current parameters are let through (six workers, ``drop_stale`` in front), SA
    = GA = DC = ASGD, bit for bit."""
    fresh = {"before": [{"kind": "drop_stale", "bound": 0}]}
    same_bits(*(make(method=each | fresh, optimizer=HEAVY, schedule=WARM) for each in ({"kind": "asgd"}, method)))


@pytest.mark.parametrize(
    "transform", ["staleness_aware", "gap_aware", {"kind": "gap_aware", "per": "layer"}, "delay_compensation"], ids=str
)
def test_behind_a_barrier_all_treatments_are_synchronous_sgd(make, transform):
    """The same for rounds: a treatment in front of the barrier's mean sees staleness 0 only. It asks for gradients one by one,
    where the barrier alone takes one pass over the union, so both sides carry a treatment that does so."""
    common = {"optimizer": HEAVY, "run": {"updates": 60}}
    untouched = {"kind": "clip", "max_norm": 1e6}
    same_bits(*(make(method={"kind": "bsp", "before": before}, **common) for before in ([untouched], [untouched, transform])))


def test_dana_without_momentum_is_asgd(make):
    """Section 9 (b), reference 4.3.4: gam = 0: DANA-Zero = Multi-ASGD = ASGD, and DANA-GA = Gap-Aware, bit for bit."""
    optimizer = {"kind": "sgd", "lr": 0.05, "weight_decay": 5e-4}
    same_bits(*(make(method=method, optimizer=optimizer) for method in ("asgd", "dana", {"kind": "dana", "look_ahead": False})))
    for step_length in ("applied", "code"):
        kinds = ({"kind": kind, "step_length": step_length} for kind in ("gap_aware", "dana_gap_aware"))
        same_bits(*(make(method=method, optimizer=optimizer) for method in kinds))


def test_delay_compensation_of_strength_zero_is_nothing(make):
    """Reference 4.3.4: lambda = 0: DC-ASGD = ASGD and DANA-DC = DANA, bit for bit."""
    same_bits(make(method="asgd", optimizer=HEAVY), make(method={"kind": "dc_asgd", "strength": 0.0}, optimizer=HEAVY))
    idle = {"kind": "delay_compensation", "strength": 0.0}
    same_bits(make(method="dana", optimizer=HEAVY), make(method={"kind": "dana", "before": [idle]}, optimizer=HEAVY))


ASGD_AGAIN = [
    {"kind": "custom", "policy": []},
    {"kind": "softsync", "n": 6, "staleness_aware": False},
    {"kind": "ringmaster", "threshold": 100_000},
    {"kind": "ringmaster", "threshold": 100_000, "stops": True},
    {"kind": "ssp", "bound": None},
    {"kind": "ssp", "bound": 100_000},
    {"kind": "dc_asgd", "adaptive": False, "strength": 0.0},
    {"kind": "staleness_aware", "rule": "polynomial", "power": 0.0},
    {"kind": "staleness_aware", "rule": "hinge", "after": 100_000},
]


@pytest.mark.parametrize("method", ASGD_AGAIN, ids=lambda method: method["kind"])
def test_methods_without_their_effect_are_asgd(make, method):
    """Section 9 (c): softsync(n = N), Ringmaster(R = inf), SSP(s = inf) and treatments of no strength are ASGD: the same
    timeline, the same bits, with six workers of very different speed."""
    compute = {"kind": "gamma_heterogeneous", "mean": "1s"}
    same_bits(*(make(6, compute, method=each, optimizer=HEAVY, schedule=WARM) for each in ("asgd", method)))


def test_softsync_treats_like_staleness_aware(make):
    """softsync(n = N) with the paper's rates averages one gradient at a time: staleness-aware ASGD, bit for bit."""
    same_bits(make(method="staleness_aware", optimizer=HEAVY), make(method={"kind": "softsync", "n": 6}, optimizer=HEAVY))


def test_fedbuff_of_one_push_and_one_step_is_asgd(make):
    """Section 9 (c), FedBuff(Kb = 1, s = 1): one local step at rate eta and a server rate of 1: theta - (s - (s - eta g)),
    ASGD but for rounding: 200 updates, float64, 1e-12."""
    method = {"kind": "fedbuff", "buffer": 1, "power": 0.0, "local_steps": 1, "local_lr": 0.05}
    asgd = make(method="asgd", optimizer=PLAIN, dtype="float64")
    buffered = make(method=method, optimizer=SERVER, dtype="float64")
    np.testing.assert_allclose(parameters(buffered), parameters(asgd), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "compute", ["1s", {"kind": "gamma_heterogeneous", "mean": "1s"}], ids=["equal_times", "heterogeneous"]
)
def test_synchronous_sgd_is_large_batch_sgd(make, compute):
    """Reference 3.1: hardsync with N workers and batch mu is SGD with batch mu N: here the union of the six batches of each round
    in one plain PyTorch loop with momentum and weight decay; 80 rounds, float64, 1e-12."""
    scenario = make(6, compute, method="bsp", optimizer=HEAVY, dtype="float64", run={"updates": 80})
    task = scenario.task.build(scenario.seed, "cpu", "float64", 6)
    optimiser = torch.optim.SGD(task.module.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for step in range(80):
        inputs, targets = (torch.cat(parts) for parts in zip(*(task.batch(worker, step) for worker in range(6)), strict=True))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(task.module(inputs), targets).backward()
        optimiser.step()
    loop = torch.cat([parameter.detach().reshape(-1) for parameter in task.module.parameters()])
    torch.testing.assert_close(torch.from_numpy(parameters(scenario)), loop, rtol=1e-12, atol=1e-12)


BSP_AGAIN = [
    {"kind": "backup_workers", "backups": 0},
    {"kind": "backup_workers", "backups": 0, "cancel": False},
    {"kind": "k_sync", "k": 6},
    {"kind": "k_sync", "k": 6, "cancel": False},
    {"kind": "rennala", "batch": 6, "consistency": "bsp"},
    {"kind": "softsync", "n": 1, "consistency": "bsp"},
    {"kind": "custom", "policy": [{"kind": "accumulate", "count": 6}], "consistency": "bsp"},
]


@pytest.mark.parametrize("method", BSP_AGAIN, ids=lambda method: method["kind"])
@pytest.mark.parametrize(
    "compute", ["1s", {"kind": "gamma_heterogeneous", "mean": "1s"}], ids=["equal_times", "heterogeneous"]
)
def test_methods_that_wait_for_all_are_synchronous_sgd(make, compute, method):
    """Section 9 (d): backup_workers(0) = k_sync(N) = Rennala(B = N) = 1-softsync = BSP, bit for bit and event for event, where
    pulls are held until the update (reference 3.3: "specify which"); for Rennala and softsync that is ``consistency: bsp``."""
    runs = [make(6, compute, method=each, optimizer=HEAVY, run={"updates": 40}) for each in ("bsp", method)]
    same_bits(*runs)


def test_rennala_with_instant_reads_uses_fresh_gradients_only(make):
    """Without holding pulls back, equal times do not make Rennala(B = N) synchronous SGD: who pushed before the update reads
    the old parameters once more. What holds (reference 7): every gradient that counts has staleness 0, every update has B of
    them."""
    updates = asyncsim.simulate(make(6, "1s", method={"kind": "rennala", "batch": 6}, optimizer=HEAVY)).updates
    kept = updates[updates["outcome"] != "dropped"]
    assert (kept["staleness"] == 0).all()
    assert (updates.loc[updates["outcome"] == "dropped", "staleness"] > 0).all()
    applied = kept["outcome"].eq("applied").to_numpy()
    assert applied.sum() == 200
    assert np.array_equal(np.flatnonzero(applied), 6 * np.arange(1, 201) - 1)


def test_local_sgd_of_one_step_is_synchronous_sgd(make):
    """One local step at rate eta, averaged, server rate 1: mean of (s - eta g_i) = s - eta mean g_i: BSP at rate eta, 1e-12 in
    float64."""
    method = {"kind": "local_sgd", "local_steps": 1, "local_lr": 0.05}
    local = make(method=method, optimizer=SERVER, dtype="float64", run={"updates": 80})
    bsp = make(method="bsp", optimizer=PLAIN, dtype="float64", run={"updates": 80})
    np.testing.assert_allclose(parameters(local), parameters(bsp), rtol=1e-12, atol=1e-12)


def test_fedasync_of_rate_one_replaces_the_model(make):
    """Reference 7: a = 1 and tau = 0: theta <- x. With one worker, after one round of three local steps, the server's
    parameters are the worker's model of a plain loop; with rate 0.25 a quarter of the way is gone."""
    method = {"kind": "fedasync", "local_steps": 3, "local_lr": 0.05}
    common = {"optimizer": SERVER, "dtype": "float64", "run": {"updates": 1}}
    whole, quarter = (parameters(make(1, method=method | {"rate": rate}, **common)) for rate in (1.0, 0.25))
    sequential = make(1, optimizer=PLAIN, dtype="float64", run={"updates": 3})
    x = plain_loop(sequential)[0].numpy()
    start = sequential.task.build(0, "cpu", "float64", 1).init().numpy()
    np.testing.assert_allclose(whole, x, rtol=0, atol=1e-15)
    np.testing.assert_allclose(quarter, 0.75 * start + 0.25 * x, rtol=0, atol=1e-15)
    assert np.abs(x - start).max() > 1e-3


EVERY = [
    *({"kind": kind} for kind in (
        "asgd", "custom", "staleness_aware", "gap_aware", "dana", "dana_gap_aware", "dc_asgd", "ssp", "bsp", "rennala",
        "ringmaster", "softsync", "backup_workers", "local_sgd", "fedbuff", "fedasync", "fdg", "adl", "ddg", "features_replay",
        "pipedream", "pipedream_2bw", "pipemare", "spectrain", "gpipe", "bp", "nesterov_pipeline", "decoupled_data_parallel",
        "ad_psgd", "sgp", "delay_adaptive", "adadelay", "delayed_nesterov", "dana_slim", "dana_dc", "smega2",
        "momentum_look_ahead", "ormo", "fadas", "heloco", "gradient_dropping", "dgc", "dgs", "qsgd", "easgd", "eamsgd",
        "momentum_approximation", "diloco", "ftpipe", "pipeoptim", "pipelined_backprop", "basis_rotation", "abs", "adasync",
        "dssp", "gba", "mindflayer", "ringleader", "mspipe", "iter_fisher", "ferret",
        "laga", "pipesgd", "co2", "sapipe", "overlap_local_sgd", "eager_diloco", "powersgd", "fluid", "co_running",
        "async_local_sgd", "sparta", "halos", "streaming_diloco")),
    {"kind": "weight_update_magnitudes", "shares": {1: 0.5}},
    {"kind": "k_sync", "k": 4}, {"kind": "gap_aware", "per": "layer"}, {"kind": "gap_aware", "per": "model"},
    {"kind": "dana", "compensate": 2.0}, {"kind": "dana_gap_aware", "between": "parameters"},
    {"kind": "dc_asgd", "adaptive": False},
]  # fmt: skip
RATE_ZERO = [(method, HEAVY) for method in EVERY] + [
    (method, {"kind": "adam", "weight_decay": 0.1}) for method in EVERY  # but those that are SGD
    if not any(name in method["kind"] for name in ("dana", "spectrain", "nesterov", "smega2", "look_ahead", "ormo", "fadas",
                                                   "heloco", "dgc", "dgs", "momentum_approximation", "pipelined", "basis", "co2",
                                                   "eager", "halos", "streaming"))
]


def test_every_method_is_tried_at_rate_zero():
    """The list above holds each method of the project."""
    assert {method["kind"] for method in EVERY} == {name for name, cls in methods if cls.__module__.startswith("asyncsim.")}


@pytest.mark.parametrize(("method", "optimizer"), RATE_ZERO, ids=str)
def test_learning_rate_zero_leaves_the_parameters(make, method, optimizer):
    """Nothing moves at lr 0 (and local rate 0), not one bit, also where gaps are divided by a step length of 0; all recorded
    numbers stay finite. Only a mean of equal parameters with their neighbours' may round: 25 times, by 1e-7 each."""
    local = {"local_lr": 0.0} if "local_lr" in methods[method["kind"]].model_fields else {}
    scenario = make(method=method | local, optimizer=optimizer | {"lr": 0.0}, run={"updates": 25})
    result = asyncsim.simulate(scenario)
    start = make().task.build(0, "cpu", "float32", 6).init().numpy()
    assert result.summary["status"] == "finished"
    np.testing.assert_allclose(result.parameters, start, rtol=2.5e-6 if scenario.bundle().exchange else 0)
    assert np.isfinite(result.updates["penalty"]).all()
    assert (result.updates["gap"] == 0).all()


