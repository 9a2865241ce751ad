"""One reader for all files of times: what `empirical`, `recorded` and `calibrate` take and refuse is the same."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import asyncsim
from asyncsim.cluster import Cluster, Empirical, Recorded, files
from asyncsim.cluster.durations import unit_in
from asyncsim.errors import UserError
from asyncsim.streams import Streams

LINES = "worker,seconds\n0,0.4\n1,0.5\n0,0.403\n"
FRAME = pd.DataFrame({"worker": [0, 1, 0], "seconds": [0.4, 0.5, 0.403]})
JSON = '{"worker": 0, "seconds": 0.4}\n{"seconds": 0.5, "worker": 1}\n\n# late\n{"worker": 0, "seconds": 0.403}\n'


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def of_empirical(name: str, **fields) -> list[float]:
    return list(Empirical(file=name, **fields).seconds)


def of_recorded(name: str, **fields) -> list[float]:
    return [each / 1e9 for durations in Recorded(file=name, **fields).recording.durations.values() for each in durations.tolist()]


def of_calibrate(name: str, **fields) -> list[float]:
    return list(asyncsim.calibrate(name, **fields).fits["compute"].values)


READERS = [of_empirical, of_recorded, of_calibrate]
TAKEN = {
    "plain.csv": LINES,
    "space.csv": LINES.replace(",", ", ").replace("seconds", " seconds "),
    "semicolon.csv": LINES.replace(",", ";"),
    "decimal_commas.csv": LINES.replace(",", ";").replace(".", ","),
    "tab.tsv": LINES.replace(",", "\t"),
    "comments.csv": "# measured\n\n" + LINES.replace("1,0.5\n", "1,0.5\n  # a pause\n\n"),
    "bom.csv": LINES.encode("utf-8-sig"),
    "utf16.csv": LINES.encode("utf-16"),
    "windows.csv": LINES.replace("\n", "\r\n"),
    "mac.csv": LINES.replace("\n", "\r"),
    "quotes.csv": LINES.replace("seconds", '"seconds"').replace("0.4\n", '"0.4"\n'),
    "index.csv": ",worker,seconds\n0,0,0.4\n1,1,0.5\n2,0,0.403\n",
    "comma_in_a_name.csv": "worker;seconds;note (s, wall)\n0;0.4;a\n1;0.5;b\n0;0.403;\n",
    "zip.csv.gz": gzip.compress(LINES.encode()),
    "zipped_without_saying": gzip.compress(LINES.encode()),
    "table.parquet": parquet(FRAME),
    "durations.parquet": parquet(FRAME.assign(seconds=pd.to_timedelta(FRAME["seconds"], unit="s"))),
    "lines.jsonl": JSON,
    "lines.json": JSON,
    "lines.ndjson.gz": gzip.compress(JSON.encode()),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("name", "content"), TAKEN.items(), ids=TAKEN)
def test_what_people_have_is_read(name, content, reader):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert sorted(reader(name)) == [0.4, 0.403, 0.5]


REFUSED = {
    "decimal commas cut rows": ("worker,seconds\n0,0,403\n", "line 2: 3 values for 2 columns; for decimal commas, separate"),
    "a short row": ("worker,seconds\n0,1\n0\n", "line 3: 1 values for 2 columns"),
    "decimal commas in quotes": ('worker,seconds\n0,"0,403"\n', "column 'seconds': '0,403' is not read: it has a decimal comma"),
    "thousands": ("worker;seconds\n0;1,234\n0;2,500\n", "line 2, column 'seconds': '1,234' is not clear"),
    "commas and points": ("worker;seconds\n0;1,5\n0;2.5\n", "line 2, column 'seconds': '1,5' is not read"),
    "twice": ("worker,seconds,seconds\n0,1,2\n", "the column 'seconds' comes twice"),
    "underscores": ("worker,seconds\n0,1_000\n", "line 2, column 'seconds': '1_000' is not a duration"),
    "underscores in a worker": ("worker,seconds\n0,1\n1_0,1\n", "line 3, column 'worker': '1_0' is not a whole number from 0"),
    "negative": ("worker,seconds\n0,1\n0,-1\n", "line 3, column 'seconds': '-1' is not a duration"),
    "shorter than a tick": ("worker,seconds\n0,1\n0,1e-10\n", "line 3, column 'seconds': '1e-10' is not a duration"),
    "nan": ("worker,seconds\n0,nan\n", "line 2, column 'seconds': 'nan' is not a duration"),
    "infinite": ("worker,seconds\n0,1\n#\n\n0,inf\n", "line 5, column 'seconds': 'inf' is not a duration"),
    "a date": ("worker,seconds\n0,2026-01-31\n", "for dates and other time stamps give `times: stamps`"),
    "no header": ("0,0.4\n1,0.5\n", "the first line must name the columns"),
    "a worker that is no index": ("worker,seconds\n1.5,1\n", "column 'worker': '1.5' is not a whole number from 0"),
    "a worker without a name": ("worker,seconds\na,1\n,2\n", "line 3, column 'worker': no worker is named"),
    "no separator to be told": ("worker;seconds,x\n0;1,2\n", "its header holds `,` and `;`"),
    "an open quote": ('worker,seconds\n0,"1\n', "line 2: cannot be read as CSV"),
    "a NUL": ("worker,seconds\n0,1\n0,\0\n", "line 3: cannot be read as text: there is a NUL"),
    "latin": (b"worker,seconds\n\xe9,1\n", "is not UTF-8 text (byte 15)"),
    "cut gzip": (gzip.compress(LINES.encode())[:-12], "cannot be read as gzip"),
    "a key twice": ('{"worker": 0, "seconds": 1, "seconds": 2}\n', "line 1: the field 'seconds' comes twice"),
    "an array": ('[{"worker": 0, "seconds": 1}]', "line 1: [{'worker': 0, 'seconds': 1}] is not an object"),
    "not only": ('{"worker": 0, "seconds": 1}\n0,2\n', "line 2: not valid JSON"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_with_its_place(content, words, reader):
    Path("t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ValidationError, UserError)) as error:
        reader("t.csv")
    assert "t.csv" in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_of_a_bounded_size_are_read(monkeypatch, reader):
    os.mkfifo("pipe")
    monkeypatch.setattr(files, "MOST_BYTES", 2**20)
    Path("large.csv").write_text("seconds\n" + "1\n" * 2**19)
    Path("bomb.csv.gz").write_bytes(gzip.compress(b"seconds\n" + b"1\n" * 2**19))
    for name, words in (("pipe", "is a named pipe"), ("/dev/zero", "is a device"), ("/dev/urandom", "is a device")):
        with pytest.raises((ValidationError, UserError), match=f"{name}: {words}, not a file"):
            reader(name)
    for name, words in (("large.csv", "has 1,048,584 bytes; at most"), ("bomb.csv.gz", "has more than")):
        with pytest.raises((ValidationError, UserError), match=f"{name}: {words} 1,048,576"):
            reader(name)
    with pytest.raises((ValidationError, UserError), match=r"~nobody-of-that-name/t.csv: there is no such place"):
        reader("~nobody-of-that-name/t.csv")
    with pytest.raises((ValidationError, UserError), match="cannot be read: embedded null byte"):
        reader("a\0b")


@pytest.mark.parametrize(
    ("name", "unit"),
    {
        "step_time_ms": "ms", "seconds": "s", "time (us)": "us", "stepMillis": "ms", "duration[min]": "min", "ms_per_step": "ms",
        "elapsed_ns": "ns", "t_µs": "us", "hours": "h", "TIME_SEC": "s", "wall_s": "s", "up": None, "duration": None,
        "time_min": None, "items": None, "s_total": None, "ms_or_s": None, "class": None,
    }.items(),
)  # fmt: skip
def test_the_name_of_a_column_tells_its_unit(name, unit):
    assert unit_in(name) == unit


@pytest.mark.parametrize("reader", READERS)
def test_units(reader, capsys):
    """By the column's name, or as given; never guessed, and never both."""
    Path("t.csv").write_text("worker,step_time_ms,took,seconds\n0,400,400,0.4\n1,500,500,0.5\n")
    for fields in ({"column": "step_time_ms"}, {"column": "took", "unit": "ms"}, {"column": "step_time_ms", "unit": "ms"}):
        assert sorted(reader("t.csv", **fields)) == [0.4, 0.5]
    assert sorted(reader("t.csv", column="took", unit="min")) == [24_000, 30_000]
    with pytest.raises((ValidationError, UserError), match="column 'step_time_ms' is in ms by its name, not in s"):
        reader("t.csv", column="step_time_ms", unit="s")
    with pytest.raises((ValidationError, UserError), match="'took' does not tell its unit; give `unit`: ns, us, ms, s, min, h"):
        reader("t.csv", column="took")


@pytest.mark.parametrize("kind", [Empirical, Recorded])
def test_a_scale_does_not_convert_what_the_name_has_converted(kind):
    Path("t.csv").write_text("worker,step_time_ms\n0,400\n")
    with pytest.raises(ValidationError, match=r"in ms by its name, and `scale` 0\.001 would come on top; give `unit: ms`"):
        kind(file="t.csv", column="step_time_ms", scale=0.001)
    assert kind(file="t.csv", column="step_time_ms", scale=2, unit="ms").expected == 0.8


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("column", [[True, False], np.array(["2026-01-31"] * 2, "M8[s]"), np.array([-1, 5], "m8[s]"), ["1", None],
                                    np.array([10**12, 5], "m8[s]"), [[1.0], [2.0]]])  # fmt: skip
def test_what_parquet_holds_is_a_number_or_refused(column, reader):
    """Truth values and dates are no durations, though NumPy would make numbers of them."""
    Path("t.parquet").write_bytes(parquet(pd.DataFrame({"worker": [0, 0], "seconds": column})))
    with pytest.raises((ValidationError, UserError), match=r"t\.parquet, row [12], column 'seconds': .* is not a duration"):
        reader("t.parquet")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fields", [{"unit": "s"}, {"times": "stamps"}])
def test_events_of_a_run_are_nanoseconds(fields, reader):
    Path("t.csv").write_text("kind,worker,step,start_ns,end_ns,complete\ncompute,0,0,0,5,true\n")
    assert reader("t.csv")[0] == 5e-9
    with pytest.raises((ValidationError, UserError), match="holds the events of a run"):
        reader("t.csv", **fields)


def test_the_unit_is_told_to_people(capsys):
    from asyncsim.cli import main

    Path("t.csv").write_text("step_time_ms\n400\n500\n")
    assert main(["calibrate", "t.csv", "--column", "step_time_ms"]) == 0
    assert "read: column `step_time_ms` in ms, by its name\n" in capsys.readouterr().out
    assert main(["calibrate", "t.csv", "--column", "step_time_ms", "--unit", "s"]) == 2


MOMENTS = {
    "seconds": ("0,1700000000.000000001\n1,1700000001\n0,1700000002.500000002\n1,1700000001.25\n", {"unit": "s"}),
    "milliseconds": ("0,0\n1,1000\n0,2500.000001\n1,1250\n", {"unit": "ms"}),
    "dates": (
        "0,2026-01-31T23:59:59.000000001\n1,2026-01-31 23:59:59\n"
        "0,2026-02-01T00:00:01.500000002\n1,2026-01-31T23:59:59.25\n", {},
    ),
    "offsets": (
        "0,2026-01-31T12:00:00Z\n1,2026-01-31T12:00:00Z\n"
        "0,2026-01-31T14:00:02.500000001+02:00\n1,2026-01-31T12:00:00.25Z\n", {},
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("rows", "fields"), MOMENTS.values(), ids=MOMENTS)
def test_durations_are_differences_of_time_stamps(rows, fields, reader):
    """Each from the row before of the same worker, to the nanosecond."""
    Path("t.csv").write_text("worker,done\n" + rows)
    assert sorted(reader("t.csv", column="done", times="stamps", **fields)) == [0.25, 2.500000001]


@pytest.mark.parametrize("reader", READERS)
def test_durations_are_intervals(reader):
    Path("t.csv").write_text("worker;start;end\n0;2026-01-31T12:00:00;2026-01-31T12:00:00,4\n0;2026-01-31;2026-01-31T00:01:00\n")
    assert sorted(reader("t.csv", times="intervals")) == [0.4, 60]
    Path("n.csv").write_text("worker,start,end\n0,10,10.4\n0,5,65\n")
    assert sorted(reader("n.csv", times="intervals")) == [0.4, 60]
    assert sorted(reader("n.csv", times="intervals", unit="ms")) == [0.0004, 0.06]
    stamps = pd.to_datetime(["2026-01-31T12:00:00", "2026-01-31T12:00:01"])
    pd.DataFrame({"worker": 0, "start": stamps, "end": stamps + pd.Timedelta("400ms")}).to_parquet("t.parquet")
    assert sorted(reader("t.parquet", times="intervals")) == [0.4, 0.4]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("worker,start,end\n0,5,4\n", "line 2: ends at 4, before it starts at 5"),
        ("worker,start,end\n0,5,nan\n", "line 2, column 'end': 'nan' is not a time"),
        ("worker,start,end\n0,1700000000000,1700000000400\n", "column 'start': '1700000000000' is not a time; allowed"),
        ("worker,start,end\n0,2026-01-31,2026-01-32\n", "column 'end': '2026-01-32' is not a date"),
        ("worker,start,end\n0,2026-01-31,2026-01-31T01:00:00Z\n0,2026-01-31,2026-01-31T01:00:00\n", "an offset from UTC"),
        ("worker,start,end\n0,2026-01-31T00:00:00,2026-01-31T01:00:00Z\n", "an offset from UTC"),
        ("worker,start,end\n0,2026-01-31T00:00:00,7\n", "one holds dates and one numbers"),
    ],
)
def test_moments_that_are_none(content, words, reader):
    Path("t.csv").write_text(content)
    with pytest.raises((ValidationError, UserError)) as error:
        reader("t.csv", times="intervals")
    assert words in str(error.value)


def test_stamps_in_wrong_order_and_without_a_second_one():
    Path("t.csv").write_text("worker,time_s\n0,5\n1,1\n0,4\n")
    for reader in READERS:
        with pytest.raises((ValidationError, UserError), match="line 4, column 'time_s': is before the row before of worker 0"):
            reader("t.csv", column="time_s", times="stamps")
    Path("t.csv").write_text("worker,time_s\n0,5\n")
    for reader in READERS:
        with pytest.raises((ValidationError, UserError), match=r"no rows|no whole duration"):
            reader("t.csv", column="time_s", times="stamps")


def test_workers_have_names_or_count_from_one():
    """Names in alphabetical order are workers 0, 1, ...; numbers are those of the simulation unless `first_worker` says 1."""
    Path("t.csv").write_text("worker,seconds\nnode-b,2\nnode-a,1\n")
    delay = Recorded(file="t.csv")
    assert [delay.draws(Streams(0), "compute", worker)[0] for worker in (0, 1)] == [1, 2]
    with pytest.raises(UserError, match=r"for worker 2; there are rows for 0 \(node-a\), 1 \(node-b\)$"):
        delay.draws(Streams(0), "compute", 2)
    Path("t.csv").write_text("worker,seconds\n2,2\n1,1\n")
    with pytest.raises(UserError, match="for worker 0; there are rows for 1, 2; if they count from 1, give `first_worker: 1`"):
        Recorded(file="t.csv").draws(Streams(0), "compute", 0)
    delay = Recorded(file="t.csv", first_worker=1)
    assert [delay.draws(Streams(0), "compute", worker)[0] for worker in (0, 1)] == [1, 2]
    Path("t.csv").write_text("worker,seconds\n0,2\n1,1\n")
    with pytest.raises(ValidationError, match="rows of worker 0, and `first_worker` is 1"):
        Recorded(file="t.csv", first_worker=1)


@pytest.mark.parametrize("kind", ["empirical", "recorded"])
def test_no_computation_takes_no_time(kind):
    """A message may, so 0 s is refused where it is used and not where it is read; also deep inside."""
    Path("t.csv").write_text("worker,seconds\n0,1\n0,0\n")
    delay = {"kind": kind, "file": "t.csv"}
    deep = {"kind": "mixture", "parts": [{"weight": 1, "delay": {"kind": "scaled", "base": delay, "factor": 2}}]}
    for each in (delay, deep):
        Cluster.model_validate({"uplink": {"latency": each}})
        for cluster in ({"compute": each}, {"faults": {"up": each, "down": 1}}):
            with pytest.raises(ValidationError, match=r"t\.csv, line 3, column 'seconds': a duration of 0 s; allowed are those"):
                Cluster.model_validate(cluster)


def test_durations_in_the_scenario_and_from_arrays():
    for values in ([0.4, 0.5], np.array([0.4, 0.5]), (0.4, 0.5), pd.Series([0.4, 0.5])):
        assert Empirical(values=values) == Empirical(values=[0.4, 0.5])
    delay = Empirical(values=np.array([400, 500], np.float32), unit="ms", scale=2)
    assert delay.expected == pytest.approx(0.9)
    assert set(delay.sample(np.random.default_rng(0), 50)) == {0.8, 1.0}
    assert Cluster.model_validate({"compute": delay.settings()}).compute == delay
    for values in ([], [1, -1], [np.nan], [np.inf], np.zeros((2, 2)), ["0.5"], [True], np.ones(10_001), 5, [1e10]):
        with pytest.raises(ValidationError):
            Empirical(values=values)
    for fields in ({}, {"values": [1], "file": "t.csv"}):
        with pytest.raises(ValidationError, match="give `file` or `values`, one of the two"):
            Empirical(**fields)
    with pytest.raises(ValidationError, match="`values` has a 0"):
        Cluster.model_validate({"compute": {"kind": "empirical", "values": [0, 1]}})


def test_durations_of_nanoseconds_are_fitted():
    """A spread below the tick of virtual time is no reason to refuse them."""
    values = 100e-9 + np.random.default_rng(0).exponential(0.5e-9, 200)
    pd.DataFrame({"seconds": values}).to_csv("t.csv", index=False)
    found = asyncsim.calibrate("t.csv").snippet["cluster"]["compute"]
    assert found["kind"] == "shifted_exponential"
    assert found["mean"] == pytest.approx(0.5e-9, rel=0.2)


def test_a_run_is_a_file_of_times():
    from asyncsim.scenario import Document, build_scenario

    cluster = {"workers": 2, "compute": {"kind": "uniform", "high": 1}}
    document = {"task": {"kind": "quadratic"}, "cluster": cluster, "run": {"updates": 20}}
    result = asyncsim.simulate(build_scenario(Document(document, "test")), "first")
    computed = result.events[result.events["kind"] == "compute"]
    assert list(Empirical(file="first").seconds) == pytest.approx((computed["end"] - computed["start"]).tolist(), abs=1e-9)
    Path("first/summary.json").unlink()
    assert len(Recorded(file="first").recording.durations) == 2  # as a table of events alone
    Path("first/summary.json").write_text('{"workers": "many"}')
    with pytest.raises(ValidationError, match=r"summary.json: is not what a run wrote"):
        Recorded(file="first")
    Path("first/summary.json").unlink()
    os.mkfifo("first/summary.json")
    with pytest.raises(ValidationError, match=r"summary.json: is a named pipe, not a file"):
        Recorded(file="first")
