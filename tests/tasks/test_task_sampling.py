"""Batches are a function of (seed, worker, step)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsim.errors import UserError
from asyncsim.registries import partitions
from asyncsim.streams import Streams
from asyncsim.tasks import sampling
from asyncsim.tasks.batches import Batches
from asyncsim.tasks.partition import Dirichlet, IidShards, Partition, Shuffled, Uniform
from asyncsim.tasks.sampling import Recent, Sampler, Walk

LABELS = np.arange(600) % 10


def numbers(sampler: Sampler, worker: int, steps: int) -> np.ndarray:
    """Sample numbers of the first ``steps`` batches, (steps, batch)."""
    blocks = [sampler.block(worker, number) for number in range(-(-steps // sampler.steps))]
    return np.concatenate(blocks)[:steps]


def sampler(partition: Partition, num_workers: int = 4, batch: int = 16, seed: int = 0) -> Sampler:
    return partition.sampler(len(LABELS), LABELS, batch, num_workers, Streams(seed))


@given(size=st.integers(1, 300), batch=st.integers(1, 40), worker=st.integers(0, 1000), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_walk_visits_every_sample_once_a_round(size, batch, worker, seed):
    if batch > size:
        with pytest.raises(UserError, match=r"lower `batch`"):
            Walk(size, batch, Streams(seed))
        return
    steps = -(-3 * size // batch)
    walked = numbers(Walk(size, batch, Streams(seed)), worker, steps).reshape(-1)
    for round_ in range(3):
        assert sorted(walked[round_ * size : (round_ + 1) * size]) == list(range(size))


def test_rounds_and_workers_differ():
    walk = Walk(50, 50, Streams(0))
    first, second = numbers(walk, 0, 2)
    assert (first != second).any()
    assert (first != numbers(walk, 1, 1)[0]).any()


@pytest.mark.parametrize("name", partitions.names())
def test_blocks_in_any_order_and_from_any_sampler(name):
    partition = partitions.parse(name)
    one, other = sampler(partition), sampler(partition)
    late = other.block(2, 3).copy()
    for worker in range(4):
        for number in (3, 0, 7):
            np.testing.assert_array_equal(one.block(worker, number), other.block(worker, number))
    np.testing.assert_array_equal(late, one.block(2, 3))
    assert (sampler(partition, seed=1).block(0, 0) != one.block(0, 0)).any()


@pytest.mark.parametrize("partition", [Shuffled(), Uniform()])
def test_more_workers_change_nothing(partition):
    few, many = sampler(partition, num_workers=1), sampler(partition, num_workers=100)
    for worker in range(3):
        np.testing.assert_array_equal(numbers(few, worker, 70), numbers(many, worker, 70))


def test_uniform_is_with_replacement_and_even():
    drawn = numbers(sampler(Uniform()), 0, 3000).reshape(-1)
    counts = np.bincount(drawn, minlength=len(LABELS))
    assert counts.min() > 30  # 80 expected, deviation 9
    assert counts.max() < 130


@pytest.mark.parametrize("partition", [IidShards(), Dirichlet(alpha=0.5)])
@pytest.mark.parametrize("num_workers", [1, 3, 7])
def test_shards_are_disjoint_and_cover(partition, num_workers):
    found = sampler(partition, num_workers=num_workers, batch=4)
    shards = [set(numbers(found, worker, 200).reshape(-1)) for worker in range(num_workers)]
    assert sum(map(len, shards)) == len(LABELS)
    assert set.union(*shards) == set(range(len(LABELS)))


def test_iid_shards_are_equal():
    shards = [set(numbers(sampler(IidShards(), 7), worker, 100).reshape(-1)) for worker in range(7)]
    assert {len(shard) for shard in shards} == {85, 86}


def skew(alpha: float) -> float:
    """Mean over workers of the share of the commonest class: 0.1 when every worker sees all ten alike."""
    found = sampler(Dirichlet(alpha=alpha), batch=4)
    shares = []
    for worker in range(4):
        counts = np.bincount(LABELS[list(set(numbers(found, worker, 200).reshape(-1)))], minlength=10)
        shares.append(counts.max() / counts.sum())
    return float(np.mean(shares))


def test_dirichlet_skew_falls_with_alpha():
    assert skew(0.05) > 0.25
    assert 0.1 <= skew(1000) < 0.13
    assert skew(0.05) > skew(1) > skew(1000)


def test_dirichlet_that_cannot_feed_everyone():
    with pytest.raises(UserError, match=r"task.partition.alpha: with 0.01, 30 workers and 600 samples"):
        sampler(Dirichlet(alpha=0.01), num_workers=30)


def test_dirichlet_needs_labels():
    with pytest.raises(UserError, match="iid_shards"):
        Dirichlet().sampler(100, None, 4, 2, Streams(0))


def test_shards_for_workers_that_are_not_there():
    with pytest.raises(UserError, match="worker 4 has no shard"):
        sampler(IidShards()).block(4, 0)


@pytest.mark.parametrize("partition", [IidShards(), Dirichlet(alpha=100.0)])
def test_more_workers_than_batches(partition):
    """Of 600 samples, 12 batches of 50: the advice is to have 12 workers at most, each of which then has a batch; and a smaller
    batch only where there is one."""
    labels = np.arange(600) % 2
    for workers, words in ((13, ("12 or less", "`task.batch` to 46 or less")), (601, ("12 or less", "`shuffled`"))):
        with pytest.raises(UserError, match=r"cluster\.workers") as error:
            partition.sampler(600, labels, 50, workers, Streams(0))
        assert all(word in str(error.value) for word in words)
    assert "task.batch" not in str(error.value)
    assert IidShards().sampler(600, labels, 50, 12, Streams(0)).block(11, 0).shape[1] == 50
    with pytest.raises(UserError, match=r"task\.batch: 601 samples are more"):
        IidShards().sampler(600, labels, 601, 1, Streams(0))


def test_large_sets_keep_few_permutations(monkeypatch):
    monkeypatch.setattr(sampling, "CACHED", 1000)
    walk = Walk(400, 8, Streams(0))
    plain = Walk(400, 8, Streams(0))
    for worker in range(50):
        np.testing.assert_array_equal(walk.block(worker, 0), plain.block(worker, 0))
    assert len(walk._permutation._kept) == 2


def test_what_is_kept_does_not_grow_with_the_run():
    """Two pieces for each worker, whatever the number of steps; drawn again, a piece is what it was."""
    drawn = []

    def draw(worker, number):
        drawn.append((worker, number))
        return worker, number

    recent = Recent(draw, 100)
    for number in range(1000):
        for worker in range(3):
            assert recent(worker, number) == (worker, number)
            assert recent(worker, max(0, number - 1)) == (worker, max(0, number - 1))
    assert len(drawn) == len(set(drawn)) == 3000
    assert len(recent._kept) == 6
    assert recent(1, 5) == (1, 5)
    assert drawn[-1] == (1, 5)
    for worker in range(500):
        recent(worker, 0)
    assert len(recent._kept) == 100


def test_batches_of_a_long_run_take_no_more_memory():
    streams = Streams(0)
    walk = Walk(64, 4, streams)
    batches = Batches((torch.arange(64.0)[:, None], torch.zeros(64)), walk, 4, streams)
    first = [batches.batch(0, step)[0].clone() for step in range(8)]
    for step in range(0, 40 * walk.steps, walk.steps // 2):
        batches.batch(step % 2, step)
    assert len(batches._rows._kept) <= 4
    assert len(walk._permutation._kept) <= 4
    assert all(torch.equal(batches.batch(0, step)[0], then) for step, then in enumerate(first))
