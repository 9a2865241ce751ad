"""Clicks: the law that draws them, tables that users bring, the model and the area under the ROC curve."""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
import os
from importlib.util import find_spec
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

import asyncsim
from asyncsim.errors import UserError
from asyncsim.metrics import rising
from asyncsim.plots.scaling import _goal, _reaching
from asyncsim.plots.tables import headline
from asyncsim.registries import tasks
from asyncsim.scenario import Document, build_scenario
from asyncsim.scenario.tuning import Tune
from asyncsim.tasks.data import click_law
from asyncsim.tasks.objective import Clicks
from asyncsim.tasks.task import Task

SMALL = {"kind": "click_through", "samples": 600, "batch": 16, "columns": [
    {"name": "user", "rows": 30}, {"name": "hour", "buckets": 5}, {"name": "genres", "rows": 9, "values": 3}]}  # fmt: skip
FILE = {"kind": "click_through", "batch": 4, "columns": [
    {"name": "user", "rows": 5}, {"name": "price", "buckets": 2}, {"name": "tags", "rows": 4, "values": 2}]}  # fmt: skip
ROWS = [("ann", 1.5, "a|b", 1), ("bob", 2.5, "", 0), ("ann", 9.0, "c", 1), ("cid", 0.5, "b|a", 0), ("bob", 7.0, "d", 1),
        ("dan", 3.0, "a", 0), ("ann", 8.0, "c|d", 1), ("bob", 1.0, "b", 0)]  # fmt: skip


# The area under the ROC curve.


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_share_of_pairs_in_order(seed):
    """Counted pair by pair, and as scikit-learn has it, with ties. The accuracy at a threshold of 0 is another number."""
    rng = np.random.default_rng(seed)
    scores, clicks = rng.integers(-6, 7, 60) / 3, rng.integers(0, 2, 60)
    pairs = [(a > b) + (a == b) / 2 for a, b in product(scores[clicks == 1], scores[clicks == 0])]
    found = Clicks().rank(torch.from_numpy(scores), torch.from_numpy(clicks))["auc"]
    assert found == pytest.approx(sum(pairs) / len(pairs), abs=1e-14)
    assert found == pytest.approx(roc_auc_score(clicks, scores), abs=1e-14)
    assert abs(found - ((scores > 0) == clicks).mean()) > 1e-3


@pytest.mark.parametrize(("scores", "clicks"), [([1.0, 2.0], [1, 1]), ([1.0, 2.0], [0, 0]), ([math.nan, 2.0], [0, 1])])
def test_where_nothing_can_be_ranked(scores, clicks):
    assert math.isnan(Clicks().rank(torch.tensor(scores), torch.tensor(clicks))["auc"])


def test_the_area_is_one_of_the_whole_split(monkeypatch):
    """Not a mean over the parts of an evaluation."""
    task = tasks.parse(SMALL).build(0)
    params = task.init() * 20
    whole = task.evaluate(params)
    monkeypatch.setattr("asyncsim.tasks.task.CHUNK_NUMBERS", 40)
    assert task.evaluate(params)["auc"] == whole["auc"]
    inputs, clicks = task.splits["test"]
    assert whole["auc"] == pytest.approx(roc_auc_score(clicks, task.module(inputs).detach()), abs=1e-12)


def test_more_of_it_is_better():
    metrics = ("auc", "accuracy", "loss", "perplexity", "bits_per_char")
    assert [rising(f"test_{name}") for name in metrics] == [True] * 2 + [False] * 3
    assert Tune(grid=(0.1, 1.0), metric="validation_auc").maximise
    run = {"updates": 60, "target": {"metric": "test_auc", "at_least": 0.99}}
    document = {"task": SMALL, "run": run, "evaluate": {"updates": 30}}
    result = asyncsim.simulate(build_scenario(Document(document, "here")))
    assert result.summary["status"] == "finished"
    assert [name for name in result.metrics if name.startswith("test")] == ["test_loss", "test_auc"]
    assert headline([result]) == "test_auc"
    assert _reaching([result], "test_auc", 0.99)(result) != _reaching([result], "test_auc", 0.01)(result) == 0
    assert _goal([result], None, None) == "test auc ≥ 0.99"


# The model.


def test_scores_by_hand():
    """Weights, products of every two vectors, and the perceptron, written out column by column; a cell without a value is 0."""
    task = tasks.parse(SMALL | {"model": {"kind": "deep_fm", "embedding": 3, "hidden": [4]}}).build(0, dtype="float64")
    task.bind(task.init())
    table, first, offset, second, last = (parameter.detach() for parameter in task.parameters)
    inputs = task.batch(0, 0)[0].clone()
    inputs[0] = 0
    assert inputs.shape == (16, 5)
    for ids, score in zip(inputs, task.module(inputs), strict=True):
        cells = [[each for each in ids[places].tolist() if each] for places in (slice(0, 1), slice(1, 2), slice(2, 5))]
        rows = [torch.stack([table[each] for each in cell]).mean(0) if cell else torch.zeros(4).double() for cell in cells]
        products = sum((one[1:] @ other[1:] for one, other in combinations(rows, 2)), torch.tensor(0.0))
        deep = second @ torch.relu(first @ torch.cat([row[1:] for row in rows]) + offset) + last
        torch.testing.assert_close(score, sum(row[0] for row in rows) + products + deep[0], rtol=1e-12, atol=1e-12)


def test_only_the_rows_of_a_batch_have_gradients(gradient):
    """What GBA's rule by ID counts; the row of no value is none."""
    task = tasks.parse(SMALL).build(0, dtype="float64")
    ((piece, length),) = task.layout.tables
    touched = (gradient(task, task.init())[piece].view(-1, length) != 0).any(dim=1)
    inputs = task.batch(0, 0)[0]
    assert set(touched.nonzero().flatten().tolist()) == set(inputs.flatten().tolist()) - {0}
    assert (inputs == 0).any()
    assert len(touched) == 1 + 30 + 5 + 9 > touched.sum()


def test_engines():
    """One trajectory for the serial engine and threads, and the same numbers to rounding for batches of workers."""
    ends = [
        asyncsim.simulate(build_scenario(Document({
            "task": SMALL, "engine": engine, "cluster": {"workers": 4}, "run": {"updates": 40}, "dtype": "float64",
            "optimizer": {"kind": "sgd", "lr": 0.1}, "evaluate": {"updates": 40},
        }, "here")))
        for engine in ("serial", {"kind": "threaded", "cores": 2}, {"kind": "batched", "width": 4})
    ]  # fmt: skip
    assert ends[0].fingerprints == ends[1].fingerprints
    np.testing.assert_allclose(ends[2].parameters, ends[0].parameters, rtol=1e-12, atol=1e-14)


# The law.


def test_the_law_is_what_it_says():
    """A function of its seed. Values of a column have Zipf's shares, clicks the logits' probabilities, and logits the variance of
    leanings and products, over columns so wide that hardly a row comes twice."""
    tables = ((40, 1), (7, 3))
    ids, logits, clicks = click_law.law(tables, 40_000, 1.0, 3)
    again = click_law.law(tables, 40_000, 1.0, 3)
    assert all((one == other).all() for one, other in zip((ids, logits, clicks), again, strict=True))
    assert not (click_law.law(tables, 40_000, 1.0, 4)[0] == ids).all()
    shares = np.bincount(ids[:, 0], minlength=41)[1:] / 40_000
    zipf = 1 / np.arange(1, 41) / (1 / np.arange(1, 41)).sum()
    assert np.abs(shares - zipf).max() < 0.007
    assert np.bincount((ids[:, 1:] > 0).sum(1))[1:] / 40_000 == pytest.approx([1 / 3] * 3, abs=0.01)
    assert set(ids[:, 1:][ids[:, 1:] > 0]) == set(range(41, 48))
    probability = 1 / (1 + np.exp(-logits))
    for low in np.arange(0, 1, 0.2):
        here = (probability >= low) & (probability < low + 0.2)
        assert abs(clicks[here].mean() - probability[here].mean()) < 5 * 0.5 / math.sqrt(here.sum())
    _, logits, _ = click_law.law(((100_000, 1), (100_000, 1), (100_000, 1)), 20_000, 0.0, 0)
    assert logits.var() == pytest.approx(3 * click_law.LEANING**2 + click_law.STRENGTH**2, rel=0.1)
    assert logits.mean() == pytest.approx(click_law.OFFSET, abs=0.05)


def test_clicks_are_learned_but_not_better_than_the_law_knows_them(train):
    """An epoch and a half: far better than chance, and below the logits' own area."""
    task = tasks.parse("click_through").build(0)
    spec = tasks.parse("click_through")
    assert task.layout.num_parameters == spec.num_parameters() == 24_876
    _, logits, clicks = click_law.law(spec.signature.tables, spec.samples, spec.zipf, 0)
    ceiling = roc_auc_score(clicks, logits)
    assert 0.71 < task.evaluate(train(task, 200, 0.5))["auc"] < ceiling
    assert ceiling == pytest.approx(0.802, abs=0.001)


# Tables of the user.


def write(path: Path, rows=ROWS, header=("user", "price", "tags", "label"), separator=",") -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([header, *rows])
    return path


def build(path: Path, **fields) -> Task:
    return tasks.parse(FILE | {"file": str(path), "test": 0.5, "split": "last", "validation": 0} | fields).build(0)


def test_a_table(tmp_path):
    """Values are numbered as they come, numbers cut at the median of the training part (2.0), empty cells are 0."""
    inputs, clicks = build(write(tmp_path / "my.csv")).splits["train"]
    assert inputs.tolist() == [[1, 6, 8, 9], [2, 7, 0, 0], [1, 7, 10, 0], [3, 6, 9, 8]]
    assert clicks.tolist() == [1, 0, 1, 0]
    inputs, clicks = build(write(tmp_path / "my.csv")).splits["test"]
    assert inputs.tolist() == [[2, 7, 11, 0], [4, 7, 8, 0], [1, 7, 10, 11], [2, 6, 9, 0]]
    rated = [(*row[:3], 4.0 if row[3] else 2.5) for row in ROWS]
    assert build(write(tmp_path / "rated.csv", rated), threshold=3.5).splits["test"][1].tolist() == clicks.tolist()
    at_random = build(tmp_path / "my.csv", split="random")
    assert at_random.splits["test"][1].sum() == 2  # as many clicks as half of all have


def test_every_format_holds_the_same(tmp_path):
    wanted = build(write(tmp_path / "my.csv")).splits
    (tmp_path / "my.csv.gz").write_bytes(gzip.compress((tmp_path / "my.csv").read_bytes()))
    write(tmp_path / "my.tsv", separator="\t")
    user, price, tags, label = (list(column) for column in zip(*ROWS, strict=True))
    pq.write_table(pa.table({"user": user, "price": price, "tags": tags, "label": label}), tmp_path / "my.parquet")
    lists = [cell.split("|") if cell else None for cell in tags]
    pq.write_table(pa.table({"user": user, "price": price, "tags": lists, "label": label}), tmp_path / "lists.parquet")
    for name in ("my.csv.gz", "my.tsv", "my.parquet", "lists.parquet"):
        for split, parts in build(tmp_path / name).splits.items():
            assert all(torch.equal(one, other) for one, other in zip(parts, wanted[split], strict=True)), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows[:2], ("ann", 9.0, "c", 2), *rows[3:]], "line 4, column 'label': '2' is not 0 or 1; with `task"),
        (lambda rows: [*rows[:5], ("ann", "cheap", "c", 1)], "line 7, column 'price': 'cheap' is not a finite number"),
        (lambda rows: [("ann", "nan", "c", 1), *rows], "line 2, column 'price': 'nan' is not a finite number"),
        (lambda rows: [*rows, ("ann", 1.0, "a|b|c", 1)], "line 10, column 'tags': 3 values in a cell; at most 2 allowed"),
        (lambda rows: [*rows, ("eve", 1, "", 1), ("fay", 1, "", 0)], "the column 'user' has 6 distinct values; its `rows` are 5"),
        (lambda rows: [*rows, ("ann", 1.0, "a")], "line 10: 3 values for 4 columns"),
        (lambda rows: [row for row in rows if row[3]], "the 2 for training have no rows without a click"),
        (lambda rows: rows[:1], "of its 1 rows, the 1 for training"),
        (lambda rows: [], "of its 0 rows"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path, change, message):
    with pytest.raises(UserError) as error:
        build(write(tmp_path / "my.csv", change(ROWS)))
    assert str(tmp_path / "my.csv") in str(error.value)
    assert message in str(error.value)


def test_files_that_are_none(tmp_path):
    write(tmp_path / "other.csv", header=("users", "price", "tags", "label"))
    with pytest.raises(UserError, match=r"task\.columns: .* has no column 'user'; did you mean `users`"):
        build(tmp_path / "other.csv")
    write(tmp_path / "no.csv", header=("user", "price", "tags", "click"))
    with pytest.raises(UserError, match=r"task\.label: .* has no column 'label'"):
        build(tmp_path / "no.csv")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes").write_bytes(b"\xff\x00\xfe" * 9)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    for name, message in (("pipe", "a named pipe"), ("bytes", "UTF-8"), ("broken.parquet", "Parquet"), ("none", "no such file"),
                          (".", "a folder")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            build(tmp_path / name)


def test_a_table_written_anew_is_read_anew(tmp_path):
    first = build(write(tmp_path / "my.csv"))
    assert build(tmp_path / "my.csv").splits is first.splits
    write(tmp_path / "my.csv", [(*row[:3], 1 - row[3]) for row in ROWS])
    os.utime(tmp_path / "my.csv", ns=(1, 1))
    assert build(tmp_path / "my.csv").splits["train"][1].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": [{"name": "user"}]}, "exactly one of rows, buckets"),
        ({"columns": [{"name": "user", "rows": 3, "buckets": 3}]}, "exactly one of rows, buckets"),
        ({"columns": [{"name": "age", "buckets": 3, "values": 2}]}, "`values` is for IDs"),
        ({"columns": [{"name": "user", "rows": 3}, {"name": "user", "rows": 3}]}, "each column once"),
        ({"columns": [{"name": "label", "rows": 3}]}, "is the label"),
        ({"file": "my.csv", "samples": 100}, "`samples` is for a task without a `file`"),
        ({"threshold": 3.0}, "`threshold` is for a task with a `file`"),
        ({"model": "mlp"}, "models that fit: deep_fm"),
        ({"test": 1.0}, "less than 1"),
    ],
)
def test_refused_with_a_reason(fields, message):
    with pytest.raises(ValidationError) as error:
        tasks.parse({"kind": "click_through"} | fields)
    assert message in str(error.value)


# MovieLens-100K, as it comes with recbole: read where that is installed, never imported and never copied.


def movielens(folder: Path, out: Path) -> Path:
    """A table of who rated what, from recbole's three files, in the order of time."""

    def read(name: str) -> list[dict[str, str]]:
        with (folder / f"ml-100k.{name}").open(encoding="utf-8") as file:
            return [{key.partition(":")[0]: value for key, value in row.items()} for row in csv.DictReader(file, delimiter="\t")]

    users, items = ({row[f"{name}_id"]: row for row in read(name)} for name in ("user", "item"))
    rows = [
        (row["user_id"], row["item_id"], (user := users[row["user_id"]])["age"], user["gender"], user["occupation"],
         items[row["item_id"]]["class"].replace(" ", "|"), row["rating"])
        for row in sorted(read("inter"), key=lambda row: float(row["timestamp"]))
    ]  # fmt: skip
    return write(out, rows, ("user", "item", "age", "gender", "occupation", "genres", "rating"))


MOVIES = {"kind": "click_through", "label": "rating", "threshold": 4, "columns": [
    {"name": "user", "rows": 943}, {"name": "item", "rows": 1682}, {"name": "age", "buckets": 7}, {"name": "gender", "rows": 2},
    {"name": "occupation", "rows": 21}, {"name": "genres", "rows": 19, "values": 6}]}  # fmt: skip


def test_recboles_files_in_miniature(tmp_path):
    """The three files as they are written, of two users and two items."""
    files = {
        "inter": "user_id:token item_id:token rating:float timestamp:float/2 9 5 30/1 9 2 10/1 7 4 20/2 7 1 40",
        "user": "user_id:token age:token gender:token occupation:token zip_code:token/1 24 M writer 1/2 53 F other 2",
        "item": "item_id:token movie_title:token_seq release_year:token class:token_seq/7 One 1995 Drama/9 Two 1995 Comedy-War",
    }
    for name, lines in files.items():
        (tmp_path / f"ml-100k.{name}").write_text(lines.translate(str.maketrans({" ": "\t", "/": "\n", "-": " "})))
    file = movielens(tmp_path, tmp_path / "movies.csv")
    task = tasks.parse(MOVIES | {"file": str(file), "split": "last", "test": 0.5, "validation": 0, "batch": 2}).build(0)
    assert task.splits["train"][1].tolist() == [0, 1]
    assert (task.splits["test"][0][0] > 0).sum() == 7  # a comedy of war


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("split", "floor"), [("random", 0.75), ("last", 0.69)])
def test_movielens(tmp_path, train, split, floor):
    """100,000 ratings, of which 55.4 % are 4 or more; an epoch of Adam had .763 (random) and .707 (in the order of time)."""
    spec = find_spec("recbole")
    folder = Path((spec.submodule_search_locations or [""])[0] if spec else "") / "dataset_example" / "ml-100k"
    if not (folder / "ml-100k.inter").is_file():
        pytest.skip("recbole with its MovieLens-100K is not installed")
    digest = hashlib.md5((folder / "ml-100k.inter").read_bytes(), usedforsecurity=False).hexdigest()
    assert digest == "a8a8c3f165aedc53f63b5dc0a0463b14"
    task = tasks.parse(MOVIES | {"file": str(movielens(folder, tmp_path / "movies.csv")), "split": split}).build(0)
    clicks = torch.cat([task.splits[name][1] for name in ("train", "validation", "test")])
    assert len(clicks) == 100_000
    assert clicks.double().mean() == pytest.approx(0.554, abs=0.001)
    assert task.evaluate(train(task, 4 * task.train_size // 256, 0.5))["auc"] > floor
