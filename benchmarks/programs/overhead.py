"""One job at the default budget, from its call to its result. Usage: overhead.py WORKLOAD SIZE STEPS [EVERY, of "small"]

Run with CKPT_DISABLE=1 it is the same program without checkpoints.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import ckpt
from benchmarks.programs.common import say, totals
from benchmarks.programs.workloads import make, parse

EVERY = sys.argv[4] if len(sys.argv) > 4 else "1%"

STEADY = (0, int(sys.argv[3]) // 10)
"""Iterations at which the clock is read: from the second of them on the first checkpoint of a process is over."""

moments: list[float] = []


def started(number: int) -> None:
    """An iteration begins: the first one counts, and that at which the first checkpoint is behind the job."""
    if number in STEADY:
        moments.append(time.perf_counter())


def done() -> None:
    """The loop is over."""
    moments.append(time.perf_counter())


@ckpt.job(key="arrays")
def arrays(name: str, size: int, steps: int) -> None:
    """W1 and W3: big arrays, changed in every step."""
    state = make(name, size)
    for number in ckpt.loop(range(steps)):
        started(number)
        state.step()
    done()


@ckpt.job(key="small", every=EVERY)
def small(name: str, size: int, steps: int) -> None:
    """A pure-Python loop with a state of a few hundred bytes: many cheap checkpoints."""
    total, last = 0, {}
    for number in ckpt.loop(range(steps)):
        started(number)
        last = parse(number)
        total += int(last["digest"][:8], 16)
    done()


@ckpt.job(key="batch")
def batch(name: str, size: int, steps: int) -> None:
    """W6: results appended to a list, which is part of the state."""
    results: list[dict[str, Any]] = []
    for number in ckpt.loop(range(steps)):
        started(number)
        results.append(parse(number))
    done()


recorded_parse = ckpt.step(parse)


@ckpt.job(key="steps", sync="interval:1s")
def steps(name: str, size: int, steps: int) -> None:
    """W6: each item's work is a recorded step; the results are in the log and not in the state."""
    total = 0
    for number in ckpt.loop(range(steps)):
        started(number)
        total += recorded_parse(number)["words"]
    done()


JOBS = {"small": small, "batch": batch, "steps": steps}

if __name__ == "__main__":
    name, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    job = JOBS.get(name, arrays)
    began = time.perf_counter()
    job(name, size, count)
    seconds = time.perf_counter() - began
    recorded = {} if os.environ.get("CKPT_DISABLE") else totals(job.address(name, size, count))
    began, steady, ended = moments
    say(whole=seconds, loop=ended - began, steady=ended - steady, **recorded)
