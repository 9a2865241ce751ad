"""Groups that mix: S groups x K stages against one pipeline, and the laws of doubly stochastic matrices."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_loops import Net, Parameters, flat, stepped
from pydantic import ValidationError

import asyncsim
from asyncsim.assembling import assemble
from asyncsim.engine.spec import Serial
from asyncsim.errors import UserError
from asyncsim.registries import gossips
from asyncsim.scenario import Scenario
from asyncsim.simulation.shard import Shard

GROUPS, STAGES, LR, UPDATES = 3, 3, 0.2, 20
KINDS = ("complete", "ring", "torus", "exponential")


def made(kind):
    return gossips[kind]()


def scenario(gossip, groups=GROUPS, lr=LR):
    return Scenario.model_validate({
        "task": {"kind": "digits", "batch": 8, "model": {"kind": "mlp", "hidden": [12, 10], "activation": "tanh"}},
        "cluster": {"workers": groups * STAGES, "compute": {"kind": "exponential", "mean": "1s"}},
        "stages": {"count": STAGES, "split": "layers"}, "dtype": "float64",
        "method": {"kind": "decoupled_data_parallel", "gossip": gossip}, "optimizer": {"kind": "sgd", "lr": lr},
        "run": {"updates": UPDATES}, "evaluate": {"updates": UPDATES},
    })  # fmt: skip


def nets(case):
    task = case.task.build(case.seed, "cpu", "float64", case.groups)
    return [Net(task.module, case.cut().layers, lambda n, s=s: task.batch(s, n)) for s in range(case.groups)]


def union(case):
    """One pipeline of delayed gradients on the batches of all groups together."""
    net, *others = nets(case)
    first = net.batches
    net.batches = lambda n: tuple(map(torch.cat, zip(first(n), *(other.batches(n) for other in others), strict=True)))
    history: list[Parameters] = [net.start]
    for batch in range(UPDATES):
        read = [history[max(0, batch - max(0, 2 * (STAGES - 1 - k) - 1))][k] for k in range(STAGES)]
        gradient, _ = net.gradient(batch, read)
        history.append([stepped(history[-1][k], gradient[k], LR) for k in range(STAGES)])
    return flat(history[-1])


def test_full_averaging_is_one_pipeline_on_the_union():
    case = scenario("complete")
    found = torch.from_numpy(asyncsim.simulate(case).parameters)
    torch.testing.assert_close(found, union(case), rtol=0, atol=1e-12)
    combined = scenario({"kind": "complete", "form": "combine_then_adapt"})
    assert (torch.from_numpy(asyncsim.simulate(combined).parameters) - union(case)).abs().max() > 1e-5


def rounds(case, starts):
    """Rows of every shard after each of its rounds; ``starts`` changes what they begin from."""
    task = case.task.build(case.seed, "cpu", case.dtype, case.groups)
    sim = assemble(case, task, Serial(), None)
    for shard in sim.server.shards:
        for row, scale in zip(shard.rows, starts, strict=True):
            row.params = row.params * scale
    seen = [[torch.stack([row.params for row in shard.rows])] for shard in sim.server.shards]
    versions = [0] * len(seen)
    for _ in sim.run(lambda: True):
        for index, shard in enumerate(sim.server.shards):
            if shard.version > versions[index]:
                assert shard.version == versions[index] + 1
                versions[index] = shard.version
                seen[index].append(torch.stack([row.params for row in shard.rows]))
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_disagreement_shrinks_with_the_second_eigenvalue(kind):
    """Learning rate 0: nothing but mixing, ``|P^n x - mean| <= |lambda_2|^n |x - mean|``; the mean stays."""
    case = scenario(kind, groups=5, lr=0.0)
    matrix = torch.tensor(made(kind).matrix(5), dtype=torch.float64)
    second = torch.linalg.matrix_norm(matrix - 1 / 5, 2)
    for rows in rounds(case, [1.0, 2.0, 0.5, 3.0, -1.0]):
        mean = rows[0].mean(0)
        for before, after in pairwise(rows):
            torch.testing.assert_close(after.mean(0), mean, rtol=0, atol=1e-12)
            assert (after - mean).norm() <= second * (before - mean).norm() + 1e-12
            torch.testing.assert_close(after, matrix @ before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["adapt_then_combine", "combine_then_adapt"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_moves_by_the_mean_gradient(monkeypatch, kind, form):
    seen = {}
    arrive = Shard.take_in

    def noting(self, member, step, snapshot, work, now, up):
        seen.setdefault((self.stage, step), []).append(work.result().gradient.clone())
        return arrive(self, member, step, snapshot, work, now, up)

    monkeypatch.setattr(Shard, "take_in", noting)
    case = scenario({"kind": kind, "form": form}, groups=4)
    for stage, rows in enumerate(rounds(case, [1.0, 1.1, 0.9, 1.2])):
        for step, (before, after) in enumerate(pairwise(rows)):
            expected = before.mean(0) - LR * torch.stack(seen[stage, step]).mean(0)
            torch.testing.assert_close(after.mean(0), expected, rtol=0, atol=1e-12)


@given(st.sampled_from((*KINDS, "hypercube")), st.integers(1, 40))
def test_doubly_stochastic(kind, groups):
    if kind == "hypercube" and groups & (groups - 1):
        with pytest.raises(ValueError, match=f"not {groups}"):
            made(kind).matrix(groups)
        return
    matrix = torch.tensor(made(kind).matrix(groups), dtype=torch.float64)
    assert (matrix >= -1e-12).all()
    torch.testing.assert_close(matrix.sum(0), torch.ones(groups, dtype=torch.float64))
    torch.testing.assert_close(matrix.sum(1), torch.ones(groups, dtype=torch.float64))


def test_rows_of_a_torus():
    with pytest.raises(ValueError, match="a torus of 3 rows needs a multiple of 3 groups, not 8"):
        gossips["torus"](rows=3).matrix(8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,0\n0,x\n", "no matrix of numbers"),
        ("1,0\n", "has 1 rows; a square of 2"),
        ("1,0,0\n0,1,0\n", "a square of 2"),
        ("0.5,0.5\n1,0\n", "column 1"),
        ("1.5,-0.5\n-0.5,1.5\n", "row 1"),
        ("nan,1\n1,0\n", "row 1"),
    ],
)
def test_wrong_matrix_files(tmp_path, text, words):
    (tmp_path / "matrix.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        gossips["matrix"](file=str(tmp_path / "matrix.csv")).matrix(2)


def test_matrix_files_that_are_no_text(tmp_path):
    """The guard of all files: a pipe is not waited for, and neither a byte order mark nor a wrong encoding matters."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"1,\xe9\n")
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbf0.5,0.5\r\n0.5,0.5\r\n")
    for name, words in (("pipe", "is a named pipe"), ("latin", "is not UTF-8 text"), ("none", "there is no such file")):
        with pytest.raises(UserError, match=f"{name}: {words}"):
            gossips["matrix"](file=str(tmp_path / name)).matrix(2)
    assert gossips["matrix"](file=str(tmp_path / "marked")).matrix(2) == [[0.5, 0.5], [0.5, 0.5]]
    with pytest.raises(ValidationError, match=r"~nobody-of-that-name/m.csv: there is no such place"):
        gossips["matrix"](file="~nobody-of-that-name/m.csv")
