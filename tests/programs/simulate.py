"""A numpy job with everything at once, as a script: nested and consecutive marked loops, aliases, five generators.

Usage: simulate.py EPOCHS ITEMS SIZE [PID_FILE]. Prints READY before the job is called and its result at the end.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from programs.bits import report

import ckpt


def relax(field: np.ndarray[Any, Any], rounds: int, log: list[float]) -> float:
    """A helper with a marked loop of its own that changes what it was given."""
    change = 0.0
    for _ in ckpt.loop(range(rounds)):
        moved = 0.5 * (np.roll(field, 1) - field)
        field += moved
        change += float(np.abs(moved).sum()) + np.random.rand()
        log.append(change)
    return change


@ckpt.job
def simulate(epochs: int, items: int, size: int, seed: int) -> Any:
    rng, own = np.random.default_rng(seed), random.Random(seed)
    field, total, best = np.zeros(size), 0.0, float("inf")
    tail = field[size // 2 :]
    history: list[Any] = []
    table: dict[str, Any] = {"history": history, "by_item": {}}
    for epoch in ckpt.loop(range(epochs)):
        order = rng.permutation(items)
        loss = 0.0
        for item in ckpt.loop(order):
            field += rng.standard_normal(size) * (1 + int(item))
            tail *= 1 - own.random() / 100
            loss += float(field.mean()) * random.random() + np.random.rand()
            table["by_item"].setdefault(int(item), []).append(loss)
        total += relax(field, items // 4, history)
        for step in ckpt.loop(range(items // 4)):
            best = min(best, float(tail.std()) + own.gauss(0, 1))
            history.append((epoch, step, best))
        table[f"epoch {epoch}"] = history[-1]
        total += loss
    alias = table["history"] is history, np.shares_memory(field, tail)
    draws = rng.random(), own.random(), random.random(), float(np.random.rand())
    return total, best, field, tail, table, alias, draws


if __name__ == "__main__":
    if len(sys.argv) > 4:
        Path(sys.argv[4]).write_text(str(os.getpid()))
    random.seed(11)
    np.random.seed(11)
    print("READY", flush=True)
    report(simulate(*map(int, sys.argv[1:4]), seed=7))
