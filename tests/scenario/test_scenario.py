"""Scenarios as data: files in three formats, dumps that load again, overrides, hashes, the JSON Schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from asyncsim.cli.arguments import parse_changes
from asyncsim.cluster import Gamma
from asyncsim.errors import UserError
from asyncsim.methods.ssp import SspMethod
from asyncsim.policies import Adam
from asyncsim.scenario import ScenarioError, dump_scenario, load_scenario, load_study, read_document
from asyncsim.scenario.beside import file_schema
from asyncsim.scenario.document import Document
from asyncsim.scenario.expansion import expand

SHIPPED = sorted(path for path in Path("scenarios").glob("*.*") if path.is_file())
EXAMPLE = "task: {kind: quadratic, dim: 3}\ncluster: {workers: 4, compute: {kind: gamma, mean: 2s, cv: 0.5}}\nrun: {updates: 9}\n"
names = pytest.mark.parametrize("path", [
    pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem == "atlas" else ())  # 900 cells, seconds to check
    for path in SHIPPED
])  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "s.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


# Round trips.


def test_scenarios_are_shipped():
    assert len(SHIPPED) >= 10


@names
def test_a_dump_loads_to_the_same_scenario(path, write):
    study = load_study(path)
    assert len({scenario.hash for scenario in study.scenarios}) == len(study)
    for scenario in study.scenarios:
        dumped = write(dump_scenario(scenario))
        loaded = load_scenario(dumped)
        assert loaded == scenario
        assert loaded.hash == scenario.hash
        assert dump_scenario(loaded) == dumped.read_text()


def test_three_formats_say_the_same(write):
    yaml = (
        "task: {kind: quadratic, curvature: [1, 0.5]}\nrun: {updates: 9}\n"
        "cluster:\n  compute: 50ms\n  overrides: {0: {compute: 1e-1}}\n"
    )
    toml = (
        'task = {kind = "quadratic", curvature = [1, 0.5]}\nrun.updates = 9\n'
        '[cluster]\ncompute = "50ms"\n[cluster.overrides.0]\ncompute = 1e-1\n'
    )
    tree = {
        "task": {"kind": "quadratic", "curvature": [1, 0.5]},
        "run": {"updates": 9},
        "cluster": {"compute": "50ms", "overrides": {"0": {"compute": 0.1}}},
    }
    for indent in (None, 2, "\t"):
        assert load_scenario(write(json.dumps(tree, indent=indent), "s.json")) == load_scenario(write(yaml))
    assert load_scenario(write(toml, "s.toml")) == load_scenario(write(yaml))
    assert load_scenario(write("\ufeff" + json.dumps(tree), "s.json")) == load_scenario(write("\ufeff" + yaml))
    assert load_scenario(write(yaml.replace("\n", "\r\n"))) == load_scenario(write(yaml))


def test_yaml_is_1_2(write):
    """``1e-3`` is a number; ``yes``, ``no`` and ``on`` are strings; ``0o17`` is octal, ``017`` is not."""
    data = read_document(write("a: 1e-3\nb: yes\nc: no\nd: on\ne: 0o17\nf: 017\ng: 60_000\nh: 12:30\n")).data
    assert data == {"a": 0.001, "b": "yes", "c": "no", "d": "on", "e": 15, "f": 17, "g": 60_000, "h": "12:30"}
    assert load_scenario(write(EXAMPLE + "optimizer: {kind: sgd, lr: 1e-3}\n")).optimizer.lr == 0.001
    assert load_scenario(write(EXAMPLE + "name: yes\n")).name == "yes"


def test_defaults_are_few_words(write):
    scenario = load_scenario(write("task: quadratic\nrun: {updates: 1}\n", "short.yaml"))
    assert (scenario.name, scenario.cluster.num_workers, scenario.method.kind, scenario.optimizer.kind) == (
        "short",
        8,
        "asgd",
        "sgd",
    )


# Overrides.


@pytest.mark.parametrize(
    ("change", "get", "value"),
    [
        ("cluster.workers=7", lambda s: s.cluster.num_workers, 7),
        ("cluster.compute=50ms", lambda s: s.cluster.compute.settings(), {"kind": "constant", "mean": 0.05}),
        ("cluster.compute.cv=0.25", lambda s: s.cluster.compute.cv, 0.25),
        ("cluster.compute={kind: uniform, high: 2}", lambda s: s.cluster.compute.high, 2),
        ("cluster.compute={mean: 3}", lambda s: (s.cluster.compute.mean, s.cluster.compute.cv), (3, 0.5)),
        ("method.bound=5", lambda s: s.method.bound, 5),
        ("method=bsp", lambda s: s.method.kind, "bsp"),
        ("method={kind: ssp}", lambda s: s.method.bound, 3),
        ("cluster.overrides.2.compute=1s", lambda s: s.cluster.profile(2).compute.expected, 1),
        ("cluster.overrides.1.compute=4s", lambda s: s.cluster.profile(1).compute.expected, 4),
        ("cluster.events.1.workers.0=3", lambda s: s.cluster.events[1].workers, (3,)),
        ("cluster.events.0={at: 9, workers: [1], stop: true}", lambda s: s.cluster.events[0].at, 9),
        ("run.time=3s", lambda s: (s.run.time, s.run.updates), (3, 9)),
        ("name=12 apples", lambda s: s.name, "12 apples"),
        ("message=4MB", lambda s: s.message, 4e6),
        ("optimizer={kind: sgd, lr: 1e-3}", lambda s: s.optimizer.lr, 0.001),
    ],
)  # fmt: skip
def test_set(change, get, value, write):
    path = write(
        EXAMPLE.replace("gamma, mean: 2s, cv: 0.5}}", "gamma, mean: 2s, cv: 0.5}, overrides: {1: {compute: 2s}}, events: "
        "[{at: 1, workers: [0], stop: true}, {at: 2, workers: [1, 2], stop: true}]}") + "method: ssp\n"
    )  # fmt: skip
    if change.startswith("cluster.events.1"):
        change = change.replace("workers.0=3", "workers=[3]")
    assert get(load_scenario(path, parse_changes([change]))) == value


def test_later_changes_win_and_do_not_touch_the_file_data(write):
    path = write(EXAMPLE)
    assert load_scenario(path, parse_changes(["seed=1", "cluster.workers=2", "cluster.workers=3"])).cluster.num_workers == 3
    assert load_scenario(path).cluster.num_workers == 4


@pytest.mark.parametrize("value", ["2026-13-45", "{a: 1, a: 2}", "[" * 5000, "9" * 5000, "a: b: c", "%", "\0"])
def test_values_that_are_no_yaml_stand_for_themselves(value):
    assert parse_changes([f"name={value}"]) == {"name": value}


@pytest.mark.parametrize(
    "change", ["cluster.workers.²=1", "cluster.events.9999999999999999999.at=1", "seed.x=1", "cluster.uplink.bandwidth=1"]
)
def test_paths_that_lead_nowhere(change, write):
    path = write(
        EXAMPLE.replace("workers: 4", "workers: 4, uplink: 2ms, events: [{at: 1, workers: [0], stop: true}]") + "seed: 1\n"
    )
    with pytest.raises(UserError, match=r"^override: "):
        load_scenario(path, parse_changes([change]))


def test_a_variant_does_not_lose_what_a_shorthand_says(write):
    """``uplink: 2ms`` and a variant's ``uplink: {bandwidth: 1MB/s}``: refused, not merged into something else."""
    path = write(
        EXAMPLE.replace("workers: 4", "workers: 4, uplink: 2ms") + "variants: {a: {cluster: {uplink: {bandwidth: 1MB/s}}}}\n"
    )
    with pytest.raises(ScenarioError, match=r"s\.yaml:4: variants\.a: .*'2ms'"):
        load_study(path)


def test_variants_and_seeds(write):
    path = write(
        EXAMPLE + "seed: 5\nseeds: 2\nvariants: {b: {cluster.workers: 2}, 1: {method: {kind: ssp}}}\nbaseline: 1\n", "x.yaml"
    )
    study = load_study(path)
    assert study.variants == ("b", "b", "1", "1")
    assert [(s.name, s.seed, s.cluster.num_workers, s.method.kind) for s in study.scenarios] == [
        ("x-b", 5, 2, "asgd"), ("x-b", 6, 2, "asgd"), ("x-1", 5, 4, "ssp"), ("x-1", 6, 4, "ssp"),
    ]  # fmt: skip
    assert study.baseline == "1"
    assert [s.seed for s in load_study(path, {"seed": 9}).scenarios] == [9, 9]
    assert [s.seed for s in load_study(path, {"seeds": [3, 1]}).scenarios] == [3, 1, 3, 1]
    with pytest.raises(UserError, match="describes 4 runs"):
        load_scenario(path)


# evolve.


@pytest.fixture
def scenario(write):
    return load_scenario(write(EXAMPLE))


def test_evolve(scenario):
    assert scenario.evolve({"cluster.workers": 64}, method="gap_aware", seed=1) == scenario.evolve(
        cluster={"workers": 64}, method={"kind": "gap_aware"}, seed=1
    )
    assert scenario.evolve(optimizer=Adam(lr=0.5)).optimizer == Adam(lr=0.5)
    assert scenario.evolve({"cluster.compute": Gamma(mean=3, cv=0)}).cluster.compute == Gamma(mean=3, cv=0)
    assert scenario.evolve({"cluster.compute.cv": 0}).cluster.compute == Gamma(mean=2, cv=0)
    assert scenario.evolve(method=SspMethod(bound=1)).evolve({"method.bound": 2}).method == SspMethod(bound=2)
    assert scenario.evolve(cluster=scenario.cluster.model_copy(update={"workers": 2})).cluster.num_workers == 2
    assert scenario.evolve({"optimizer.lr": 0.25}).optimizer.lr == 0.25
    assert scenario.evolve() == scenario


def test_evolve_validates(scenario):
    with pytest.raises(ScenarioError, match=r"cluster\.wokers: unknown field; did you mean `workers`"):
        scenario.evolve({"cluster.wokers": 2})
    with pytest.raises(ScenarioError, match=r"optimizer\.lr: must be at least 0 \(it is -1\)"):
        scenario.evolve({"optimizer.lr": -1})
    with pytest.raises(UserError, match="nothing inside it"):
        scenario.evolve({"seed.x": 1})


def test_scenarios_are_frozen(scenario):
    with pytest.raises(ValueError, match="frozen"):
        scenario.seed = 3
    assert hash(scenario.cluster.compute) == hash(Gamma(mean=2, cv=0.5))


# Hashes.


def test_the_hash_covers_all_but_the_name(scenario):
    assert scenario.evolve(name="another").hash == scenario.hash
    changes = [
        {"seed": 1},
        {"cluster.workers": 5},
        {"optimizer.lr": 0.2},
        {"dtype": "float64"},
        {"method": "bsp"},
        {"run.updates": 8},
    ]
    assert len({scenario.evolve(change).hash for change in changes} | {scenario.hash}) == len(changes) + 1


def test_the_hash_does_not_depend_on_how_it_is_written(write):
    one = load_scenario(write("run: {updates: 10}\ncluster: {compute: 50ms, workers: 8}\ntask: quadratic\n", "a.yaml"))
    two = load_scenario(
        write("task: {kind: quadratic}\ncluster: {compute: {kind: constant, mean: 0.05}}\nrun: {updates: 1e1}\n", "b.yaml")
    )
    assert one.hash == two.hash


def test_the_hash_is_that_of_every_process():
    program = (
        "from asyncsim.scenario import load_study\nfor s in load_study('scenarios/digits_spot.yaml').scenarios: print(s.hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert hashes == {f"{load_scenario('scenarios/digits_spot.yaml').hash}\n"}


# The JSON Schema.


@pytest.fixture(scope="module")
def schema():
    jsonschema = pytest.importorskip("jsonschema")
    document = json.loads(json.dumps(file_schema()))
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def plain(path: Path) -> dict:
    """The file by other means than the package's reader, with keys as JSON has them."""
    data = tomllib.loads(path.read_text()) if path.suffix == ".toml" else YAML(typ="safe", pure=True).load(path.read_text())
    return json.loads(json.dumps(data))


@names
def test_shipped_scenarios_fit_the_schema(path, schema):
    assert [f"{'.'.join(map(str, error.path))}: {error.message[:200]}" for error in schema.iter_errors(plain(path))] == []
    for scenario in load_study(path).scenarios:
        assert schema.is_valid(scenario.document())


@pytest.mark.parametrize(
    "change",
    [
        {"clutser": {}}, {"cluster": {"wokers": 2}}, {"cluster": {"workers": 0}}, {"seed": -1}, {"dtype": "float16"},
        {"method": "gap_awear"},
        {"method": {"kind": "ssp", "bund": 1}}, {"optimizer": {"kind": "sgd", "momentum": 1}},
        {"seeds": 0}, {"variants": []},
        {"cluster": {"uplink": {"latncy": 1}}}, {"evaluate": 3},
        {"task": {"kind": "digits", "model": {"kind": "mlp", "hiden": [1]}}},
        {"seeds": [-1]}, {"seeds": 10_001}, {"variants": {"a": 3}}, {"baseline": [1]},
        {"sweep": {}}, {"sweep": {"gird": {"seed": [1]}}}, {"sweep": {"grid": {"cluster.workers": []}}}, {"sweep": {"list": [3]}},
        {"sweep": {"grid": {"cluster.workers": 4}}}, {"sweep": {"seeds": 0}},
        {"advise": {}}, {"advise": {"fleet": {"a": {}}}}, {"advise": {"fleets": {"a": 4}}}, {"advise": {"methods": []}},
        {"atlas": {}}, {"atlas": {"workers": [2]}}, {"atlas": {"workers": [0], "conditions": {"a": {}}}},
        {"atlas": {"workers": [2], "conditions": {"a": 3}}},
        {"atlas": {"workers": [2], "conditions": {"a": {}}, "methods": "some"}},
        {"atlas": {"workers": [2], "conditions": {"a": {}}, "local": {"rate": 1}}}, {"tune": {"others": {"a": {"fields": "b"}}}},
        {"tune": {"kind": "random"}}, {"tune": {"trails": 3}}, {"tune": {"metric": "test_loss"}}, {"tune": {"grid": "0.1"}},
        {"tune": {"grid": {"kind": "optuna", "trails": 3}}}, {"tune": {"sampler": "grid"}},
    ],
)  # fmt: skip
def test_the_schema_refuses_mistakes(change, schema):
    good = {"task": "quadratic", "run": {"updates": 1}}
    assert schema.is_valid(good)
    assert not schema.is_valid({**good, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": [3, 1]}, {"variants": {"a": {}, "b": {"cluster.workers": 2}}, "baseline": "b"},
        {"sweep": {"grid": {"cluster": {"workers": [1, 2]}, "optimizer.lr": [0.1]}, "seeds": 2}},
        {"sweep": {"grid": {"cluster.workers": [1, 2]}}, "baseline": {"cluster.workers": 1}},
        {"sweep": {"zip": {"cluster.workers": [1, 2], "optimizer.lr": [0.1, 0.2]}}},
        {"sweep": {"list": [{"cluster.workers": 1}, {"cluster": {"workers": 2}}]}},
        {"advise": {"fleets": {"a": {"workers": 2}, "b": {}}, "methods": ["asgd", "bsp"]}},
        {"advise": {"methods": {"a": "asgd", "b": {"kind": "ssp", "bound": 1}}}},
        {"atlas": {"workers": [2, 4], "conditions": {"a": {}, "b": {"cluster.compute": "2s"}}, "changes": {"bsp": {"seed": 2}}}},
        {"atlas": {"workers": [2], "conditions": {"a": {}}, "methods": {"a": {}, "b": {"seed": 1}}, "local": {"grid": [1]}}},
        {"atlas": {"workers": [2], "conditions": {"a": {}}, "methods": ["asgd", "bsp"], "local": {"optimizer": {"lr": 0.5}}}},
        {"tune": {"grid": [0.1, 0.2], "seeds": 2}}, {"tune": {"kind": "optuna", "low": 0.1, "high": 1}},
        {"tune": {"grid": {"kind": "optuna", "low": 0.1, "high": 1, "trials": 3}}},
    ],
)  # fmt: skip
def test_what_is_read_fits_the_schema(change, schema):
    """Each of these files is read, so an editor must not underline it."""
    data = {"task": {"kind": "digits", "model": "softmax"}, "run": {"updates": 1}, **change}
    assert expand(Document(data, "test"), {}, None, "s").scenarios
    assert list(schema.iter_errors(data)) == []
