"""What a command finds around it: variables, streams that are closed, a terminal that does not know its size."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FILE = (
    "task: {kind: quadratic, noise: 0.1}\ncluster: {workers: 2}\noptimizer: {kind: sgd, lr: 0.1}\nrun: {updates: 20}\n"
    "evaluate: {updates: 10}\n"
)


@pytest.fixture
def command(tmp_path):
    (tmp_path / "a.yaml").write_text(FILE)

    def command(*words: str, redirect: str = "", **variables: str) -> subprocess.CompletedProcess:
        line = ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-m", "asyncsim", *words]
        return subprocess.run(line, cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120)

    return command


@pytest.mark.parametrize("columns", ["0", ""])
def test_a_terminal_that_does_not_know_its_size_prints_all(command, columns):
    """rich prints nothing at all where a terminal has no columns."""
    done = command("plan", "a.yaml", COLUMNS=columns, LINES="0")
    assert done.returncode == 0
    assert "staleness mean" in done.stdout
    assert "fingerprint, timeline" in done.stdout


def test_without_docstrings(command):
    """``python -OO`` drops them, and the assertions."""
    done = command("plan", "a.yaml", "--json", PYTHONOPTIMIZE="2")
    assert (done.returncode, done.stderr) == (0, "")
    listed = command("list", PYTHONOPTIMIZE="2").stdout.splitlines()
    assert listed[0] == "methods"
    assert {"asgd", "gap_aware", "replica"} <= set(listed)


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize(
    ("redirect", "code"),
    [(">&- 2>&-", 0), (">/dev/full", 2), ("2>/dev/full", 2),
     *(pytest.param(each, 0, marks=pytest.mark.slow) for each in (">&-", "2>&-", "<&-"))],
)  # fmt: skip
def test_streams_that_are_closed_or_full(command, tmp_path, redirect, code):
    """What can be said is said; the run is there; and nothing that was meant for a stream gets into its files."""
    if "full" in redirect and not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full")
    done = command("run", "a.yaml", "--no-figures", redirect=redirect)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    shown = command("show", str(run), "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    if code == 2 and "2>" not in redirect:
        assert done.stderr.endswith("asyncsim: the output: No space left on device\n")


@pytest.mark.parametrize("backend", ["nonsense", "TkAgg"])
def test_a_backend_for_windows_does_not_matter(command, tmp_path, backend):
    done = command("run", "a.yaml", MPLBACKEND=backend)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "convergence.png").stat().st_size > 3000


def test_settings_of_matplotlib_that_fail_do_not_matter(command, tmp_path):
    lines = ["text.usetex: True", 'axes.prop_cycle: cycler("color", [])', "savefig.format: none", "image.cmap: none"]
    (tmp_path / "matplotlibrc").write_text("\n".join(lines))
    done = command("run", "a.yaml", MATPLOTLIBRC=str(tmp_path / "matplotlibrc"))
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "convergence.png").stat().st_size > 3000
