"""Bytes and tokens: how a text becomes numbers, vocabularies that users bring, and the perplexity."""

from __future__ import annotations

import gzip
import json
import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import asyncsim
from asyncsim.errors import UserError
from asyncsim.registries import tasks
from asyncsim.scenario import Document, build_scenario
from asyncsim.tasks.data.tokens import divide
from asyncsim.tasks.data.topics import texts
from asyncsim.tasks.objective import NextToken

TEXT = b"the cat sat on the mat; the \xff cat\n" * 30
TINY = {"kind": "transformer", "context": 8, "dim": 8, "layers": 1, "heads": 2}


def build(tmp_path, text=TEXT, words=None, name="words.txt", **fields):
    (tmp_path / "text").write_bytes(text)
    if words is not None:
        (tmp_path / name).write_text(words, encoding="utf-8")
        fields["vocabulary"] = {"file": str(tmp_path / name)} | fields["vocabulary"]
    settings = {"kind": "token_lm", "file": str(tmp_path / "text"), "model": TINY, "batch": 2, "validation": 0}
    return tasks.parse(settings | fields).build(0)


def test_bytes_of_pythons_reference():
    """Every byte is predicted once; the parts are those of pydoc_lm."""
    task = tasks.parse({"kind": "token_lm", "validation": 0}).build(0)
    inputs, targets = task.splits["test"]
    text = texts()[1].encode()
    assert bytes(targets.flatten().tolist()) == text[1 : 1 + targets.numel()]
    assert len(text) - targets.numel() <= inputs.shape[1] == 48
    assert tasks.parse("token_lm").num_parameters() == task.layout.num_parameters == 136_192


def test_a_file_of_the_user(tmp_path):
    """Any bytes, plain or in gzip; the last tenth is for testing, and a file that was written anew is read anew."""
    for text in (TEXT, gzip.compress(TEXT)):
        task = build(tmp_path, text)
        os.utime(tmp_path / "text", ns=(1, 1))
        assert bytes(task.splits["train"][0].flatten().tolist()) == TEXT[: task.splits["train"][0].numel()]
        assert bytes(task.splits["test"][0][0].tolist()) == TEXT[-len(TEXT) // 10 :][:8]
    with pytest.raises(UserError, match="8 symbols are more than the test text has"):
        build(tmp_path, TEXT[:20])
    with pytest.raises(UserError, match="no such file"):
        tasks.parse({"kind": "token_lm", "file": str(tmp_path / "none")}).build(0)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.sets(st.binary(min_size=2, max_size=4), max_size=6))
def test_tokens_give_the_text_back_and_are_the_longest(text, words):
    """At each place no longer token fits, counted with plain comparisons."""
    tokens = {word: 256 + number for number, word in enumerate(sorted(words))}
    pieces = {number: word for word, number in tokens.items()} | {byte: bytes([byte]) for byte in range(256)}
    found, place = [pieces[number] for number in divide(text, tokens).tolist()], 0
    assert b"".join(found) == text
    for piece in found:
        assert len(piece) == max([1, *(len(word) for word in words if text.startswith(word, place))])
        place += len(piece)


@pytest.mark.parametrize(
    ("name", "words", "marks", "size"),
    [
        ("words.txt", "the \ncat\nx\n at\nthe \n", "none", 259),
        ("words.json", json.dumps(["the ", "cat", " at"]), "none", 259),
        ("vocab.json", json.dumps({"theĠ": 5, "cat": 1, "Ġat": 2, "a": 3}), "gpt2", 259),
        ("tokenizer.json", json.dumps({"model": {"vocab": {"the▁": 0, "cat": 1, "▁at": 2}}}), "sentencepiece", 259),
    ],
)
def test_vocabularies(tmp_path, name, words, marks, size):
    """The same tokens in four notations; bytes that no token has stay bytes, and single ones get no number of their own."""
    task = build(tmp_path, words=words, name=name, vocabulary={"size": size, "marks": marks})
    assert task.splits["train"][0][0].tolist() == [256, 257, *b" sat on"][:8]
    assert (task.splits["train"][0] == 255).any()
    assert task.module[-1].out_features == 259


@pytest.mark.parametrize(
    ("name", "words", "fields", "message"),
    [
        ("words.txt", "the\ncat", {"size": 300}, r"has 2 distinct tokens of two bytes or more, so with the 256 bytes it is 258"),
        ("words.txt", "the\nĠcat", {"size": 258}, r"words\.txt:2: 'Ġcat' seems to write a space as Ġ; say `marks: gpt2`"),
        ("v.json", '["a▁b"]', {"size": 257}, r"say `marks: sentencepiece`"),
        ("v.json", '{"a": "b"}', {"size": 258}, "neither a list of tokens nor an object"),
        ("v.json", '["ab", 3]', {"size": 258}, "neither a list of tokens nor an object"),
        ("v.json", '["ab"\n,', {"size": 258}, r"v\.json:2: cannot be read as JSON"),
        ("v.json", '["the", "##ing"]', {"size": 258}, "WordPiece"),
    ],
)  # fmt: skip
def test_vocabularies_that_are_none(tmp_path, name, words, fields, message):
    with pytest.raises(UserError, match=message):
        build(tmp_path, words=words, name=name, vocabulary=fields)


def test_windows_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("asyncsim.tasks.text.MOST_NUMBERS", 1000)
    with pytest.raises(UserError, match="take a shorter text, or a model that predicts at every position"):
        build(tmp_path, model={"kind": "char_mlp", "context": 4})
    build(tmp_path)


def test_sizes_are_known_without_the_files():
    spec = tasks.parse({"kind": "token_lm", "file": "text", "vocabulary": {"file": "words", "size": 1000}})
    assert spec.num_parameters() == 136_192 + (1000 - 256) * (64 + 64 + 1)
    with pytest.raises(ValidationError, match="greater than or equal to 257"):
        tasks.parse({"kind": "token_lm", "vocabulary": {"file": "words", "size": 256}})
    with pytest.raises(ValidationError, match="models that fit: char_mlp, transformer"):
        tasks.parse({"kind": "token_lm", "model": "mlp"})


def test_perplexity(tmp_path):
    """A model that knows nothing is as uncertain as all symbols are many; over parts of a split the mean is one of logarithms."""
    task = build(tmp_path, words="the \ncat", vocabulary={"size": 258})
    measured = task.evaluate(torch.zeros_like(task.init()))
    assert measured["perplexity"] == pytest.approx(258, rel=1e-6)
    assert measured["loss"] == pytest.approx(math.log(258), rel=1e-6)
    assert NextToken().report([1e4])["perplexity"] == math.inf
    assert math.isnan(NextToken().report([math.nan])["perplexity"])


def test_evaluations_hold_few_scores_at_a_time(tmp_path, monkeypatch):
    """A thousand windows of 48 tokens out of 50,000 would be ten gigabytes."""
    task = build(tmp_path)
    whole, seen = task.evaluate(task.init(), "train"), []
    monkeypatch.setattr("asyncsim.tasks.task.CHUNK_SCORES", 3 * 8 * 256 + 100)
    task.module.register_forward_hook(lambda module, inputs, outputs: seen.append(len(outputs)))
    assert task.evaluate(task.init(), "train") == pytest.approx(whole, rel=1e-6)
    assert seen[1:] == [3] * (len(task.splits["train"][0]) // 3) + [1] * (len(task.splits["train"][0]) % 3 == 1)


def test_a_run(tmp_path):
    """Asynchronous workers learn the text, until a target is reached from above."""
    (tmp_path / "my.txt").write_bytes(TEXT)
    (tmp_path / "words.txt").write_text("the \ncat")
    result = asyncsim.simulate(build_scenario(Document({
        "task": {"kind": "token_lm", "file": "my.txt", "model": TINY, "batch": 8,
                 "vocabulary": {"file": "words.txt", "size": 258}},
        "cluster": {"workers": 4}, "optimizer": {"kind": "adam", "lr": 0.01}, "evaluate": {"updates": 20},
        "run": {"updates": 2000, "target": {"metric": "test_perplexity", "at_most": 3}},
    }, "here"), folder=str(tmp_path)))  # fmt: skip
    assert result.summary["status"] == "finished"
    assert result.summary["updates"] < 1000
    assert result.summary["test_perplexity"] == pytest.approx(math.exp(result.summary["test_loss"]))
    assert result.summary["test_perplexity"] <= 3
