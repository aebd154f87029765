"""SIGTERM, SIGUSR1 and the first Ctrl-C ask the run to stop at its next safe point.

A handler only sets a flag: no I/O happens in it (a hint on stderr for Ctrl-C is one ``os.write``). Handlers that were
there before are called too; signals that are ignored stay ignored; forked children ignore the flag; the second Ctrl-C interrupts at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import types
from collections.abc import Callable
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_HINT = b"ckpt: stopping at the next safe point; press Ctrl-C again to quit now\n"
_CLEAR_LINE = b"\r\x1b[2K"
"""On a terminal: what a progress bar left in the line, which would otherwise be there twice."""


class StopSignals:
    """Installed for the life of an attempt, in the main thread only (elsewhere Python has no handlers)."""

    def __init__(self, stop: Callable[[str], None]) -> None:
        """``stop(name)`` is called from the handler: it must only set flags."""
        self._stop = stop
        self._pid = os.getpid()
        self._previous: dict[int, Any] = {}
        self._interrupted = False

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # ignored by whoever started this: a shell's "&"
                self._previous[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        for number, handler in self._previous.items():
            # None: the handler was not installed by Python and cannot be put back from here.
            if handler is not None and signal.getsignal(number) == self._handle:
                signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        previous = self._previous.get(number)
        if os.getpid() != self._pid:
            self._pass_on(number, frame, previous)
            return
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        self._stop(signal.Signals(number).name)
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):  # stderr is gone, and with it whoever would read the hint
                os.write(2, _CLEAR_LINE + _HINT if os.isatty(2) else _HINT)
        if callable(previous) and previous is not signal.default_int_handler and not _cancels_the_main_task(previous):
            previous(number, frame)

    def _pass_on(self, number: int, frame: types.FrameType | None, previous: Any) -> None:
        """In a forked child: what would have happened without ckpt."""
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _cancels_the_main_task(handler: Any) -> bool:
    """Whether it is what ``asyncio.run`` installs for Ctrl-C: it would tear the job away from its next safe point."""
    inner = handler.func if isinstance(handler, functools.partial) else handler
    return getattr(inner, "__module__", None) == "asyncio.runners"
