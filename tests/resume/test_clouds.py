"""Whatever the network and the faults: killed and resumed, a run ends with the bits of an uninterrupted one."""

from __future__ import annotations

import pytest
from dying import made

NETWORK = {
    "uplink": {"latency": {"kind": "exponential", "mean": 0.1}, "bandwidth": "3kB/s"},
    "network": {"kind": "rack", "racks": 2, "uplink": "5kB/s", "ingress": "4kB/s", "egress": "4kB/s", "hosts": 2,
                "duplicate": 0.2, "loss": {"probability": 0.1, "timeout": "300ms", "packet": 100}},
}  # fmt: skip
SPOT = {
    "faults": {"up": {"kind": "exponential", "mean": 8}, "down": "1s", "warning": "700ms"},
    "zones": {"zones": 2, "gap": {"kind": "exponential", "mean": 9}, "down": "1s", "spread": "1s"},
    "maintenance": [{"every": "11s", "duration": "1s", "warning": "2s"}], "load": {"period": "7s", "depth": 0.8},
}  # fmt: skip
ELASTIC = {"events": [
    {"at": "3s", "workers": [1], "join": True}, {"at": "5s", "workers": [0], "leave": True},
    {"at": "9s", "workers": [0], "join": True}, {"at": "6s", "workers": [1], "down": "2s"},
]}  # fmt: skip
FIFO = NETWORK | {"network": {"kind": "flat", "ingress": "4kB/s", "discipline": "fifo"}}
SERVER = {"server": {"service": "50ms", "checkpoint": "3s", "faults": {"up": {"kind": "exponential", "mean": 4}, "down": "1s"}}}
ALL = NETWORK | SPOT | ELASTIC | SERVER
CLUSTERS = {"server": SERVER, "network": NETWORK, "fifo": FIFO, "spot": SPOT, "elastic": ELASTIC, "all": ALL}
OVERLAP = {"kind": "asgd", "program": {"kind": "replica", "overlap": True}}
METHODS = {"asgd": {"kind": "asgd"}, "bsp": {"kind": "bsp"}, "overlap": OVERLAP}


@pytest.mark.parametrize(("method", "cluster"), [
    pytest.param(method, cluster, marks=pytest.mark.slow if (method, cluster) == ("bsp", "all") else (), id=f"{method}-{cluster}")
    for method in METHODS for cluster in CLUSTERS
])  # fmt: skip
def test_clouds(resumes, cluster, method):
    resumes(made(method=METHODS[method], cluster=CLUSTERS[cluster], run={"updates": 40}, checkpoint={"updates": 2}), 38)


def test_all_reduce(resumes):
    cluster = {"uplink": {"latency": {"kind": "exponential", "mean": 0.1}, "bandwidth": "3kB/s"}, "all_reduce": "ring"}
    resumes(made(method="bsp", cluster=cluster, run={"updates": 30}, checkpoint={"updates": 2}), 28)
