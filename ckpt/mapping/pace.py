"""Rates and pauses: when the next try may begin. Pure: told the time, never asks for it."""

from __future__ import annotations

import random

LONGEST_BACKOFF_S = 3600.0
_CATCH_UP_S = 0.02
"""What a thread that woke up late may make up for."""


class Pace:
    """Beginnings at least ``interval_s`` apart. Even, not in bursts, so that a limit also holds across a kill and resume."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s, self._next_s = interval_s, 0.0

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next try may begin; 0 or less is now."""
        return self._next_s - now_s if self._interval_s else 0.0

    def began(self, now_s: float) -> None:
        self._next_s = max(self._next_s, now_s - _CATCH_UP_S) + self._interval_s


class Backoff:
    """Pauses between tries: ``first_s``, doubling, each times a random factor of 0.5 to 1.5 (full use of jitter keeps
    many items that failed together from coming back together)."""

    def __init__(self, first_s: float, seed: bytes) -> None:
        self._first_s, self._random = first_s, random.Random(seed)

    def pause_s(self, tries: int) -> float:
        """After the ``tries``-th try (1 is the first)."""
        doubled = self._first_s * 2.0 ** min(tries - 1, 60)
        return min(doubled, LONGEST_BACKOFF_S) * (0.5 + self._random.random())
