"""Files and dictionaries that are meant to break the reader: one sentence each, in bounded time."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from asyncsim.cli import main
from asyncsim.errors import UserError
from asyncsim.scenario import Document, build_scenario, load_scenario, load_study
from asyncsim.scenario.plain import NotPlain, plain

GOOD = "task: digits\nrun: {updates: 3}\n"
JSON = '{"task": "digits", "run": {"updates": 3}'
SECONDS = 15  # on a machine with other work to do

NINE = [", ".join([f"*x{i}"] * 9) for i in range(9)]
MERGES = "\n".join(["x0: &x0 {a0: 1}", *(f"x{i}: &x{i} {{<<: [{nine}], a{i}: 1}}" for i, nine in enumerate(NINE, 1))])
ALIASES = "\n".join(["x0: &x0 [1]", *(f"x{i}: &x{i} [{nine}]" for i, nine in enumerate(NINE, 1))])
SCALED = "cluster: {compute: &m {kind: scaled, factor: 2, base: *m}}"
WIDE = "task: {kind: digits, model: {kind: mlp, hidden: [8, 18446744073709551616]}}\nrun: {updates: 2}\n"
HOSTILE = {
    "merges.yaml": (f"{GOOD}{MERGES}", "merges (`<<`) make more than"),
    "aliases.yaml": (f"{GOOD}{ALIASES}", "are there aliases of aliases"),
    "self.yaml": (f"{GOOD}{SCALED}", ":3: not valid YAML: an alias stands inside"),
    "merge-self.yaml": (f"{GOOD}cluster: &a {{<<: *a}}", ":3: not valid YAML: an alias stands inside"),
    "digits.yaml": (f"{GOOD}seed: {'9' * 5000}", "a whole number has too many digits"),
    "digits.json": (f'{JSON}, "seed": {"9" * 5000}}}', "a whole number has too many digits"),
    "digits.toml": (f'task = "digits"\nseed = {"9" * 5000}\n', "a whole number has too many digits"),
    "hex.yaml": (f"{GOOD}seed: 0x{'f' * 9000}", ":3: seed: is a whole number of more than 100 digits"),
    "flow.yaml": (f"{GOOD}cluster: {'[' * 100_000}", ":3: not valid YAML: nested too deeply"),
    "block.yaml": (GOOD + "cluster:\n" + "".join(" " * i + "a:\n" for i in range(1, 200)), "nested too deeply"),
    "deep.json": (f'{JSON}, "cluster": {"[" * 900}{"]" * 900}}}', "nested too deeply"),
    "keys.json": (JSON + ", " + ", ".join(f'"k{i}": 1' for i in range(60_000)) + ', "k3": 2}', "duplicate key 'k3'"),
    "parts.toml": (f'task = "digits"\n{"a." * 200_000}b = 1\n', ":2: not valid TOML: a key of more than"),
    "heads.toml": (f'task = "digits"\n[{"a." * 200_000}b]\n', ":2: not valid TOML: a key of more than"),
    "blanks.toml": (f'task = "digits"\n[[{" " * 200_000}\n', "not valid TOML"),
    "large.yaml": (f"{GOOD}#{'x' * 1_000_000}", "at most 1,000,000 are read"),
    "half.json": (f'{JSON}, "name": "\\ud800"}}', ":1: name: '\\ud800', holds half of a surrogate pair"),
    "escape.yaml": (f'{GOOD}cluster: {{"\\e[31m\\a": 1}}', r":3: cluster: a key in it, '\x1b[31m\x07', holds the control"),
    "turned.yaml": (f"{GOOD}clus\u202eter: 1", r"clus\u202eter: unknown field"),
    "nul.yaml": (f'{GOOD}name: "\\0"', "holds the control character U+0000"),
    "set.yaml": (f"{GOOD}cluster: !!set {{a, b}}", ":3: cluster: is a set"),
    "tag.yaml": (f'{GOOD}seed: !!int ""', "a tag (`!!...`) or an alias"),
    "word.yaml": (f"{GOOD}seed: !!bool x", "a tag (`!!...`) or an alias"),
    "none.yaml": (f"{GOOD}~: 3", "has a key that is neither text nor a whole number"),
    "wide.yaml": (WIDE, "parameters; at most"),
    "cut.yaml": (WIDE + "stages: 2\ncluster: {workers: 2}", "parameters; at most"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_one_sentence_in_bounded_time(name, tmp_path, capsys):
    content, words = HOSTILE[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    start = time.perf_counter()
    assert main(["validate", str(tmp_path / name)]) == 2
    assert time.perf_counter() - start < SECONDS
    said = capsys.readouterr().err
    assert words in said
    assert all(letter.isprintable() or letter == "\n" for letter in said)


def test_many_unknown_keys(tmp_path, capsys):
    """Once quadratic in their number."""
    (tmp_path / "keys.json").write_text(JSON + ", " + ", ".join(f'"k{i}": 1' for i in range(3_000)) + "}")
    start = time.perf_counter()
    assert main(["validate", str(tmp_path / "keys.json")]) == 2
    assert time.perf_counter() - start < SECONDS
    assert "and 2980 more" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "socket"])
def test_only_regular_files_are_opened(kind, tmp_path, capsys):
    import socket

    path = tmp_path / "x.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    else:
        socket.socket(socket.AF_UNIX).bind(str(path))
    assert main(["validate", str(path)]) == 2
    said = capsys.readouterr().err
    words = {"pipe": "is a named pipe", "device": "is a device", "loop": "symbolic links", "socket": "is a socket"}
    assert words[kind] in said


def test_utf16(tmp_path, capsys):
    (tmp_path / "x.yaml").write_bytes(GOOD.encode("utf-16"))
    assert main(["validate", str(tmp_path / "x.yaml")]) == 2
    assert "it looks like UTF-16" in capsys.readouterr().err


def test_plain_data_from_python(tmp_path):
    """NumPy's numbers and tuples are taken; what no file could say is refused with the field's name."""
    (tmp_path / "x.yaml").write_text(GOOD)
    data = {"task": {"kind": "quadratic", "start": np.array([1.0, 2.0])}, "run": {"updates": np.int64(3)}, "seed": np.uint8(2)}
    scenario = build_scenario(Document(data, "here"))
    assert (scenario.run.updates, scenario.seed, scenario.task.start) == (3, 2, (1.0, 2.0))
    loop: dict = {}
    loop["cluster"] = loop
    refused = (({1, 2}, "is a set"), (loop, "stands inside itself"), (object(), "is a object"), ({None: 1}, "has a key"),
               ("\ud800", "half of a surrogate"), (10**200, "digits"), (b"x", "is a bytes"))  # fmt: skip
    for value, words in refused:
        with pytest.raises(UserError, match=words):
            build_scenario(Document({"task": "digits", "run": {"updates": 3}, "cluster": value}, "here"))
        for read in (load_scenario, load_study):
            with pytest.raises(UserError, match=words):
                read(tmp_path / "x.yaml", {"cluster": value})
        with pytest.raises(UserError, match=words):
            scenario.evolve({"cluster": value})


def test_plain_copies():
    """Nothing is shared with what was given."""
    given = {"a": [1, {"b": 2.5}]}
    made = plain(given)
    made["a"][1]["b"] = 3
    assert given == {"a": [1, {"b": 2.5}]}
    with pytest.raises(NotPlain, match="200,000th"):
        plain([0] * 200_001)
