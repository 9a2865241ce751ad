"""Read CIFAR's pickles without executing the code that a pickle may contain."""

from __future__ import annotations

import _codecs
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from asyncsim.errors import UserError


def unpickle(name: str, data: bytes) -> dict[bytes, Any]:
    """The dictionary in a Python 2 pickle of dictionaries, lists, strings and NumPy arrays.

    UserError where it names anything else (such as a function to call), is damaged, or holds no dictionary.
    """
    try:
        value = _Restricted(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{name} cannot be read as a CIFAR pickle: {error or type(error).__name__}") from error
    if not isinstance(value, dict):
        raise UserError(f"{name} holds a {type(value).__name__}, expected a dictionary as CIFAR's files do")
    return {key.encode() if isinstance(key, str) else key: item for key, item in value.items()}


def _dtype(name: bytes | str, *_: Any) -> np.dtype:
    # Python 2 wrote (name, align=0, copy=1); some versions of NumPy warn about the 0.
    dtype = np.dtype(name.decode() if isinstance(name, bytes) else name)
    if dtype.hasobject:
        raise pickle.UnpicklingError("it holds an array of objects; refused")
    return dtype


def _reconstruct(*arguments: Any) -> np.ndarray:
    return np.ndarray.__new__(np.ndarray, (0,), "b")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _codecs.encode,
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no CIFAR file does; refused")
        return _ALLOWED[module, name]
