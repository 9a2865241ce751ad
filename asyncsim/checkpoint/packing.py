"""Turn what changes during a run into JSON and arrays, and back: plain values, containers, tensors, pushes, snapshots and
futures.

What shared a tensor before shares one again afterwards: snapshots of one version are one tensor, and where ``snapshot.params
is server.params`` held, it holds again. (The shard uses it to see that nothing has moved since the read.) Tensors are told
apart by identity, so two views of one memory become two tensors.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from asyncsim.messages import Future, Gradient, Push, Snapshot
from asyncsim.policies.state import State, entries, state_class, state_name

if TYPE_CHECKING:
    import torch

    from asyncsim.engine.engine import Engine
    from asyncsim.engine.kernels import Kernel

PUSH = tuple(field.name for field in fields(Push))


class Unsaveable(Exception):
    """A value that cannot be put into a checkpoint, and where it stands."""


class Packer:
    """Collects what is saved. ``pack`` returns plain data for JSON; tensors and futures are put aside, each of them once."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.devices: list[str] = []  # of the tensors
        self.futures: list[dict[str, Any]] = []
        self.snapshots: dict[tuple[int, int], Snapshot] = {}  # (worker, step) -> what its result may still be computed on
        self._seen: dict[int, tuple[int, Any]] = {}  # id -> index, and the object, which keeps the id from being reused

    def pack(self, value: Any, where: str) -> Any:
        """Plain data for ``value``. Raises ``Unsaveable``, naming ``where``."""
        import torch

        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is list:
            return [self.pack(item, where) for item in value]
        if kind in (tuple, set):
            return {kind.__name__: [self.pack(item, where) for item in value]}
        if kind is dict:
            return {"dict": [[self.pack(key, where), self.pack(item, where)] for key, item in value.items()]}
        if kind is Push:
            return {"push": [self.pack(getattr(value, name), where) for name in PUSH]}
        if kind is Snapshot:
            return {"snapshot": [self.pack(item, where) for item in value]}
        if kind is Future:
            return {"future": self._future(value, where)}
        if kind is torch.Tensor:
            return {"tensor": self._tensor(value, where)}
        if isinstance(value, State):
            packed = [[name, self.pack(item, f"{where}, in its state {name!r},")] for name, item in entries(value)]
            return {"state": [state_name(kind), packed]}
        if kind is bytearray:
            return {"bytes": self._array(np.frombuffer(bytes(value), np.uint8))}
        if (kind is np.ndarray or isinstance(value, np.generic)) and value.dtype.kind in "biuf":
            return {"array" if kind is np.ndarray else "scalar": self._array(np.array(value))}
        raise Unsaveable(f"{where} holds a {kind.__module__}.{kind.__qualname__}")

    def _array(self, array: np.ndarray) -> str:
        name = f"array{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def _tensor(self, tensor: torch.Tensor, where: str) -> int:
        if id(tensor) in self._seen:
            return self._seen[id(tensor)][0]
        if tensor.requires_grad:
            raise Unsaveable(f"{where} holds a tensor that requires gradients")
        try:
            array = tensor.cpu().numpy()
        except (TypeError, RuntimeError):
            raise Unsaveable(f"{where} holds a tensor of {tensor.dtype} and layout {tensor.layout}") from None
        index = len(self.devices)
        self._seen[id(tensor)] = index, tensor
        self.devices.append(str(tensor.device))
        self.arrays[f"tensor{index}"] = array
        return index

    def _future(self, future: Future, where: str) -> int:
        if id(future) in self._seen:
            return self._seen[id(future)][0]
        index = len(self.futures)
        self._seen[id(future)] = index, future
        entry: dict[str, Any] = {"worker": future.worker, "step": future.step, "pending": future.pending, "loss": float(future)}
        self.futures.append(entry)
        result = future._result
        entry["result"] = None if result is None else [self.pack(item, where) for item in result]
        entry["averaged"] = None if future.averaged is None else [self._future(part, where) for part in future.averaged]
        if future.previous is not None:
            entry["previous"] = self._future(future.previous, where)
        if result is None and future._carry is not None:
            entry["carry"] = self.pack(future._carry, f"what worker {future.worker} carries on")
        if future.averaged is None and (future.pending or result is not None):
            if future.snapshot is None or (future.worker, future.step) in self.snapshots:
                raise Unsaveable(f"{where} holds work of worker {future.worker}, step {future.step}, of which there are two")
            self.snapshots[future.worker, future.step] = future.snapshot
        return index


class Unpacker:
    """Restores what a `Packer` has saved. Work that was unfinished becomes a future again when the replay submits it
    (``submit``)."""

    def __init__(self, arrays: dict[str, np.ndarray], devices: list[str], futures: list[dict[str, Any]], engine: Engine) -> None:
        self.arrays = arrays
        self.devices = devices
        self.entries = futures
        self.engine = engine
        self._tensors: dict[int, torch.Tensor] = {}
        self._futures: dict[int, Future] = {}
        self._alive = {
            (entry["worker"], entry["step"]): index
            for index, entry in enumerate(futures)
            if entry["averaged"] is None and (entry["pending"] or entry["result"])
        }

    def unpack(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.unpack(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        match kind:
            case "tuple":
                return tuple(self.unpack(item) for item in content)
            case "set":
                return {self.unpack(item) for item in content}
            case "dict":
                return {self.unpack(key): self.unpack(item) for key, item in content}
            case "push":
                return Push(*(self.unpack(item) for item in content))
            case "snapshot":
                return Snapshot(*(self.unpack(item) for item in content))
            case "state":
                return self._state(*content)
            case "future":
                return self._future(content)
            case "tensor":
                return self._tensor(content)
            case "bytes":
                return bytearray(self.arrays[content].tobytes())
            case "array":
                return self.arrays[content].copy()
            case "scalar":
                return self.arrays[content][()]
        raise ValueError(f"unknown kind {kind!r}")

    def _state(self, name: str, packed: list[list[Any]]) -> State:
        cls = state_class(name)
        values = {key: self.unpack(item) for key, item in packed}
        expected = [field.name for field in fields(cls)]
        if list(values) != expected:
            raise ValueError(f"the state {name} has the fields {', '.join(expected)}, not {', '.join(values)}")
        return cls(**values)

    def submit(
        self, kernel: Kernel, params: torch.Tensor | None, worker: int, step: int, previous: Future | None = None
    ) -> Future | None:
        """The future of work that was unfinished at the checkpoint, pending or done as it was then; None for work that had
        ended before."""
        index = self._alive.get((worker, step))
        if index is None:
            return None
        entry = self.entries[index]
        if entry["pending"]:
            future = self.engine.submit(kernel, params, worker, step)
        else:
            future = Future(self.engine, kernel, None, worker, step)
        return self._settle(index, future)

    def _future(self, index: int) -> Future:
        if index in self._futures:
            return self._futures[index]
        entry = self.entries[index]
        if entry["averaged"] is None:  # released before the checkpoint: only its loss is left
            if entry["pending"] or entry["result"]:
                raise ValueError(f"step {entry['step']} of worker {entry['worker']} was not begun")
            return self._settle(index, Future(self.engine, None, None, entry["worker"], entry["step"]))
        return self._settle(index, self.engine.mean([self._future(part) for part in entry["averaged"]]))

    def _settle(self, index: int, future: Future) -> Future:
        entry = self.entries[index]
        self._futures[index] = future
        future._loss = entry["loss"]
        if "previous" in entry:
            future.previous = self._future(entry["previous"])
        if entry["result"]:
            future._result = Gradient(*(self.unpack(item) for item in entry["result"]))
            future._carry = future._result.carry
        elif "carry" in entry:
            future._carry = self.unpack(entry["carry"])
        return future

    def _tensor(self, index: int) -> torch.Tensor:
        import torch

        if index not in self._tensors:
            tensor = torch.from_numpy(np.array(self.arrays[f"tensor{index}"]))
            self._tensors[index] = tensor.to(self.devices[index], copy=True)  # into memory as PyTorch aligns it
        return self._tensors[index]
