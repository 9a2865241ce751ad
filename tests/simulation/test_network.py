"""Contention, places, loss, all-reduce and overlap: runs whose times can be worked out by hand."""

from __future__ import annotations

import math

import pytest
from laws import check_all

import asyncsim
from asyncsim.errors import UserError
from asyncsim.units import NANOSECONDS

SLOW = {"bandwidth": "1kB/s"}


def planned(make, workers=4, updates=40, network=None, method="asgd", message=500, **sections):
    cluster = sections.pop("cluster", {}) | ({} if network is None else {"network": network})
    result = asyncsim.plan(make(workers, "1s", method, updates=updates, cluster=cluster, message=message, **sections))
    check_all(result)
    return result


def lengths(result, kind):
    """Seconds of each complete span, as (worker, seconds)."""
    spans = result.events[(result.events["kind"] == kind) & result.events["complete"]]
    return list(zip(spans["worker"], (spans["end_ns"] - spans["start_ns"]) / NANOSECONDS, strict=True))


@pytest.mark.parametrize("discipline", ["fair", "fifo"])
def test_a_network_that_holds_nobody_up_changes_nothing(make, discipline):
    """Free pipes, or none: the timeline is that of links alone, to the bit."""
    links = {"uplink": {"latency": "250ms", **SLOW}, "downlink": SLOW}
    plain = planned(make, cluster=links, message=500)
    for pipes in ({}, {"ingress": "1TB/s", "egress": "1TB/s"} if discipline == "fair" else {}):
        network = {"kind": "flat", "discipline": discipline, **pipes}
        assert planned(make, cluster=links, network=network).fingerprints["timeline"] == plain.fingerprints["timeline"]


def test_equal_workers_share_the_ingress(make):
    """Four pushes of 500 bytes at 1 kB/s together take 2 s; one after the other 0.5 s each, and the workers fall into step."""
    fair = planned(make, network={"kind": "flat", "ingress": "1kB/s"})
    assert {seconds for _, seconds in lengths(fair, "upload")} == {2.0}
    assert fair.summary["time"] == 10 * 3.0
    fifo = planned(make, network={"kind": "flat", "ingress": "1kB/s", "discipline": "fifo"})
    assert [seconds for _, seconds in lengths(fifo, "upload")][:4] == [0.5, 1.0, 1.5, 2.0]
    assert fifo.summary["time"] == 1.0 + 40 * 0.5  # the pipe is never idle again


def test_a_slow_link_leaves_its_share_to_the_others(make):
    """100 B/s of its own against 1 kB/s shared by three: the other two have 450 each (max-min fair)."""
    cluster = {"overrides": {0: {"uplink": {"bandwidth": "100B/s"}}}}
    result = planned(make, 3, 3, network={"kind": "flat", "ingress": "1kB/s"}, cluster=cluster, message=450)
    first = dict(lengths(result, "upload")[:2])
    assert first == {1: 1.0, 2: 1.0}


def test_parts_on_hosts_pass_side_by_side(make):
    """Two hosts carry twice as much; three shards on two hosts are 2/3 and 1/3, and the last part counts."""
    pair = planned(make, network={"kind": "flat", "ingress": "1kB/s", "hosts": 2})
    assert {seconds for _, seconds in lengths(pair, "upload")} == {1.0}
    uneven = planned(make, 1, 3, network={"kind": "flat", "ingress": "1kB/s", "hosts": 2, "shards": 3}, message=600)
    assert {seconds for _, seconds in lengths(uneven, "upload")} == {0.4}


def test_egress_holds_up_reads(make):
    """Four first reads of 500 bytes at once take 2 s."""
    result = planned(make, network={"kind": "flat", "egress": "1kB/s"})
    assert [seconds for _, seconds in lengths(result, "download")][:4] == [2.0] * 4


def test_racks_share_their_uplinks(make):
    """Racks of three and one worker behind 1 kB/s each: 1.5 s and 0.5 s for 500 bytes, and the hop; the server's rack is free."""
    network = {"kind": "rack", "racks": [3, 1], "uplink": "1kB/s", "hop": "1s"}
    first = lengths(planned(make, network=network, updates=4), "upload")
    assert dict(first) == {3: 1.5, 0: 2.5, 1: 2.5, 2: 2.5}
    inside = lengths(planned(make, network={**network, "server": 0}, updates=20), "upload")
    assert {worker for worker, _ in inside} == {3}


def test_oversubscription_is_links_over_uplink(make):
    """Four links of 1 kB/s behind one of 4 / 8 kB/s: 500 bytes each take 4 s."""
    result = planned(make, network={"kind": "rack", "racks": 1, "oversubscription": 8}, cluster={"uplink": SLOW}, updates=4)
    assert {seconds for _, seconds in lengths(result, "upload")} == {4.0}


def test_regions_are_half_a_round_trip_away(make):
    """The preset of 2017: Virginia is near, Ireland 40.25 ms away, Sydney 115 ms."""
    network = {"kind": "aws_2017_regions", "regions": ["us-east-1", "eu-west-1", "ap-southeast-2"]}
    result = planned(make, 3, 9, network=network)
    assert set(lengths(result, "upload")) == {(1, 0.04025), (2, 0.115)}
    assert set(lengths(result, "download")) == {(1, 0.04025), (2, 0.115)}
    assert lengths(planned(make, 8, 1, network="aws_2017_regions"), "download")  # in one line


def test_wireless_bandwidths_are_drawn_once(make):
    """Between 20 and 100 Mbit/s, one for each worker."""
    result = planned(make, 6, 60, network={"kind": "afl_wireless", "radio": "4g"}, message=1e6)
    ups = {worker: {s for w, s in lengths(result, "upload") if w == worker} for worker in range(6)}
    assert all(len(each) == 1 and 0.08 <= min(each) <= 0.4 for each in ups.values())
    assert len(set.union(*ups.values())) == 6


def test_lost_messages_are_sent_again(make):
    """Tries are geometric: with loss 0.3, mean 1 / 0.7 and variance 0.3 / 0.49; k tries take k + (k - 1) x timeout."""
    network = {"kind": "flat", "loss": {"probability": 0.3, "timeout": "1s"}}
    result = planned(make, 5, 4000, network=network, cluster={"uplink": SLOW}, message=1000)
    tries = [(seconds + 1) / 2 for _, seconds in lengths(result, "upload")]
    assert all(each == int(each) for each in tries)
    assert sum(tries) / len(tries) == pytest.approx(1 / 0.7, abs=4 * math.sqrt(0.3 / 0.49 / len(tries)))
    assert result.summary["resent"] > 0


def test_lost_packets_are_sent_again(make):
    """Ten packets, half of them lost: the number of tries is the largest of ten geometric numbers, mean 4.73 (sum over k of
    ``1 - (1 - 2^-k)^10``), and a try sends what is missing, so all tries together send 20 packets on average."""
    loss = {"probability": 0.5, "timeout": "100s", "packet": 100}
    result = planned(make, 4, 2000, network={"kind": "flat", "loss": loss}, cluster={"uplink": SLOW}, message=1000)
    times = [seconds for _, seconds in lengths(result, "upload")]
    tries = [1 + seconds // 100 for seconds in times]
    mean = sum(1 - (1 - 0.5**k) ** 10 for k in range(60))
    assert sum(tries) / len(tries) == pytest.approx(mean, abs=4 * 1.9 / math.sqrt(len(tries)))
    sent = [(seconds % 100) * 10 for seconds in times]
    assert sum(sent) / len(sent) == pytest.approx(20, abs=4 * math.sqrt(20 / len(sent)))


def test_copies_take_their_time_and_nothing_else(make):
    """A quarter of the pushes come twice: ingress and server are busy with the copies, and no push counts twice."""
    network = {"kind": "flat", "ingress": "1kB/s", "duplicate": 0.25}
    result = planned(make, 4, 2000, network=network, cluster={"server": {"service": "100ms"}})
    plain = planned(make, 4, 2000, network={**network, "duplicate": 0}, cluster={"server": {"service": "100ms"}})
    share = result.summary["duplicates"] / result.summary["pushes"]
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 2000))
    assert result.summary["updates"] == plain.summary["updates"] == 2000
    assert result.summary["time"] > 1.05 * plain.summary["time"]


@pytest.mark.parametrize(("kind", "seconds"), [("ring", 14 * 0.01 + 14 / 8), ("tree", 6 * (0.01 + 1.0))])
def test_all_reduce_takes_what_the_formula_says(make, kind, seconds):
    """N = 8: ring 2 (N - 1) latencies and 2 (N - 1) / N of the bytes at the slowest bandwidth; tree 2 log2(N) of both."""
    cluster = {"uplink": {"latency": "10ms", "bandwidth": "2kB/s"}, "downlink": SLOW, "all_reduce": kind}
    result = planned(make, 8, 5, method="bsp", message=1000, cluster=cluster)
    assert result.summary["time"] == pytest.approx(5 * (1 + seconds), abs=1e-8)
    assert "download" not in set(result.events["kind"])


def test_all_reduce_of_those_that_are_left(make):
    """Two of four leave: from then on a ring of two, 2 x 1/2 of the bytes instead of 2 x 3/4."""
    events = [{"at": "2.6s", "workers": [2, 3], "stop": True}]
    cluster = {"uplink": SLOW, "all_reduce": "ring", "events": events}
    result = planned(make, 4, 3, method="bsp", message=1000, cluster=cluster)
    assert result.updates.loc[result.updates["outcome"] == "applied", "time"].tolist() == [2.5, 4.5, 6.5]


def test_sparse_pushes_have_a_size_of_their_own(make):
    """100 bytes up, 500 down, at 1 kB/s; over the network too."""
    for network in (None, "flat"):
        result = planned(make, 1, 5, network=network, cluster={"uplink": SLOW, "downlink": SLOW}, push=100)
        assert {seconds for _, seconds in lengths(result, "upload")} == {0.1}
        assert {seconds for _, seconds in lengths(result, "download")} == {0.5}


def test_overlap_hides_the_way_of_a_push(make):
    """Compute 1 s, upload 0.5 s: a push every second instead of every 1.5 s; and the next read lacks it. An upload of 3 s leaves
    one under way at a time: a push every 3 s."""
    program = {"kind": "replica", "overlap": True}
    plain = planned(make, 1, 10, cluster={"uplink": "500ms"})
    result = planned(make, 1, 10, cluster={"uplink": "500ms"}, method={"kind": "asgd", "program": program})
    assert plain.updates["time"].tolist() == [1.5 * k for k in range(1, 11)]
    assert result.updates["time"].tolist() == [k + 0.5 for k in range(1, 11)]
    assert plain.updates["staleness"].tolist() == [0] * 10
    assert result.updates["staleness"].tolist() == [0] + [1] * 9
    slow = planned(make, 1, 10, cluster={"uplink": "3s"}, method={"kind": "asgd", "program": program})
    assert slow.updates["time"].tolist() == [1 + 3 * k for k in range(1, 11)]


def test_a_crash_cuts_off_what_is_on_its_way(make):
    """Up for 3.25 s: the push of the third second is half way and is lost, with the work begun."""
    cluster = {"uplink": "500ms", "faults": {"up": "3.25s", "down": "1s"}}
    method = {"kind": "asgd", "program": {"kind": "replica", "overlap": True}}
    result = planned(make, 1, 4, cluster=cluster, method=method)
    assert result.updates["time"].tolist() == [1.5, 2.5, 4.25 + 1.5, 4.25 + 2.5]


@pytest.mark.parametrize(("change", "words"), [
    ({"network": {"kind": "rack", "racks": [2, 1]}}, ("network.racks", "3 workers", "4")),
    ({"network": {"kind": "rack", "server": 5}}, ("network.server", "0 to 1")),
    ({"network": {"kind": "aws_2017_regions", "server": "eu-west-1"}}, ("network.regions", "round-trip", "eu-west-1")),
    ({"network": {"kind": "aws_2017_regions", "regions": ["us-esat-1"]}}, ("network.regions", "us-east-1")),
    ({"network": {"kind": "flat", "hosts": 3, "shards": 2}}, ("network.shards", "3 hosts")),
    ({"network": "flatt"}, ("network", "flat")),
    ({"all_reduce": "ring"}, ("cluster.all_reduce", "bsp")),
])  # fmt: skip
def test_what_does_not_fit_is_refused(make, change, words):
    with pytest.raises(UserError) as error:
        make(4, cluster=change)
    for word in words:
        assert word in str(error.value)


def test_overlap_is_refused_where_somebody_waits(make):
    with pytest.raises(UserError, match="overlap"):
        make(4, method={"kind": "ssp", "bound": 1, "program": {"kind": "replica", "overlap": True}})


@pytest.mark.parametrize("method", ["gpipe", "fdg"])
def test_activations_pass_the_pipes_between_racks(make, method):
    """Two stages in two racks: with a slow uplink everything takes longer, and the plan is the run's timeline."""
    task = {"kind": "digits", "model": {"kind": "mlp", "hidden": [8]}, "batch": 8}
    times = []
    for uplink in ("1GB/s", "2kB/s"):
        cluster = {"network": {"kind": "rack", "racks": 2, "uplink": uplink}}
        scenario = make(2, "1s", method, updates=6, task=task, stages=2, cluster=cluster)
        plan, run = asyncsim.plan(scenario), asyncsim.simulate(scenario)
        assert plan.fingerprints["timeline"] == run.fingerprints["timeline"]
        times.append(plan.summary["time"])
    assert times[1] > times[0]
