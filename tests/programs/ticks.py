"""Deterministic death for job programs: ``tick()`` kills its own process with SIGKILL at the chosen tick.

``TICKS=n`` in the environment chooses the n-th tick of the process; without it ticks are only counted. Because the
process kills itself there is no race: the same number always dies at the same place. ``SETTLE_S`` in the environment
makes it wait that long before it dies, so that a checkpoint that is being written beside the job gets its chance.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from ckpt.session import current

_seen = 0
_counting = threading.Lock()


def settle() -> None:
    """Let the checkpoint in flight become durable: with ``1it`` each safe point then has its own."""
    run = current.run_of_process()  # not a plain one
    if run is not None and "it" in os.environ.get("CKPT_EVERY", ""):
        run._saving.wait_idle()
        run.attention.append("settled")  # the loop comes by


def tick() -> None:
    """Count one possible moment of death; die there if it is the chosen one."""
    global _seen
    with _counting:
        _seen += 1
        mine = _seen
    settle()
    if mine == int(os.environ.get("TICKS", "0")):
        time.sleep(float(os.environ.get("SETTLE_S", "0")))
        os.kill(os.getpid(), signal.SIGKILL)


def seen() -> int:
    """How many ticks this process has lived through."""
    return _seen
