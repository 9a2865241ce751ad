"""Wrong sweeps: nothing runs, one line a problem with file and line, exit code 2. ``# HERE`` marks the line to be named."""

from __future__ import annotations

import pytest

from asyncsim.cli import main

BASE = "task: {kind: digits, model: softmax}\nrun: {updates: 5}\n"
WRONG = {
    "not-a-mapping": ("sweep: 3  # HERE", "sweep", "grid, zip, list, seeds", "it is 3"),
    "empty": ("sweep: {}  # HERE", "an empty mapping"),
    "unknown-key": ("sweep:\n  gird: {seed: [1]}  # HERE", "sweep.gird", "did you mean `grid`"),
    "grid-list": ("sweep:\n  grid: [1, 2]  # HERE", "sweep.grid", "must map fields to lists"),
    "grid-scalar": ("sweep:\n  grid:\n    cluster.workers: 4  # HERE", "sweep.grid.cluster.workers", "at least one value"),
    "grid-no-values": ("sweep:\n  grid:\n    cluster.workers: []  # HERE", "at least one value"),
    "grid-twice": ("sweep:\n  grid:\n    cluster.workers: [1, 2, 1]  # HERE", "1 is listed twice"),
    "grid-wrong-value": ("sweep:\n  grid:\n    cluster.workers:\n      - 1\n      - 0  # HERE", "cluster.workers", "it is 0"),
    "grid-wrong-type": ("sweep:\n  grid:\n    optimizer.lr: [0.1, fast]  # HERE", "optimizer.lr", "'fast'"),
    "grid-unknown-field": ("sweep:\n  grid:\n    cluster.wokers: [1, 2]  # HERE", "cluster.wokers", "`workers`"),
    "grid-unknown-section": ("sweep:\n  grid:\n    clutser.workers: [1, 2]  # HERE", "clutser", "`cluster`"),
    "grid-nothing-inside": ("sweep:\n  grid:\n    seed.x: [1, 2]  # HERE", "`seed` cannot be swept"),
    "grid-seed": ("sweep:\n  grid:\n    seed: [1, 2]  # HERE", "`seeds` is for that"),
    "grid-name": ("sweep:\n  grid:\n    name: [a, b]  # HERE", "named by their point"),
    "grid-variants": ("sweep:\n  grid:\n    variants.a: [1, 2]  # HERE", "describes several runs"),
    "zip-lengths": ("sweep:\n  zip: {cluster.workers: [1, 2], optimizer.lr: [1]}  # HERE", "workers has 2, optimizer.lr has 1"),
    "zip-and-grid": (
        "sweep:\n  grid: {cluster.workers: [1, 2]}\n  zip:\n    cluster.workers: [3]  # HERE", "swept under `grid` too",
    ),
    "overlap": ("sweep:\n  grid:\n    optimizer: [sgd]\n    optimizer.lr: [0.1]  # HERE", "overlap"),
    "list-mapping": ("sweep:\n  list: {cluster.workers: 1}  # HERE", "sweep.list", "list of points"),
    "list-entry": ("sweep:\n  list:\n    - cluster.workers: 1\n    - 4  # HERE", "sweep.list.1", "it is 4"),
    "list-twice": ("sweep:\n  list:\n    - cluster.workers: 1\n    - cluster.workers: 1  # HERE", "same point"),
    "list-value": ("sweep:\n  list:\n    - cluster.workers: 1\n    - cluster.workers: -1  # HERE", "cluster.workers", "it is -1"),
    "same-run": ("sweep:\n  grid:\n    cluster.compute:\n      - 1s\n      - 1000ms  # HERE", "the same run"),
    "seeds": ("sweep:\n  grid: {cluster.workers: [1]}\n  seeds: 0  # HERE", "sweep.seeds", "it is 0"),
    "seeds-twice": ("seeds: 2\nsweep:\n  grid: {cluster.workers: [1]}\n  seeds: 2  # HERE", "outside of `sweep` too"),
    "too-many": (
        f"sweep:  # HERE\n  grid: {{cluster.workers: {list(range(1, 400))}, task.batch: {list(range(1, 400))}}}",
        "159,201 points",
    ),
    "variant-sets-it": (
        "variants:\n  a: {cluster: {workers: 3}}  # HERE\nsweep: {grid: {cluster.workers: [1]}}", "variants.a", "the sweep sets",
    ),
    "baseline-field": ("sweep: {grid: {cluster.workers: [1]}}\nbaseline:\n  cluster.wokers: 1  # HERE", "`cluster.workers`"),
    "baseline-value": ("sweep: {grid: {cluster.workers: [1, 2]}}\nbaseline:\n  cluster.workers: 4  # HERE", "(it is 4)"),
    "baseline-name": ("sweep: {grid: {cluster.workers: [1, 2]}}\nbaseline: one  # HERE", "values of swept fields"),
    "some-points": (
        "method: {kind: softsync, n: 3}  # HERE\nsweep: {grid: {cluster.workers: [2, 4]}}", "(at workers=2)",
    ),
    "tune-empty": ("tune: {}  # HERE", "tune", "needs `grid`"),
    "tune-kind": ("tune:\n  kind: random  # HERE", "tune.kind", "'grid' or 'optuna'"),
    "tune-unknown": ("tune:\n  gird: [0.1]  # HERE", "tune.gird", "`grid`"),
    "tune-metric": ("tune:\n  grid: [0.1]\n  metric: test_loss  # HERE", "tune.metric", "'test_loss'"),
    "tune-no-such-metric": ("tune:\n  grid: [0.1]\n  metric: validation_speed  # HERE", "validation_accuracy"),
    "tune-field": ("tune:\n  grid: [0.1]\n  field: optimizer.rate  # HERE", "tune.field", "optimizer.rate"),
    "tune-field-run": ("tune:\n  grid: [1, 2]\n  field: run.updates  # HERE", "nothing that can be tuned"),
    "tune-range": ("tune:  # HERE\n  kind: optuna\n  low: 0.1\n  high: 0.01", "low below high"),
    "tune-log": ("tune:  # HERE\n  kind: optuna\n  low: 0\n  high: 1", "`log: false`"),
    "tune-swept": ("sweep: {grid: {optimizer.lr: [0.1]}}\ntune:\n  grid: [0.1]\n  field: optimizer.lr  # HERE", "swept as well"),
    "tune-validation": ("task: {kind: digits, model: softmax, validation: 0}\ntune: {grid: [0.1]}  # HERE", "task.validation"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["sweep", "run"])
@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_one_line_with_its_place(case, command, folder, capsys):
    text, *words = case
    if "task:" in text:
        text += "\nrun: {updates: 5}"
    else:
        text = BASE + text
    (folder / "bad.yaml").write_text(text + "\n")
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "# HERE" in row)
    assert main([command, "bad.yaml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sorted(path.name for path in folder.iterdir()) == ["bad.yaml"]
    assert err.count("\n") == 1, err
    assert err.startswith(f"asyncsim: bad.yaml:{line}: "), err
    for word in words:
        assert word in err
    for word in ("Traceback", "pydantic", "NoneType", "sampler", "evolve"):
        assert word not in err


def test_all_problems_at_once(folder, capsys):
    (folder / "bad.yaml").write_text(
        "task: quadratic\nrun: {updates: 0}\nsweep:\n  grid:\n    cluster.workers: [0, 1]\n    optimizer.lr: [-1]\n"
        "  seeds: none\nbaseline: x\n"
    )
    assert main(["sweep", "bad.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()[1:]
    assert [line.split(": ")[:2] for line in lines] == [
        ["bad.yaml:7", "sweep.seeds"], ["bad.yaml:8", "baseline"], ["bad.yaml:5", "cluster.workers"],
        ["bad.yaml:6", "optimizer.lr"], ["bad.yaml:2", "run.updates"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "cluster.workers"], "--grid cluster.workers: must be field=value,value"),
        (["--grid", "=1"], "--grid =1: must be field"),
        (["--grid", "a=1", "--grid", "a=2"], "`a` is given twice"),
        (["--grid", "cluster.workers=1,1"], "--grid cluster.workers: 1 is listed twice"),
        (["--grid", "cluster.workers=0,1"], "override: cluster.workers: must be at least 1 (it is 0)"),
        (["--zip", "cluster.workers=1,2", "--zip", "optimizer.lr=1"], "equally many"),
        (["--grid", "cluster.workers=1", "--set", "cluster.workers=2"], "`--set cluster.workers` would change nothing"),
        (["--seeds", "x"], "--seeds 'x': must be a count"),
        (["--seeds", "2", "--seed", "1"], "give one of them"),
    ],
)
def test_command_line(words, message, folder, capsys):
    (folder / "good.yaml").write_text(BASE)
    assert main(["sweep", "good.yaml", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, message in err) == ("", True), err
