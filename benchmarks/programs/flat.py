"""A loop that is killed after COUNT items, and resumed. Usage: flat.py tiny|step COUNT killed|resumed

Killed: says what an item cost, then dies by SIGKILL in the iteration after. Resumed: says when the loop's body runs
again, and when the first item does that the killed process had not done (on the clock of ``time.monotonic``).
"""

from __future__ import annotations

import os
import signal
import sys
import time

import ckpt
from benchmarks.programs.common import say

KILLED = sys.argv[3] == "killed"


class Watch:
    """Sees the loop from outside: no variable of the job."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.began_s = self.running_s = 0.0
        self.first = 0

    def starts(self, item: int) -> None:
        self.first, self.running_s, self.began_s = item, time.monotonic(), time.perf_counter()

    def done(self, item: int) -> None:
        if KILLED:
            seconds = time.perf_counter() - self.began_s
            say(per_item=seconds / self.count)
            os.kill(os.getpid(), signal.SIGKILL)
        say(running=self.running_s, new=time.monotonic(), again=self.count - self.first)
        os._exit(0)


watch = Watch(int(sys.argv[2]))


@ckpt.step
def double(number: int) -> int:
    return 2 * number


@ckpt.job(key="tiny")
def tiny(count: int) -> int:
    total = 0
    for item in ckpt.loop(range(count + 1)):
        if not watch.began_s:
            watch.starts(item)
        if item == count:
            watch.done(item)
        total = total + item & 0xFFFF  # a large integer would make later items cost more by itself
    return total


@ckpt.job(key="step", sync="interval:1s")
def step(count: int) -> int:
    total = 0
    for item in ckpt.loop(range(count + 1)):
        if not watch.began_s:
            watch.starts(item)
        if item == count:
            watch.done(item)
        total = total + double(item) & 0xFFFF
    return total


if __name__ == "__main__":
    (tiny if sys.argv[1] == "tiny" else step)(watch.count)
