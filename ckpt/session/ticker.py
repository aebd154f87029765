"""The thread that tells a loop, by one entry in a list, that a checkpoint or a sign of life is due.

A loop looks at that list once per iteration, which costs a few nanoseconds; asking a clock would cost much more.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ckpt.errors import CkptError
from ckpt.protocols import Clock

_LONGEST_WAIT_S = 3600.0


@dataclass(slots=True)
class Chore:
    """Something to be called every ``every_s`` seconds from the ticker's thread."""

    every_s: float
    call: Callable[[], None]
    next_s: float = 0.0


class Ticker:
    """Puts ``"due"`` into ``attention`` when a checkpoint is due, and does chores."""

    def __init__(
        self, attention: list[str], clock: Clock, chores: list[Chore], failed: Callable[[Exception], None]
    ) -> None:
        """``failed(error)`` is told, in the ticker's thread, of a chore that raised; the ticker goes on."""
        self._attention, self._clock, self._failed = attention, clock, failed
        self._due_at = math.inf
        self._chores = chores
        now = clock.monotonic()
        for chore in chores:
            chore.next_s = now + chore.every_s
        self._changed = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="ckpt-ticker", daemon=True)
        self._thread.start()

    def due_at(self, when_s: float) -> None:
        """The next checkpoint is due at this time of the monotonic clock."""
        self._due_at = when_s
        self._changed.set()

    def add(self, chore: Chore) -> None:
        """One more chore, first done after its interval."""
        chore.next_s = self._clock.monotonic() + chore.every_s
        self._chores = [*self._chores, chore]
        self._changed.set()

    def close(self) -> None:
        self._closing = True
        self._changed.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closing:
            self._changed.clear()
            next_s = min([self._due_at, *(chore.next_s for chore in self._chores)])
            wait = next_s - self._clock.monotonic()
            if wait > 0:
                self._changed.wait(min(wait, _LONGEST_WAIT_S))
            now = self._clock.monotonic()
            if self._due_at <= now:
                self._due_at = math.inf
                self._attention.append("due")
            for chore in self._chores:
                if chore.next_s <= now:
                    chore.next_s = now + chore.every_s
                    self._do(chore)

    def _do(self, chore: Chore) -> None:
        try:
            chore.call()
        except Exception as error:  # noqa: BLE001 - this thread must not end: no checkpoint would ever be due again
            defect = CkptError(f"the ticker failed: {type(error).__name__}: {error}")
            defect.__cause__ = error
            self._failed(defect)
