"""Virtual times of every schedule in closed form: constant compute times, sums of binary fractions, so to the nanosecond."""

from __future__ import annotations

from collections import Counter

import pytest

import asyncsim
from asyncsim.assembling import assemble
from asyncsim.scenario import Scenario

SECOND = 10**9
EQUAL, UNEQUAL = (1.0, 1.0, 1.0, 1.0), (1.0, 2.0, 4.0, 1.0)


def scenario(method, weights=EQUAL, updates=40, compute="32s", workers=None, batch=16, cluster=None, **stages):
    count = len(weights)
    return Scenario.model_validate({
        "task": {"kind": "digits", "batch": batch, "model": {"kind": "mlp", "hidden": [8] * (count - 1)}},
        "cluster": {"workers": workers or count, "compute": compute, **(cluster or {})},
        "stages": {"count": count, "split": "layers", "time": weights, "forward": 0.25, **stages},
        "method": method,
        "run": {"updates": updates},
    })  # fmt: skip


def period(case, stage=0):
    """Nanoseconds between the last updates of one stage, which must be equally far apart."""
    result = asyncsim.plan(case)
    rows = result.updates
    times = rows[(rows["worker"] == stage) & (rows["outcome"] == "applied")]["time_ns"].to_numpy()
    gaps = set((times[-10:] - times[-11:-1]).tolist())
    assert len(gaps) == 1, gaps
    return gaps.pop()


ORACLES = {
    "bp": ("bp", lambda f, b: sum(f) + sum(b)),
    "fdg": ("fdg", lambda f, b: max(map(sum, zip(f, b, strict=True)))),
    "fdg, forward first": ({"kind": "fdg", "update_first": False}, lambda f, b: max(map(sum, zip(f, b, strict=True)))),
    "fdg, free running": ({"kind": "fdg", "clocked": False}, lambda f, b: max(map(sum, zip(f, b, strict=True)))),
    "pipedream": ("pipedream", lambda f, b: max(map(sum, zip(f, b, strict=True)))),
    "ddg": ("ddg", lambda f, b: sum(f) + max(b)),
    "features replay": ("features_replay", lambda f, b: sum(f) + max(map(sum, zip(f, b, strict=True)))),
}


@pytest.mark.parametrize("weights", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("name", ORACLES)
def test_time_of_a_batch(name, weights):
    method, oracle = ORACLES[name]
    whole = [32.0 * weight / sum(weights) for weight in weights]
    forward, backward = [0.25 * each for each in whole], [0.75 * each for each in whole]
    assert period(scenario(method, weights)) == oracle(forward, backward) * SECOND


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 4, 8])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_bubble(stages, parts, interleaved):
    """A share of ``(p - 1) / (m + p - 1)`` of the time is idle."""
    case = scenario({"kind": "gpipe", "micro_batches": parts, "interleaved": interleaved}, (1.0,) * stages)
    assert period(case) * stages * parts == 32 * SECOND * (parts + stages - 1)


@pytest.mark.parametrize("parts", [2, 4, 8])
@pytest.mark.parametrize("stages", [2, 4])
def test_recomputing_adds_a_forward_pass(stages, parts):
    """``(m + p - 1) (F + F + B)`` an update, with the forward pass a quarter of a micro-batch's time: five quarters."""
    case = scenario({"kind": "gpipe", "micro_batches": parts, "recompute": True}, (1.0,) * stages)
    assert period(case) * stages * parts * 4 == 5 * 32 * SECOND * (parts + stages - 1)


@pytest.mark.parametrize("update_first", [True, False])
def test_first_backward_pass_of_delayed_gradients(update_first):
    """Stage ``k`` of ``K`` begins to go backwards in tick ``2K - k``; a tick takes as long as the busiest stage's work in it."""
    events = asyncsim.plan(scenario({"kind": "fdg", "update_first": update_first})).events
    ends = events[(events["worker"] == 3) & (events["kind"] == "compute")]["start_ns"].to_list()
    for stage in (1, 2, 3):  # the last stage begins with a batch in every tick from K on
        rows = events[(events["worker"] == stage - 1) & (events["kind"] == "backward")]
        first = rows["start_ns"].min() - (0 if update_first else 2 * SECOND)
        assert ends.index(first) + 4 == 2 * 4 - stage


def test_first_update_of_locked_forward():
    """Stage ``k`` of ``K`` in iteration ``K - k + 1``."""
    case = scenario("ddg")
    events = asyncsim.plan(case).events
    starts = events[(events["worker"] == 3) & (events["kind"] == "backward")]["start_ns"].to_list()
    for stage in (1, 2, 3, 4):
        rows = events[(events["worker"] == stage - 1) & (events["kind"] == "backward")]
        assert starts.index(rows["start_ns"].min()) + 1 == 4 - stage + 1


@pytest.mark.parametrize("link", [{}, {"latency": "2s"}, {"bandwidth": "64B/s"}, {"latency": "2s", "bandwidth": "64B/s"}])
@pytest.mark.parametrize("where", ["link", "uplink"])
def test_two_stages_by_hand(link, where):
    """Eight numbers of 4 bytes for 16 samples, 512 bytes, at 64 bytes a second: 8 s up and 8 s down for every batch."""
    links = {"link": link} if where == "link" else {}
    case = scenario("bp", (1.0, 1.0), cluster={"uplink": link} if where == "uplink" else None, **links)
    once = 2 * ("latency" in link) + 8 * ("bandwidth" in link)
    assert period(case) == (32 + 2 * once) * SECOND
    rows = asyncsim.plan(case).events
    spans = rows[rows["kind"].isin(["compute", "forward", "backward"])].sort_values("start_ns")[:4]
    # Below, forward takes a quarter of 16 s; above, both passes in one go take all 16 s.
    begin = [0, 4 + once, 20 + 2 * once, 32 + 2 * once]
    assert spans["start_ns"].to_list() == [seconds * SECOND for seconds in begin]


def in_flight(case, worker):
    """The most batches between forward and backward pass at one stage, with the one that is just computed."""
    events = asyncsim.plan(case).events
    now = most = 0
    for kind in events[events["worker"] == worker].sort_values(["start_ns", "end_ns"])["kind"]:
        now += {"forward": 1, "backward": -1}.get(kind, 0)
        most = max(most, now + (kind == "compute"))
    return most


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_graphs_that_are_kept(stages):
    weights = (1.0,) * stages
    lags = [stages - 1 - k for k in range(stages)]

    def kept(method):
        return [in_flight(scenario(method, weights), k) for k in range(stages)]

    fdg = kept("fdg")
    assert fdg[:-1] == [2 * lag for lag in lags[:-1]]
    assert sum(fdg[:-1]) == stages * (stages - 1)
    assert kept("pipedream") == [lag + 1 for lag in lags]
    assert kept("ddg") == kept("features_replay") == [lag + 1 for lag in lags]
    assert kept({"kind": "gpipe", "micro_batches": 8}) == [8] * stages
    assert kept({"kind": "gpipe", "micro_batches": 2, "interleaved": True}) == [min(2, lag + 1) for lag in lags]


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_versions_that_are_kept(stages):
    """PipeDream-2BW: two, whatever the depth. PipeDream: as many as batches in flight."""
    for method, most in (("pipedream_2bw", lambda k: 2), ("pipedream", lambda k: stages - k)):
        events = asyncsim.plan(scenario(method, (1.0,) * stages, batch=12)).events
        for stage in range(stages - 1):
            using: Counter[int] = Counter()
            largest = 0
            for row in events[events["worker"] == stage].sort_values("start_ns").itertuples():
                using[row.version] += {"forward": 1, "backward": 0}.get(row.kind, 0)
                largest = max(largest, sum(count > 0 for count in using.values()))
                using[row.version] -= row.kind == "backward"
            assert largest == most(stage) if method == "pipedream" else largest <= 2


@pytest.mark.parametrize(("versions", "groups"), [("double", 1), ("double", 2), ("first", 2)])
def test_versions_that_are_not_kept_are_refused(versions, groups):
    """Updates that do not come in step with the batches: a stage would ask for parameters that are gone."""
    method = {"kind": "custom", "program": {"kind": "stage", "order": "1f1b", "versions": versions, "micro_batches": 2}}
    case = scenario(method, (1.0,) * 3, workers=3 * groups, compute={"kind": "exponential", "mean": 1})
    with pytest.raises(asyncsim.UserError, match=r"method\.program\.versions: stage . is asked for version . and keeps . to"):
        asyncsim.plan(case)


@pytest.mark.parametrize("queue", [2, 3])
@pytest.mark.parametrize("method", ["1f1b", {"kind": "ticks", "clocked": False}, {"kind": "flush"}, "forward_locked"])
def test_channels_hold_what_they_may(method, queue):
    """A slow stage in the middle and exponential times: those below wait, and nobody gets stuck."""
    program = {"kind": "stage", "order": method, "queue": queue, "micro_batches": 1}
    compute = {"kind": "exponential", "mean": "32s"}
    case = scenario({"kind": "custom", "program": program}, (1.0, 1.0, 8.0, 1.0), 150, compute)
    sim = assemble(case, None, None, None)
    for _ in sim.run():
        pass
    assert 0 < max(channel.fullest for channel in sim.pipeline.channels()) <= queue
    assert sim.server.version == 150
