"""What holds for every exchange: any death and resumption, engines, refusals, rules in rounds, rules of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dying import kill, same

import asyncsim
from asyncsim.errors import UserError
from asyncsim.exchange import Exchange
from asyncsim.registries import exchanges
from asyncsim.scenario import ScenarioError

OVERLAP = {"kind": "replica", "overlap": True}
LINKS = {"uplink": {"latency": {"kind": "exponential", "mean": 0.4}, "bandwidth": "10kB/s"}, "downlink": "100ms"}
FAULTS = {"faults": {"up": {"kind": "exponential", "mean": "15s"}, "down": "2s"}}
STOP = {"events": [{"at": "12s", "workers": [1], "stop": True}]}
IN_ROUNDS = {"kind": "custom", "exchange": "all_reduce", "consistency": "bsp"}
LAGGED = {"kind": "custom", "exchange": "all_reduce", "consistency": {"kind": "bsp", "lag": 1}, "program": OVERLAP}
METHODS: dict[str, Any] = {
    "pairs": "ad_psgd", "step first": {"kind": "ad_psgd", "form": "adapt_then_combine"},
    "pairs, overlap": {"kind": "ad_psgd", "program": OVERLAP}, "local steps": {"kind": "ad_psgd", "program": "local_sgd"},
    "push-sum": "sgp", "push-sum, lag": {"kind": "sgp", "lag": 2}, "peers": {"kind": "sgp", "peers": 2, "graph": "ring"},
    "push-sum, nobody waits": {"kind": "sgp", "consistency": "asp"},
    "ssp": {"kind": "ad_psgd", "consistency": {"kind": "ssp", "bound": 1}},
    "what is stale is dropped": {"kind": "sgp", "lag": 1, "before": [{"kind": "drop_stale", "bound": 4}]},
    "by the gap": {"kind": "ad_psgd", "before": ["gap_aware"]},
    "rounds": {"kind": "custom", "exchange": {"kind": "gossip", "graph": "ring"}, "consistency": "bsp"},
    "all-reduce": IN_ROUNDS, "lagged all-reduce": LAGGED,
    "a random mean": {"kind": "sparta", "fraction": 0.1}, "a lagged random mean": {"kind": "sparta", "fraction": 0.1, "lag": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_killed_anywhere_it_goes_on_with_the_same_bits(make, tmp_path, name):
    scenario = make(METHODS[name], cluster=LINKS | FAULTS | STOP, updates=50, checkpoint={"updates": 3})
    expected = asyncsim.simulate(scenario)
    assert expected.summary["crashes"] > 1
    assert asyncsim.plan(scenario).fingerprints["timeline"] == expected.fingerprints["timeline"]
    for at in (20, 37, 49):
        kill(scenario, tmp_path / f"run{at}", at=at)
        same(asyncsim.resume(tmp_path / f"run{at}"), expected)


@pytest.mark.parametrize("name", METHODS)
def test_engines_agree(make, name):
    """Float64: the serial engine's numbers to 1e-10; threaded to the bit."""
    serial, batched, threaded = (
        asyncsim.simulate(make(METHODS[name], updates=60, engine=kind)) for kind in ("serial", "batched", "threaded")
    )
    assert abs(serial.parameters - batched.parameters).max() < 1e-10
    assert serial.fingerprints["trajectory"] == threaded.fingerprints["trajectory"]
    assert serial.fingerprints["timeline"] == batched.fingerprints["timeline"]


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("cluster", [{}, {"all_reduce": "ring", "uplink": "200ms"}])
def test_all_reduced_models_are_all_reduced_gradients(make, lag, cluster):
    """Without momentum the mean of everybody's step is the step of the mean: `bsp`, with a lag too, over either transport."""
    consistency = {"consistency": {"kind": "bsp", "lag": lag}} | ({"program": OVERLAP} if lag else {})
    plain = {"optimizer": {"kind": "sgd", "lr": 0.2}, "updates": 30, "cluster": cluster}
    models = asyncsim.simulate(make({"kind": "custom", "exchange": "all_reduce"} | consistency, **plain))
    gradients = asyncsim.simulate(make({"kind": "bsp"} | consistency, **plain))
    assert abs(models.parameters - gradients.parameters).max() < 1e-12
    assert models.fingerprints["timeline"] == gradients.fingerprints["timeline"]
    other = asyncsim.simulate(make({"kind": "bsp"} | consistency, **plain, seed=1))
    assert abs(models.parameters - other.parameters).max() > 1e-4


@pytest.mark.parametrize(("method", "more", "words"), [
    ({"kind": "bsp", "exchange": "pairs"}, {}, "everyone.*rounds|rounds.*everyone"),
    ({"kind": "asgd", "exchange": "all_reduce"}, {}, "pushes once in a round.*lacks the property `rounds`"),
    ({"kind": "bsp", "exchange": "all_reduce"}, {}, "policy of its own.*`everyone`"),
    ({"kind": "asgd", "consistency": "heard"}, {}, "lacks the property `peers`"),
    ({"kind": "ad_psgd", "uplink": [{"kind": "clip", "max_norm": 1}]}, {}, "do not travel in `ad_psgd`"),
    ({"kind": "sgp", "program": OVERLAP}, {}, "overlap"),
    ({"kind": "sgp", "lag": 1, "program": "replica"}, {}, "overlap"),
    ("ad_psgd", {"cluster": {"server": {"service": "1s"}}}, "no server whose service"),
    ("sgp", {"cluster": {"all_reduce": "ring"}}, "rounds in which every worker takes part"),
    ("sgp", {"cluster": {"server": {"checkpoint": "5s", "faults": {"up": "9s", "down": "1s"}}}}, "hold the parameters"),
    ("ad_psgd", {"cluster": {"events": [{"at": "3s", "workers": [1], "join": True}]}}, "nobody joins `ad_psgd`"),
    ({"kind": "ad_psgd", "graph": "hypercube"}, {}, "1, 2, 4, 8, ... groups, not 5"),
    ({"kind": "ad_psgd", "graph": {"kind": "ring", "form": "combine_then_adapt"}}, {}, "a setting of the exchange"),
    ({"kind": "ad_psgd", "exchange": "push_some"}, {}, "push_sum"),
    ({"kind": "ad_psgd", "program": {"kind": "stage"}}, {}, "`cuts`"),
    ({"kind": "bp", "exchange": "pairs"}, {"stages": 5}, "setting `gossip` of a method of pipelines"),
])  # fmt: skip
def test_what_cannot_be_is_refused(make, method, more, words):
    with pytest.raises(ScenarioError, match=words):
        make(method, **more)


@pytest.fixture
def own() -> Iterator[None]:
    before = dict(exchanges._classes)
    yield
    exchanges._classes.clear()
    exchanges._classes.update(before)


@pytest.mark.parametrize(("body", "words"), [
    ({"mixes": lambda self, worker, partner: {worker: {worker: 0.5, partner: 0.5}}}, "gives away 0.5 times what worker"),
    ({"shares": lambda self, partners: dict.fromkeys(partners, 1.0)}, "of which something is left"),
    ({"partners": lambda self, worker, number, members, streams: (worker,)}, "as partners of worker 0; allowed are"),
    ({"partners": lambda self, worker, number, members, streams: (1, 2) if worker == 0 else ()}, "allowed are up to 1 others"),
])  # fmt: skip
def test_a_rule_that_loses_or_makes_something_is_told(make, own, body, words):
    """One error, which names the rule and says what is allowed."""
    ahead = {"partners": lambda self, worker, number, members, streams: ((worker + 1) % 5,)}
    exchanges.register("test_wrong")(type("Wrong", (Exchange,), ahead | body))
    with pytest.raises(UserError, match=f"the exchange `test_wrong` .*{words}"):
        asyncsim.simulate(make({"kind": "asgd", "exchange": "test_wrong"}, cluster={"compute": "1s"}))


def test_bytes_and_prices(make):
    """Every message is paid for by who sends it: the worker for its own, the partner for the answer."""
    cluster = {"compute": "1s", "instance": {"kind": "custom", "price": 0, "egress": 1.0}}
    pairs = make("ad_psgd", workers=4, cluster=cluster, run={"time": "10.5s"})
    size = 8 * pairs.task.num_parameters()
    assert asyncsim.plan(pairs).summary["bytes_sent"] == 4 * 10 * 2 * size
    push = asyncsim.plan(make({"kind": "sgp", "peers": 2}, workers=4, cluster=cluster, run={"time": "10.5s"}))
    assert push.summary["bytes_sent"] == pytest.approx(4 * 10 * 2 * (size + 8))


def test_the_gap_is_that_of_the_worker_s_own_model(make):
    """Gap-Aware in front of pairs divides by how far the model that it is applied to has moved (from a worker's second push on);
    where nobody else moves it, by 1."""
    apart = asyncsim.simulate(make({"kind": "ad_psgd", "before": ["gap_aware"]})).updates
    later = apart[apart.groupby("worker").cumcount() > 0]
    assert later["gap"].min() > 0
    assert later["penalty"].min() > 1
    push = asyncsim.simulate(make({"kind": "sgp", "before": ["gap_aware"]})).updates
    assert set(push["gap"]) == {0.0}
    assert set(push["penalty"]) == {1.0}


def test_a_fleet_of_runs_gives_each_its_own_bits(make):
    scenarios = [make(method, updates=40, engine="batched", seed=seed) for seed in (0, 1) for method in ("ad_psgd", "sgp")]
    for one, alone in zip(asyncsim.simulate_many(scenarios), map(asyncsim.simulate, scenarios), strict=True):
        assert one.fingerprints == alone.fingerprints


@pytest.mark.parametrize(("peer", "seconds"), [(1, 1 + 1.0), (2, 1 + 0.3 + 2 * 1.0)], ids=["in the rack", "to the other rack"])
def test_messages_share_the_pipes_between_two_workers(make, own, peer, seconds):
    """Racks of two, a pipe as thick as one worker's link, 1 s for a message alone: both workers of a rack send to the other rack
    at once and take twice as long, after a hop of 0.3 s. Within a rack nothing is shared."""

    @exchanges.register("test_across")
    class Across(Exchange):
        def partners(self, worker, number, members, streams):
            return (worker ^ peer,)

        def shares(self, partners):
            return dict.fromkeys(partners, 0.5)

    size = 1e6
    cluster = {
        "compute": "1s", "uplink": {"bandwidth": size},
        "network": {"kind": "rack", "racks": [2, 2], "uplink": size, "hop": "300ms"},
    }  # fmt: skip
    method = {"kind": "custom", "exchange": "test_across", "consistency": "heard"}
    plan = asyncsim.plan(make(method, workers=4, cluster=cluster, run={"time": "40s"}, push=size))
    spans = plan.events.query("kind == 'compute' and worker == 3")["start_ns"].to_numpy() / 1e9
    assert spans[1:] - spans[:-1] == pytest.approx(seconds)
    assert len(spans) > 10


def test_the_way_between_any_two_regions_must_be_known(make):
    """Public tables have only some pairs. Every two workers may meet, so the rest is refused, not taken as no time at all."""
    def network(*regions):
        return {"network": {"kind": "aws_2017_regions", "regions": list(regions)}}

    assert make("sgp", workers=2, cluster=network("us-east-1", "us-west-2")).cluster.network is not None
    assert make("asgd", workers=3, cluster=network("us-east-1", "us-west-2", "sa-east-1")).cluster.network is not None
    with pytest.raises(ScenarioError, match="no round-trip time is known between sites 1 and 2, whose workers exchange"):
        make("sgp", workers=3, cluster=network("us-east-1", "us-west-2", "sa-east-1"))
