"""W3 that is killed and started again. Usage: goodput.py MIB STEPS MTBF (``10s``, or ``observed``)

Says of each step when it began (``step``, on the clock of ``time.monotonic``; the first one of a run makes the network); of each
checkpoint of a loop the ``stall``, the time until it was durable (``persist``), and when that was (``at``); ``end`` at the end.
"""

from __future__ import annotations

import sys
import time

import ckpt
from benchmarks.programs.common import say
from benchmarks.programs.workloads import make
from ckpt import events


def hook(name: str, details: dict[str, object]) -> None:
    if name == "checkpoint" and details["path"]:
        say(stall=details["stall_s"], persist=details["persist_s"], at=time.monotonic())


@ckpt.job(key="goodput", every="auto", mtbf=None if sys.argv[3] == "observed" else sys.argv[3])
def job(mib: int, steps: int) -> None:
    state = None
    for _ in ckpt.loop(range(steps)):
        say(step=time.monotonic())
        state = state or make("w3", mib)
        state.step()


if __name__ == "__main__":
    events.add_hook(hook)
    job(int(sys.argv[1]), int(sys.argv[2]))
    say(end=time.monotonic())
