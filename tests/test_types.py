"""What type checkers are told: what is silenced has a reason, and a user's code, checked without any plugin, is understood."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest

from asyncsim.registries import ALL

ROOT = Path(__file__).parents[1]
MOST_SILENCED = 11
NEEDS = "# type: ignore[override]  # it follows from the settings"
"""Beside the property `needs` of a part whose settings decide what it needs; mostly that is a class attribute."""
REASONED = re.compile(r"# type: ignore\[[a-z-]+(, [a-z-]+)*\]  # \S.*")


def comments(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT]


def test_what_is_silenced_has_a_code_and_a_reason() -> None:
    """Every `type: ignore` says which error, and why there is none; there are few of them, apart from one that parts share."""
    silenced = [
        f"{path.relative_to(ROOT)}: {comment}"
        for path in sorted((ROOT / "asyncsim").rglob("*.py"))
        for comment in comments(path)
        if re.search(r"type:\s*ignore|pyright:|mypy:", comment)
    ]
    assert [each for each in silenced if not REASONED.fullmatch(each.partition(": ")[2])] == []
    assert 0 < sum(not each.endswith(f": {NEEDS}") for each in silenced) <= MOST_SILENCED


def test_no_module_is_left_out() -> None:
    """mypy checks the whole package with pydantic's plugin; what is said of single modules is about packages without types."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert settings["packages"] == ["asyncsim"]
    assert settings["plugins"] == ["pydantic.mypy"]
    assert all(settings[name] for name in ("check_untyped_defs", "disallow_untyped_defs", "warn_unused_ignores"))
    assert not {"ignore_errors", "exclude", "disable_error_code"} & set(settings)
    for override in settings["overrides"]:
        assert set(override) == {"module", "ignore_missing_imports"}
        assert not [module for module in override["module"] if module.startswith("asyncsim")]


OWN = '''
import numpy as np
from pydantic import Field

from asyncsim import Result, load_scenario, registries, simulate
from asyncsim.cluster import Delay
from asyncsim.units import Seconds


@registries.delays.register("coin")
class Coin(Delay):
    low: Seconds = 0.5
    high: Seconds = Field(default=2.0)

    @property
    def expected(self) -> float:
        return (self.low + self.high) / 2

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return np.where(rng.random(size) < 0.5, self.low, self.high)


coin: Delay = Coin(low=1.0)
kinds: list[type[Delay]] = [cls for _, cls in registries.delays]
accuracy: float = simulate(load_scenario("scenario.yaml")).summary["test_accuracy"]
'''
WRONG = {
    "Coin(lo=1.0)": "call-arg",
    "Coin(low=[])": "arg-type",
    "coin.expected.upper()": "attr-defined",
    "kinds[0].no_such_thing": "attr-defined",
}
"""Lines that a type checker must refuse, each with the code of its error."""


@pytest.mark.slow
def test_a_users_code_is_understood(tmp_path: Path) -> None:
    """Without pydantic's plugin, as in a user's editor: every part whose settings all have defaults can be made without any, a
    delay of one's own is a delay, and what is wrong is seen."""
    makes = []
    for number, (_, cls) in enumerate(each for registry in ALL.values() for each in registry):
        try:
            cls()
        except ValueError:  # a setting is missing, or must be chosen
            continue
        makes += [f"from {cls.__module__} import {cls.__name__} as Part{number}", f"Part{number}()"]
    assert len(makes) > 100
    right = [*OWN.splitlines(), *makes]
    (tmp_path / "own.py").write_text("\n".join([*right, *WRONG]) + "\n", encoding="utf-8")
    (tmp_path / "mypy.ini").write_text("[mypy]\nfollow_imports = silent\nignore_missing_imports = true\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", ".cache", "--no-error-summary", "own.py"]
    done = subprocess.run(command, cwd=tmp_path, env={"MYPYPATH": str(ROOT)}, capture_output=True, text=True, timeout=600)
    found = re.findall(r"^own\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert found == [(str(len(right) + 1 + place), code) for place, code in enumerate(WRONG.values())], done.stdout + done.stderr
