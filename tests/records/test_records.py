"""Tables, run folders, results."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncsim
from asyncsim import UserError, load_result
from asyncsim.records import EVENT_KINDS, OUTCOMES, Recorder, RunDirectory, recorder
from asyncsim.records.directory import write_atomically
from asyncsim.records.reading import read_table
from asyncsim.records.rows import EVENTS, METRICS, UPDATES
from asyncsim.records.summary import rounded, staleness_summary, time_shares
from asyncsim.records.tables import Table, canonical
from asyncsim.trace.writing import trace_file

COLUMNS = {"time": "int64", "worker": "int32", "kind": "int8", "whole": "bool", "loss": "float64"}
rows = st.lists(
    st.tuples(st.integers(0, 2**62), st.integers(0, 99), st.integers(0, 7), st.booleans(), st.floats()), max_size=30
)  # fmt: skip


def filled(content, cuts=(), **options):
    table = Table(COLUMNS, **options)
    for index, row in enumerate(content):
        if index in cuts:
            table.seal()
        table.append(row)
    table.seal()
    return table


# Tables.


@given(rows, st.sets(st.integers(0, 30)))
def test_hash_and_columns_do_not_depend_on_where_segments_end(content, cuts):
    whole, cut = filled(content), filled(content, cuts)
    assert whole.digest() == cut.digest() == filled(content, cuts, keep=False).digest()
    for name, array in whole.arrays().items():
        assert array.dtype == COLUMNS[name]
        np.testing.assert_array_equal(array, cut.arrays()[name])
    assert len(whole) == len(cut) == len(content)


@given(rows.filter(len), st.data())
def test_the_hash_sees_every_value(content, data):
    index = data.draw(st.integers(0, len(content) - 1))
    time, *rest = content[index]
    changed = [*content[:index], ((time + 1) % 2**62, *rest), *content[index + 1 :]]
    assert filled(changed).digest() != filled(content).digest()
    assert filled(changed, hashed=("worker", "loss")).digest() == filled(content, hashed=("worker", "loss")).digest()
    assert filled(content[:-1]).digest() != filled(content).digest()


def test_one_nan_and_one_byte_order():
    payload = np.array([0x7FF8000000000001, 0xFFF8000000000000], "u8").view("f8")
    assert canonical(payload) == canonical(np.array([np.nan, np.nan]))
    assert canonical(np.arange(3, dtype=">i4")) == canonical(np.arange(3, dtype="<i4"))
    assert canonical(np.array([0.0])) != canonical(np.array([-0.0]))


def test_rows_are_forgotten_when_only_hashed():
    table = filled([(1, 2, 3, True, 0.5)], keep=False)
    assert table.arrays()["time"].size == 0


def test_sealing_a_part_leaves_the_rest():
    table = Table(COLUMNS)
    assert table.seal() is None
    table.append((1, 1, 1, True, 1.0))
    table.append((2, 1, 1, True, 1.0))
    assert table.seal(1)["time"].tolist() == [1]
    assert len(table) == 2
    assert table.seal()["time"].tolist() == [2]


# Run folders.


@pytest.fixture
def directory(tmp_path):
    directory = RunDirectory(tmp_path / "run").open()
    yield directory
    directory.close()


@settings(max_examples=20)
@given(rows.filter(len), st.sets(st.integers(1, 30)))
def test_parts_and_the_whole_read_the_same(tmp_path_factory, content, cuts):
    directory = RunDirectory(tmp_path_factory.mktemp("out") / "run").open()
    table = Table(COLUMNS)
    for index, row in enumerate(content):
        if index in cuts:
            directory.write_part("updates", table.seal())
        table.append(row)
    directory.write_part("updates", table.seal())
    parts = read_table(directory.path, "updates", COLUMNS)
    directory.write_table("updates", table.arrays())
    directory.drop_parts()
    whole = read_table(directory.path, "updates", COLUMNS)
    directory.close()
    assert read_table(directory.path, "events") is None
    for name in COLUMNS:
        np.testing.assert_array_equal(parts[name], whole[name])
        assert whole[name].dtype == COLUMNS[name]


def test_one_writer_at_a_time(directory):
    with pytest.raises(UserError, match="another process is writing this run"):
        RunDirectory(directory.path).open()
    directory.close()
    RunDirectory(directory.path).open().close()


def test_a_failed_write_leaves_the_old_file(directory, monkeypatch):
    directory.write_json("summary.json", {"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"summary\.json: cannot be written: No space left on device"):
        directory.write_json("summary.json", {"a": 2})
    monkeypatch.undo()
    assert json.loads((directory.path / "summary.json").read_text()) == {"a": 1}
    assert sorted(path.name for path in directory.path.iterdir()) == ["parts", "summary.json"]


def test_json_holds_no_nan(directory):
    with pytest.raises(ValueError, match="JSON"):
        directory.write_json("summary.json", {"a": float("nan")})
    assert rounded({"a": float("nan"), "b": float("inf"), "c": 1.5, "d": "x"}) == {"a": None, "b": None, "c": 1.5, "d": "x"}


def test_an_atomic_write_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be written: No such file"):
        write_atomically(tmp_path / "no" / "file", b"")


def test_a_file_system_that_is_read_only(tmp_path, monkeypatch):
    """There even removing a file that does not exist is refused."""

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(UserError, match=r"file: cannot be written: Read-only file system"):
        write_atomically(tmp_path / "file", b"")
    with pytest.raises(UserError, match=r"t\.json: cannot be written: Read-only"), trace_file(tmp_path / "t.json", {}):
        pass



def test_parts_appear_while_a_run_goes_on(directory, monkeypatch):
    """Now and then on disk; rows whose loss is still to come wait, with all behind them."""

    class Loss:
        pending = True

        def __float__(self):
            return 0.5

    monkeypatch.setattr(recorder, "WRITE_EVERY", -1.0)
    records = Recorder(("test_loss",), directory)
    records.events.append((0, 0, 0, 0, 0, 5, True))
    late = Loss()
    for loss in (0.25, late, 0.75):
        records.updates.append((1, 0, 0, 0, 1, 0, 0, 0.1, 0.0, 1.0, loss))
    records.flush()
    assert read_table(directory.path, "updates")["loss"].tolist() == [0.25]
    assert len(read_table(directory.path, "events", EVENTS)["kind"]) == 1
    late.pending = False
    records.flush()
    assert read_table(directory.path, "updates", UPDATES)["loss"].tolist() == [0.25, 0.5, 0.75]


# Results.


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "s.yaml"
    path.write_text(
        "task: {kind: quadratic}\ncluster: {workers: 3}\noptimizer: {kind: sgd, lr: 0.1}\n"
        "run: {updates: 40}\nevaluate: {updates: 4}\nmethod: {kind: ringmaster, threshold: 2}\n"
    )
    return asyncsim.load_scenario(path)


@pytest.fixture(scope="module")
def result(scenario):
    return asyncsim.simulate(scenario)


@pytest.fixture
def run(scenario, tmp_path):
    return asyncsim.simulate(scenario, tmp_path / "run").path


def test_frames(result):
    metrics, updates, events = result.metrics, result.updates, result.events
    assert list(metrics) == ["time", *METRICS, "test_loss", "test_distance"]
    assert list(updates) == ["time", *UPDATES]
    assert list(events) == ["start", "end", *EVENTS]
    for frame, columns in ((metrics, METRICS), (updates, UPDATES), (events, EVENTS)):
        for name, dtype in columns.items():
            if name not in ("outcome", "kind"):
                assert frame[name].dtype == dtype
    assert list(updates["outcome"].cat.categories) == list(OUTCOMES)
    assert list(events["kind"].cat.categories) == list(EVENT_KINDS)
    assert (updates["time"] == updates["time_ns"] / 1e9).all()
    assert (events["end"] >= events["start"]).all()
    assert updates["time_ns"].is_monotonic_increasing
    assert result.parameters.shape == (10,)


def test_the_tables_add_up(result):
    summary, updates = result.summary, result.updates
    outcomes = updates["outcome"].value_counts()
    assert summary["updates"] == 40 == outcomes["applied"] == updates["version"].max() == result.metrics["version"].max()
    assert summary["pushes"] == len(updates)
    assert summary["dropped"] == outcomes["dropped"] > 0
    assert (updates["staleness"] >= 0).all()
    assert summary["staleness_max"] == updates.loc[updates["outcome"] != "dropped", "staleness"].max() <= 1
    assert updates.loc[updates["outcome"] == "dropped", "loss"].isna().all()
    assert summary["test_loss"] == result.metrics["test_loss"].iloc[-1]


def test_a_result_reads_back_the_same(result, run):
    loaded = load_result(run)
    assert loaded.fingerprints == result.fingerprints
    assert {**loaded.summary, "wall_seconds": 0} == {**result.summary, "wall_seconds": 0}
    for name in ("metrics", "updates", "events"):
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(result, name))
    np.testing.assert_array_equal(loaded.parameters, result.parameters)


def test_tables_that_are_not_kept_change_no_fingerprint(scenario, result):
    lean = asyncsim.simulate(scenario.evolve({"records.events": False, "records.updates": False}))
    assert lean.fingerprints == result.fingerprints
    assert len(lean.updates) == len(lean.events) == 0
    assert list(lean.updates) == list(result.updates)


def test_time_to(result):
    losses = result.metrics["test_loss"]
    level = losses.iloc[3]
    assert result.time_to("test_loss", at_most=level) == result.metrics["time"][losses <= level].iloc[0]
    assert result.time_to("test_loss", at_most=-1) is None
    assert result.time_to("test_distance", at_least=0) == 0
    with pytest.raises(UserError, match="exactly one of"):
        result.time_to("test_loss")
    with pytest.raises(UserError, match="exactly one of"):
        result.time_to("test_loss", 1, 1)
    with pytest.raises(UserError, match="did you mean `test_loss`"):
        result.time_to("tset_loss", 1)


# Folders that are no runs, or broken ones.


def test_a_run_without_tables_has_empty_ones(run):
    for name in ("metrics", "updates", "events"):
        (run / f"{name}.parquet").unlink()
    (run / "summary.json").unlink()
    with pytest.raises(UserError, match="the run has ended, and there is no summary"):
        load_result(run)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    result = load_result(run)
    assert len(result.metrics) == len(result.updates) == len(result.events) == 0
    assert result.summary == {"status": "running"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("versions", None), ("versions", ["1.0"]), ("versions", {"torch": 3}), ("fingerprints", {"timeline": []}),
        ("scenario", []),
        ("engine", "serial"), ("name", "a\x1b[2J"), ("scenario", {"cluster": {"workers": "x"}}), ("stage_parameters", [None]),
        ("scenario", {"stages": 3}), ("scenario", {"cluster": {"groups": [3]}}), ("parameters", float("nan")),
        ("scenario", {"evaluate": None}),
    ],
)  # fmt: skip
def test_a_manifest_with_wrong_types(run, field, value):
    """Refused where it is read, and not where somebody looks for what is not there."""
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {field: value}))
    with pytest.raises(UserError, match=r"manifest\.json"):
        load_result(run)


def test_tables_with_wrong_types(run):
    """A column of another type, with holes, or with codes of nobody knows what."""
    table = pq.read_table(run / "events.parquet")
    place = table.column_names.index("kind")
    for cell, kind in (("compute", pa.string()), (None, pa.int8()), (99, pa.int8())):
        column = pa.array([cell] * len(table), kind)
        pq.write_table(table.set_column(place, "kind", column), run / "events.parquet")
        with pytest.raises(UserError, match="column kind holds"):
            load_result(run)


@pytest.mark.parametrize(
    "name", ["metrics.parquet", "updates.parquet", "events.parquet", "summary.json", "parameters.npy", "manifest.json"]
)
@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"\x93NUMPY", b"PAR1", b"[1, 2]", b"{}", b"\xff\xfe", b"null", b"3", b"true", b'"x"'],
    ids=repr,
)
def test_garbage_is_a_user_error(run, name, content):
    if (name, content) == ("summary.json", b"{}"):
        return
    (run / name).write_bytes(content)
    with pytest.raises(UserError, match="run"):
        load_result(run)


def test_a_table_of_another_program(run):
    pd.DataFrame({"a": [1]}).to_parquet(run / "updates.parquet")
    with pytest.raises(UserError, match="table updates lacks the columns time_ns, worker"):
        load_result(run)


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"format": None}, {"hash": ...}, {"status": ...}, {"versions": ...}, {"name": ...}], ids=str
)
def test_manifests_that_are_not_ours(run, change):
    manifest = json.loads((run / "manifest.json").read_text()) | change
    (run / "manifest.json").write_text(json.dumps({key: value for key, value in manifest.items() if value is not ...}))
    with pytest.raises(UserError, match=r"manifest\.json: (format|lacks)"):
        load_result(run)


def test_what_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UserError, match="not a run folder"):
            load_result(path)


# Numbers of a run by hand.


def test_time_shares():
    """Two workers for 10 ns: 8 ns of computing, 2 lost to a crash, 3 down, 4 waiting; the remaining 3 are unfinished."""
    kinds = {kind: index for index, kind in enumerate(EVENT_KINDS)}
    spans = [
        ("compute", 0, 5, True),
        ("compute", 5, 8, True),
        ("compute", 0, 2, False),
        ("down", 2, 5, True),
        ("wait", 5, 9, False),
    ]
    events = {
        "kind": np.array([kinds[kind] for kind, *_ in spans], "int8"),
        "start_ns": np.array([start for _, start, _, _ in spans]),
        "end_ns": np.array([end for _, _, end, _ in spans]),
        "complete": np.array([complete for *_, complete in spans]),
    }
    shares = time_shares(events, 2, 10)
    assert shares == pytest.approx({"utilisation": 0.4, "down": 0.15, "wait": 0.2, "lost": 0.1, "unfinished": 0.15})
    assert sum(shares.values()) == pytest.approx(1)
    assert time_shares(events, 2, 0) == {}


def test_staleness_counts_what_counted():
    updates = {
        "staleness": np.array([0, 1, 2, 50]),
        "outcome": np.array([OUTCOMES.index(word) for word in ("applied", "buffered", "applied", "dropped")]),
        "gap": np.array([0.0, np.nan, 2.0, 9.0]),
        "penalty": np.array([1.0, 1.0, 4.0, 9.0]),
    }
    summary = staleness_summary(updates)
    assert [summary[f"staleness_{name}"] for name in ("mean", "median", "max")] == [1, 1, 2]
    assert (summary["gap_mean"], summary["penalty_mean"]) == (1, 2)
    assert "gap_mean" not in staleness_summary(updates, numeric=False)
    nothing = {name: values[:0] for name, values in updates.items()}
    assert set(staleness_summary(nothing).values()) == {None}
