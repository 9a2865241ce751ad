"""What tests of several folders use. Every run of the suite is verified while it goes on, also in processes that tests start."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("ASYNCSIM_VERIFY", "1")
MATRICES = (
    "simulation/test_every_method.py", "resume/test_resume_contract.py", "engines/test_families.py",
    "resume/test_kills.py::test_a_few_random_moments", "resume/test_resume_pipelines.py", "resume/test_every_checkpoint.py",
    "exchange/test_every_exchange.py", "pipeline/test_pipeline_faults.py", "pipeline/test_ftpipe.py",
    "docs/test_methods_table.py::test_what_is_kept", "determinism/test_timelines.py", "methods/test_lagged_methods.py",
)  # fmt: skip
"""Every method in every trouble: of these tests a fixed half is in the fast suite, the other half has the marker slow."""

DEAR = (
    "sweep/test_atlas.py::test_it_goes_on_with_what_is_saved", "calibrate/test_calibrate.py::test_a_long_trace_takes_seconds",
    "cli/test_surroundings.py::test_streams_that_are_closed_or_full", "cli/test_surroundings.py::test_a_backend_for_windows",
    "sweep/test_tune.py::test_where_every_trial_diverges", "cli/test_stopping.py::test_a_pool_ends_with_its_parent[9]",
)  # fmt: skip
"""Tests of seconds each, which have faster ones beside them: they are in the slow set."""


@pytest.hookimpl(tryfirst=True)  # before the markers are looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = item.nodeid.partition("tests/")[2]
        if name.startswith(DEAR) or (name.startswith(MATRICES) and zlib.crc32(name.encode()) % 2):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """``cli("run", file)``: a command in an empty folder, ``cli.folder``; its exit code, stdout and stderr."""
    from asyncsim.cli import main

    def cli(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    cli.folder = tmp_path
    return cli


@pytest.fixture
def threads_as_they_were() -> Iterator[None]:
    """A run sets PyTorch's number of threads: afterwards it is what it was."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(threads_as_they_were: None) -> None:
    """A run uses one thread; what a test computes beside it must not use more, as its sums would be in another order."""
    import torch

    torch.set_num_threads(1)
