"""What bringing a state back takes. Usage: restore.py MIB killed|resumed

Killed: makes the state, waits for a durable checkpoint, dies by SIGKILL. Resumed: says how long it was from the call of the
job to the first line of its loop's body, with the modules loaded before; then what reading as many bytes into fresh
memory takes, and hashing them on all cores. Dies without a word to the run, so that it can be resumed again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import ckpt
from benchmarks.programs.common import say
from benchmarks.programs.limits import Limits
from benchmarks.programs.workloads import MIB, make
from ckpt import events

STORE = Path(os.environ["CKPT_STORE"])
RESUMED = sys.argv[2] == "resumed"
SIZE = int(sys.argv[1])


committed = threading.Event()


class Watch:
    """No variable of the job."""

    called_s = 0.0


@ckpt.job(key="warm", store=STORE.with_name(STORE.name + "-warm"))
def warm() -> None:
    """Loads what a first call loads."""
    for _ in ckpt.loop(range(2)):
        pass


def back() -> None:
    """The state is back."""
    seconds = time.perf_counter() - Watch.called_s
    limits = Limits(SIZE * MIB, STORE.parent)
    biggest = max(STORE.rglob("*.pack"), key=lambda path: path.stat().st_size)
    limits.nbytes = min(limits.nbytes, biggest.stat().st_size)
    read = limits.read_fresh(biggest) * SIZE * MIB / limits.nbytes
    limits.nbytes = SIZE * MIB
    say(restore=seconds, read=read, hash=limits.hash_all_cores())
    os._exit(0)


@ckpt.job(key="restore", every="1000h")
def job(mib: int) -> None:
    state = None
    for _ in ckpt.loop(range(2)):
        if state is not None:
            if RESUMED:
                back()
            committed.wait()
            os.kill(os.getpid(), signal.SIGKILL)
        state = make("w1:1:block", mib)
        run = ckpt.current_run()
        if run is not None:
            run.request_checkpoint()


if __name__ == "__main__":
    if RESUMED:
        warm.options(fresh=True)()
    events.add_hook(lambda name, details: committed.set() if details.get("reason") == "requested" else None)
    Watch.called_s = time.perf_counter()
    job(SIZE)
