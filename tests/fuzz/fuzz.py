"""The long form of the fuzzer: ``python tests/fuzz/fuzz.py --scenarios 10000 --folders 2000 [--seed 0]``.

Each finding is printed with its seed and what it was done to; the exit code is 1 if there are any.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parent))

from checking import complaint
from mutations import of_bytes, of_data, of_folder

from asyncsim.cli import main

SCENARIOS = Path(__file__).parents[2] / "scenarios"
RUNS = {
    "whole": "task: {kind: digits, batch: 8, model: softmax}\ncluster: {workers: 2}\n"
             "run: {updates: 12}\ncheckpoint: {end: true}\n",
    "stages": "task: {kind: digits, batch: 8, model: {kind: mlp, hidden: [8, 8]}}\ncluster: {workers: 4}\nstages: 2\n"
              "method: ddg\nrun: {updates: 12}\ncheckpoint: {end: true}\n",
}  # fmt: skip
ON_FOLDERS = (["show", "{}"], ["ls", "{}"], ["compare", "{}", "{}"], ["trace", "{}"], ["report", "{}"], ["plot", "{}"],
              ["resume", "{}"], ["show", "--json", "{}"], ["ls", "--json", "{}"])  # fmt: skip


def scenario(seed: int, folder: Path) -> tuple[Path, str | None]:
    """Mutate one of the shipped scenarios, and validate it, or print it in full."""
    rng = random.Random(seed)
    source = rng.choice(sorted(SCENARIOS.glob("*.yaml")))
    text = source.read_text()
    kind = rng.choice((".yaml", ".yaml", ".json", ".toml"))
    file = folder / f"mutant{kind}"
    if kind == ".yaml" and rng.random() < 0.5:
        content = of_bytes(text.encode(), rng)
    else:
        data = of_data(YAML(typ="safe", pure=True).load(text), rng)
        written = json.dumps(data, indent=rng.choice((None, 2)), default=str)
        if kind == ".toml":  # its inline tables are nearly JSON
            written = "\n".join(f"{json.dumps(str(key))} = {json.dumps(value, default=str)}" for key, value in data.items())
        content = written.encode("utf-8", "surrogatepass")
        if rng.random() < 0.2:
            content = of_bytes(content, rng)
    file.write_bytes(content)
    return file, complaint([rng.choice(("validate", "validate", "show")), str(file)])


def folder(seed: int, runs: list[Path], place: Path) -> tuple[str, str | None]:
    """Damage a run's folder, and look at it with every command."""
    rng = random.Random(seed)
    target = place / "mutant"
    shutil.rmtree(target, ignore_errors=True)
    told = of_folder(rng.choice(runs), target, rng)
    for command in rng.sample(ON_FOLDERS, 3):
        more = {"plot": ["--out", str(place / "figures")], "report": ["--out", str(place / "x.html")]}.get(command[0], [])
        found = complaint([*(word.format(target) for word in command), *more])
        if found is not None:
            return f"{told}: {' '.join(command)}", found
    return told, None


def made(place: Path) -> list[Path]:
    """Run folders to damage: finished ones, with a checkpoint each."""
    for name, text in RUNS.items():
        (place / f"{name}.yaml").write_text(text)
        if main(["run", str(place / f"{name}.yaml"), "--out", str(place / "runs"), "--no-figures", "--json"]):
            raise SystemExit(f"cannot run {name}")
    return sorted(path.parent for path in (place / "runs").glob("*/manifest.json"))


def long_form() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=10_000)
    parser.add_argument("--folders", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    findings: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        os.chdir(place)
        runs = made(place) if given.folders else []
        for seed in range(given.seed, given.seed + given.scenarios):
            file, found = scenario(seed, place)
            _tell(findings, f"scenario {seed}", found, file)
        for seed in range(given.seed, given.seed + given.folders):
            told, found = folder(seed, runs, place)
            _tell(findings, f"folder {seed}: {told}", found, None)
    told = f"{findings.total()} findings of {len(findings)} kinds"
    print(f"{given.scenarios:,} scenario files, {given.folders:,} run folders: {told}")
    return 1 if findings else 0


def _tell(findings: Counter[str], what: str, found: str | None, file: Path | None) -> None:
    if found is None:
        return
    last = "\n".join(found.strip().splitlines()[-3:])
    findings[last] += 1
    if findings[last] == 1:
        print(f"--- {what}\n{found}", flush=True)
        if file is not None:
            print(file.read_bytes()[:3000], flush=True)


if __name__ == "__main__":
    sys.exit(long_form())
