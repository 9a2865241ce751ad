"""What every policy and every optimizer promises. A new one needs one row in ``POLICIES`` or ``OPTIMIZERS``, and nothing else.

With ``ASYNCSIM_CONTRACT=my_package`` the policies and optimizers of that package are judged, at their default settings."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from arrivals import Toy, View, arrivals, push
from pydantic import ValidationError
from torch import Tensor

from asyncsim.errors import UserError
from asyncsim.needs import Need
from asyncsim.policies import SGD, Policy, Push, State, Transform, Verdict
from asyncsim.policies.state import entries
from asyncsim.registries import optimizers, policies


@dataclass(frozen=True)
class Row:
    """Settings with the required fields filled. ``identity``: at staleness 0 on the current parameters it does nothing, and what
    is stale is treated; None: nothing is said of either. ``numeric`` None: it decides by numbers, and cannot be planned."""

    settings: dict[str, Any]
    identity: bool | None = True
    numeric: bool | None = True


POLICIES: dict[str, list[Row]] = {
    # The first update is divided by 1, those after it are not, fresh or not.
    "adadelay": [Row({}, identity=False, numeric=False), Row({"offset": 1.0}, identity=False, numeric=False)],
    # A buffer of several passes nothing on by itself; a buffer of one is the identity.
    "accumulate": [Row({"count": 2}, identity=False, numeric=False), Row({"count": 1}, numeric=False)],
    "accumulate_by_stage": [Row({"counts": (2,)}, identity=False, numeric=False), Row({"counts": (1,)}, numeric=False)],
    "accumulate_by_loss": [Row({"count": 2, "weight": 0}, identity=False, numeric=False),
                           Row({"count": 2}, identity=False, numeric=None)],
    # Clipping looks at the length alone: the identity for gradients within the bound.
    "clip": [Row({"max_norm": 1e6}), Row({"max_norm": 0.5}, identity=False)],
    # It looks at the worker's share of the data, never at staleness.
    "data_weights": [Row({}, identity=False)],
    "delay_compensation": [Row({"adaptive": True}), Row({"adaptive": False, "strength": 0.5})],
    # It sends some entries only, of a momentum of its own.
    "dgc": [Row({"ratio": 0.5}, identity=False), Row({"ratio": 1, "weight_decay": 0.25, "nesterov": True}, identity=False),
            Row({"ratio": 0.2, "per": "model", "masking": False, "clip": 0.5}, identity=False)],
    # It changes what late backward passes use, never a push.
    "discrepancy_correction": [Row({}), Row({"delay": 2.5})],
    "delay_threshold": [Row({"after": 1}, numeric=False), Row({"drop": True}, numeric=False)],
    "drop_stale": [Row({"bound": 0}, numeric=False), Row({"bound": 2}, numeric=False)],
    # It buffers until it has a gradient of each, and applies means of them.
    "gradient_table": [Row({}, identity=None, numeric=False)],
    # They send a fragment, and merge those that have come, whatever the staleness.
    "fragment": [Row({"fragments": 2}, identity=False), Row({"fragments": 1})],
    "fragment_means": [Row({"fragments": 1}, identity=None, numeric=False),
                       Row({"fragments": 1, "quorum": 2}, identity=None, numeric=False)],
    # It buffers until a time has come.
    "grace": [Row({"grace": 1.0}, identity=None, numeric=False), Row({"until": "last_arrival"}, identity=None, numeric=False)],
    "gap_aware": [Row({"per": per, "between": between})
                  for per in ("parameter", "layer", "model") for between in ("views", "parameters")]
                 + [Row({"per": per, "step_length": "code"}) for per in ("parameter", "layer", "model")],
    # It adds noise, whatever the staleness.
    "gaussian_noise": [Row({"norm": 100, "multiplier": 0.01}, identity=False)],
    # It buffers; a buffer of one cuts the rate only where that is above 1 / tau.
    "late_groups": [Row({"buffer": 2}, identity=None, numeric=False), Row({"buffer": 1}, identity=None, numeric=False)],
    # It sends some entries only, whatever the staleness, unless it sends all.
    "gradient_dropping": [Row({"ratio": 0.5}, identity=False), Row({"ratio": 0.2, "per": "model"}, identity=False),
                          Row({"ratio": 1})],
    "iter_fisher": [Row({}), Row({"eta_lam": 1e-3, "longest": 1})],
    # It sends a matrix of low rank, whatever the staleness; the contract's vector is one tensor of no shape, and is sent whole.
    "low_rank": [Row({})],
    # FedAsync moves only `rate` of the way, also at staleness 0.
    "mixing": [Row({"rate": 1.0}), Row({"rate": 0.6}, identity=False)],
    # They change what workers are handed, after a push has been launched, and never a push.
    "eager": [Row({}), Row({"momentum": 0.0, "nesterov": False})],
    # It looks at what a push lacked, and leaves it as it is.
    "missing_writes": [Row({}, numeric=False)],
    # It looks at the length of the momentum, and changes nothing.
    "momentum_drift": [Row({}, identity=None), Row({"beta": 0.0}, identity=None)],
    # It looks at the angle between push and momentum, never at staleness.
    "momentum_alignment": [Row({}, identity=None), Row({"diverging": 0.0, "kappa": 0.0}, identity=None)],
    # It rounds at random, whatever the staleness.
    "qsgd": [Row({}, identity=False), Row({"levels": 1, "bucket": 4, "norm": "max"}, identity=False)],
    "rescheduling": [Row({}, numeric=False), Row({"updates": 40, "after": 1}, numeric=False)],
    "sa_momentum": [Row({"ratio": 0.5}, identity=False), Row({"momentum": 0.0, "weight_decay": 0.25}, identity=False)],
    # It changes what workers are handed, never a push.
    "shadow_step": [Row({"prediction": prediction}) for prediction in ("none", "local", "prev_sync", "local_prev_sync")],
    "sparse_difference": [Row({"ratio": 0.5}), Row({"ratio": 1})],
    # It makes the smaller models that a rule asks for, and leaves pushes of whole ones as they are.
    "sub_models": [Row({"dropout": "random"}), Row({"dropout": "ordered"})],
    "staleness_aware": [Row({"rule": rule}, numeric=False) for rule in
                        ("inverse", "inverse_plus_one", "polynomial", "exponential", "hinge", "delay_adaptive")],
    # It buffers, and looks at the order of the reads, not at staleness.
    "token_buffer": [Row({"buffer": 2}, identity=None, numeric=False), Row({"buffer": 1}, identity=None, numeric=False),
                     Row({"buffer": 2, "threshold": 0, "by_id": True}, identity=None, numeric=False)],
    # It makes a step of its own as the first push is launched, and leaves all pushes as they are.
    "zero_start": [Row({}, numeric=False)],
    # A worker's momentum, which every push of it carries.
    "worker_nesterov": [Row({}, identity=False), Row({"momentum": 0.0, "weight_decay": 0.25}, identity=False)],
}  # fmt: skip

OPTIMIZERS: dict[str, list[Row]] = {
    "adam": [Row({"lr": 0.05}), Row({"lr": 0.05, "weight_decay": 0.25}),
             Row({"lr": 0.05, "weight_decay": 0.25, "decoupled": True})],
    "approximate_momentum": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"lr": 0.05, "form": "full", "history": 3}),
                             Row({"momentum": 0.0})],
    "adam_prediction": [Row({"lr": 0.05}), Row({"lr": 0.05, "weight_decay": 0.25, "decoupled": True, "horizon": 2})],
    "averaged_look_ahead": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"lr": 0.05, "keep": "look_ahead"}),
                            Row({"momentum": 0.0})],
    "basis_rotation": [Row({"lr": 0.05}), Row({"lr": 0.05, "refresh": 2, "weight_decay": 0.25, "sides": "left"}),
                       Row({"lr": 0.05, "refresh": 1, "largest": 2})],
    "cyclic_momentum": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"lr": 0.05, "estimate": "naive", "cycle": 2}),
                        Row({"momentum": 0.0})],
    "delayed_nesterov": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"lr": 0.05, "period": 2, "c": 0.25}),
                         Row({"lr": 0.05, "period": 1}), Row({"momentum": 0.0})],
    "fed_amsgrad": [Row({"lr": 0.05}), Row({"lr": 0.05, "momentum": 0.0, "weight_decay": 0.25})],
    "fragment_sgd": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"lr": 0.05, "fragments": 2, "nesterov": False}),
                     Row({"momentum": 0.0})],
    "ftpipe_adam": [Row({"lr": 0.05, "gap_aware": "all"}), Row({"lr": 0.05, "weight_decay": 0.25, "gap_aware": "all"}),
                    Row({"lr": 0.05, "weight_decay": 0.25, "decoupled": True, "gap_aware": "all", "penalise": "direction"}),
                    Row({"lr": 0.05, "weight_decay": 0.25, "decoupled": True, "gap_aware": "all", "predict": "aggmsnag"})],
    "ftpipe_sgd": [Row({"lr": 0.05, "weight_decay": 0.25, "gap_aware": "all"}), Row({"momentum": 0.0, "gap_aware": "all"}),
                   Row({"lr": 0.05, "gap_aware": "all", "penalise": "direction", "gap_from": "gradient"}),
                   Row({"lr": 0.05, "weight_decay": 0.25, "predict": "aggmsnag", "nag_with_predictor": True})],
    "look_ahead_momentum": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"lr": 0.05, "discount": False}),
                            Row({"momentum": 0.0})],
    "muon": [Row({"lr": 0.05}), Row({"lr": 0.05, "weight_decay": 0.25, "nesterov": False, "scale": "rms"})],
    "nadam": [Row({"lr": 0.05}), Row({"lr": 0.05, "weight_decay": 0.25}),
              Row({"lr": 0.05, "weight_decay": 0.25, "decoupled": True})],
    "ordered_momentum": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"momentum": 0.0})],
    "outer_momentum": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"momentum": 0.0}),
                       Row({"lr": 0.05, "gap_penalty": 3.0, "clip": 2.0})],
    "sgd": [Row({"lr": 0.05}), Row({"lr": 0.05, "momentum": 0.9, "weight_decay": 0.25}),
            Row({"lr": 0.05, "momentum": 0.9, "nesterov": True})],
    "spike_compensation": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"lr": 0.05, "delay": 3, "horizon": 3}),
                           Row({"momentum": 0.0})],
    "weight_prediction": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"lr": 0.05, "horizon": "spectrain_v2"}),
                          Row({"lr": 0.05, "horizon": 2.5}),
                          Row({"lr": 0.05, "horizon": 2, "form": "weights"}), Row({"momentum": 0.0, "horizon": 2})],
    "worker_momentum": [Row({"lr": 0.05, "weight_decay": 0.25}), Row({"lr": 0.05, "look_ahead": False}), Row({"momentum": 0.0})],
}  # fmt: skip

ORDER = [0, 1, 2, 1, 0, 1, 1, 2, 0, 2]  # who pushes: every worker is stale now and then, and sometimes is not
DTYPES = [torch.float32, torch.float64]


OWNER = os.environ.get("ASYNCSIM_CONTRACT", "asyncsim")


def own(registry: Any) -> dict[str, Any]:
    """The owner's plugins; those that a document or another test registers are not ours to judge."""
    return {name: cls for name, cls in registry if f"{cls.__module__}.".startswith(f"{OWNER}.")}


def told(cls: Any) -> Row:
    """The row of another package's plugin: its default settings, and of its kind what it has declared."""
    needs = cls().needs
    return Row({}, identity=None, numeric=None if needs.decides_by_values else needs.numeric)


if OWNER != "asyncsim":
    POLICIES, OPTIMIZERS = ({name: [told(cls)] for name, cls in own(registry).items()} for registry in (policies, optimizers))


def rows(registry: Any, table: dict[str, list[Row]]) -> list:
    """One case a row; a plugin without one becomes a case that fails."""
    return [
        pytest.param((cls, row), id=f"{name}-{index}")
        for name, cls in own(registry).items()
        for index, row in enumerate(table.get(name, [None]))
    ]


def made(cls: Any, row: Row | None, table: str) -> Any:
    if row is None:
        pytest.fail(f"{cls.kind!r} is registered but has no row in {table} of {__name__}: give it one")
    return cls(**row.settings)


def treated(cases: list) -> list:
    """Cases whose policy looks at staleness or gaps."""
    others = ("clip", "accumulate", "accumulate_by_loss", "accumulate_by_stage", "data_weights", "discrepancy_correction",
              "gradient_dropping", "sparse_difference", "qsgd", "low_rank", "zero_start", "shadow_step", "eager", "sub_models",
              "missing_writes", "fragment")  # fmt: skip
    return [case for case in said(cases) if case.values[0][0].kind not in others]


def said(cases: list) -> list:
    """Cases that say what happens to a gradient of the current parameters."""
    return [case for case in cases if case.values[0][1] is None or case.values[0][1].identity is not None]


def counting(cases: list) -> list:
    """Cases whose policy decides on counts alone."""
    return [case for case in cases if case.values[0][1] is not None and case.values[0][1].numeric is False]


def planned(cases: list) -> list:
    """Cases whose policy does not decide by numbers."""
    return [case for case in cases if case.values[0][1] is None or case.values[0][1].numeric is not None]


@pytest.fixture(params=rows(policies, POLICIES))
def policy(request: pytest.FixtureRequest) -> tuple[Transform, Row]:
    cls, row = request.param
    return made(cls, row, "POLICIES"), row


@pytest.fixture(params=rows(optimizers, OPTIMIZERS))
def optimizer(request: pytest.FixtureRequest) -> Any:
    return made(*request.param, "OPTIMIZERS")


@pytest.fixture(params=[*rows(policies, POLICIES), *rows(optimizers, OPTIMIZERS)])
def chain(request: pytest.FixtureRequest) -> tuple[tuple[Transform, ...], Any]:
    """Every policy in front of plain momentum SGD, and every optimizer by itself."""
    cls, row = request.param
    if issubclass(cls, Transform):
        return (made(cls, row, "POLICIES"),), SGD(lr=0.05, momentum=0.5)
    return (), made(cls, row, "OPTIMIZERS")


def toy(chain: tuple[tuple[Transform, ...], Any], size: int = 6, dtype: torch.dtype = torch.float64) -> Toy:
    start = torch.linspace(-1.0, 2.0, size, dtype=dtype)
    half = size // 2
    return Toy(*chain, start, layers=(slice(0, half), slice(half, size)), shapes=((half,), (size - half, 1)))


def drive(server: Toy, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """Ten arrivals in ``ORDER``; a worker reads again after each of its pushes. Returns the parameters after each."""
    seen = []
    for worker, gradient in zip(ORDER, arrivals(len(server.server.params), len(ORDER), dtype, seed), strict=True):
        server.arrive(worker, gradient)
        seen.append(server.server.params.clone())
        server.read(worker)
    return seen


# Settings.


def test_tables_name_only_what_is_registered():
    """A row of something that is gone would test nothing."""
    assert set(POLICIES) == set(own(policies))
    assert set(OPTIMIZERS) == set(own(optimizers))


def test_a_plugin_without_a_row_fails():
    """The suite must not pass over a new policy in silence: here is one without a row."""

    class Unlisted(Transform):
        kind = "unlisted"

    with pytest.raises(pytest.fail.Exception, match="'unlisted' is registered but has no row in POLICIES"):
        made(Unlisted, None, "POLICIES")


@pytest.mark.parametrize(("registry", "table"), [(policies, POLICIES), (optimizers, OPTIMIZERS)], ids=["policy", "optimizer"])
def test_settings_are_frozen_and_survive_a_file(registry, table):
    """Fields cannot be set; ``settings()`` through JSON and back through the registry gives an equal object."""
    for name in table:
        for row in table[name]:
            spec = registry[name](**row.settings)
            for field in type(spec).model_fields:
                with pytest.raises(ValidationError, match="frozen"):
                    setattr(spec, field, getattr(spec, field))
            assert registry.parse(json.loads(json.dumps(spec.settings()))) == spec
            assert spec.settings()["kind"] == name


# What a run does with a policy.


def test_nothing_that_was_handed_out_is_written_to(chain):
    """Snapshots are shared by all workers of a version and the server's parameters are the next snapshot: ten arrivals leave
    every tensor that was ever read or held bit for bit as it was."""
    server = toy(chain)
    held, copies = [], []
    for worker, gradient in zip(ORDER, arrivals(6, len(ORDER)), strict=True):
        for tensor in (server.server.params, server.server.view(), *(read.params for read in server.reads)):
            held.append(tensor)
            copies.append(tensor.clone())
        server.arrive(worker, gradient)
        server.read(worker)
    assert server.server.version > 0
    for tensor, copy in zip(held, copies, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("size", [1, 6])
def test_shape_and_dtype_are_kept(chain, size, dtype):
    """What comes out has shape (P,) and the dtype of the parameters, also for P = 1 (where a layer may be empty)."""
    server = toy(chain, size, dtype)
    for worker, gradient in zip(ORDER, arrivals(size, len(ORDER), dtype), strict=True):
        result = server.arrive(worker, gradient)
        server.read(worker)
        for tensor in (server.server.params, server.server.view()):
            assert tensor.shape == (size,)
            assert tensor.dtype == dtype
            assert torch.isfinite(tensor).all()
        if isinstance(result, Push) and isinstance(result.penalty, Tensor):
            assert result.penalty.dtype == dtype
            assert result.penalty.shape in [(), (size,)]
    assert server.server.version > 0


def test_same_arrivals_same_bits(chain):
    """Two servers from one frozen policy, driven at the same time with different gradients, and one by itself: whatever changes
    during a run lies in the state, so the first and the third agree bit for bit, and the second does not."""
    first, other, alone = toy(chain), toy(chain), toy(chain)
    gradients = zip(arrivals(6, len(ORDER)), arrivals(6, len(ORDER), seed=1), strict=True)
    seen, others = [], []
    for worker, (gradient, another) in zip(ORDER, gradients, strict=True):
        for server, given, into in ((first, gradient, seen), (other, another, others)):
            server.arrive(worker, given)
            into.append(server.server.params.clone())
            server.read(worker)
    again = drive(alone)
    assert all(torch.equal(a, b) for a, b in zip(seen, again, strict=True))
    assert not torch.equal(seen[-1], others[-1])


def test_a_gradient_is_over_when_it_has_been_applied(chain):
    """Engines may reuse the memory of a gradient once its push has been applied: a server whose applied gradients (computed or
    replaced) are filled with NaN goes on like one where they are left alone, so no state holds on to one of them."""
    clean, poisoned = toy(chain), toy(chain)
    waiting: list[Push] = []
    for worker, gradient in zip(ORDER, arrivals(6, len(ORDER)), strict=True):
        clean.arrive(worker, gradient)
        clean.read(worker)
        result = poisoned.arrive(worker, gradient)
        waiting.append(poisoned.pushes[-1])
        if isinstance(result, Push):
            for each in (*waiting, result):
                for spent in (each.replaced, each.payload._result and each.payload._result.gradient):
                    if spent is not None:
                        spent.fill_(math.nan)
            waiting.clear()
        poisoned.read(worker)
        assert torch.equal(clean.server.params, poisoned.server.params)
        assert torch.equal(clean.server.view(), poisoned.server.view())


def test_state_can_be_written_to_disk(chain):
    """A checkpoint holds states, dictionaries, lists, tuples, tensors, numbers and None. The one exception are pushes that wait
    in a buffer: their own fields must be such things, and their gradient a future."""
    server = toy(chain)
    for worker, gradient in list(zip(ORDER, arrivals(6, len(ORDER)), strict=True))[:7]:
        server.arrive(worker, gradient)
        server.read(worker)
        _check([*server.policy.state.transforms, *server.policy.state.downlink, server.policy.state.step], "state")


def _check(value: Any, where: str) -> None:
    if isinstance(value, State):
        for name, item in entries(value):
            _check(item, f"{where}.{name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            assert isinstance(key, str | int), f"{where}: key {key!r}"
            _check(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    elif type(value) is Push:
        for name in ("worker", "step", "staleness", "time", "samples", "penalty", "replaced", "merged"):
            _check(getattr(value, name), f"{where}.{name}")
    else:
        assert value is None or type(value) in (int, float, str, bool, Tensor), f"{where}: {type(value).__name__}"


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_gradient_that_is_not_finite_passes(chain, bad):
    """A diverging run is a result, not an error: nothing raises, and the parameters show that it happened."""
    server = toy(chain)
    drive(server)
    for worker in (0, 1, 2, 0):
        server.read(worker)
        server.arrive(worker, torch.full((6,), bad, dtype=torch.float64))
        server.arrive(worker, torch.ones(6, dtype=torch.float64))
    assert not torch.isfinite(server.server.params).all()


def test_penalties_never_speed_a_push_up(chain):
    """A penalty is a number or tensor of at least 1: no treatment of staleness multiplies an update. Weights by data size do."""
    server = toy(chain)
    least = 0.5 if any(transform.kind == "data_weights" for transform in chain[0]) else 1.0
    for worker, gradient in zip(ORDER, arrivals(6, len(ORDER)), strict=True):
        result = server.arrive(worker, gradient)
        server.read(worker)
        if isinstance(result, Push):
            assert torch.as_tensor(result.penalty).min() >= least


# Transforms.


@pytest.mark.parametrize("policy", said(rows(policies, POLICIES)), indirect=True)
def test_nothing_happens_to_a_gradient_of_the_current_parameters(policy):
    """Reference 1.4.2 and section 9 (a): at staleness 0 and gap 0 a policy is the identity, where the literature says so: the
    same push comes out, penalty 1.0, and the gradient's bits are those computed. A row that says otherwise must differ."""
    transform, row = policy
    server = toy(((transform,), SGD(lr=0.05)))
    changed = []
    for gradient in arrivals(6, 5):
        arrived = push(gradient, server.server.params, staleness=0, by=server.engine)
        result = server.policy.arrive(arrived, server.server)
        same = result is arrived and isinstance(arrived.penalty, float) and arrived.penalty == 1.0
        changed.append(not (same and torch.equal(arrived.gradient, gradient)))
        if isinstance(result, Push):
            server.server.params = server.policy.apply(result, server.server)
            server.server.version += 1
    assert any(changed) is not row.identity


@pytest.mark.parametrize("policy", treated(rows(policies, POLICIES)), indirect=True)
def test_stale_gradients_are_treated(policy):
    """The counterpart of the identity, so that it is not empty: with a gap and staleness 9 something happens to the push."""
    transform, _ = policy
    server = toy(((transform,), SGD(lr=0.05)))
    drive(server)
    gradient = torch.ones(6, dtype=torch.float64)
    arrived = push(gradient, server.server.params - 0.5, staleness=9, by=server.engine)
    result = server.policy.arrive(arrived, server.server)
    if isinstance(result, Verdict):
        assert result is Verdict.DROPPED
    else:
        assert (torch.as_tensor(result.penalty) > 1.0).any() or not torch.equal(result.gradient, gradient)


@pytest.mark.parametrize("policy", planned(rows(policies, POLICIES)), indirect=True)
def test_numeric_policies_are_left_out_of_plans(policy):
    """Without tensors a numeric transform is passed by, and one that buffers or drops decides on counts alone: the verdicts of a
    timeline without gradients are those of the run with them."""
    transform, row = policy
    assert transform.needs.numeric is row.numeric
    assert not transform.needs.decides_by_values
    server = toy(((transform,), SGD(lr=0.05)))
    timeline = Policy((transform,), SGD(), None, 3)
    verdicts = []
    for worker, gradient in zip(ORDER, arrivals(6, len(ORDER)), strict=True):
        staleness, version = server.server.version - server.reads[worker].version, server.server.version
        blind = push(None, None, staleness, worker)
        planned = timeline.arrive(blind, View(None, version))
        result = server.arrive(worker, gradient)
        server.read(worker)
        verdicts.append(planned if isinstance(planned, Verdict) else None)
        assert verdicts[-1] == (result if isinstance(result, Verdict) else None)
        if row.numeric:
            assert planned is blind
            assert blind.penalty == 1.0


def test_what_a_policy_does_to_pushes_is_declared(policy):
    """Engines that compute ahead ask what is declared before the run: a policy that ever drops a push, or passes on a mean of
    several, must declare it, and one that declares it must be seen to do it. (One that looks at every loss computes each.)"""
    transform, row = policy
    server = toy(((transform,), SGD(lr=0.05)))
    results = [server.arrive(worker, gradient) for worker, gradient in zip(ORDER, arrivals(6, len(ORDER)), strict=True)]
    dropped = any(result is Verdict.DROPPED for result in results)
    averaged = any(isinstance(result, Push) and all(result is not each for each in server.pushes) for result in results)
    assert (Need.DROPS in transform.needs) is dropped
    assert Need.MEANS in transform.needs or not averaged or transform.needs.decides_by_values
    assert transform.needs.decides_by_values is (row.numeric is None)


@pytest.mark.parametrize("policy", counting(rows(policies, POLICIES)), indirect=True)
def test_dropping_and_buffering_computes_nothing(policy):
    """Late evaluation survives the policies that decide what happens in virtual time: none of them asks for a gradient."""
    transform, _ = policy
    server = toy(((transform,), SGD(lr=0.05)))
    for staleness in (0, 1, 5):
        arrived = push(torch.ones(6), server.server.params, staleness, by=server.engine)
        server.policy.arrive(arrived, server.server)
        assert arrived.payload.pending
    assert server.engine.computed == 0


# Step rules.


def test_a_step_rule_alone_hands_out_the_parameters_first(optimizer):
    """Before the first step there is no momentum to look ahead with: what is handed out is the very tensor of the parameters."""
    start = torch.ones(4, dtype=torch.float64)
    policy = Policy((), optimizer, start, 3)
    assert policy.view(start, View(start, lr=optimizer.lr), 0) is start


def test_weight_decay_is_that_of_the_current_parameters(optimizer):
    """Reference 1.3: ``d = g + wd * theta_current``, fresh and not stale. The direction does not depend on the snapshot, unless
    the rule compares with it (FTPipe's, whose decay is in ``test_ftpipe_rules``)."""
    if getattr(optimizer, "gap_aware", "none") == "all" and getattr(optimizer, "gap_from", "stashed") == "stashed":
        optimizer = optimizer.model_copy(update={"gap_aware": "none"})
    now = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
    directions = []
    for snapshot in (now, now * 100.0):
        state = optimizer.init(now, 3)
        arrived = push(torch.ones(3, dtype=torch.float64), snapshot, staleness=3)
        directions.append(optimizer.direction(arrived, state, View(now)).clone())
    assert torch.equal(*directions)


def test_the_penalty_divides_the_first_step(optimizer):
    """With a penalty of 4 (a power of two, so exactly) the first direction is a quarter: SGD by linearity, weight decay included
    (reference 1.3), and Adam because its finished update is divided."""
    now = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
    directions = []
    for penalty in (1.0, 4.0, torch.full((3,), 4.0, dtype=torch.float64)):
        arrived = push(torch.tensor([0.5, 1.0, -3.0], dtype=torch.float64), now)
        arrived.penalise(penalty)
        directions.append(optimizer.direction(arrived, optimizer.init(now, 3), View(now)).clone())
    assert torch.equal(directions[1], directions[0] / 4)
    assert torch.equal(directions[2], directions[0] / 4)


def test_learning_rate_zero_moves_nothing(optimizer):
    """``theta - 0 * direction`` is theta, and what is handed out is too; no NaN appears."""
    start = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
    server = Toy((), optimizer.model_copy(update={"lr": 0.0}), start.clone())
    for worker, gradient in zip(ORDER, arrivals(3, len(ORDER)), strict=True):
        server.arrive(worker, gradient)
        server.read(worker)
        assert torch.equal(server.server.params, start)
        assert torch.equal(server.server.view(), start)


@dataclass
class Open(State):
    """A state that takes fields which no checkpoint would keep."""

    pushes: int = 0


class Undecorated(State):
    pushes: int = 0


@pytest.mark.parametrize(("state", "found"), [({}, "a dict"), (Open(), "a Open"), (Undecorated(), "a Undecorated")])
def test_a_state_that_would_lose_something_is_refused(state, found):
    class Part(Transform):
        def init(self, params: Any, num_workers: int) -> Any:
            return state

    with pytest.raises(UserError, match=rf"`init` of Part returned {found}; .*@dataclass\(slots=True\)"):
        Policy((Part(),), SGD(), None, 1)
