"""Form: ``for ... else`` whose loop is left by ``break``, with code behind it."""

from __future__ import annotations

from typing import Any

from programs.registry import form
from programs.ticks import tick

import ckpt


@ckpt.job
def finds(n: int, wanted: int) -> Any:
    log: list[Any] = []
    for i in ckpt.loop(range(n)):
        tick()
        log.append(i)
        if i == wanted:
            break
    else:
        log.append("none")
    tick()
    for j in ckpt.loop(range(3)):
        tick()
        log.append((i, j))
    return log


@form
def for_else_with_break() -> object:
    return finds(8, 3), finds(5, 9)
