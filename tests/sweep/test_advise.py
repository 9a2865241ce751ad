"""Candidates, the Pareto front, and what is said of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsim.cli import main
from asyncsim.cli.arguments import parse_fleets
from asyncsim.errors import UserError
from asyncsim.plots.pareto import pareto_front
from asyncsim.scenario import Document, load_study
from asyncsim.scenario.candidates import with_candidates
from asyncsim.scenario.files import load_candidates
from asyncsim.sweep import simulate_sweep
from asyncsim.sweep.advise import advise, judged, pareto

FILE = """\
task: {kind: digits, model: {kind: mlp, hidden: [8]}, batch: 16}
cluster: {compute: 1s, instance: {price: 3.6, idle: 10, busy: 110}}
optimizer: {kind: sgd, lr: 0.05, momentum: 0.5}
run: {samples: 6400, target: {metric: test_accuracy, at_least: 0.5}}
seeds: 2
advise:
  fleets:
    small: {workers: 2}
    large: {workers: 8}
    never: {workers: 2, compute: 1000s}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "choice.yaml"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(("values", "front"), [
    ([[1, 2], [2, 1], [2, 2], [3, 0]], [True, True, False, True]),
    ([[1, 1], [1, 1]], [True, True]),  # equals do not beat each other
    ([[math.inf, 0.1], [1, 0.2], [math.inf, 0.3]], [True, True, False]),  # one that never got there may end best
    ([[1, math.nan], [2, 0.5]], [False, True]),  # diverged
])  # fmt: skip
def test_pareto_by_hand(values, front):
    assert list(pareto(np.array(values, dtype=float))) == front


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_front_is_what_nobody_beats(rows):
    values = np.array(rows, dtype=float)
    front = pareto(values)
    beats = lambda a, b: all(x <= y for x, y in zip(a, b, strict=True)) and a != b  # noqa: E731
    assert list(front) == [not any(beats(other, row) for other in rows) for row in rows]
    assert front.any()


def test_fleets_times_methods(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(FILE + "  methods: [asgd, gap_aware]\n")
    study = load_candidates(path)
    assert list(dict.fromkeys(study.variants)) == [f"{f} {m}" for f in ("small", "large", "never") for m in ("asgd", "gap_aware")]
    assert [each.cluster.num_workers for each in study.scenarios[::4]] == [2, 8, 2]
    assert [each.method.kind for each in study.scenarios[:4:2]] == ["asgd", "gap_aware"]
    plain = load_study(path)  # for all other commands the section says nothing
    assert [each.cluster.num_workers for each in plain.scenarios] == [8, 8]


def test_fleets_of_the_command_line_replace_those_of_the_file(file):
    fleets = parse_fleets(["4", "spot={workers: 16, faults: {up: spot_up, down: spot_down}}"])
    study = load_candidates(file, fleets=fleets)
    assert list(dict.fromkeys(study.variants)) == ["4 workers", "spot"]
    assert study.scenarios[-1].cluster.faults is not None


@pytest.mark.parametrize(("line", "message"), [
    ("advise: 3", r"a\.yaml:6: advise: must be a mapping with `fleets`, `methods` or both"),
    ("advise: {fleet: {a: {}}}", r"a\.yaml:6: advise\.fleet: unknown field; did you mean `fleets`; allowed"),
    ("advise: {fleets: {a: 3}}", r"a\.yaml:6: advise\.fleets\.a: must be a mapping of changes of `cluster`"),
    ("advise: {methods: []}", r"advise\.methods: must be a mapping from names to methods, or a list of names"),
    ("advise:\n  fleets:\n    a: {workers: 2}\n    b: {worker: 4}", r"a\.yaml:9: cluster\.worker: unknown field"),
    ("advise: {methods: [asgd, gap_awre]}", r"a\.yaml:6: method: .*gap_awre"),
    ("variants: {a: {}}\nadvise: {methods: [asgd, bsp]}", r"advise: makes variants of the scenario, and there are `variants`"),
])  # fmt: skip
def test_mistakes_are_located_whatever_reads_the_file(tmp_path, line, message):
    path = tmp_path / "a.yaml"
    path.write_text(FILE[: FILE.index("advise")] + line + "\n")
    for load in (load_study, load_candidates):
        with pytest.raises(UserError, match=message):
            load(path)


def test_runs_that_all_fail_alike_are_one_error_at_the_line_to_mend(file, tmp_path, capsys):
    file.write_text(FILE + "device: cuda:99\n")
    assert main(["advise", str(file), "--out", str(tmp_path / "out"), "--processes", "1"]) == 2
    assert f"{file}:11: device: 'cuda:99' is not available here" in capsys.readouterr().err


def test_one_candidate_is_no_choice(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(FILE[: FILE.index("advise")])
    with pytest.raises(UserError, match="describes one candidate only"):
        load_candidates(path)
    with pytest.raises(UserError, match="--fleet many: must be a count of workers"):
        parse_fleets(["many"])


def test_a_document_without_the_section_stays_as_it_is():
    document = Document({"task": "digits"}, "here")
    assert with_candidates(document, {"seed": 1}) == (document, {"seed": 1})


@pytest.fixture(scope="module")
def advice(tmp_path_factory):
    path = tmp_path_factory.mktemp("advise") / "choice.yaml"
    path.write_text(FILE.replace("6400", "6400, time: 900s"))  # too short for the slow fleet, and nothing for the others
    study = judged(load_candidates(path))
    return study, simulate_sweep(study), path


def test_the_choice_is_made_on_validation(advice):
    study, result, _ = advice
    for scenario in study.scenarios:
        assert scenario.evaluate.splits == ("validation", "test")
        assert (scenario.run.target.metric, scenario.run.target.stop) == ("validation_accuracy", False)
    said = advise(result)
    row, summaries = said.table.iloc[0], [each.summary for each in result.results[:2]]
    assert row["error"] == pytest.approx(1 - sum(each["validation_accuracy"] for each in summaries) / 2)
    assert row["test_accuracy"] == pytest.approx(sum(each["test_accuracy"] for each in summaries) / 2)
    for name in ("time", "cost", "energy"):
        assert row[name] == pytest.approx(sum(each[f"{name}_to_target"] for each in summaries) / 2)
        assert row[f"{name}_low"] == pytest.approx(min(each[f"{name}_to_target"] for each in summaries))


def test_what_never_got_there_is_counted_and_named(advice):
    said = advise(advice[1])
    assert said.objectives == ("time", "cost", "error")
    never = said.table.set_index("candidate").loc["never"]
    assert (never["runs"], never["reached"]) == (2, 0)
    assert math.isnan(never["cost"])
    assert not never["pareto"]
    small, large = (said.table.set_index("candidate").loc[name] for name in ("small", "large"))
    assert large["time"] < small["time"]
    text = "\n".join(said.sentences)
    assert "fastest to validation accuracy >= 0.5: large (" in text
    assert f"cheapest to validation accuracy >= 0.5: {'small' if small['cost'] < large['cost'] else 'large'} ($" in text
    assert "never reached validation accuracy >= 0.5: never" in text


def test_a_seed_that_never_got_there_counts_what_it_spent(advice):
    result = advice[1]
    lost = result.results[1]
    lost = replace(lost, summary=lost.summary | {f"{name}_to_target": None for name in ("time", "cost", "energy")})
    said = advise(replace(result, results=(result.results[0], lost, *result.results[2:])))
    row = said.table.iloc[0]
    assert row["cost"] == pytest.approx(result.results[0].summary["cost_to_target"] + lost.summary["cost"])
    assert any(sentence.startswith("small reached it in 1 of 2 runs") for sentence in said.sentences)


def test_the_command_writes_evidence(advice, tmp_path, capsys):
    path = advice[2]
    assert main(["advise", str(path), "--out", str(tmp_path), "--processes", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    folder = tmp_path / "choice"
    assert json.loads((folder / "advice.json").read_text()) == printed
    assert {"advice.csv", "advice.png", "table.csv", "runs.csv"} <= {each.name for each in folder.iterdir()}
    assert [row["candidate"] for row in printed["candidates"]] == ["small", "large", "never"]
    assert printed["candidates"][2]["cost"] is None
    assert printed["advice"] == list(advise(advice[1]).sentences)
    assert main(["advise", str(path), "--out", str(tmp_path), "--processes", "1"]) == 0  # all reused
    told = capsys.readouterr().out
    assert "* large" in told
    assert "0 of 2" in told


def test_without_prices_time_and_error_decide(tmp_path):
    path = tmp_path / "free.yaml"
    text = FILE.replace(", instance: {price: 3.6, idle: 10, busy: 110}", "")
    path.write_text(text.replace(", target: {metric: test_accuracy, at_least: 0.5}", ""))
    study = judged(load_candidates(path, {"run.samples": 320}, {"seeds": 1}))
    said = advise(simulate_sweep(study))
    assert said.objectives == ("time", "error")
    assert "cost" not in said.table
    assert said.sentences[0].startswith("fastest to the end of the run: large (")


@pytest.mark.parametrize(("task", "what"), [("{kind: digits, model: softmax}", "error"), ("{kind: quadratic, noise: 1}", "loss"),
                                            ("{kind: click_through, samples: 500, batch: 16}", "loss")])  # fmt: skip
def test_what_is_small_at_the_end_has_its_name(tmp_path, task, what):
    """An error is one minus an accuracy. Where there is none it is the loss, and nobody calls it an error."""
    path = tmp_path / "free.yaml"
    text = FILE.replace("{kind: digits, model: {kind: mlp, hidden: [8]}, batch: 16}", task)
    text = text.replace(", target: {metric: test_accuracy, at_least: 0.5}", "")
    path.write_text(text.replace(", instance: {price: 3.6, idle: 10, busy: 110}", ""))
    said = advise(simulate_sweep(judged(load_candidates(path, {"run.samples": 64}, {"seeds": 1}))))
    assert any(sentence.startswith(f"smallest {what} at the end: ") for sentence in said.sentences)
    assert pareto_front(said.table, said.objectives).get_ylabel() == f"validation {what} at the end"


def test_candidates_are_overridden_like_all_else(file):
    """Whatever reads the file."""
    changes = {"advise.fleets.small.workers": 3, "seed": 7}
    assert len(load_study(file, changes)) == 1
    study = load_candidates(file, changes)
    assert {scenario.seed for scenario in study.scenarios} == {7}
    assert dict(zip(study.variants, study.scenarios, strict=True))["small"].cluster.num_workers == 3
    with pytest.raises(UserError, match=r"cluster\.workers: must be at least 1 \(it is 0\)"):
        load_study(file, {"advise.fleets.small.workers": 0})


def test_where_every_run_diverges_nothing_is_advised(tmp_path, capsys):
    path = tmp_path / "wild.yaml"
    path.write_text(
        "task: {kind: digits, model: {kind: mlp, hidden: [8]}, batch: 8}\noptimizer: {kind: sgd, lr: 1.0e+30}\n"
        "run: {updates: 12}\nevaluate: {updates: 6}\nadvise: {fleets: {small: {workers: 2}, large: {workers: 4}}}\n"
    )
    assert main(["advise", str(path), "--out", str(tmp_path / "out"), "--processes", "1"]) == 0
    out, err = capsys.readouterr()
    assert "nothing can be advised: no candidate has an error at the end, as its runs diverged or failed" in out
    assert "no other candidate beats" not in out
    assert "Warning" not in err
