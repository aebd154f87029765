"""A job for a store elsewhere: nested loops, numpy state, steps, two generators. Usage: faraway.py EPOCHS ITEMS

Says ITEM at each iteration of the inner loop, and its result at the end.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import numpy as np
from programs.bits import report

import ckpt


@ckpt.step
def measure(epoch: int, item: int) -> float:
    return float(np.sin(31 * epoch + item))


@ckpt.job(key="faraway", every="50ms")
def job(epochs: int, items: int) -> Any:
    rng = np.random.default_rng(5)
    field, log = np.zeros(20_000), []
    tail = field[10_000:]
    for epoch in ckpt.loop(range(epochs)):
        weights = rng.standard_normal(items)
        for item in ckpt.loop(range(items)):
            print("ITEM", flush=True)
            field += weights[item] * rng.standard_normal(field.size)
            tail *= random.random()
            log.append((epoch, item, measure(epoch, item), random.random()))
            time.sleep(0.01)
        field *= 0.5
    return field, log, np.shares_memory(field, tail), rng.random(), random.random()


if __name__ == "__main__":
    random.seed(3)
    report(job(int(sys.argv[1]), int(sys.argv[2])))
