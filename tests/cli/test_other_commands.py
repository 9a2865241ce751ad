"""``plan``, ``validate``, ``show``, ``list``, ``schema``, ``init`` and the arguments themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import asyncsim
from asyncsim import registries
from asyncsim.cli import main
from asyncsim.cli.grammar import parser
from asyncsim.cli.sweeping import study_of

ONE = "task: {kind: digits, model: softmax}\ncluster: {workers: 3}\nrun: {updates: 12}\nevaluate: {updates: 12}\n"


@pytest.fixture
def cli(cli):
    (cli.folder / "one.yaml").write_text(ONE)
    return cli


def test_plan_has_the_timeline_of_run(cli):
    _, planned, _ = cli("plan", "one.yaml", "--json")
    _, ran, _ = cli("run", "one.yaml", "--json", "--no-figures")
    planned, ran = json.loads(planned), json.loads(ran)
    assert planned["fingerprints"] == {"timeline": ran["fingerprints"]["timeline"]}
    for key in ("time", "updates", "pushes", "samples", "staleness_mean", "utilisation"):
        assert planned[key] == ran[key]


def test_plan_needs_no_torch_and_writes_nothing(cli):
    program = (
        "import sys; from asyncsim.cli import main; code = main(['plan', 'one.yaml']); "
        "sys.exit(code or ('torch' in sys.modules) * 3 or ('matplotlib' in sys.modules) * 4)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=cli.folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert "staleness mean" in done.stdout
    assert [path.name for path in cli.folder.iterdir()] == ["one.yaml"]


@pytest.mark.parametrize("words", [["validate", "one.yaml"], ["list"], ["schema"], ["--version"], ["--help"]])
def test_what_only_looks_needs_no_torch(cli, words):
    program = (
        "import sys\nfrom asyncsim.cli import main\ntry: main(sys.argv[1:])\n"
        "except SystemExit: pass\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, *words], cwd=cli.folder, capture_output=True).returncode == 0


def test_plan_of_a_study(cli):
    (cli.folder / "two.yaml").write_text(ONE + "variants: {a: {method: asgd}, b: {method: bsp}}\n")
    code, out, _ = cli("plan", "two.yaml", "--json", "--set", "run.updates=6")
    assert code == 0
    assert [(run["variant"], run["updates"]) for run in json.loads(out)["runs"]] == [("a", 6), ("b", 6)]


def test_validate_reports_all_files(cli):
    (cli.folder / "bad.yaml").write_text(ONE + "seed: -1\nthreads: 0\n")
    (cli.folder / "worse.json").write_text("{")
    code, out, err = cli("validate", "bad.yaml", "one.yaml", "worse.json", "none.toml")
    assert code == 2
    assert out == "one.yaml: ok, 1 run: digits, 3 workers, one\n"
    assert [line.split(": ")[0] for line in err.splitlines()] == [
        "asyncsim:",
        "bad.yaml:5",
        "bad.yaml:6",
        "worse.json:1",
        "none.toml",
    ]


def test_validate_says_between_which_sizes_the_fleets_are(cli):
    (cli.folder / "sweep.yaml").write_text(ONE + "variants: {a: {method: asgd}}\nsweep: {grid: {cluster.workers: [1, 4, 16]}}\n")
    code, out, _ = cli("validate", "sweep.yaml")
    assert (code, out) == (0, "sweep.yaml: ok, 3 runs: digits, 1 to 16 workers, a\n")


def test_shipped_scenarios_are_valid(capsys):
    files = sorted(str(path) for path in Path("scenarios").glob("*.*") if path.is_file() and path.stem != "atlas")
    assert main(["validate", *files]) == 0
    assert capsys.readouterr().out.count(": ok, ") == len(files)


def test_show_a_file(cli):
    code, out, _ = cli("show", "one.yaml")
    shown = YAML(typ="safe", pure=True).load(out)
    assert code == 0
    assert (shown["task"]["batch"], shown["cluster"]["workers"], shown["method"]["kind"]) == (32, 3, "asgd")
    assert json.loads(cli("show", "one.yaml", "--json")[1]) == shown
    (cli.folder / "shown.yaml").write_text(out)
    assert asyncsim.load_scenario("shown.yaml") == asyncsim.load_scenario("one.yaml")


def test_show_a_run(cli):
    cli("run", "one.yaml", "--no-figures")
    (run,) = [path for path in Path("runs").iterdir() if path.is_dir()]
    code, out, _ = cli("show", str(run))
    assert code == 0
    assert "finished" in out
    assert "test accuracy" in out
    assert json.loads(cli("show", str(run), "--json")[1]) == asyncsim.load_result(run).summary


@pytest.mark.parametrize("path", ["nowhere", "nowhere.yaml", "."])
def test_show_what_is_not_there(cli, path):
    code, out, err = cli("show", path)
    assert (code, out) == (2, "")
    assert err.startswith(f"asyncsim: {path}: ")


def test_list_names_everything(cli):
    code, out, _ = cli("list")
    assert code == 0
    for what, registry in registries.ALL.items():
        assert what in out
        for name in registry.names():
            assert name in out
    assert "gap_aware" not in cli("list", "tasks")[1]


def test_init_writes_a_scenario_that_runs_and_overwrites_nothing(cli):
    code, out, _ = cli("init")
    assert code == 0
    assert "scenario.yaml" in out
    assert cli("validate", "scenario.yaml")[0] == 0
    text = (cli.folder / "scenario.yaml").read_text()
    code, out, err = cli("init", "scenario.yaml")
    assert (code, out) == (2, "")
    assert "is there already" in err
    assert (cli.folder / "scenario.yaml").read_text() == text
    assert cli("plan", "scenario.yaml", "--set", "run.updates=20")[0] == 0


@pytest.mark.parametrize(
    ("path", "words"), [("x.json", "YAML"), ("nowhere/x.yaml", "no folder nowhere"), ("one.yaml", "already")]
)
def test_init_refuses(cli, path, words):
    code, _, err = cli("init", path)
    assert code == 2
    assert words in err


def test_a_list_that_there_is_not(capsys):
    assert main(["list", "delay"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "list delay: there is no such list; did you mean `delays`; there are: methods, policies," in err


@pytest.mark.parametrize("words", [[], ["simulate"], ["run"]])
def test_usage_errors(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: asyncsim" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"asyncsim {asyncsim.__version__}\n"


def test_worker_counts_of_the_starter_can_be_swept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    words = ["scenario.yaml", "--grid", "cluster.workers=1,4", "--set", "run.updates=2", "--set", "run.target=null"]
    study = study_of(parser().parse_args(["sweep", *words]))
    assert sorted({scenario.cluster.num_workers for scenario in study.scenarios}) == [1, 4]
