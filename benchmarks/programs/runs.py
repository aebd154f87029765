"""Makes a store with many small finished runs. Usage: runs.py COUNT FIRST"""

from __future__ import annotations

import sys

import ckpt
from benchmarks.programs.common import say


@ckpt.job(name="tiny", every="1000h")
def tiny(number: int) -> int:
    total = 0
    for item in ckpt.loop(range(3)):
        total += item
    return total


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2])
    for number in range(first, first + count):
        tiny.options(run_id=f"run-{number}")(number)  # by name: a new run known by its arguments looks at all others first
    say(count=count)
