"""W3 that is killed and started again. Usage: goodput.py MIB STEPS EVERY

Says ``ready`` when the loop's body runs (on the clock of ``time.monotonic``), with the step at which it goes on; at the end
``end``, what a step took (the first one makes the network), and what the checkpoints of this process cost: stalls, and the times
until they were durable.
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

stalls: list[float] = []
persists: list[float] = []
times: list[float] = []


class Watch:
    """No variable of the job."""

    ready = False


def hook(name: str, details: dict[str, object]) -> None:
    if name == "checkpoint" and details["path"]:
        stalls.append(float(str(details["stall_s"])))
        persists.append(float(str(details["persist_s"])))


def begins(step: int) -> None:
    if not Watch.ready:
        Watch.ready = True
        say(ready=time.monotonic(), step=step)
    times.append(time.monotonic())


@ckpt.job(key="goodput")
def job(mib: int, steps: int) -> None:
    state = None
    for step in ckpt.loop(range(steps)):
        begins(step)
        state = state or make("w3", mib)
        state.step()


if __name__ == "__main__":
    events.add_hook(hook)
    job.options(every=sys.argv[3])(int(sys.argv[1]), int(sys.argv[2]))
    end = time.monotonic()
    gaps = [after - before for before, after in itertools.pairwise(times)]
    usual = statistics.median(gaps[1:] or gaps or [0.0])
    say(end=end, stalls=stalls, persists=persists, step_s=usual, first_s=gaps[0] if gaps else usual)
