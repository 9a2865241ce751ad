"""Mutations of scenario files and run folders, each determined by a seed."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3.5,
    -0.0,
    1e-300,
    1e308,
    float("inf"),
    float("nan"),
    2**31,
    2**63,
    2**64,
    10**30,
    10**99,
    10**120,
    "",
    " ",
    "0",
    "-1",
    "nan",
    "1e999",
    "50ms",
    "-5s",
    "9e99h",
    "10Gbit/s",
    "gap_aware",
    "digits",
    "../x",
    "/dev/zero",
    "/",
    "x" * 5000,
    "a\x1b[31mb",
    "\x00",
    "\ud800",
    "\u202e",
    "é",
    "[",
    "{",
    "*a",
    "&a",
    "!!set",
    "2001-01-01",
    "${x}",
    "%s",
    "{0}",
    "[red]",
    "a.b",
    "a\nb",
    [],
    {},
    [[]],
    [None],
    {"": 1},
    {"kind": None},
    {"kind": "asgd"},
    {"kind": "uniform"},
    {"kind": ["x"]},
    [1, "a", {}],
    [0] * 300,
)
PIECES = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\t",
    b"\r",
    b"\n",
    b": ",
    b"- ",
    b"[",
    b"]",
    b"{",
    b"}",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"!!set ",
    b"!!int ",
    b"|\n",
    b">",
    b"'",
    b'"',
    b"#",
    b"%",
    b"? ",
    b"---\n",
    b"...\n",
    b"9" * 5000,
    b"[" * 200,
    b"{a: " * 80,
    b"1e999",
    b".nan",
    b"\\x1b",
    b"\xed\xa0\x80",
    b"2001-99-99",
    b"0x" + b"f" * 300,
    b"~",
    b"=",
    b"[[",
    b"]]",
    b"1_0",
    b"workers",
    b"kind",
)


def of_bytes(content: bytes, rng: random.Random) -> bytes:
    """A file with one to four places cut, doubled, exchanged or filled with something hostile."""
    for _ in range(rng.randint(1, 4)):
        at, to = sorted((rng.randint(0, len(content)), rng.randint(0, len(content))))
        to = min(to, at + rng.choice((1, 4, 40)))
        match rng.randrange(7):
            case 0:
                content = content[:at]
            case 1:
                content = content[:at] + content[to:]
            case 2:
                content = content[:at] + content[at:to] * rng.choice((2, 2, 50)) + content[to:]
            case 3:
                content = content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
            case 4:
                content = content[:at] + rng.choice(PIECES) + content[to:]
            case 5:
                content = content[:at] + rng.choice(PIECES) + content[at:]
            case _:
                rows = content.split(b"\n")
                rows.insert(rng.randrange(len(rows)), rows.pop(rng.randrange(len(rows))))
                content = b"\n".join(rows)
    return content


def of_data(data: Any, rng: random.Random) -> Any:
    """A tree with one to three places deleted, doubled, exchanged, renamed or replaced by something hostile."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(data))
        if not places:
            break
        parent, key = rng.choice(places)
        other, another = rng.choice(places)
        value = copy.deepcopy(rng.choice(HOSTILE))
        match rng.randrange(7):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[rng.choice((f"{key}x", str(key)[:-1], "kind", 3, "\x1b[2J"))] = parent.pop(key)
            case 2:
                parent[key], other[another] = copy.deepcopy(other[another]), copy.deepcopy(parent[key])
            case 3:
                parent[key] = [copy.deepcopy(parent[key])] * rng.choice((1, 2, 30))
            case 4:
                parent[key] = {rng.choice(("kind", "a", str(key))): parent[key]}
            case _:
                parent[key] = value
    return data


def of_folder(run: Path, target: Path, rng: random.Random) -> str:
    """A copy of a run's folder in ``target`` with one or two files truncated, flipped, deleted, exchanged or, where they
    are JSON, changed in their nodes. Says what was done."""
    shutil.copytree(run, target)
    told = []
    for _ in range(rng.randint(1, 2)):
        files = sorted(path for path in target.rglob("*") if path.is_file())
        if not files:
            break
        weights = [6 if path.suffix == ".json" else 1 for path in files]
        file = rng.choices(files, weights)[0]
        content = file.read_bytes()
        match rng.randrange(8) if file.suffix == ".json" else rng.randrange(5):
            case 0:
                told.append(f"delete {file.name}")
                file.unlink()
            case 1:
                told.append(f"truncate {file.name}")
                file.write_bytes(content[: rng.randint(0, len(content))])
            case 2:
                told.append(f"bytes of {file.name}")
                file.write_bytes(of_bytes(content, rng))
            case 3:
                other = rng.choice(files)
                told.append(f"{other.name} as {file.name}")
                file.write_bytes(other.read_bytes())
            case 4:
                told.append(f"a folder as {file.name}")
                file.unlink()
                file.mkdir()
            case _:
                told.append(f"nodes of {file.name}")
                try:
                    aside = random.Random(repr(rng.getstate()))  # so that other seeds do what they did
                    data = of_data(json.loads(content), rng)
                    if aside.random() < 0.1:  # a file that is no mapping at all
                        data = aside.choice(HOSTILE)
                    file.write_text(json.dumps(data, default=str))
                except (ValueError, UnicodeError):
                    file.write_bytes(content[::-1])
    return ", ".join(told)


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    pairs = list(data.items()) if isinstance(data, dict) else list(enumerate(data)) if isinstance(data, list) else []
    for key, value in pairs:
        yield data, key
        yield from _places(value)
