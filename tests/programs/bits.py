"""Results as JSON that is equal only if the values are equal to the bit, type and order included."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def exact(value: Any) -> Any:
    """A JSON-able image of ``value``: floats in hex, arrays as type, shape and digest, tuples apart from lists."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return f"float {value.hex()}"
    if isinstance(value, bytes | bytearray):
        return f"{type(value).__name__} {value.hex()}"
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [exact(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {"set": sorted(json.dumps(exact(item)) for item in value)}
    if isinstance(value, dict):
        return {"dict": [[exact(key), exact(item)] for key, item in value.items()]}
    if hasattr(value, "dtype"):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    raise TypeError(f"no exact image of {type(value)}")


def report(value: Any) -> None:
    """Print the program's result in the form that the crash harness reads."""
    print("RESULT " + json.dumps(exact(value)), flush=True)
