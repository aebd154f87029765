"""W3 that is killed and started again. Usage: goodput.py MIB STEPS MTBF (``10s``, or ``observed``)

Says ``ready`` when the loop's body runs (on the clock of ``time.monotonic``), with the step at which it goes on; of each
checkpoint of a loop the ``stall`` and the time until it was durable (``persist``); at the end ``end``, and what a step took (the
first one makes the network).
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time

import ckpt
from benchmarks.programs.common import say
from benchmarks.programs.workloads import make
from ckpt import events

times: list[float] = []


class Watch:
    """No variable of the job."""

    ready = False


def hook(name: str, details: dict[str, object]) -> None:
    if name == "checkpoint" and details["path"]:
        say(stall=details["stall_s"], persist=details["persist_s"])


def begins(step: int) -> None:
    if not Watch.ready:
        Watch.ready = True
        say(ready=time.monotonic(), step=step)
    times.append(time.monotonic())


@ckpt.job(key="goodput", every="auto", mtbf=None if sys.argv[3] == "observed" else sys.argv[3])
def job(mib: int, steps: int) -> None:
    state = None
    for step in ckpt.loop(range(steps)):
        begins(step)
        state = state or make("w3", mib)
        state.step()


if __name__ == "__main__":
    events.add_hook(hook)
    job(int(sys.argv[1]), int(sys.argv[2]))
    end = time.monotonic()
    gaps = [after - before for before, after in itertools.pairwise(times)]
    usual = statistics.median(gaps[1:] or gaps or [0.0])
    say(end=end, step_s=usual, first_s=gaps[0] if gaps else usual)
