"""How long the job's thread may hold the interpreter lock while one of ckpt's threads waits for it.

CPython lets a waiting thread ask for the lock after the switch interval, 5 ms. A job that lets go of it by itself more often than
that, for a moment (it prints a line, reads a few bytes), starts that time anew each time, and has the lock back before
the other thread is awake: checkpoints and reminders starved for as long as the job went on so. So while a run is alive the
interval is shorter. It costs nothing where no other thread wants the lock, and a few percent where eight compute in Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

TURN_S = 0.0005
"""Short against what jobs do between two lines of output, long against handing the lock over (some ten microseconds)."""


def take_turns() -> Callable[[], None]:
    """Make the switch interval at most ``TURN_S``; call what is returned to have it as it was, unless somebody has set it since."""
    before = sys.getswitchinterval()
    if before <= TURN_S:
        return lambda: None
    sys.setswitchinterval(TURN_S)
    mine = sys.getswitchinterval()

    def restore() -> None:
        if sys.getswitchinterval() == mine:
            sys.setswitchinterval(before)

    return restore
