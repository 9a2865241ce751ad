"""The section ``cluster``: what it resolves to, and what it refuses where."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from asyncsim.cluster import Cluster, Constant, Episode, GammaHomogeneous, Link
from asyncsim.registry import json_schema
from asyncsim.streams import Streams
from asyncsim.units import NANOSECONDS

FULL = {
    "compute": {"kind": "gamma", "mean": "1s", "cv": 0.1},
    "uplink": {"latency": "1ms", "bandwidth": "10Gbit/s"},
    "downlink": {"latency": {"kind": "exponential", "mean": "2ms"}},
    "server": {"service": "3ms"},
    "faults": {"up": {"kind": "spot_up"}, "down": {"kind": "lognormal", "median": "10min", "sigma": 1.5}},
    "groups": [
        {"name": "fast", "workers": 2, "compute": "500ms", "faults": {}},
        {"name": "slow", "workers": 3, "uplink": "1s"},
    ],
    "overrides": {3: {"compute": "5s"}},
    "events": [
        {"at": "30s", "workers": [3, 0], "slowdown": 4},
        {"at": "10s", "workers": [3], "slowdown": 2, "duration": "30s"},
        {"at": "2min", "workers": [4], "stop": True},
        {"at": "1min", "workers": [4], "stop": True},
    ],
}


class TestProfiles:
    def test_defaults(self):
        profiles = Cluster().worker_profiles()
        assert len(profiles) == 8
        assert [profile.worker for profile in profiles] == list(range(8))
        assert profiles[7].compute == GammaHomogeneous(mean=1)
        assert profiles[7][3:] == (Link(), Link(), None, (), None, None, None, (), (), None)
        assert profiles[7].speed(Streams(0)).finish(5, 1.0) == 5 + NANOSECONDS

    def test_groups_inherit_and_override(self):
        cluster = Cluster.model_validate(FULL)
        fast, _, slow, special, _ = cluster.worker_profiles()
        assert (fast.group, slow.group) == ("fast", "slow")
        assert fast.compute == Constant(mean=0.5)
        assert fast.uplink is cluster.uplink
        assert fast.faults is None
        assert slow.compute is cluster.compute
        assert slow.uplink == Link(latency="1s")
        assert slow.faults is cluster.faults
        assert special.compute == Constant(mean=5)
        assert special.uplink == slow.uplink

    def test_events_reach_their_workers(self):
        s = NANOSECONDS
        profiles = Cluster.model_validate(FULL).worker_profiles()
        assert profiles[3].slowdowns == (Episode(10 * s, 40 * s, 2.0), Episode(30 * s, None, 4.0))
        assert [profile.stop for profile in profiles] == [None, None, None, None, 60 * s]
        assert profiles[3].speed(Streams(0)).factor(35 * s) == 8

    def test_one_profile_is_the_same_as_among_all(self):
        for cluster in (Cluster.model_validate(FULL), Cluster(workers=3)):
            assert cluster.worker_profiles() == tuple(cluster.profile(worker) for worker in range(cluster.num_workers))
        with pytest.raises(IndexError, match="allowed are 0 to 2"):
            cluster.profile(3)

    def test_many_workers_share_their_objects(self):
        everyone = list(range(0, 100_000, 2))
        cluster = Cluster(workers=100_000, events=[{"at": 1, "workers": everyone, "slowdown": 2}])
        profiles = cluster.worker_profiles()
        assert len(profiles) == 100_000
        assert profiles[99_999].compute is profiles[0].compute
        assert profiles[99_998].slowdowns == profiles[0].slowdowns != profiles[1].slowdowns

    def test_all_workers_may_stop(self):
        assert all(p.stop == 0 for p in Cluster(workers=2, events=[{"at": 0, "workers": [0, 1], "stop": True}]).worker_profiles())

    def test_settings_round_trip_through_json(self):
        for data in (FULL, {}, {"workers": 5}):
            cluster = Cluster.model_validate(data)
            assert Cluster.model_validate(json.loads(json.dumps(cluster.settings()))) == cluster

    def test_a_link_takes_latency_and_size(self):
        assert Link(latency=1, bandwidth="8bit/s").duration(0.5, 3) == 3.5
        assert Link().duration(0.0, 1e12) == 0

    def test_json_schema_names_the_fields(self):
        schema = json_schema(Cluster)
        assert set(schema["properties"]) == set(Cluster.model_fields)
        assert "two_state" in json.dumps(schema)


EVENT = {"at": 1, "workers": [0], "slowdown": 2}
WRONG = [
    ({"workers": True}, ("workers",), "whole number from 1"),
    ({"workers": 0}, ("workers",), "greater than or equal to 1"),
    ({"workers": -3}, ("workers",), "greater than or equal to 1"),
    ({"workers": 2.5}, ("workers",), "whole number from 1"),
    ({"workers": "many"}, ("workers",), "whole number from 1"),
    ({"workers": 2_000_000}, ("workers",), "less than or equal to 1000000"),
    ({"worker": 3}, ("worker",), "did you mean `workers`"),
    ({"workers": 3, "groups": [{"name": "a", "workers": 2}]}, ("workers",), "not both"),
    ({"groups": [{"name": "a", "workers": 1}, {"name": "a", "workers": 1}]}, ("groups", 1, "name"), "no group before has"),
    ({"groups": [{"workers": 1}]}, ("groups", 0, "name"), "required"),
    ({"groups": [{"name": "", "workers": 1}]}, ("groups", 0, "name"), "at least 1 character"),
    ({"groups": [{"name": "a", "workers": False}]}, ("groups", 0, "workers"), "whole number from 1"),
    ({"groups": [{"name": "a", "workers": 700_000}, {"name": "b", "workers": 700_000}]}, ("groups",), "1 to 1,000,000"),
    ({"compute": {"kind": "gama", "mean": 1}}, ("compute", "kind"), "did you mean `gamma`"),
    ({"compute": {"kind": "gamma", "mean": 1}}, ("compute", "cv"), "required"),
    ({"compute": {"kind": "gamma", "mean": 1, "cv": True}}, ("compute", "cv"), "number from 0"),
    ({"compute": {"kind": "gamma", "mean": 1, "cv": -1}}, ("compute", "cv"), "greater than or equal to 0"),
    ({"compute": {"kind": "gamma", "mean": 1, "cv": float("nan")}}, ("compute", "cv"), "finite number"),
    ({"compute": "5 parsecs"}, ("compute", "mean"), "string such as 50ms"),
    ({"compute": -1}, ("compute", "mean"), "greater than or equal to 0"),
    ({"compute": 0}, ("compute",), "above 0 s"),
    ({"compute": {"kind": "lognormal", "mean": 1, "cv": 1, "sigma": 1}}, ("compute",), "or `mean` and `cv`"),
    ({"compute": {"kind": "lognormal", "median": 1}}, ("compute",), "given: median"),
    ({"compute": {"kind": "pareto", "scale": 2, "alpha": 1, "cap": 1}}, ("compute", "cap"), "2 s or more"),
    ({"compute": {"kind": "uniform", "low": 2, "high": 1}}, ("compute", "high"), "2 s or more"),
    ({"compute": {"kind": "mixture", "parts": []}}, ("compute", "parts"), "one entry or more"),
    (
        {"compute": {"kind": "mixture", "parts": [{"weight": 0, "delay": 1}]}},
        ("compute", "parts", 0, "weight"),
        "greater than 0",
    ),
    ({"compute": {"kind": "two_state", "base": 1, "factor": 2, "normal": 0, "slow": 1}}, ("compute", "normal"), "above 0 s"),
    (
        {"uplink": {"latency": {"kind": "two_state", "base": 1, "factor": 2, "normal": 1, "slow": 1}}},
        ("uplink", "latency"),
        "allowed only as `compute`",
    ),
    ({"uplink": {"latency": "-1ms"}}, ("uplink", "latency", "mean"), "greater than or equal to 0"),
    ({"uplink": {"bandwidth": "10Gbit"}}, ("uplink", "bandwidth"), "10Gbit/s"),
    ({"uplink": {"bandwidth": 0}}, ("uplink", "bandwidth"), "greater than 0"),
    ({"server": {"service": "soon"}}, ("server", "service"), "known: "),
    ({"faults": {"up": "1h"}}, ("faults", "down"), "both `up` and `down`"),
    ({"faults": {"up": 0, "down": 1}}, ("faults", "up"), "above 0 s"),
    ({"overrides": {8: {"compute": 1}}}, ("overrides", 8), "0 to 7"),
    ({"overrides": {"x": {}}}, ("overrides", "x", "[key]"), "whole number from 0"),
    ({"overrides": {True: {}}}, ("overrides", 1, "[key]"), "whole number from 0"),
    ({"overrides": {1: {"speed": 1}}}, ("overrides", 1, "speed"), "allowed here: compute"),
    ({"workers": 4, "events": [{**EVENT, "workers": [0, 4]}]}, ("events", 0, "workers", 1), "0 to 3"),
    ({"events": [EVENT, {**EVENT, "workers": [-1]}]}, ("events", 1, "workers", 0), "greater than or equal to 0"),
    ({"events": [{**EVENT, "workers": []}]}, ("events", 0, "workers"), "one entry or more"),
    ({"events": [{**EVENT, "workers": [1, 1]}]}, ("events", 0, "workers"), "each worker once"),
    ({"events": [{**EVENT, "workers": [True]}]}, ("events", 0, "workers", 0), "whole number from 0"),
    ({"events": [{**EVENT, "at": "-1s"}]}, ("events", 0, "at"), "greater than or equal to 0"),
    ({"events": [{**EVENT, "slowdown": 0}]}, ("events", 0, "slowdown"), "greater than 0"),
    ({"events": [{**EVENT, "duration": 0}]}, ("events", 0, "duration"), "greater than 0"),
    ({"events": [{"at": 1, "workers": [0]}]}, ("events", 0), "given none of them"),
    ({"events": [{**EVENT, "stop": True}]}, ("events", 0), "given slowdown, stop"),
    ({"events": [{"at": 1, "workers": [0], "stop": True, "duration": 1}]}, ("events", 0, "duration"), "only with `slowdown`"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "where", "allowed"), WRONG, ids=lambda value: str(value)[:60])
def test_wrong_input_is_located_and_says_what_is_allowed(data, where, allowed):
    with pytest.raises(ValidationError) as caught:
        Cluster.model_validate(data)
    (problem,) = caught.value.errors()
    assert problem["loc"] == where
    assert allowed in problem["msg"]


def test_several_problems_are_told_at_once():
    with pytest.raises(ValidationError) as caught:
        Cluster.model_validate({"workers": 2, "overrides": {5: {}}, "events": [{**EVENT, "workers": [7]}]})
    assert [problem["loc"] for problem in caught.value.errors()] == [("overrides", 5), ("events", 0, "workers", 0)]


def test_the_section_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Cluster().workers = 3
