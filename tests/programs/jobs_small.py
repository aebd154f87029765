"""The smallest jobs with something to lose: their stores are damaged byte by byte."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from programs.registry import form
from programs.ticks import tick

import ckpt


@ckpt.step
def square(i: int) -> int:
    return i * i


@ckpt.job
def small(n: int) -> Any:
    log: list[float] = []
    for i in ckpt.loop(range(n)):
        tick()
        log.append(square(i) + random.Random(i).random())
    return log


@form
def small_state() -> object:
    return small(6)


@ckpt.job
def failing(n: int, bad: int) -> int:
    total = 0
    for i in ckpt.loop(range(n)):
        tick()
        if i == bad:
            raise ValueError(f"item {i}")
        total += i
    return total


@form
def fails_at_six() -> object:
    return failing(10, 6)


@form
def fails_at_its_first_item() -> object:
    return failing(10, 0)


@ckpt.job
def packed(n: int) -> Any:
    """State too large for the log: it lies in packs."""
    grid = np.random.default_rng(1).integers(0, 255, 100_000, dtype=np.uint8)
    for i in ckpt.loop(range(n)):
        tick()
        grid[i * 1000 : (i + 1) * 1000] += 1
    return grid


@form
def state_in_packs() -> object:
    return packed(5)
