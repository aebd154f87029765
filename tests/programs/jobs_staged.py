"""Jobs with arrays that are watched for what changes in them, in all shapes of aliasing and of change (see ``staging``).

Every second iteration ends while the checkpoint of the one before it may still be in flight: what is being stored then is
not what the job's memory holds.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from programs import staging
from programs.bits import exact
from programs.forms_large import in_a_thread
from programs.registry import form
from programs.ticks import tick

import ckpt

N = 30


class Thing:
    """Holds an array in an attribute."""

    def __init__(self, array: Any) -> None:
        self.array = array


def breathe(i: int) -> None:
    if i % 2:
        tick()


def views(n: int, seen: Any) -> Any:
    """One memory under several names, and in objects."""
    rng = np.random.default_rng(1)
    base = rng.standard_normal(30_000)
    twin, window, every = base, base[5_000:20_000], base[::7]
    grid = np.asfortranarray(rng.standard_normal((160, 130)))
    turned, column = grid.T, grid[:, 3]
    numbers = np.frombuffer(bytearray(rng.bytes(60_000)), np.uint8)
    inner = numbers[4_000:50_000]
    records = np.zeros(4_000, [("key", "i4"), ("value", "f8")])
    values = records["value"]
    box: dict[str, Any] = {"base": base, "rows": [grid[5:9], window[::-1]], "own": rng.standard_normal(9_000)}
    thing = Thing(box["own"])
    outside = seen[100:-100]
    total = 0.0
    for i in ckpt.loop(range(n)):
        breathe(i)
        twin[rng.integers(twin.size, size=3)] += 1.0
        window[i] = every[i] * 0.5
        box["rows"][1][i * 3] -= total
        turned[i, ::5] += 1.0
        column[-1 - i] = i
        box["rows"][0][1, i] *= 2.0
        memoryview(numbers)[i * 700] ^= 1 + i
        inner[i * 11 : i * 11 + 5] += 1
        values[rng.integers(4_000)] += i
        thing.array[(0, -1)[i % 2]] += 1.0
        outside[i * 90] += base[i]
        if i == 8:
            every[:] += 1.0
        total += float(base.sum() + grid[3].sum() + int(numbers.sum()) + values.sum() + box["own"][0] + seen.sum())
    together = [np.shares_memory(one, base) for one in (twin, window, every, box["base"], box["rows"][1])]
    together += [np.shares_memory(one, grid) for one in (turned, column, box["rows"][0])]
    together += [np.shares_memory(numbers, inner), thing.array is box["own"], twin is base, np.shares_memory(outside, seen)]
    return total, together, exact([base, grid, numbers, inner, values, box["own"], every, column])


def moved(holder: list[Any], at: int, by: float) -> None:
    """The array in ``holder`` is freed, and made anew, most likely at the same address, other at one place."""
    content = holder.pop().tobytes()
    array = np.frombuffer(content).copy()
    array[at] += by
    holder.append(array)


def memory(n: int, seen: Any) -> Any:
    """Memory that is freed, allocated anew, grown, and exchanged."""
    rng = np.random.default_rng(2)
    grown = np.arange(3_000.0)
    text = bytearray(20_000)
    holder = [rng.standard_normal(24_000)]
    first, second = rng.standard_normal(8_000), rng.standard_normal(8_000)
    queue = [rng.standard_normal(5_000) for _ in range(3)]
    replaced = rng.standard_normal((50, 100))
    total = 0.0
    for i in ckpt.loop(range(n)):
        breathe(i)
        grown = grown if grown.flags.owndata else grown.copy()  # one that came back has its memory from elsewhere
        grown.resize(grown.size + 700 * (i % 4), refcheck=False)
        grown[-1] += i
        moved(holder, i * 700, total)
        text += b"%5d" % i * 200
        del text[: i * 10]
        text[i * 50] ^= 255
        first, second = second, first
        first[i] += 1.0
        if i % 3 == 0:
            queue.append(queue.pop(0) + 1.0)
        elif i % 3 == 1:
            queue.pop()
        else:
            queue.append(np.full(5_000, float(i)))
        replaced = replaced.T.copy() if i % 5 == 0 else replaced
        replaced[i, i] = total
        seen[-1 - i] = first[0]
        total += float(grown.sum() + holder[0][i * 700] + sum(map(np.sum, queue)) + second[i] + text[i * 50])
    return total, exact([grown, bytes(text), holder, first, second, queue, replaced])


def from_a_file(target: Any, content: bytes) -> None:
    path = Path("content")
    path.write_bytes(content)
    with path.open("rb", buffering=0) as file:
        assert file.readinto(target) == len(content)


def around_a_fork(array: Any, at: int) -> None:
    """A forked child writes to its own copy of everything, and this process before, meanwhile, and after."""
    array[at] += 1
    child = os.fork()
    if child == 0:
        array[:] = 77
        os._exit(0)
    array[at + 5_000] += 1
    os.waitpid(child, 0)
    array[at + 9_000] += 1


def writers(n: int, seen: Any) -> Any:
    """Ways to write to memory, few bytes at a time, and now and then all of them."""
    rng = np.random.default_rng(3)
    lines = rng.integers(0, 255, 90_001, dtype=np.uint8)
    pages = rng.integers(0, 255, (32, 4_096), dtype=np.uint8)
    edges = [rng.integers(0, 255, 20_011, dtype=np.uint8) for _ in range(4)]
    forked = np.zeros(40_000, np.uint8)
    dense = rng.standard_normal(6_000)
    total = 0
    for i in ckpt.loop(range(n)):
        breathe(i)
        in_a_thread(lines.__setitem__, slice(i * 400, i * 400 + 3), i)
        from_a_file(memoryview(lines)[50_000 + i * 30 :][:7], b"%7d" % i)
        ctypes.memset(lines.ctypes.data + 80_000 + i, 1 + i, 2)
        np.add(pages[i], 1, out=pages[i])
        pages[rng.integers(32), rng.integers(4_096)] ^= 9
        for edge in edges:
            edge[(0, -1)[i % 2]] += 1
        if i % 4 == 3:
            around_a_fork(forked, i)
        memoryview(forked)[i * 800] = i + 1
        dense = dense if i % 6 else dense * 1.5
        dense[i] += total
        seen[i * 7 % seen.size :: 5_000] += 1.0
        total = (total + int(lines.sum()) + int(pages.sum()) + sum(int(e[0]) + int(e[-1]) for e in edges)) % 1_000_003
    return total, exact([lines, pages, edges, forked, dense])


def nested(n: int, seen: Any) -> Any:
    """States of two loops in one checkpoint, copies of the same arrays at two moments."""
    rng = np.random.default_rng(4)
    weights, moments = rng.standard_normal(12_000), np.zeros(12_000)
    best = weights.copy()
    total = 0.0
    for epoch in ckpt.loop(range(n // 6)):
        weights[epoch :: 3_000] += 1.0
        for i in ckpt.loop(range(6)):
            breathe(i)
            place = rng.integers(weights.size, size=2)
            moments[place] += weights[place]
            weights[place] -= 0.1 * moments[place]
            seen[i * 500 + epoch] += weights[place[0]]
            total += float(weights.sum() + moments[i])
        if epoch % 2:
            best[:] = weights
        best[epoch] = total
    return total, exact([weights, moments, best])


def small(n: int, seen: Any) -> Any:
    """Two arrays of which little changes, in a store that is small enough to change many of its bytes."""
    rng = np.random.default_rng(5)
    numbers, flags = rng.integers(0, 255, 34_000, dtype=np.uint8), np.zeros(20_000, np.uint8)
    total = 0
    for i in ckpt.loop(range(n)):
        tick()
        numbers[rng.integers(numbers.size)] += 1
        flags[i * 2_100] = total % 100
        total += int(numbers.sum()) + int(flags.sum())
    return total, exact([numbers, flags])


def run(function: Callable[..., object]) -> object:
    seen = np.arange(20_000.0)
    return ckpt.job(**staging.chosen())(function)(N, seen), exact(seen)


@form
def staged_views() -> object:
    return run(views)


@form
def staged_memory() -> object:
    return run(memory)


@form
def staged_writers() -> object:
    return run(writers)


@form
def staged_nested() -> object:
    return run(nested)


@form
def staged_small() -> object:
    return ckpt.job(**staging.chosen())(small)(9, None)
