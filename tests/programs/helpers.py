"""Marked loops in a module that is not the job's."""

from __future__ import annotations

from programs.ticks import tick

import ckpt


def spread(values: list[int], rounds: int) -> int:
    """Adds to ``values`` in a marked loop; returns how many were added."""
    before = len(values)
    for k in ckpt.loop(range(rounds)):
        tick()
        values.append(k * rounds)
    return len(values) - before
