"""The laws that `--verify` checks: every one can be broken, and is then named."""

from __future__ import annotations

import pytest

import asyncsim
from asyncsim.cli import main
from asyncsim.scenario import Scenario
from asyncsim.simulation.arrivals import Arrivals
from asyncsim.simulation.channels import Channel
from asyncsim.simulation.lives import Lives
from asyncsim.simulation.shard import Shard
from asyncsim.simulation.spans import Spans
from asyncsim.simulation.verifying import LawBroken
from asyncsim.simulation.worker import Worker

PIPELINE = {"task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8, 8]}}, "stages": 3, "cluster": {"workers": 3}}


@pytest.fixture
def broken(make, monkeypatch):
    """``broken(law, **scenario)``: a plan fails with that law, once the patches are made."""
    monkeypatch.setenv("ASYNCSIM_VERIFY", "1")

    def broken(law: str, **sections):
        with pytest.raises(LawBroken, match=law):
            asyncsim.plan(make(4, "1s", updates=40, **sections))

    return broken


def test_durations(broken, monkeypatch):
    finish, calls = Worker.finish, []

    def wavering(self, *work):
        calls.append(work)
        return finish(self, *work) + len(calls) % 2

    monkeypatch.setattr(Worker, "finish", wavering)
    broken("is done at")


def test_spans(broken, monkeypatch):
    begin = Spans.begin
    monkeypatch.setattr(Spans, "begin", lambda self, worker, kind: (begin(self, worker, kind), setattr(worker, "since", 0)))
    broken("one thing at a time", cluster={"uplink": "100ms"})


def test_one_version_an_arrival(broken, monkeypatch):
    advance = Shard.advance
    monkeypatch.setattr(Shard, "advance", lambda self, *how: (advance(self, *how), advance(self, *how)))
    broken("one version or none")


def test_arrivals_were_read_once(broken, monkeypatch):
    arrived = Arrivals._apply
    monkeypatch.setattr(Arrivals, "_apply", lambda self, *what: (arrived(self, *what), arrived(self, *what)))
    broken("read before, once")


def test_the_dead_do_nothing(broken, monkeypatch):
    interrupted = Lives._interrupted

    def haunting(self, worker, cause):
        interrupted(self, worker, cause)
        worker.down_until = self._sim.env.now + 1
        return False

    monkeypatch.setattr(Lives, "_interrupted", haunting)
    broken("left for good", cluster={"events": [{"at": "3s", "workers": [1], "stop": True}]})


def test_channels(monkeypatch):
    arrive = Channel._put
    monkeypatch.setattr(Channel, "_put", lambda self, message: (arrive(self, message), setattr(self, "fullest", 9)))
    with pytest.raises(LawBroken, match="holds no more"):
        asyncsim.plan(Scenario.model_validate(PIPELINE | {"method": "pipedream", "run": {"updates": 20}}))


def test_the_command_line(tmp_path, monkeypatch, capsys):
    """``--verify`` asks for it; what it finds is one message and exit code 2."""
    monkeypatch.setenv("ASYNCSIM_VERIFY", "")
    file = tmp_path / "s.yaml"
    file.write_text("task: quadratic\ncluster: {workers: 3}\nrun: {updates: 20}\n")
    advance = Shard.advance
    monkeypatch.setattr(Shard, "advance", lambda self, *how: (advance(self, *how), advance(self, *how)))
    assert main(["plan", str(file)]) == 0
    assert main(["plan", str(file), "--verify"]) == 2
    assert "one version or none" in capsys.readouterr().err
