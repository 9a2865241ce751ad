"""Built-in data: what it is, how it is split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsim.errors import DataMissing, UserError
from asyncsim.registries import tasks
from asyncsim.tasks import Arrays
from asyncsim.tasks.data import builtin
from asyncsim.tasks.data.arrays import held_out
from asyncsim.tasks.data.topics import ALPHABET, encode, topics


@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=200).map(np.array),
    fraction=st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_a_stratified_part_has_each_class_in_proportion(labels, fraction):
    count = round(fraction * len(labels))
    mask = held_out(labels, count, "test")
    assert mask.sum() == count
    for label in np.unique(labels):
        share = count * (labels == label).mean()
        assert abs(mask[labels == label].sum() - share) < 1


@pytest.mark.parametrize(
    ("load", "shape", "sizes", "divisor"),
    [
        (builtin.digits, (1, 8, 8), (1437, 360), 16),
        (builtin.mnist5k, (1, 28, 28), (4000, 1000), 255),
        (builtin.mnistm5k, (3, 32, 32), (4000, 1000), 255),
    ],
)
def test_builtin_images(load, shape, sizes, divisor):
    arrays = load()
    assert load() is arrays
    for (images, labels), size in zip((arrays.train, arrays.test), sizes, strict=True):
        assert images.shape == (size, *shape)
        assert images.dtype == np.uint8
        assert images.max() <= divisor == arrays.divisor
        assert set(labels) == set(range(10))
    everything = np.bincount(np.concatenate([arrays.train[1], arrays.test[1]]))
    assert np.abs(np.bincount(arrays.test[1]) - everything * sizes[1] / sum(sizes)).max() < 1


def test_photo_digits_are_what_they_say():
    """|photo - digit| at a pixel where the digit is 0 is the photo; the split is that of mnist5k."""
    plain, blended = builtin.mnist5k(), builtin.mnistm5k()
    np.testing.assert_array_equal(plain.train[1], blended.train[1])
    assert len(np.unique(blended.train[0][:, :, 0, 0], axis=0)) > 1000


def test_splits_are_disjoint_and_the_same_for_every_seed():
    spec = tasks.parse("digits")
    one, other = spec.build(0), spec.build(1)
    assert one.splits is other.splits
    sizes = {name: len(inputs) for name, (inputs, _) in one.splits.items()}
    assert sizes == {"train": 1293, "validation": 144, "test": 360}
    arrays = Arrays((np.arange(100), np.arange(100) % 3), (np.arange(3), np.arange(3)))
    parts = arrays.split(0.2)
    assert set(parts["train"][0]) | set(parts["validation"][0]) == set(range(100))
    assert len(parts["validation"][0]) == 20
    assert set(arrays.split(0)) == {"train", "test"}


def test_a_split_that_leaves_nothing():
    arrays = Arrays((np.arange(3), np.arange(3)), (np.arange(3), np.arange(3)))
    with pytest.raises(UserError, match="leaves nothing to train on"):
        arrays.split(0.9)
    with pytest.raises(UserError, match="at least 1"):
        Arrays((np.empty(0), np.empty(0)), (np.arange(3), np.arange(3)))


def test_pixels_are_scaled_and_channels_standardised():
    assert float(tasks.parse("digits").build(0).splits["train"][0].max()) == 1.0
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 4)).astype(np.uint8)
    labels = np.arange(50) % 2
    arrays = Arrays((images, labels), (images, labels), divisor=255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.1, 0.3))
    from asyncsim.tasks.batches import prepare

    inputs, targets = prepare(arrays, 0, "cpu", torch.float64)["train"]
    expected = (images[:, 1] / 255 - 0.4) / 0.1
    np.testing.assert_allclose(inputs[:, 1].numpy(), expected, rtol=1e-12)
    assert targets.dtype == torch.int64


def test_text():
    train, test, digest = topics()
    assert len(train) > 6 * len(test) > 60_000
    assert len(digest) == 64
    assert encode("\n A~é").tolist() == [0, 1, 34, 95, 96]
    assert len(ALPHABET) == 96
    assert (train == 96).mean() < 0.01


@pytest.mark.parametrize(("model", "dense"), [("char_mlp", False), ({"kind": "transformer", "context": 20}, True)])
def test_windows_predict_each_character_once(model, dense):
    task = tasks.parse({"kind": "pydoc_lm", "model": model, "validation": 0}).build(0)
    text = torch.from_numpy(topics()[0])
    inputs, targets = task.splits["train"]
    context = inputs.shape[1]
    for row in (0, 1, 7):
        first = row * context if dense else row
        assert torch.equal(inputs[row], text[first : first + context])
        assert torch.equal(targets[row], text[first + 1 : first + context + 1] if dense else text[first + context])
    assert (len(text) - context) - context < targets.numel() <= len(text)


def test_a_package_that_is_not_there():
    with pytest.raises(DataMissing, match="pip install scikit-nothing"):
        builtin._file("scikit-nothing", "x")
    with pytest.raises(DataMissing, match=r"lacks data/nothing\.csv"):
        builtin._file("mlxtend", "data/nothing.csv")


def test_context_longer_than_the_text():
    with pytest.raises(UserError, match=r"task\.model\.context"):
        tasks.parse({"kind": "pydoc_lm", "model": {"kind": "char_mlp", "context": 10**6}}).build(0)
