"""Prints the address of a job for many arguments, as JSON by case; with ``opaque``, calls it with an odd one.

A case is ``name`` or ``name/variant``: variants of one name are equal values written in other ways.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import json
import sys
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

import ckpt


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Options:
    rate: float
    tags: frozenset[str]
    colour: Colour


@dataclass
class Others:
    rate: float
    tags: frozenset[str]
    colour: Colour


@ckpt.job
def work(value: Any, other: Any = None) -> int:
    for _ in ckpt.loop(range(1)):
        pass
    return 1


class Client:
    """Has no stable digest: a live connection, say."""

    def __init__(self) -> None:
        self.handle = object()


def cases() -> dict[str, Any]:
    words = ["one", "two", "three", "four", "five", "six"]
    array = np.arange(12, dtype=np.float64).reshape(3, 4)
    built = "".join(sorted("neo", key="one".index))
    nan, backwards = float("inf") - float("inf"), words[::-1]
    return {
        "int 1": 1, "bool": True, "float 1": 1.0, "text 1": "1", "bytes 1": b"1",
        "zero": 0.0, "minus zero": -0.0, "int 0": 0, "false": False, "none": None,
        "nan": float("nan"), "nan/other": nan,
        "text": "one", "text/built": built, "text/interned": sys.intern(built),
        "set": set(words), "set/other order": set(backwards),
        "frozenset": frozenset(words), "list": words, "list reversed": words[::-1], "tuple": tuple(words),
        "dict": {"a": 1, "b": [2, 3]}, "dict/other order": {"b": [2, 3], "a": 1}, "dict other": {"a": 1, "b": [3, 2]},
        "nested": {"s": {1, 2, 3}, "t": (1, {"x": {"y", "z"}})},
        "nested/other": {"t": (1, {"x": {"z", "y"}}), "s": {3, 2, 1}},
        "enum": Colour.RED, "enum other": Colour.BLUE,
        "data": Options(0.1, frozenset(words), Colour.RED),
        "data/again": Options(0.1, frozenset(backwards), Colour.RED),
        "data other": Options(0.1, frozenset(words), Colour.BLUE),
        "data of another class": Others(0.1, frozenset(words), Colour.RED),
        "path": PurePosixPath("/a/b"), "path/again": PurePosixPath("/a") / "b", "path as text": "/a/b",
        "array": array, "array/copy": array.copy(), "array/not contiguous": np.asfortranarray(array),
        "array reshaped": array.reshape(4, 3), "array float32": array.astype(np.float32),
        "array changed": array + np.eye(3, 4), "array as list": array.tolist(),
        "scalar": np.float64(2.5), "plain 2.5": 2.5,
        "float": 0.1 + 0.2, "float/parsed": float("0.30000000000000004"), "float near": 0.3,
        "decimal": decimal.Decimal("1.0"), "date": datetime.date(2024, 2, 29),
        "instant": datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC),
        "split ab c": ["ab", "c"], "split a bc": ["a", "bc"], "empty list": [], "empty tuple": (), "empty dict": {},
        "list in list": [[], [1]], "list in list other": [[1], []], "range": range(5), "big": 10**40,
        "complex": 1 + 2j, "deque": collections.deque([1, 2]), "bytearray": bytearray(b"1"),
    }  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:] == ["opaque"]:
        work({"client": Client()})
    found = {name: work.address(value) for name, value in cases().items()}
    found["defaults"] = work.address("defaults")
    found["defaults/spelled out"] = work.address("defaults", None)
    found["defaults/by name"] = work.address(other=None, value="defaults")
    print(json.dumps(found))
