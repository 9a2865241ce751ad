"""The atlas: its cells, what does not fit, its numbers, and the files that run a cell again."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

import asyncsim
from asyncsim.cli import main
from asyncsim.errors import UserError
from asyncsim.methods.method import methods
from asyncsim.plots.atlas import atlas_figure, named_methods
from asyncsim.plots.kinds import figure_bytes
from asyncsim.scenario import Document, build_scenario, load_study
from asyncsim.scenario.atlas_study import atlas_study
from asyncsim.scenario.files import load_atlas
from asyncsim.sweep import load_sweep, simulate_sweep
from asyncsim.sweep.atlas import draw_atlas
from asyncsim.sweep.bootstrap import bootstrap_interval

FILE = """\
task: {kind: quadratic, dim: 2, noise: 0.5, batch: 4}
cluster: {compute: {kind: gamma, mean: 1s, cv: 0.5}, instance: {price: 3.6, idle: 10, busy: 110}}
dtype: float64
evaluate: {samples: 128}
optimizer: {kind: sgd, lr: 0.1}
run: {samples: 640, target: {metric: test_loss, at_most: 0.05, stop: false}}
tune: {grid: [0.02, 0.1, 0.4], common: false}
atlas:
  methods: [asgd, bsp, local_sgd]
  workers: [2, 8]
  conditions:
    plain: {}
    slow network: {cluster.uplink: {latency: 2s}, message: 1kB}
"""
ALL = {
    "task": {"kind": "digits", "model": "softmax", "batch": 16}, "run": {"samples": 320}, "tune": {"grid": [0.01, 0.1]},
    "atlas": {"methods": "all", "workers": [1, 4], "conditions": {"plain": {}, "spot": {"cluster.faults": "aws_r5"}}},
}  # fmt: skip


def survey_of(data):
    return atlas_study(Document(data, "here"), {}, None, "all")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(FILE)
    return path


def test_every_combination_is_a_cell(file):
    survey = load_atlas(file)
    study = survey.study
    assert survey.places == (("plain", 2), ("plain", 8), ("slow network", 2), ("slow network", 8))
    assert survey.left_out == ()
    assert len(study) == 3 * 4 * 3  # three seeds where the file says nothing
    assert [each.seed for each in study.scenarios[:4]] == [0, 1, 2, 0]
    for scenario, variant, point in zip(study.scenarios, study.variants, study.points, strict=True):
        assert scenario.method.kind == variant
        assert scenario.cluster.num_workers == point["cluster.workers"]
        assert scenario.cluster.uplink.latency.expected == (2.0 if point["condition"] == "slow network" else 0.0)
        assert (scenario.message == 1000) == (point["condition"] == "slow network")
    assert study.labels[0] == "asgd,condition=plain,workers=2"
    assert study.scenarios[0].name == "small-asgd,condition=plain,workers=2"
    assert len(load_study(file).scenarios) == 1  # for all other commands the section says nothing
    assert len(load_atlas(file, {"atlas.workers": [4], "run.samples": 320}).study) == 3 * 2 * 3
    assert len(load_atlas(file, {}, {"seeds": 5}).study) == 3 * 4 * 5


def test_local_steps_are_tuned_by_their_own_rate(file):
    file.write_text(FILE + "  local: {grid: [0.1, 0.3, 0.9]}\n")
    study = load_atlas(file).study
    assert [study.tune.of(name).field for name in ("asgd", "bsp", "local_sgd")] == ["optimizer.lr"] * 2 + ["method.local_lr"]
    assert study.tune.of("local_sgd").grid == (0.1, 0.3, 0.9)
    rates = {each.method.kind: each.optimizer.lr for each in study.scenarios}
    assert rates == {"asgd": 0.1, "bsp": 0.1, "local_sgd": 1.0}
    changed = load_atlas(file, {"atlas.changes": {"local_sgd": {"optimizer.lr": 0.7, "method.local_steps": 2}}}).study
    assert (changed.scenarios[-1].optimizer.lr, changed.scenarios[-1].method.local_steps) == (0.7, 2)
    with pytest.raises(UserError, match=r"tune\.others\.local_sgd: tries 2 values and the others 3; as many are fair"):
        load_atlas(file, {"atlas.local.grid": [0.1, 0.3]})
    own = load_atlas(file, {"tune.others": {"bsp": {"grid": [0.5, 0.6, 0.7]}}}).study.tune
    assert (own.of("bsp").grid, own.of("local_sgd").grid) == ((0.5, 0.6, 0.7), (0.1, 0.3, 0.9))


def test_all_takes_every_method_that_fits_and_says_why_others_do_not():
    """Against a scenario built on its own for every method and place."""
    survey = survey_of(ALL)
    left = {(each.method, place): each.reason for each in survey.left_out for place in each.places}
    there = {(name, (point["condition"], point["cluster.workers"])) for name, point in
             zip(survey.study.variants, survey.study.points, strict=True)}  # fmt: skip
    assert there.isdisjoint(left)
    assert there | set(left) == {(name, place) for name in methods.names() for place in survey.places}
    assert {name for name, _ in there} >= {"asgd", "bsp", "ad_psgd", "local_sgd", "dana", "dgs", "ringmaster"}
    for name, (condition, count) in there | set(left):
        data = {key: value for key, value in ALL.items() if key not in ("atlas", "tune")}
        data |= {"method": name, "cluster": {"workers": count, **({"faults": "aws_r5"} if condition == "spot" else {})}}
        told, refused = left.get((name, (condition, count))), None
        try:
            build_scenario(Document(data, "own"))
        except UserError as error:
            refused = str(error).partition(": ")[2]
        staged = methods[name].staged_parts is not asyncsim.Method.staged_parts
        assert told == refused if refused else (told is not None) == (staged or name == "custom"), (name, told)
    everywhere = {each.method for each in survey.left_out if each.everywhere}
    assert everywhere >= {"k_sync", "custom", "gpipe"}
    partly = [each for each in survey.left_out if not each.everywhere]
    assert all({count for _, count in each.places} == {1} for each in partly)
    assert "backup_workers" in {each.method for each in partly}


def test_a_method_that_the_file_names_has_to_fit():
    named = {**ALL, "atlas": {**ALL["atlas"], "changes": {"k_sync": {"method.k": 3}}}}
    with pytest.raises(UserError, match=r"method: K-sync needs 1 <= k <= workers \(1\), not 3 \(at workers=1;"):
        survey_of(named)
    fits = survey_of({**named, "atlas": {**named["atlas"], "workers": [4]}})
    assert "k_sync" in fits.study.variants
    with pytest.raises(UserError, match=r"method: .*backup.* \(at workers=1;"):
        survey_of({**ALL, "atlas": {**ALL["atlas"], "methods": ["asgd", "backup_workers"]}})


@pytest.mark.parametrize(("old", "new", "message"), [
    ("  workers: [2, 8]\n", "", r"small\.yaml:8: atlas\.workers: is missing"),
    ("[2, 8]", "[2, 2]", r"small\.yaml:10: atlas\.workers\.1: 2 is listed twice"),
    ("[2, 8]", "[0]", r"small\.yaml:10: atlas\.workers\.0: must be at least 1 \(it is 0\)"),
    ("[asgd, bsp, local_sgd]", "[asgd, bspp]", r"small\.yaml:9: method: .*'bspp'.*did you mean `bsp`"),
    ("[asgd, bsp, local_sgd]", "[asgd, asgd]", r"small\.yaml:9: atlas\.methods: lists 'asgd' twice"),
    ("[asgd, bsp, local_sgd]", "some", r"small\.yaml:9: atlas\.methods: must be `all`, a list of names, or a mapping"),
    ("[asgd, bsp, local_sgd]", "{a: {method: {kind: ssp, bund: 1}}}", r"small\.yaml:9: method\.bund: unknown field"),
    ("    plain: {}", "    plain: {cluster.worker: 3}", r"small\.yaml:12: cluster\.worker: unknown field"),
    ("    plain: {}", "    plain: {cluster.workers: 3}", r"small\.yaml:12: atlas\.conditions\.plain: sets `cluster\.workers`"),
    ("    plain: {}", "    plain: {}\n    same: {}", r"small\.yaml:13: atlas\.conditions\.same: is the same condition as `pl"),
    ("    plain: {}", "    plain: 3", r"small\.yaml:12: atlas\.conditions\.plain: must be a mapping of changes"),
    ("  workers:", "  bases: 3\n  workers:", r"small\.yaml:10: atlas\.bases: unknown field; .*allowed here: methods"),
    ("  workers:", "  changes: {bs: {}}\n  workers:", r"small\.yaml:10: atlas\.changes\.bs: is none of the methods.*`bsp`"),
    ("atlas:", "variants: {a: {}}\natlas:", r"small\.yaml:9: atlas: .*there is `variants` beside it"),
    ("tune: {grid: [0.02, 0.1, 0.4], common: false}\n", "", r"small\.yaml:7: atlas: compares methods at rates that validation"),
    ("common: false", "others: {bps: {}}", r"small\.yaml:7: tune\.others\.bps: is none of the methods here"),
    ("atlas:", "atlas: 3\nother:", r"atlas: must be a mapping"),
])  # fmt: skip
def test_mistakes_are_located(file, capsys, old, new, message):
    assert FILE.count(old) == 1
    file.write_text(FILE.replace(old, new))
    for command in ("atlas", "validate"):
        assert main([command, str(file)]) == 2, message
        assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("field", ["cluster.workers=3", "method=bsp", "cluster.uplink.latency=1s"])
def test_what_an_override_cannot_change_is_refused(file, field, capsys):
    assert main(["atlas", str(file), "--dry-run", "--set", field]) == 2
    assert re.search(rf"small\.yaml:8: .*`--set {field.partition('=')[0]}` would change nothing", capsys.readouterr().err)


def test_a_condition_that_nothing_fits_is_a_mistake_of_the_file():
    broken = {**ALL, "atlas": {**ALL["atlas"], "conditions": {"plain": {}, "typo": {"cluster.compute": "3 parsecs"}}}}
    with pytest.raises(UserError, match=r"cluster\.compute: .*3 parsecs"):
        survey_of(broken)
    with pytest.raises(UserError, match="has no section `atlas`; write for example"):
        survey_of({key: value for key, value in ALL.items() if key != "atlas"})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """An atlas as the command has written it: its folder and its page."""
    folder = tmp_path_factory.mktemp("atlas")
    (folder / "small.yaml").write_text(FILE)
    code = main(["atlas", str(folder / "small.yaml"), "--out", str(folder / "out"), "--processes", "1"])
    assert code == 0
    return folder / "out/small", (folder / "out/small/atlas.html").read_text()


class Links(HTMLParser):
    """The rows of the tables, by heading: of every cell the text, the link, and the class."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.heading, self.stack = {}, "", []
        self.feed(text)
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "tr":
            self.tables.setdefault(self.heading, []).append([])
        if tag in ("td", "th"):
            self.tables[self.heading][-1].append({"text": "", "href": None, "class": found.get("class", "")})
        if tag == "a":
            self.tables[self.heading][-1][-1]["href"] = found["href"]
        if tag not in ("meta", "link", "img"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "h2":
            self.heading = data
        elif self.heading in self.tables and {"td", "th"} & set(self.stack):
            self.tables[self.heading][-1][-1]["text"] += f"{data} "


def test_every_cell_links_to_a_file_that_gives_the_same_runs(drawn):
    folder, page = drawn
    runs = pd.read_csv(folder / "runs.csv").set_index(["variant", "condition", "cluster.workers", "seed"])
    tables = Links(page).tables
    matrices = [table for name, table in tables.items() if re.match("Error|Virtual time|Dollars", name)]
    assert len(matrices) == 3
    seen = set()
    for above, titles, *rows in matrices:
        assert [cell["text"].strip() for cell in above] == ["", "plain", "slow network"]
        assert [cell["text"].strip() for cell in titles] == ["method", *["N = 2", "N = 8"] * 2]
        assert [row[0]["text"].strip() for row in rows] == ["asgd", "bsp", "local_sgd"]
        for method, *cells in rows:
            for cell, place in zip(cells, [(c, n) for c in ("plain", "slow network") for n in (2, 8)], strict=True):
                seen.add((method["text"].strip(), *place, cell["href"]))
    assert len(seen) == 12  # one file a cell, whatever the table
    for method, condition, workers, link in seen:
        again = load_study(folder / unquote(link))
        assert [each.seed for each in again.scenarios] == [0, 1, 2]
        for scenario in again.scenarios:
            row = runs.loc[method, condition, workers, scenario.seed]
            told = asyncsim.simulate(scenario).fingerprints
            assert (told["timeline"], told["trajectory"]) == (row["fingerprint_timeline"], row["fingerprint_trajectory"])


def test_the_page_asks_nobody_for_anything(drawn):
    _, page = drawn
    assert not re.search(r"(src|href)=\"(?!data:|cells/)", page)
    assert "default-src 'none'" in page
    assert 'name="viewport"' in page
    for word in ("optimizer.lr among 0.02, 0.1, 0.4", "method.local_lr among 0.02, 0.1, 0.4", "640 samples", "3 seeds a cell",
                 "1 seed that no result below has", "2 conditions"):  # fmt: skip
        assert word in page


def test_the_numbers_are_those_of_the_runs(drawn):
    folder, _ = drawn
    runs, table = pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / "atlas.csv", keep_default_na=False)
    choices = pd.read_csv(folder / "choices.csv")
    assert len(table) == 12
    for _, row in table.iterrows():
        place = {"variant": row["method"], "condition": row["condition"], "cluster.workers": row["workers"]}
        own = runs[np.logical_and.reduce([runs[key] == value for key, value in place.items()])]
        assert float(row["error"]) == pytest.approx(own["test_loss"].mean())
        assert (float(row["error_low"]), float(row["error_high"])) == pytest.approx(bootstrap_interval(list(own["test_loss"])))
        reached = own["time_to_target"].notna()
        assert int(row["reached"]) == reached.sum()
        for measure, spent in (("time", "time"), ("dollars", "cost")):
            total = own[f"{spent}_to_target"].fillna(own[spent]).sum()
            assert row[measure] == "" if not reached.any() else float(row[measure]) == pytest.approx(total / reached.sum())
        chosen = choices[np.logical_and.reduce([choices[key] == value for key, value in place.items()])].iloc[0]
        assert float(row["chosen"]) == chosen["chosen"]
        assert (str(row["at_edge"]) == "True") == (chosen["chosen"] in (0.02, 0.4))
    assert set(own["samples"]) == {640}
    best = table.loc[table.groupby(["condition", "workers"])["error"].transform(lambda each: each.astype(float).min())
                     == table["error"].astype(float)]  # fmt: skip
    assert set(best["error_best"].astype(str)) == {"True"}
    assert len(best) == 4


def test_it_goes_on_with_what_is_saved(file, tmp_path, capsys):
    """Interrupted when the trials are done and some runs: those are reused, and the atlas is that of an uninterrupted run."""
    told = []

    def report(event):
        if event.result is not None:
            told.append(event)
            if len(told) == 36 + 7:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_sweep(load_atlas(file).study, tmp_path / "out", report=report)
    assert main(["atlas", str(file), "--out", str(tmp_path / "out"), "--processes", "1"]) == 0
    err = capsys.readouterr().err
    assert "(36 of them finished already)" in err
    assert err.count(": reused") + err.count(", reused") >= 36 + 7
    assert err.count(" reused") < 36 + 36
    whole = draw_atlas(simulate_sweep(load_atlas(file).study), load_atlas(file))
    assert (tmp_path / "out/small/atlas.csv").read_text() == whole.table.to_csv(index=False)


def test_where_nothing_can_be_chosen_the_file_fails_alike(file, tmp_path, capsys):
    file.write_text(FILE.replace("[0.02, 0.1, 0.4]", "[1.0e+40, 1.0e+50]").replace("[asgd, bsp, local_sgd]", "[asgd, bsp]"))
    options = ["--set", "atlas.workers=[2]", "--seeds", "1", "--processes", "1"]
    assert main(["atlas", str(file), *options, "--out", str(tmp_path / "out"), "--json"]) == 2
    assert "no run of the atlas ended" in capsys.readouterr().err
    mixed = FILE.replace("common: false", "common: false, others: {bsp: {grid: [1.0e+40, 1.0e+50, 1.0e+60]}}")
    file.write_text(mixed.replace("[asgd, bsp, local_sgd]", "[asgd, bsp]"))
    assert main(["atlas", str(file), *options, "--out", str(tmp_path / "out"), "--json"]) == 1
    cells = {(cell["method"], cell["condition"]): cell for cell in json.loads(capsys.readouterr().out)["cells"]}
    lost = cells["bsp", "plain"]
    assert (lost["note"], lost["error"], lost["chosen"], lost["error_best"]) == ("nothing chosen", None, None, False)
    assert cells["asgd", "plain"]["note"] == ""
    page = (tmp_path / "out/small/atlas.html").read_text()
    found = [cell for row in Links(page).tables["Error at the end: the test loss at the end"][2:] for cell in row]
    assert [cell["class"] for cell in found if "nothing chosen" in cell["text"]] == ["n bad", "n bad"]
    link = str(tmp_path / "out/small" / lost["scenario"])
    assert main(["run", link, "--out", str(tmp_path / "again"), "--processes", "1"]) == 1
    assert "nothing could be chosen for" in capsys.readouterr().err


def test_a_dry_run_runs_nothing(file, tmp_path, capsys):
    assert main(["atlas", str(file), "--dry-run", "--json", "--out", str(tmp_path / "out")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["runs"], told["finished"]) == (36, 0)
    assert told["wall_seconds"] > 0
    assert not (tmp_path / "out").exists()
    assert main(["atlas", str(file), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "36 trials of optimizer.lr or method.local_lr first, then the runs at the chosen value" in said.out
    with pytest.raises(SystemExit):
        main(["atlas", str(file), "--grid", "cluster.workers=1,2"])  # its points are those of the file


def test_the_figure_names_the_best_and_has_a_panel_for_each_condition_and_measure(drawn):
    folder, _ = drawn
    survey = load_atlas(folder.parents[1] / "small.yaml")
    atlas = draw_atlas(load_sweep(folder), survey)
    figure = atlas_figure(atlas)
    assert len(figure.axes) == 3 * 2
    assert [ax.get_title() for ax in figure.axes[:2]] == ["plain", "slow network"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["asgd", "bsp", "local_sgd"]
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2]
    own = atlas.table[(atlas.table["method"] == "bsp") & (atlas.table["condition"] == "plain")]
    assert any(np.array_equal(line.get_ydata(), own["error"]) for line in lines)
    assert figure_bytes(figure, "svg") == figure_bytes(atlas_figure(atlas), "svg")
    assert atlas.leading("error", 3)[0] in named_methods(atlas)


def test_the_leading_methods_by_hand(drawn):
    """Mean ranks of made-up errors; a cell with a lost seed ranks last, whatever its mean."""
    folder, _ = drawn
    atlas = draw_atlas(load_sweep(folder), load_atlas(folder.parents[1] / "small.yaml"))
    made = {"asgd": [3.0, 3.0, 3.0, 3.0], "bsp": [1.0, 2.0, 2.0, 2.0], "local_sgd": [0.5, 1.0, 2.5, 4.0]}
    for method, errors in made.items():
        atlas.table.loc[atlas.table["method"] == method, "error"] = errors
    assert atlas.leading("error", 2) == ["bsp", "local_sgd"]  # mean ranks 1.5, 1.75 and 2.75
    atlas.table.loc[atlas.table["method"] == "bsp", "note"] = "1 of 3 diverged"
    assert atlas.leading("error", 3) == ["local_sgd", "asgd"]
