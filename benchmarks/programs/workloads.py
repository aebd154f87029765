"""The states that are checkpointed: W1 arrays, W2 many small objects, W3 a network with Adam, W6 the results of a batch,
W7 many small arrays.

Each has ``step``, one iteration's work, and ``values``, what a hand-written checkpoint would save.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

MIB = 1 << 20
PAGE = 512
"""Float64 numbers in a page of memory."""

Array = np.ndarray[Any, np.dtype[Any]]


class Arrays:
    """W1: 16 float64 arrays of ``nbytes`` in all, of which each step changes ``percent``.

    ``pattern`` "block": one contiguous part of each array, at another place in each step; "pages": single pages, anywhere.
    """

    def __init__(self, nbytes: int, percent: float, pattern: str) -> None:
        self.rng = np.random.default_rng(1)
        self.arrays = [self.rng.standard_normal(nbytes // 128) for _ in range(16)]
        self.share, self.pattern = percent / 100, pattern
        self.total = 0.0

    @property
    def values(self) -> list[Array]:
        return self.arrays

    def step(self) -> None:
        """Change the share, then read everything once, so that a step is work and not only the change."""
        for array in self.arrays:
            if self.pattern == "block":
                count = round(array.size * self.share)
                start = int(self.rng.integers(0, array.size - count + 1))
                array[start : start + count] += 1.0
            else:
                pages = array.reshape(-1, PAGE)
                chosen = self.rng.choice(len(pages), round(len(pages) * self.share), replace=False)
                pages[chosen] += 1.0
            self.total += float(array.sum())


class Point:
    """One of W2's slotted objects."""

    __slots__ = ("name", "x", "y")

    def __init__(self, x: float, y: float, name: str) -> None:
        self.x, self.y, self.name = x, y, name


class Objects:
    """W2: a dict of ``count`` numbers and texts, and a fifth as many slotted objects; each step changes 0.1 % of them."""

    def __init__(self, count: int) -> None:
        self.rng = np.random.default_rng(3)
        self.table: dict[str, Any] = {f"key {k}": (k * 0.5 if k % 2 else f"value {k}") for k in range(count)}
        self.points = [Point(k * 0.25, -k * 0.25, f"point {k}") for k in range(count // 5)]
        self.changed: list[Any] = []

    @property
    def values(self) -> tuple[dict[str, Any], list[Point]]:
        return self.table, self.points

    def scan(self) -> int:
        """A look at every object, as cheap as Python has it."""
        return sum(map(id, self.table.values())) ^ sum(map(id, self.points))

    def step(self) -> None:
        self.changed = []
        for number in self.rng.integers(0, len(self.table), max(1, len(self.table) // 1000)).tolist():
            key = f"key {number}"
            self.table[key] = number * 1.5
            self.changed.append((key, self.table[key]))
        for number in self.rng.integers(0, len(self.points), max(1, len(self.points) // 1000)).tolist():
            self.points[number].x += 1.0
            self.changed.append(self.points[number])


class SmallArrays:
    """W7: ``count`` arrays of 8 KiB, of which each step changes one in a hundred."""

    def __init__(self, count: int) -> None:
        self.rng = np.random.default_rng(4)
        self.arrays = [self.rng.standard_normal(1024) for _ in range(count)]

    @property
    def values(self) -> list[Array]:
        return self.arrays

    def step(self) -> None:
        for number in self.rng.integers(0, len(self.arrays), max(1, len(self.arrays) // 100)).tolist():
            self.arrays[number] += 1.0


class Network:
    """W3: a multilayer perceptron in float32 with Adam: weights and two moments, all changed by each step."""

    def __init__(self, nbytes: int, batch: int = 32) -> None:
        width = int((nbytes / (3 * 4 * 3)) ** 0.5)  # three square layers; weights and two moments; four bytes each
        self.rng = np.random.default_rng(2)
        draw = self.rng.standard_normal
        self.weights = [(draw((width, width)) / width**0.5).astype(np.float32) for _ in range(3)]
        self.first = [np.zeros_like(one) for one in self.weights]
        self.second = [np.zeros_like(one) for one in self.weights]
        self.teacher = (draw((width, 1)) / width**0.5).astype(np.float32)
        self.shape, self.time, self.loss = (batch, width), 0, 0.0

    @property
    def values(self) -> list[list[Array]]:
        return [self.weights, self.first, self.second]

    def step(self) -> None:
        self.time += 1
        layers = [self.rng.standard_normal(self.shape).astype(np.float32)]
        wanted = layers[0] @ self.teacher
        for weight in self.weights:
            layers.append(np.maximum(layers[-1] @ weight, 0))
        error = layers[-1] - wanted
        self.loss = float((error * error).mean())
        for number in (2, 1, 0):
            error = error * (layers[number + 1] > 0)
            gradient = layers[number].T @ error / len(error)
            error = error @ self.weights[number].T
            self._adam(number, gradient)

    def _adam(self, number: int, gradient: Array) -> None:
        first, second = self.first[number], self.second[number]
        first *= 0.9
        first += 0.1 * gradient
        second *= 0.999
        second += 0.001 * gradient * gradient
        rate = 1e-3 * (1 - 0.999**self.time) ** 0.5 / (1 - 0.9**self.time)
        self.weights[number] -= rate * first / (np.sqrt(second) + 1e-8)


def parse(number: int) -> dict[str, Any]:
    """W6: one item's work, about 50 microseconds: read a record, check it, keep a little of it."""
    text = json.dumps({"number": number, "words": [f"word {number * k % 1009}" for k in range(40)]})
    record = json.loads(text)
    return {
        "number": record["number"],
        "words": len(set(record["words"])),
        "digest": hashlib.sha256(text.encode()).hexdigest()[:16],
    }


class Batch:
    """W6: the results of ``count`` items, of which each step adds one."""

    def __init__(self, count: int) -> None:
        self.results = [parse(number) for number in range(count)]

    @property
    def values(self) -> list[dict[str, Any]]:
        return self.results

    def step(self) -> None:
        self.results.append(parse(len(self.results)))


def make(name: str, size: int) -> Any:
    """``size`` is MiB, for w2, w6 and w7 items. W1 is named with its share and pattern: ``w1:10:block``."""
    kind, *rest = name.split(":")
    if kind == "w1":
        return Arrays(size * MIB, float(rest[0]), rest[1])
    if kind == "w3":
        return Network(size * MIB)
    return {"w2": Objects, "w6": Batch, "w7": SmallArrays}[kind](size)
