"""How long the job's thread may hold the interpreter lock while one of ckpt's threads waits for it.

CPython lets a waiting thread ask for the lock after the switch interval, 5 ms. A job that lets go of it by itself more often than
that, for a moment (it prints a line, reads a few bytes), starts that time anew each time, and has the lock back before
the other thread is awake: checkpoints and reminders starved for as long as the job went on so. So while a run is alive the
interval is shorter. It costs nothing where no other thread wants the lock, and a few percent where eight compute in Python.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

TURN_S = 0.0005
"""Short against what jobs do between two lines of output, long against handing the lock over (some ten microseconds)."""


_lock = threading.RLock()
_alive = 0
_before_s = _ours_s = 0.0


@contextlib.contextmanager
def turns() -> Iterator[None]:
    """While this is entered, in any thread, the switch interval is at most ``TURN_S``; after the last one it is as it was,
    unless somebody else has set it since."""
    global _alive, _before_s, _ours_s
    with _lock:
        if not _alive:
            _before_s = sys.getswitchinterval()
            sys.setswitchinterval(min(_before_s, TURN_S))
            _ours_s = sys.getswitchinterval()
        _alive += 1
    pid = os.getpid()
    try:
        yield
    finally:
        with _lock:
            if os.getpid() == pid:
                _alive -= 1
            if not _alive:
                _restore()


def _restore() -> None:
    if sys.getswitchinterval() == _ours_s:
        sys.setswitchinterval(_before_s)


def _forget_in_child() -> None:
    """No run is alive in a child, and who held the lock in the parent does not let go of it here."""
    global _lock, _alive
    if _alive:
        _restore()
    _lock, _alive = threading.RLock(), 0


os.register_at_fork(after_in_child=_forget_in_child)
