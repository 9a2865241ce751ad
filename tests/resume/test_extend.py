"""A run made longer is the longer run from the start."""

from __future__ import annotations

import pytest
from dying import contents, kill, made, same

import asyncsim
from asyncsim import UserError
from asyncsim.cli import main
from asyncsim.run import execution

METHODS = [
    "asgd",
    "gap_aware",
    {"kind": "softsync", "n": 2},
    "bsp",
    {"kind": "k_sync", "k": 3},
    {"kind": "ringmaster", "stops": True},
]
END = {"end": True}


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("length", ["updates", "samples", "time"])
def test_extended(tmp_path, method, length):
    lengths = {"updates": (20, 33), "samples": (120, 200), "time": (9, 17)}[length]
    cadence = {"updates": 3} if length != "time" else {"time": "4s"}
    short, long = (made(method=method, run={length: each}, evaluate=cadence, checkpoint=END) for each in lengths)
    run = tmp_path / f"mine-{short.hash}"
    asyncsim.simulate(short, run)
    before = contents(run)
    result = asyncsim.resume(run, {f"run.{length}": lengths[1]})
    assert result.path == tmp_path / f"mine-{long.hash}"
    same(result, asyncsim.simulate(long))
    same(asyncsim.load_result(result.path), result)
    assert contents(run) == before


STAGES = {"stages": {"count": 2}, "workers": 4, "checkpoint": END}


def test_stages_that_end_together_are_extended(tmp_path):
    sections = {"method": "gpipe", "evaluate": {"updates": 3}, **STAGES}
    asyncsim.simulate(made(run={"updates": 10}, **sections), tmp_path / "run")
    same(asyncsim.resume(tmp_path / "run", {"run.updates": 16}), asyncsim.simulate(made(run={"updates": 16}, **sections)))


def test_stages_that_ended_before_others_are_not(tmp_path):
    """The stage that was through ignored pushes until the others were, which the longer run applies."""
    run = tmp_path / "run"
    asyncsim.simulate(made(method="pipedream", run={"updates": 10}, evaluate={"updates": 3}, **STAGES), run)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="stages that had made all updates of the shorter run ignored what arrived"):
        asyncsim.resume(run, {"run.updates": 16})
    assert contents(tmp_path) == before


def test_it_starts_from_the_checkpoint(tmp_path, monkeypatch):
    run = tmp_path / "run"
    asyncsim.simulate(made(run={"updates": 20}, checkpoint=END), run)
    starts, restore = [], execution.restore
    monkeypatch.setattr(execution, "restore", lambda sim, start, **how: (starts.append(start), restore(sim, start, **how)))
    result = asyncsim.resume(run, {"run.updates": 50})
    assert [start.state["point"]["version"] for start in starts] == [20]
    assert asyncsim.resume(run, {"run.updates": 50}).path == result.path  # found, not run again
    assert len(starts) == 1


def test_an_extended_run_that_is_killed_goes_on(tmp_path):
    """From a checkpoint of its own, in its own folder."""
    short, long = (made(run={"updates": each}, checkpoint={"updates": 4, "end": True}) for each in (20, 60))
    run = tmp_path / f"r-{short.hash}"
    asyncsim.simulate(short, run)
    patch = pytest.MonkeyPatch()
    patch.setattr(asyncsim, "simulate", lambda *_: asyncsim.resume(run, {"run.updates": 60}))
    try:
        kill(long, run, 25)
    finally:
        patch.undo()
    same(asyncsim.resume(tmp_path / f"r-{long.hash}"), asyncsim.simulate(long))


def test_an_unfinished_run(tmp_path):
    kill(made(), tmp_path / "run", 40)
    same(asyncsim.resume(tmp_path / "run", {"run.updates": 90}), asyncsim.simulate(made(run={"updates": 90})))


def test_without_a_checkpoint_it_begins_again(tmp_path, capsys):
    asyncsim.simulate(made(), tmp_path / "run")
    same(asyncsim.resume(tmp_path / "run", {"run.updates": 70}), asyncsim.simulate(made(run={"updates": 70})))
    assert "has no checkpoint to go on from" in capsys.readouterr().err


def test_a_target_that_was_met(tmp_path):
    sections = {"run": {"updates": 150, "target": {"at_least": 0.4}}, "evaluate": {"updates": 7}, "checkpoint": END}
    asyncsim.simulate(made(**sections), tmp_path / "run")
    long = made(**{**sections, "run": {**sections["run"], "updates": 500}})
    same(asyncsim.resume(tmp_path / "run", {"run.updates": 500}), asyncsim.simulate(long))


REFUSED = {
    "fractions": ({"schedule": {"kind": "cosine"}}, {"run.updates": 90}, "laid out in fractions of the run"),
    "warm-up": ({"schedule": {"kind": "constant", "warmup": 0.1}}, {"run.updates": 90}, "laid out in fractions of the run"),
    "evaluations": ({"evaluate": {}}, {"run.updates": 90}, "evaluated 40 times, whatever its length"),
    "shorter": ({}, {"run.updates": 50}, "run.updates: 50 is shorter than the run in the folder (60)"),
    "another limit": ({}, {"run.time": 5}, "run.time: 5.0 is shorter than the run in the folder (no limit)"),
    "another field": ({}, {"optimizer.lr": 0.1}, "not changed in optimizer.lr"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, capsys, name):
    sections, changes, message = REFUSED[name]
    asyncsim.simulate(made(**sections, checkpoint=END), tmp_path / "run")
    with pytest.raises(UserError) as error:
        asyncsim.resume(tmp_path / "run", changes)
    assert message in str(error.value)
    before = contents(tmp_path)
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    assert main(["resume", str(tmp_path / "run"), *words]) == 2
    assert message in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_an_update_schedule_may_be_extended(tmp_path):
    schedule = {"kind": "multistep", "unit": "updates", "milestones": [30, 60], "warmup": 10}
    asyncsim.simulate(made(schedule=schedule, checkpoint=END), tmp_path / "run")
    assert main(["resume", str(tmp_path / "run"), "--set", "run.updates=80"]) == 0
    long = made(schedule=schedule, run={"updates": 80})
    same(asyncsim.load_result(tmp_path / f"run-{long.hash}"), asyncsim.simulate(long))


def test_from_the_command_line(tmp_path, capsys):
    """``run --extend`` finds the longest shorter run of the file, goes on from it, and says so where there is none."""
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: longer\ntask: digits\ncluster: {workers: 3}\nrun: {updates: 20}\nevaluate: {updates: 10}\n"
        "checkpoint: {end: true}\n"
    )
    out = ["--out", str(tmp_path / "runs"), "--no-figures"]
    for updates in (20, 30):
        assert main(["run", str(file), *out, "--set", f"run.updates={updates}"]) == 0
    assert main(["run", str(file), *out, "--set", "run.updates=50", "--extend"]) == 0
    assert "longer: extended" in capsys.readouterr().out
    assert main(["run", str(file), *out, "--set", "run.updates=50", "--seed", "1", "--extend"]) == 0
    assert "no shorter run" in capsys.readouterr().out
    scratch = tmp_path / "scratch"
    assert main(["run", str(file), "--out", str(scratch), "--no-figures", "--set", "run.updates=50"]) == 0
    (alone,) = (path for path in scratch.iterdir() if path.is_dir())
    same(asyncsim.load_result(tmp_path / "runs" / alone.name), asyncsim.load_result(alone))
