"""A loop with a small state, to be killed from outside and started again. Usage: running.py ckpt|plain NOTE SEEN

NOTE is a file that the number of the last begun iteration is written to. Says when the first iteration after SEEN runs
(on the clock of ``time.monotonic``). ``plain`` does the same without ckpt, from the beginning.
"""

from __future__ import annotations

import os
import random
import sys
import time

from benchmarks.programs.common import say

NOTE = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
SEEN = int(sys.argv[3])
FOREVER = 1 << 40


def iteration(number: int, numbers: random.Random) -> float:
    """About a millisecond of work."""
    if number == SEEN + 1:
        say(at=time.monotonic())
    os.pwrite(NOTE, number.to_bytes(8, "little"), 0)
    return sum(numbers.random() for _ in range(15_000))


def plain() -> None:
    numbers, total = random.Random(1), 0.0
    for number in range(FOREVER):
        total += iteration(number, numbers)


if sys.argv[1] == "plain":
    plain()
else:
    import ckpt

    @ckpt.job(key="running")
    def job() -> None:
        numbers, total = random.Random(1), 0.0
        for number in ckpt.loop(range(FOREVER)):
            total += iteration(number, numbers)

    job()
