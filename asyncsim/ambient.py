"""Keep the state of the process from reaching the numbers of a run.

A result is a function of its scenario, whatever the process did before. `sheltered` sets PyTorch's process-wide switches
(default dtype, autocast, precision, ...) to fixed values for the time of a run, and restores the caller's values afterwards.
The global generators of PyTorch, NumPy and Python are seeded while a task is built (`seeded`). They must not move while a
task computes (`undrawn`): threads share them, and gradients are evaluated in any order. All of this belongs to the process, so
its threads take turns: what is sheltered or seeded in one waits until no other one is.
"""

from __future__ import annotations

import os
import pickle
import random
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from asyncsim.errors import UserError

T = TypeVar("T")

TURN = threading.RLock()
"""Held by the thread of this process for which settings and global generators are set at the moment."""
PRECISIONS = {"mkldnn.matmul": "ieee", "mkldnn.conv": "ieee", "mkldnn.rnn": "ieee", "cuda.matmul": "ieee",
              "cudnn.conv": "tf32", "cudnn.rnn": "tf32"}  # fmt: skip
"""Settings of the precision in which float32 numbers are multiplied; cuDNN's values are those that PyTorch starts with."""
KERNELS = ("flash_sdp", "mem_efficient_sdp", "math_sdp", "cudnn_sdp")
"""Implementations of attention among which PyTorch may choose."""


class Switch(NamedTuple):
    """A setting of the process or of the thread, and the value it has while numbers are computed."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]
    value: Any


def switches(device: str, threads: int | None) -> list[Switch]:
    """All settings that are fixed during a run on ``device``; with ``threads`` None the number of threads is left as it is."""
    import torch

    exact = device != "cpu"  # on a CPU there is nothing more to ask
    backends, cudnn = torch.backends, torch.backends.cudnn
    held = [
        Switch("default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        Switch("gradients", torch.is_grad_enabled, torch.set_grad_enabled, True),
        Switch("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, False),
        Switch("deterministic algorithms", _determinism, lambda value: torch.use_deterministic_algorithms(
            value[0], warn_only=value[1]), (exact, exact)),
        Switch("flush denormals", _flushes, torch.set_flush_denormal, False),
        Switch("cudnn.benchmark", lambda: cudnn.benchmark, lambda value: setattr(cudnn, "benchmark", value), False),
        Switch("cudnn.enabled", lambda: cudnn.enabled, lambda value: setattr(cudnn, "enabled", value), True),
        Switch("mkldnn.enabled", lambda: backends.mkldnn.enabled, lambda value: backends.mkldnn.set_flags(_enabled=value), True),
        Switch("attention fast path", backends.mha.get_fastpath_enabled, backends.mha.set_fastpath_enabled, True),
    ]  # fmt: skip
    for name in KERNELS:
        held.append(Switch(name, getattr(backends.cuda, f"{name}_enabled"), getattr(backends.cuda, f"enable_{name}"), True))
    for kind in ("cpu", "cuda"):
        held.append(Switch(
            f"autocast {kind}", partial(torch.is_autocast_enabled, kind), partial(torch.set_autocast_enabled, kind), False
        ))  # fmt: skip
    if threads is not None:
        held.append(Switch("threads", torch.get_num_threads, torch.set_num_threads, threads))
    return held + _precisions()


@contextmanager
def sheltered(device: str = "cpu", threads: int | None = None) -> Iterator[None]:
    """Context in which PyTorch's settings have their fixed values for computing on ``device``. On leaving it, they are as they
    were on entering, whatever was set inside."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    with TURN, ExitStack() as stack:
        _without_interceptors(stack)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for switch in switches(device, threads):
            stack.callback(_set, switch, switch.read())
            _set(switch, switch.value)
        yield


HOOKS = ("forward", "forward_pre", "backward", "backward_pre")
"""The hooks that a process can put into every module: `torch.nn.modules.module.register_module_forward_hook`, and so on."""


def _without_interceptors(stack: ExitStack) -> None:
    """Until ``stack`` is left, nothing stands between a task and PyTorch's own functions: no mode, no hook on saved tensors, no
    hook on every module."""
    import torch
    from torch.nn.modules import module
    from torch.overrides import _get_current_function_mode_stack, _pop_mode_temporarily
    from torch.utils._python_dispatch import _disable_current_modes

    for _ in _get_current_function_mode_stack():
        stack.enter_context(_pop_mode_temporarily())
    stack.enter_context(_disable_current_modes())
    saved: Any = torch._C._autograd
    while (hooks := saved._top_saved_tensors_default_hooks(False)) is not None:
        saved._pop_saved_tensors_default_hooks()
        stack.callback(saved._push_saved_tensors_default_hooks, *hooks)
    for kind in HOOKS:
        registered = getattr(module, f"_global_{kind}_hooks")
        stack.callback(registered.update, dict(registered))
        stack.callback(registered.clear)
        registered.clear()


def _set(switch: Switch, value: Any) -> None:
    if switch.read() != value:
        switch.write(value)


def _determinism() -> tuple[bool, bool]:
    import torch

    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _flushes() -> bool:
    """Does this thread replace numbers below the smallest normal one by 0? PyTorch has no function that tells, so it is tried."""
    import torch

    return not bool(torch.tensor(1e-310, dtype=torch.float64, device="cpu").mul(1.0))


def _precisions() -> list[Switch]:
    import torch

    if not hasattr(torch.backends.mkldnn, "matmul"):  # before torch 2.9
        cudnn = torch.backends.cudnn
        return [
            Switch("matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
            Switch("cudnn.allow_tf32", lambda: cudnn.allow_tf32, lambda value: setattr(cudnn, "allow_tf32", value), True),
        ]
    held = []
    for name, value in PRECISIONS.items():
        library, operation = name.split(".")
        at = getattr(getattr(torch.backends, library), operation)
        held.append(Switch(
            f"{name} precision", partial(getattr, at, "fp32_precision"), partial(setattr, at, "fp32_precision"), value
        ))  # fmt: skip
    return held


class Generators(NamedTuple):
    """The states of the global generators of PyTorch, NumPy and Python at one moment."""

    torch: bytes
    numpy: bytes
    python: Any
    device: bytes  # that of a GPU, of PyTorch too

    @classmethod
    def read(cls, device: str = "cpu") -> Generators:
        import torch

        gpu = torch.cuda.get_rng_state(device).numpy().tobytes() if device.startswith("cuda") else b""
        state = pickle.dumps(np.random.get_state(legacy=False))
        return cls(torch.default_generator.get_state().numpy().tobytes(), state, random.getstate(), gpu)

    def put_back(self, device: str = "cpu") -> None:
        import torch

        torch.default_generator.set_state(_tensor(self.torch))
        np.random.set_state(pickle.loads(self.numpy))
        random.setstate(self.python)
        if self.device:
            torch.cuda.set_rng_state(_tensor(self.device), device)


def _tensor(state: bytes) -> Any:
    import torch

    return torch.frombuffer(bytearray(state), dtype=torch.uint8)


OWNERS = {"torch": "torch's", "numpy": "NumPy's", "python": "Python's", "device": "torch's"}


def moved(before: Generators, device: str = "cpu") -> str | None:
    """The owner of the first global generator whose state is not what it was ``before`` (such as "NumPy's"); None if none has
    moved."""
    now = Generators.read(device)
    return next((owner for name, owner in OWNERS.items() if getattr(before, name) != getattr(now, name)), None)


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Context for code that builds something: the global generators start from ``key``, and are put back to where they were
    afterwards."""
    import torch

    with TURN:
        before = Generators.read()
        torch.default_generator.manual_seed(key & (2**63 - 1))
        np.random.seed(key & (2**32 - 1))
        random.seed(key)
        try:
            yield
        finally:
            before.put_back()


def refuse(before: Generators, who: str, device: str = "cpu") -> None:
    """Raise ``UserError`` if a global generator has moved, and put it back."""
    owner = moved(before, device)
    if owner is not None:
        before.put_back(device)
        raise UserError(
            f"{who} draws from {owner} global generator, so the same scenario would give other results every time; for masks use "
            "asyncsim.tasks.Dropout, or a subclass of it that draws from its `generator`, which is seeded for every gradient"
        )


def undrawn(who: str, device: str, function: Callable[..., T], *arguments: Any) -> T:
    """Return ``function(*arguments)``. Raises ``UserError``, naming ``who``, if the call moved a global generator."""
    before = Generators.read(device)
    result = function(*arguments)
    refuse(before, who, device)
    return result


class Watch:
    """Refuses a run that moves a global generator.

    A run proceeds in turns (see `over`). Only what happens within a turn counts: between two turns, trackers and progress
    displays may draw as they like. ``close`` ends what the run still does in other threads; it is called after the last
    turn, and before a refusal.
    """

    def __init__(self, who: str, device: str, close: Callable[[], None]) -> None:
        self.who = who
        self.device = device
        self.close = close
        self._before: Generators | None = None

    def over(self, turns: Generator[T, None, None]) -> Iterator[T]:
        """Yield the turns of a run unchanged. Raises ``UserError`` after a turn in which a global generator moved."""
        end = object()
        while True:
            self._before = Generators.read(self.device)
            value: Any = next(turns, end)
            if value is end:
                self.close()
            self._look()
            if value is end:
                return
            yield value

    def aside(self, function: Callable[..., T], *arguments: Any) -> T:
        """Make a call that happens in the middle of a turn but is not part of the run (a tracker's, say): what it draws is not
        counted."""
        self._look()
        try:
            return function(*arguments)
        finally:
            self._before = Generators.read(self.device)

    def _look(self) -> None:
        assert self._before is not None, "a turn has begun"
        if moved(self._before, self.device):
            self.close()
            refuse(self._before, self.who, self.device)
