"""What must hold after any death; and every test leaves PyTorch's threads as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dying
import pytest
from dying import kill, same

import asyncsim
from asyncsim.records import Result
from asyncsim.scenario import Scenario


@pytest.fixture(autouse=True)
def _threads_as_they_were(threads_as_they_were: None) -> None:
    """After every test of this folder."""


@pytest.fixture
def resumes(tmp_path: Path) -> Callable[..., Result]:
    """``resumes(scenario, at, ...)``: killed at each of these arrivals in turn, and resumed, it is as if nothing had been."""

    def check(scenario: Scenario, *at: int, expected: Result | None = None) -> Result:
        expected = expected or asyncsim.simulate(scenario)
        assert expected.summary["pushes"] > max(at)
        for arrival in at:
            run = tmp_path / f"run{arrival}"
            kill(scenario, run, arrival)
            assert dying.saved(run), "nothing to resume from"
            same(asyncsim.resume(run), expected)
            same(asyncsim.load_result(run), expected)
            assert sorted(path.name for path in run.iterdir() if path.is_dir()) == []
        return expected

    return check
