"""A method of somebody else's: one file of an installed package, found through an entry point, without touching the project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

METHOD = '''
"""Lazy SGD: what is ``patience`` versions old is dropped, and what is stale at all is halved."""
from dataclasses import dataclass
from typing import ClassVar

from asyncsim.consistency import ASP
from asyncsim.methods import Bundle, Method
from asyncsim.needs import Need
from asyncsim.policies import State, Transform, Verdict
from asyncsim.registries import methods, policies
from asyncsim.simulation.programs import Replica
from pydantic import Field


@dataclass(slots=True)
class Halved(State):
    halved: int = 0


@policies.register("lazy")
class Lazy(Transform):
    """Drop or halve."""

    needs: ClassVar[Need] = Need.DROPS
    patience: int = Field(default=2, ge=1)

    def init(self, params, num_workers):
        return Halved()

    def update(self, push, state, server):
        if push.staleness >= self.patience:
            return Verdict.DROPPED
        if push.staleness:
            state.halved += 1
            push.penalise(2.0)
        return push


@methods.register("lazy_sgd")
class LazySgd(Method):
    """Lazy SGD."""

    patience: int = Field(default=2, ge=1)

    def parts(self, num_workers, optimizer):
        return Bundle((Lazy(patience=self.patience),), optimizer, ASP(), Replica())
'''

EXCHANGE = '''
"""Workers in a ring, of which each draws the next one towards itself, and is drawn."""
from asyncsim.consistency import Heard
from asyncsim.exchange import Exchange
from asyncsim.methods import Bundle, Method
from asyncsim.registries import exchanges, methods
from asyncsim.simulation.programs import Replica
from pydantic import Field


@exchanges.register("drawn")
class Drawn(Exchange):
    """Two of a ring draw each other nearer by the share ``pull`` of what is between them."""

    pull: float = Field(0.25, gt=0, lt=1)

    def partners(self, worker, number, members, streams):
        place = members.index(worker)
        return (members[(place + 1) % len(members)],) if len(members) > 1 else ()

    def mixes(self, worker, partner):
        near, far = 1 - self.pull, self.pull
        return {worker: {worker: near, partner: far}, partner: {partner: near, worker: far}}


@methods.register("drawn_sgd")
class DrawnSgd(Method):
    """A ring of workers that draw each other."""

    def parts(self, num_workers, optimizer):
        return Bundle((), optimizer, Heard(), Replica(), Drawn())
'''

LIAR = '''

@policies.register("liar")
class Liar(Lazy):
    """Says that it drops nothing, and keeps a memory of its own beside its state."""

    needs: ClassVar[Need] = Need.NOTHING
    memory: ClassVar[list] = []

    def update(self, push, state, server):
        self.memory.append(push.gradient)
        return super().update(push, state, server)
'''


@pytest.fixture
def package(tmp_path):
    """Installs a package ``lazy`` with one module; gives a function that runs Python where it is installed."""

    def install(source: str):
        site = tmp_path / "site"
        (site / "lazy-1.0.dist-info").mkdir(parents=True)
        (site / "lazy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lazy\nVersion: 1.0\n")
        (site / "lazy-1.0.dist-info" / "entry_points.txt").write_text("[asyncsim.plugins]\nlazy = lazy.method\n")
        (site / "lazy").mkdir()
        (site / "lazy" / "__init__.py").touch()
        (site / "lazy" / "method.py").write_text(source)

        def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
            paths = os.pathsep.join([str(site), str(ROOT), os.environ.get("PYTHONPATH", "")])
            environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | env
            command = [sys.executable, *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT)

        return run

    return install


def test_it_is_found_planned_and_run(package):
    """By the name in a scenario, in a fresh process: the plan has the run's timeline, and `list` knows method, policy, needs."""
    script = textwrap.dedent("""
        import asyncsim
        from asyncsim.cli import main
        from asyncsim.scenario import Document, build_scenario

        scenario = build_scenario(Document({
            "task": {"kind": "digits", "model": "softmax"}, "run": {"updates": 20}, "method": {"kind": "lazy_sgd", "patience": 3},
            "cluster": {"workers": 4, "compute": {"kind": "gamma", "mean": "1s", "cv": 0.5}},
        }, "here"))
        plan, result = asyncsim.plan(scenario), asyncsim.simulate(scenario)
        assert plan.fingerprints["timeline"] == result.fingerprints["timeline"]
        assert plan.summary["dropped"] == result.summary["dropped"] > 0
        assert set(result.updates.query("outcome == 'applied'")["penalty"]) == {1.0, 2.0}
        for what in (["methods"], ["policies"], ["--needs"]):
            main(["list", *what])
    """)
    done = package(METHOD)("-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^lazy_sgd +Lazy SGD\. *$", done.stdout, re.MULTILINE)
    assert re.search(r"^lazy +Drop or halve\. *$", done.stdout, re.MULTILINE)
    assert re.search(r"^lazy_sgd +drops *$", done.stdout, re.MULTILINE)


def test_an_exchange_of_ones_own(package):
    """A rule, and a method that takes it: what the ring holds is 0.75 x + 0.25 y, as a loop has it."""
    script = textwrap.dedent("""
        import asyncsim, torch
        from asyncsim.assembling import assemble
        from asyncsim.cli import main
        from asyncsim.engine.spec import Serial
        from asyncsim.scenario import Document, build_scenario

        def scenario(**more):
            return build_scenario(Document({
                "task": {"kind": "digits", "model": "softmax"}, "run": {"updates": 40}, "dtype": "float64",
                "cluster": {"workers": 4, "compute": "1s"}, "method": "drawn_sgd", **more,
            }, "here"))

        plan, result = asyncsim.plan(scenario()), asyncsim.simulate(scenario())
        assert plan.fingerprints["timeline"] == result.fingerprints["timeline"]
        still = scenario(optimizer={"kind": "sgd", "lr": 0.0})
        sim = assemble(still, still.task.build(0, "cpu", "float64", 4), Serial(), None)
        rows = sim.server.shards[0].rows
        for place, row in enumerate(rows):
            row.params = torch.full_like(row.params, float(place))
        for _ in sim.run():
            pass
        held = [0.0, 1.0, 2.0, 3.0]
        for i in result.updates["worker"].iloc[:-1]:  # the exchange of the last is not made any more
            j = (i + 1) % 4
            held[i], held[j] = 0.75 * held[i] + 0.25 * held[j], 0.75 * held[j] + 0.25 * held[i]
        assert max(abs(float(row.params[0]) - value) for row, value in zip(rows, held)) < 1e-12, held
        main(["list", "--needs"])
    """)
    done = package(EXCHANGE)("-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^drawn +whole_models, own_parameters, peers *$", done.stdout, re.MULTILINE)
    assert re.search(r"^drawn_sgd +waits, .*hears *$", done.stdout, re.MULTILINE)


def test_the_contract_judges_it(package):
    """The project's own suite, on the package: the honest policy passes every test, and the one that lies does not."""
    run = package(METHOD + LIAR)
    done = run("-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "tests/policies/test_contract.py", ASYNCSIM_CONTRACT="lazy")
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)(?:\[(.*?)\])?", done.stdout, re.MULTILINE)
    failed = {test for outcome, test, case in outcomes if outcome != "PASSED"}
    assert all("liar" in case for outcome, _, case in outcomes if outcome != "PASSED"), done.stdout
    assert {"test_what_a_policy_does_to_pushes_is_declared", "test_dropping_and_buffering_computes_nothing"} <= failed
    assert sum("lazy" in case for _, _, case in outcomes) > 10
