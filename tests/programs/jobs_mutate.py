"""Jobs that change their state in the instant after a safe point, while the checkpoint is being written."""

from __future__ import annotations

from typing import Any

import numpy as np
from programs.registry import form
from programs.ticks import tick

import ckpt


@ckpt.job
def overwrites(n: int, size: int) -> Any:
    """Every element of every array is ``i`` at the safe point and something else at once after it."""
    plain, turned = np.zeros(size), np.zeros((64, size // 64)).T
    raw, rows = bytearray(size), [[0] for _ in range(200)]
    before, checks = 0, 0
    for i in ckpt.loop(range(1, n)):
        consistent = (
            bool((plain == before).all() and (turned == before).all())
            and raw == bytearray([before]) * size
            and all(row == [before] for row in rows)
        )
        plain[:], turned[:] = -1.0, -2.0
        raw[:] = b"\xff" * size
        for row in rows:
            row[0] = -3
        tick()
        checks += consistent
        plain.fill(i)
        turned.fill(i)
        raw[:] = bytes([i]) * size
        for row in rows:
            row[0] = i
        before = i
    return checks, plain, turned, raw, rows[7]


@form
def overwritten_after_the_safe_point() -> object:
    return overwrites(10, 1 << 18)
