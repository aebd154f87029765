"""Forms: arrays that are large enough to be watched for what changes in them (see ``staging``)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from programs import staging
from programs.bits import exact
from programs.registry import form
from programs.ticks import tick

import ckpt


def in_a_thread(function: Callable[..., object], *arguments: object) -> None:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()


def large(n: int, seen: Any) -> Any:
    rng = np.random.default_rng(5)
    still = rng.standard_normal(20_000)
    scattered = rng.standard_normal(50_000)
    dense = np.zeros(30_000)
    columns = np.asfortranarray(rng.standard_normal((200, 150)))
    window = scattered[10_000:20_000]
    other = rng.standard_normal((300, 100))
    row = other[7]
    text = bytearray(100_000)
    again = rng.standard_normal(40_000)
    total = 0.0
    for i in ckpt.loop(range(n)):
        tick()
        scattered[rng.integers(scattered.size, size=3)] += 1.0
        window[i] = i
        dense += i
        columns[i % 200, ::3] -= 1.0
        row[i] *= 2.0
        in_a_thread(text.__setitem__, slice(i * 7, i * 7 + 3), b"abc")
        again = again * 1.5
        seen[i * 100] += 1.0
        tick()
        total += float(scattered.sum() + columns.sum() + other.sum() + dense[0] + again[0] + still[i] + window[i])
    tick()
    return total, exact([scattered, dense, columns, other, bytes(text), again, still])


@form
def large_arrays_of_which_little_changes() -> object:
    seen = np.arange(60_000.0)
    return ckpt.job(**staging.chosen())(large)(9, seen), exact(seen)
