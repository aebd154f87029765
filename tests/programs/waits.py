"""A job that says RUNNING and waits for the file ``go``. Usage: waits.py [WAIT_S]."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from programs.bits import report

import ckpt


@ckpt.job
def waits(n: int) -> int:
    total = 0
    for i in ckpt.loop(range(n)):
        total += i
        if i == 1:
            print("RUNNING", flush=True)
            while not Path("go").exists():
                time.sleep(0.01)
    return total


if __name__ == "__main__":
    print("STARTING", flush=True)
    report(waits.options(wait=float(sys.argv[1]))(10) if len(sys.argv) > 1 else waits(10))
