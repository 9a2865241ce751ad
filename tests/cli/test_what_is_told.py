"""What a user is told beside the numbers: what a plan cannot know, what never came to pass, what was not timed or chosen."""

from __future__ import annotations

import json

import pytest

import asyncsim
from asyncsim.scenario import Document, build_scenario
from asyncsim.scenario.unreached import unreached

ONE = (
    "task: {kind: quadratic, dim: 2, noise: 0.1}\ncluster: {workers: 3, compute: 1s}\noptimizer: {kind: sgd, lr: 0.1}\n"
    "run: {updates: 12, target: {metric: test_loss, at_most: 1e-9}}\nevaluate: {updates: 6}\n"
)
MANY = ONE + "variants: {asgd: {method: asgd}, sync: {method: bsp}}\n"


@pytest.fixture
def cli(cli):
    (cli.folder / "one.yaml").write_text(ONE)
    (cli.folder / "many.yaml").write_text(MANY)
    return cli


def strict(text: str):
    """JSON without NaN and infinities."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


@pytest.mark.parametrize("file", ["one.yaml", "many.yaml"])
def test_a_plan_says_what_it_cannot_know_and_claims_nothing_of_it(cli, file):
    code, out, _ = cli("plan", file)
    assert code == 0
    assert "never" not in out
    told = "so it cannot know test loss, test distance, time to target, gap mean and penalty mean"
    assert out.count(f"a plan computes no gradients, {told}") == 1
    assert "may stop at its target" in out
    planned = strict(cli("plan", file, "--json")[1])
    for summary in planned.get("runs", [planned]):
        assert summary["unknown"] == ["test_loss", "test_distance", "time_to_target", "gap_mean", "penalty_mean"]
        assert summary["stops_early"] is True
        assert not set(summary) & set(summary["unknown"])


def test_a_run_knows_what_its_plan_cannot():
    scenario = build_scenario(Document({
        "task": {"kind": "quadratic"}, "cluster": {"workers": 2, "compute": "1s", "instance": "aws_p3_2xlarge"},
        "run": {"updates": 4, "target": {"metric": "test_loss", "at_most": 0, "stop": False}}, "method": "gap_aware",
    }, "test"))  # fmt: skip
    planned, ran = asyncsim.plan(scenario).summary, asyncsim.simulate(scenario).summary
    assert planned["stops_early"] is False
    assert set(planned["unknown"]) == set(ran) - set(planned) - {"gradients_computed", "gradients_cancelled"}
    assert {"cost_to_target", "energy_to_target"} < set(planned["unknown"])
    assert "unknown" not in ran


def test_a_dry_run_says_what_only_the_runs_can_tell(cli):
    told = ("sweep", "one.yaml", "--grid", "cluster.workers=1,2", "--dry-run")
    assert "what only the runs can tell: test loss, test distance, time to target, gap mean and penalty mean" in cli(*told)[1]
    assert strict(cli(*told, "--json")[1])["unknown"][1:3] == ["test_distance", "time_to_target"]


LATE = {
    "events": [{"at": "1h", "workers": [1, 2], "down": "3s"}, {"at": "2s", "workers": [0], "slowdown": 2}],
    "maintenance": [{"every": "1d", "duration": "1h"}, {"every": "2h", "first": "1s", "duration": "1s", "workers": [1]}],
    "load": {"factors": [1, 1, 2], "period": "3min"},
    "server": {"checkpoint": "1h", "faults": {"up": "2h", "down": "1s"}},
}


def test_what_lies_after_the_end_is_found_and_the_rest_is_not():
    def late(**cluster):
        data = {"task": {"kind": "quadratic"}, "cluster": {"workers": 3, "compute": "1s"} | cluster, "run": {"updates": 12}}
        scenario = build_scenario(Document(data, "test"))
        return [(each.field, each.at) for each in unreached(scenario, asyncsim.plan(scenario).summary)]

    assert late(**LATE) == [
        ("cluster.load", 120.0), ("cluster.events.0", 3600.0), ("cluster.maintenance.0", 86400.0),
        ("cluster.server.faults", float("inf")),
    ]  # fmt: skip
    assert late() == []
    assert late(faults={"up": "1h", "down": "1s"}) == [("faults", float("inf"))]
    assert late(faults={"up": "2500ms", "down": "1s"}) == []
    assert late(load={"depth": 0.5, "period": "10s"}) == []
    assert late(events=[{"at": "5s", "workers": [0], "down": "1s"}]) == [("cluster.events.0", 5.0)]
    assert late(events=[{"at": "3900ms", "workers": [0], "down": "1s"}]) == []


def test_the_note_is_one_line_with_the_first(cli):
    (cli.folder / "late.yaml").write_text(ONE.replace("compute: 1s", "compute: 1s, events: [{at: 1h, workers: [1, 2], down: 3s}, "
                                                      "{at: 2h, workers: [0], stop: true}]"))  # fmt: skip
    line = "note: cluster.events.0 (down of worker 1 and 1 more) at 60 min, and 1 more of the scenario's had no effect: the run"
    for words in (("plan", "late.yaml"), ("plan", "late.yaml", "--json"), ("run", "late.yaml", "--no-figures")):
        code, _, err = cli(*words)
        assert code == 0
        assert sum(text.startswith("note: ") for text in err.splitlines()) == 1
        assert line in err
    _, _, err = cli("run", "late.yaml", "--no-figures", "--set", "seeds=2", "--processes", "1")
    assert "note: in 2 of 2 runs something had no effect, as the run ended before; first: cluster.events.0" in err
    assert "note" not in cli("plan", "one.yaml")[2]


def test_every_variant_is_timed_or_named(cli):
    code, out, _ = cli("bench-engine", "many.yaml", "--updates", "2")
    assert code == 0
    assert [line.partition(": engine: ")[0] for line in out.splitlines()[-2:]] == ["asgd", "sync"]
    code, out, _ = cli("bench-engine", "many.yaml", "--updates", "2", "--variant", "sync")
    assert "not timed: asgd" in out
    found = strict(cli("bench-engine", "many.yaml", "--updates", "2", "--json")[1])
    assert [each["variant"] for each in found["variants"]] == ["asgd", "sync"]
    code, _, err = cli("bench-engine", "many.yaml", "--variant", "asgdd")
    assert (code, "--variant asgdd: there is no such variant; did you mean `asgd`" in err) == (2, True)


def test_a_model_in_stages_is_timed_on_the_engine_that_it_has(cli):
    (cli.folder / "cut.yaml").write_text(
        "task: {kind: digits, model: {kind: mlp, hidden: [4]}}\ncluster: {workers: 2}\nstages: 2\nmethod: pipedream\n"
        "run: {updates: 4}\n"
    )
    found = strict(cli("bench-engine", "cut.yaml", "--updates", "2", "--json")[1])
    assert [each["engine"] for each in found["engines"]] == [{"kind": "serial"}]


def test_nothing_could_be_chosen(cli):
    (cli.folder / "tune.yaml").write_text(
        ONE.replace("test_loss, at_most: 1e-9", "test_loss, at_most: 1e-9, stop: false") + "tune: {grid: [1e30, 1e28]}\n"
        "variants: {asgd: {method: asgd}, ssp: {method: ssp}}\n"
    )
    code, out, err = cli("run", "tune.yaml", "--processes", "1")
    assert code == 1
    assert "nothing could be chosen for: asgd, ssp; every trial of optimizer.lr diverged or failed" in err
    assert out.count("nothing chosen") == 2
    assert "edge" not in out + err
    code, out, _ = cli("run", "tune.yaml", "--processes", "1", "--json")
    study = strict(out)
    assert (code, study["undecided"], study["runs"]) == (1, ["asgd", "ssp"], [])
    assert [row["optimizer.lr"] for row in study["table"]] == [None, None]


def test_json_of_diverged_runs_is_json(cli):
    """Losses and parameters that overflow: in no command's JSON is there a NaN or an infinity."""
    (cli.folder / "wild.yaml").write_text(
        "task: {kind: quadratic, dim: 2}\ncluster: {workers: 2}\noptimizer: {kind: sgd, lr: 1e30}\nrun: {updates: 12}\n"
        "evaluate: {updates: 2}\nseeds: 2\nvariants: {asgd: {method: asgd}, tame: {optimizer: {lr: 0.1}}}\nbaseline: asgd\n"
    )
    study = strict(cli("run", "wild.yaml", "--json", "--processes", "1", "--no-figures")[1])
    assert {run["status"] for run in study["runs"]} == {"diverged", "finished"}
    folders = sorted(path.parent for path in (cli.folder / "runs").rglob("summary.json"))
    for words in (["ls"], ["show", folders[0]], ["compare", *folders], ["sweep", "wild.yaml", "--dry-run"]):
        code, out, err = cli(*map(str, words), "--json")
        assert code == 0, err
        strict(out)
