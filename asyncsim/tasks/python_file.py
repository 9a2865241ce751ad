"""A task that a Python file of the user's makes, so that scenario files, processes and resumed runs can name it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import Field, ValidationInfo, model_validator

from asyncsim.ambient import seeded, sheltered
from asyncsim.errors import UserError, first_line, nearest
from asyncsim.paths import resolved
from asyncsim.registry import located
from asyncsim.streams import Streams
from asyncsim.tasks.experiment import Experiment, with_own_model
from asyncsim.tasks.spec import tasks
from asyncsim.userfiles import ALLOW_CODE, read_bytes

MOST_BYTES = 2**24
TAKEN_OVER = "batch", "validation", "partition", "batch_norm"
"""Fields that are those of the experiment which the file makes, unless the scenario has others."""
_made: dict[tuple[str, ...], Experiment] = {}


def allow_code() -> None:
    """Allow this process, and those that it starts, to run the Python files that scenarios name (`task: {kind: python}`)."""
    os.environ[ALLOW_CODE] = "1"


class _Wrong(Exception):
    """The field that is at fault, and why."""


@tasks.register("python")
class PythonTask(Experiment):
    """The experiment that the ``function`` of a Python ``file`` returns for ``arguments``: what `asyncsim.experiment` has made.

    The file is run when the scenario is read, which has to be allowed: ``--allow-code``, ``ASYNCSIM_ALLOW_CODE=1`` or
    `asyncsim.allow_code()`. A relative path starts at the folder of the scenario. ``sha256`` and ``key`` are filled in, so that a
    changed file, or changed data that it reads, are another run. ``batch``, ``validation``, ``partition`` and ``batch_norm`` are
    those of the experiment unless they are given here.
    """

    file: str = Field(min_length=1)
    function: str = "build"
    arguments: dict[str, Any] = Field(default_factory=dict)
    sha256: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _own_model(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping):
            return data
        file, function, arguments = data.get("file"), data.get("function", "build"), data.get("arguments", {})
        if not isinstance(file, str) or not isinstance(function, str) or not isinstance(arguments, Mapping):
            message = "give `file` (text), and if needed `function` (text) and `arguments` (a mapping)"
            raise located("python", [(("file",), file, message)])
        try:
            path = resolved(file, (info.context or {}).get("folder"))
            content = read_bytes(path, MOST_BYTES)
            digest = hashlib.sha256(content).hexdigest()
            if data.get("sha256") not in (None, digest):
                raise _Wrong("sha256", f"{path} has changed: its SHA-256 is {digest}")
            made = _experiment(path, content, function, arguments)
        except UserError as error:
            raise located("python", [(("file",), file, str(error))]) from None
        except _Wrong as error:
            raise located("python", [((error.args[0],), data.get(error.args[0]), error.args[1])]) from None
        if data.get("key") not in (None, made.key):
            message = f"is not that of what {path} makes now, {made.key}: data or modules that it reads have changed"
            raise located("python", [(("key",), data["key"], message)])
        own = {name: getattr(made, name) for name in TAKEN_OVER if name not in data}
        return with_own_model({**data, **own, "file": str(path.resolve()), "sha256": digest, "key": made.key})


def _experiment(path: Path, content: bytes, function: str, arguments: Mapping[str, Any]) -> Experiment:
    """What the function returns; a file is run once in a process for one function and arguments."""
    place = str(path.resolve()), hashlib.sha256(content).hexdigest(), function, json.dumps(arguments, sort_keys=True, default=str)
    if place in _made:
        return _made[place]
    if os.environ.get(ALLOW_CODE) != "1":
        how = f"--allow-code, {ALLOW_CODE}=1, asyncsim.allow_code()"
        raise _Wrong("file", f"{path} is code, which runs only if you allow it: {how}")
    with sheltered(), seeded(Streams(0).integer("data")):
        made = _called(path, content, place[1], function, arguments)
    if not isinstance(made, Experiment):
        raise _Wrong("function", f"{function} of {path} returns a {type(made).__name__}; return what asyncsim.experiment makes")
    _made[place] = made
    return made


def _called(path: Path, content: bytes, digest: str, function: str, arguments: Mapping[str, Any]) -> Any:
    module = ModuleType(f"asyncsim_task_{digest[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.resolve().parent))  # for the modules beside it
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
        made = getattr(module, function, None)
        if not callable(made):
            own = [name for name, each in vars(module).items() if getattr(each, "__module__", "") == module.__name__]
            known = f"{nearest(function, own)}; it has: {', '.join(own) or 'none'}"
            raise _Wrong("function", f"{path} has no function {function!r}{known}")
        return made(**arguments)
    except (_Wrong, UserError):
        raise
    except SyntaxError as error:
        raise _Wrong("file", f"{path}, line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f", line {frames[-1].lineno}" if frames else ""
        field = "file" if frames else "arguments"
        raise _Wrong(field, f"{path}{line}: {type(error).__name__}: {first_line(error)}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
