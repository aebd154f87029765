"""A job that runs out of memory for the copy of its state, for a while."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np

import ckpt

MIB = 1024 * 1024


def limit_memory(extra: int | None) -> None:
    """No more address space than what is used now and ``extra`` bytes; None lifts the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (hard if extra is None else used + extra, hard))


@ckpt.job(every="1it")
def grows() -> int:
    """Its state is small, then far too large to be copied, then small again."""
    ballast = np.zeros(1)
    total = 0
    for turn in ckpt.loop(range(60)):
        total += turn
        if turn == 20:
            ballast = np.random.default_rng(1).integers(0, 255, 200 * MIB, dtype=np.uint8)
            limit_memory(64 * MIB)
        if turn == 40:
            ballast = np.zeros(1)
            limit_memory(None)
        if turn > 40 or turn in (20, 30):
            time.sleep(0.3 if turn in (20, 30) else 0.1)
    return total + len(ballast)


@ckpt.job
def too_large() -> int:
    """Its state cannot be copied from the beginning."""
    ballast = np.random.default_rng(1).integers(0, 255, 200 * MIB, dtype=np.uint8)
    limit_memory(64 * MIB)
    for turn in ckpt.loop(range(3)):
        ballast[turn] = turn
    return len(ballast)


if __name__ == "__main__":
    print("RESULT", {"grows": grows, "too_large": too_large}[sys.argv[1]]())
