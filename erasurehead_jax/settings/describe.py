"""Describes objects made in Python as a config would: with a `_target_`, and arrays by their hash."""

import dataclasses
import functools
import hashlib
from typing import Any

import numpy as np


def described(value: Any) -> Any:
    """The value as plain settings, equal for equal values as far as their fields tell."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _array(np.asarray(value))
    if isinstance(value, functools.partial):
        return {"_target_": _path(value.func), "_args_": described(list(value.args))} | described(value.keywords)
    if isinstance(value, dict):
        return {str(name): described(each) for name, each in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [described(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {each.name: described(getattr(value, each.name)) for each in dataclasses.fields(value)}
        return {"_target_": _path(type(value))} | fields
    return {"_target_": _path(value if callable(value) and hasattr(value, "__qualname__") else type(value))}


def _array(value: np.ndarray) -> Any:
    if value.ndim == 0 and value.dtype.kind in "fiub":
        return value.item()
    content = np.ascontiguousarray(value.astype(str) if value.dtype.kind == "O" else value)
    digest = hashlib.sha256(content.data.cast("B") if content.size else b"").hexdigest()[:12]
    return f"{value.dtype} {list(value.shape)} {digest}"


def _path(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
