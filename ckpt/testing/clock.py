"""A clock that moves only when it is told to, or slept on."""

from __future__ import annotations

import threading


class FakeClock:
    """``protocols.Clock`` without waiting: ``sleep`` returns at once, and that much later. Thread-safe."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._started_s, self._passed_s = now_s, 0.0
        self.sleeps: list[float] = []
        """How long each ``sleep`` so far was, in seconds."""

    def now(self) -> float:
        with self._lock:
            return self._started_s + self._passed_s

    def monotonic(self) -> float:
        with self._lock:
            return self._passed_s

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)
            self._passed_s += max(0.0, seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass. ValueError if it would go back."""
        if seconds < 0:
            raise ValueError("a clock never goes back")
        with self._lock:
            self._passed_s += seconds

    def set_wall(self, now_s: float) -> None:
        """Somebody sets the machine's date: Unix time jumps, ``monotonic`` does not."""
        with self._lock:
            self._started_s = now_s - self._passed_s
