"""Rooms that a run can do without: nobody in the core imports them, and with all of them gone one can plan, run and sweep."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from test_rooms import OWN

OPTIONAL = (
    "calibration", "report", "trackers", "trace", "sweep.advise", "sweep.atlas", "sweep.on_ray", "cli.calibrating",
    "cli.advising", "cli.atlas",
)  # fmt: skip
PACKAGES = ("scipy", "ray", "mlflow", "wandb", "tensorboard", "optuna", "matplotlib")
"""Packages that only optional rooms, or the drawing of figures, need."""

SCENARIO = "task: quadratic\ncluster: {workers: 2, compute: 1s}\nrun: {updates: 4}\nsweep: {grid: {optimizer.lr: [0.1, 0.2]}}\n"
WITHOUT = """\
import sys
from importlib.abc import MetaPathFinder

class Gone(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in GONE):
            raise ModuleNotFoundError(f"{name} is gone", name=name)

GONE = sys.argv[1].split(",")
sys.meta_path.insert(0, Gone())
from asyncsim.cli import main
assert main(["plan", "s.yaml"]) == 0
for command in ("run", "sweep"):
    assert main([command, "s.yaml", "--no-figures", "--out", command, "--processes", "1"]) == 0
try:
    main(["calibrate", "t.csv"])
except ModuleNotFoundError as error:
    print(error, file=sys.stderr)
"""


def _optional(module: str) -> str | None:
    inside = module.removeprefix("asyncsim.")
    return next((each for each in OPTIONAL if inside == each or inside.startswith(f"{each}.")), None)


def test_nobody_needs_them_to_be_imported():
    """The core names them for type checkers, or inside the function that was asked for them."""
    outside = [each for each in OWN if _optional(each.target)]
    outside = [
        each for each in outside
        if _optional(each.target) != _optional(each.file.removeprefix("asyncsim/").removesuffix(".py").replace("/", "."))
    ]  # fmt: skip
    assert len(outside) > 8  # the parser finds them
    assert [str(each) for each in outside if each.where == "top"] == []
    doors = {"cli", "run", "sweep", "__init__"}  # where somebody asks for one of them
    assert [str(each) for each in outside if each.room not in doors and each.where != "types"] == []


def test_theory_is_asked_for_by_people_alone():
    """Formulas stand beside the simulation: rooms that show something import them, and parts of methods whose rule is one, inside
    the function that is asked for it. No other run depends on them."""
    asked = {each: each.target.split(".")[1] for each in OWN if each.target.startswith(("asyncsim.theory", "asyncsim.standing"))}
    outside = [each for each, room in asked.items() if each.room not in ("theory", "standing")]
    assert {each.room for each in outside} == {"plots", "cli", "methods", "policies"}
    assert {each.file for each in outside if each.room in ("methods", "policies")} == {
        "asyncsim/methods/momentum_approximation.py", "asyncsim/policies/gaussian_noise.py"}  # fmt: skip
    assert [str(each) for each in outside if each.where == "top"] == []
    assert {room for each, room in asked.items() if each.room == "theory"} == {"theory"}


def test_without_any_of_them(tmp_path):
    """All are gone at once, so each may be: an import that is never made misses nothing."""
    (tmp_path / "s.yaml").write_text(SCENARIO)
    gone = ",".join([*(f"asyncsim.{each}" for each in OPTIONAL), *PACKAGES])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, gone], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "asyncsim.cli.calibrating is gone" in done.stderr
    assert len(list(tmp_path.glob("sweep/*/*/summary.json"))) == 2


HEAVY = {"torch", "pandas", "scipy", "pyarrow", "matplotlib"}


@pytest.mark.parametrize(
    ("words", "light"),
    [
        (["--version"], {*HEAVY, "numpy", "pydantic", "rich", "simpy"}), (["run", "--help"], {*HEAVY, "numpy", "pydantic"}),
        (["validate", "s.yaml"], HEAVY), (["plan", "s.yaml"], HEAVY), (["schema"], HEAVY),
    ],
)  # fmt: skip
def test_what_is_not_needed_is_not_imported(words, light, tmp_path):
    """Half of the time that a small command takes is imports."""
    (tmp_path / "s.yaml").write_text(SCENARIO)
    script = (
        "import json, sys\nfrom asyncsim.cli import main\n"
        "try: main(sys.argv[2:])\nexcept SystemExit: pass\n"
        "print(json.dumps([each for each in json.loads(sys.argv[1]) if each in sys.modules]), file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, json.dumps(sorted(light)), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
