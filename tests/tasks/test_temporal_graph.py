"""The task on temporal graphs: files of interactions, batches, neighbours, likeness, metrics, evaluation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from asyncsim.errors import UserError
from asyncsim.registries import tasks
from asyncsim.streams import Streams
from asyncsim.tasks import TemporalGraph
from asyncsim.tasks.data.contacts import contacts
from asyncsim.tasks.data.interactions import load
from asyncsim.tasks.objective import link_metrics
from asyncsim.tasks.partners import Partners, alike

SMALL = {"kind": "temporal_graph", "batch": 7, "width": 4, "neighbours": 3, "contacts": {"interactions": 120, "nodes": 11}}
TABLE = "time,i,j,weight\n30,ann,bob,1\n10,bob,cid,2\n10,ann,cid,-3\n\n# late\n50,cid,ann,0.5\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="contacts.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def read(path, columns=("time", "i", "j"), features=(), bipartite=False):
    return load(path, columns, features, bipartite)


# Files.


def test_a_file_is_sorted_and_numbered(write, tmp_path):
    """Nodes in the order of their names, interactions in that of their times, those of one instant in that of the file; time in
    mean gaps from the first. The same from Parquet, and with dates."""
    found = read(write(TABLE), features=("weight",))
    assert (found.i.tolist(), found.j.tolist(), found.nodes) == ([1, 0, 0, 2], [2, 2, 1, 0], 3)
    np.testing.assert_allclose(found.time, [0, 0, 1.5, 3], rtol=0, atol=1e-15)
    assert found.features.tolist() == [[2.0], [-3.0], [1.0], [0.5]]
    table = pd.DataFrame({"time": [30, 10, 10, 50], "i": [7, 8, 7, 9], "j": [8, 9, 9, 7]})
    table.to_parquet(tmp_path / "contacts.parquet")
    other = read(tmp_path / "contacts.parquet")
    assert (other.i.tolist(), other.j.tolist(), other.time.tolist()) == (found.i.tolist(), found.j.tolist(), found.time.tolist())
    assert other.features.shape == (4, 0)
    dates = write("time;i;j\n2026-01-01T00:00:30;a;b\n2026-01-01T00:00:10;b;c\n2026-01-01T00:00:40;a;c\n", "dates.csv")
    np.testing.assert_allclose(read(dates).time, [0, 4 / 3, 2], rtol=0, atol=1e-12)


def test_nodes_of_different_kinds(write):
    """User 1 is not film 1, where the file says so; without that it is."""
    text = "user\titem\tat\n1\t1\t5\n2\t1\t6\n1\t3\t9\n"
    columns = "at", "user", "item"
    two, one = (read(write(text, "films.inter"), columns, bipartite=each) for each in (True, False))
    assert (two.i.tolist(), two.j.tolist(), two.nodes) == ([0, 1, 0], [2, 2, 3], 4)
    assert (one.i.tolist(), one.j.tolist(), one.nodes) == ([0, 1, 0], [0, 0, 2], 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,i,j\n1,a,b\nsoon,b,c\n", r"line 3, column 'time': 'soon' is not a time"),
        ("time,i,j\n1,a,b\n\n2,b,\n", r"line 4, column 'j': '' is not the name or the number of a node"),
        ("time,i,j\n1,a,b\ninf,a,b\n", r"line 3, column 'time': 'inf' is not a time"),
        ("time,i,j,w\n1,a,b,x\n", r"line 2, column 'w': 'x' is not a finite number"),
        ("time,i,j\n1,a\n", r"line 2: 2 values for 3 columns"),
        ("when,i,j\n1,a,b\n", r"has no column 'time'.*its columns: when, i, j"),
        ("time,i,j\n", r"has 0 interactions; 1 to"),
        ("time,i,j\n2026-01-01,a,b\n7,a,b\n", r"line 3, column 'time': '7' is not a date"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(write, text, message):
    with pytest.raises(UserError, match=message):
        read(write(text), features=("w",) if ",w\n" in text else ())


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"task.file: .*there is no such file"):
        tasks.parse({"kind": "temporal_graph", "file": str(tmp_path / "none.csv")}).build(0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation": 0.5, "test": 0.5}, "leave nothing to learn from"),
        ({"bipartite": True}, "`bipartite` would do nothing: there is no `file`"),
        ({"file": "x.csv", "contacts": {"nodes": 3}}, "`contacts` would do nothing: the interactions are those of the `file`"),
        ({"batch": 100}, r"84 are left to learn from, 18 for validation and 18 for the test; a batch has 100"),
    ],
)
def test_settings_that_say_nothing_are_refused(fields, message):
    with pytest.raises((UserError, ValueError), match=message):
        tasks.parse(SMALL | fields).build(0)


# Contacts that are made.


def test_contacts_are_near_and_wander():
    """The same each time. Who meets for the first time is near: by features without noise the mean cosine is above 0.8, and 0 for
    pairs of different contacts; with a drift a node is somewhere else later."""
    made = contacts(3000, 40, 1.0, 0.0, 0.0)
    assert made is contacts(3000, 40, 1.0, 0.0, 0.0)
    contacts.cache_clear()
    again = contacts(3000, 40, 1.0, 0.0, 0.0)
    assert all(np.array_equal(getattr(made, name), getattr(again, name)) for name in ("i", "j", "time", "features"))
    one, other = made.features[:, :2], made.features[:, 2:]
    assert (one * other).sum(1).mean() > 0.8 > 0.1 > abs((one * np.roll(other, 700, axis=0)).sum(1).mean())
    still = contacts(3000, 40, 0.0, 0.0, 0.0)
    for data, moves in ((made, True), (still, False)):
        places = data.features[data.i == 7, :2]
        assert bool(abs(places - places[0]).max() > 1) is moves
    met = contacts(3000, 40, 0.0, 0.9, 0.0)
    repeats = [len(set(zip(each.i.tolist(), each.j.tolist(), strict=True))) for each in (met, still)]
    assert repeats[0] < repeats[1] / 1.5
    assert (made.i != made.j).all()


# Batches.


@pytest.mark.parametrize("neighbours", [0, 3])
@pytest.mark.parametrize("features", [(), ("w",)])
def test_sizes_without_torch_are_those_of_the_network(neighbours, features, write):
    file = str(write(TABLE.replace("weight", "w")))
    spec = TemporalGraph(width=5, neighbours=neighbours, batch=1, file=file, features=features, validation=0, test=0.25)
    task = spec.build(0)
    assert [tuple(each.shape) for each in task.parameters] == list(spec.layer_shapes())
    assert len(task.init()) == spec.num_parameters()
    assert task.batch(0, 0)[0].features.shape == (1, len(features))


def test_partners_are_the_last_ones_before_the_instant():
    """Against a scan of all interactions before, on times with many ties."""
    data = contacts(120, 11, 0.5, 0.2, 0.1)
    tied = type(data)(data.i, data.j, np.floor(data.time / 3), data.features, data.nodes)
    partners, rng = Partners(tied, 3), np.random.default_rng(0)
    event, ends = rng.integers(120, size=60), rng.integers(11, size=60)
    found, meetings, known = partners.of(ends, event)
    assert known.any() > known.all()
    for row in range(60):
        before = np.flatnonzero((tied.time < tied.time[event[row]]) & ((tied.i == ends[row]) | (tied.j == ends[row]))).tolist()
        wanted = before[::-1][:3]
        assert meetings[row][known[row]].tolist() == wanted
        assert found[row][known[row]].tolist() == [int(tied.i[each] + tied.j[each] - ends[row]) for each in wanted]


def test_batches_go_through_the_stream_and_begin_again():
    """Batch s of an epoch holds the interactions from 7 s on; the other pairs are drawn anew, and those of another worker or seed
    are others."""
    spec = tasks.parse(SMALL)
    task, data = spec.build(0), spec.data()
    assert (task.stream.epoch, task.train_size) == (12, 84)
    for step in (0, 5, 12):
        batch, targets = task.batch(0, step)
        i, j, other = batch.nodes[batch.ends]
        first = step % 12 * 7
        assert (i.tolist(), j.tolist()) == (data.i[first : first + 7].tolist(), data.j[first : first + 7].tolist())
        assert targets.tolist() == [1.0] * 7 + [0.0] * 7
        assert set(other.tolist()) <= set(data.j.tolist())
    drawn = [tuple(each.batch(worker, step)[0].nodes[each.batch(worker, step)[0].ends[2]].tolist())
             for each, worker, step in ((task, 0, 0), (task, 0, 12), (task, 1, 0), (spec.build(1), 0, 0))]  # fmt: skip
    assert len(set(drawn)) == 4
    for mine, its in zip(task.batch(0, 3)[0], spec.build(0, num_workers=5).batch(0, 3)[0], strict=True):
        assert torch.equal(mine, its)


def test_who_is_like_whom():
    """The largest shares of common partners, against sets."""
    data = contacts(120, 11, 0.5, 0.2, 0.1)
    met = [set() for _ in range(11)]
    for i, j in zip(data.i[:60].tolist(), data.j[:60].tolist(), strict=True):
        met[i].add(j)
        met[j].add(i)
    share = {(a, b): len(met[a] & met[b]) / len(met[a] | met[b]) for a in range(11) for b in range(11) if met[a] | met[b]}
    for a, row in enumerate(alike(data, 60, 4).tolist()):
        likes = sorted((b for b in range(11) if b != a and share.get((a, b), 0)), key=lambda b: (-share[a, b], b))
        assert row == (likes + [-1] * 4)[:4]


# Measured.


def test_metrics_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = (rng.random(400) < 0.5).astype(float)
    scores = np.round(truth + rng.normal(0, 1, 400), 1)  # many are equal
    found = link_metrics(torch.tensor(scores), torch.tensor(truth))
    assert abs(found["average_precision"] - average_precision_score(truth, scores)) < 1e-12
    assert abs(found["auc"] - roc_auc_score(truth, scores)) < 1e-12
    assert np.isnan(list(link_metrics(torch.tensor([1.0, np.inf]), torch.tensor([1.0, 0.0])).values())).all()


def test_an_evaluation_makes_memory_anew():
    """The test split, told batch by batch after all interactions before have been remembered, with the same other pairs for every
    seed. Nothing is left of it; one of the validation split is another."""
    spec = tasks.parse(SMALL)
    task = spec.build(0, dtype="float64")
    params = task.init() * 1.5
    task.bind(params)
    rows, scores, truths = task.unwritten(), [], []
    for first, last in [(each, each + 7) for each in range(0, 98, 7)] + [(98, 102), (102, 109), (109, 116), (116, 120)]:
        batch, targets = task.stream.between(first, last, Streams(0)("evaluation_negative", first))
        batch = batch._replace(rows=rows[batch.nodes])
        if first >= 102:
            scores.append(task.module(batch).detach())
            truths.append(targets)
        nodes, written = task.module.written(batch, task.module.recalled(batch.rows).detach())
        rows = rows.index_copy(0, nodes, written)
    expected = link_metrics(torch.cat(scores), torch.cat(truths))
    assert expected == task.evaluate(params) == spec.build(7, dtype="float64").evaluate(params) == task.evaluate(params)
    assert task.evaluate(params, "validation") != expected
    assert np.isnan(task.evaluate(params * np.nan)["auc"])
    with pytest.raises(UserError, match="no 'night' split"):
        task.evaluate(params, "night")
