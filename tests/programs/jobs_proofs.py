"""Jobs whose stores are small enough to change every bit of them: state in the log, state in packs, and steps in both."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from programs.registry import form
from programs.ticks import tick

import ckpt


@ckpt.step
def priced(i: int) -> int:
    return 7 * i


@ckpt.job
def tiny(n: int) -> Any:
    """State in the log."""
    paid: list[int] = []
    for i in ckpt.loop(range(n)):
        paid.append(priced(i) + random.Random(i).randrange(9))
        tick()
    return paid


@ckpt.job
def boxed(n: int) -> Any:
    """State that is too large for the log: it lies in packs."""
    grid = np.random.default_rng(1).integers(0, 255, 17_000, dtype=np.uint8)
    for i in ckpt.loop(range(n)):
        grid[i * 100 : (i + 1) * 100] += priced(i)
        tick()
    return grid


@form
def proof_inline() -> object:
    return tiny(4)


@form
def proof_packed() -> object:
    return boxed(4)
