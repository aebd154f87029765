"""A script with a map, for tests that kill it, its workers, or stop it. Usage: map_script.py MODE EXECUTOR ITEMS.

Items write ``begin``, then ``end`` lines into ``items.txt``; a worker's pid is in each. Says READY at the third result.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import ckpt

FOLDER = Path.cwd()


def note(*words: object) -> None:
    with open(FOLDER / "items.txt", "a") as out:
        out.write(" ".join(map(str, words)) + "\n")


def work(n: int) -> int:
    note("begin", n, os.getpid())
    time.sleep(float(os.environ.get("ITEM_S", "0.05")))
    if n in map(int, filter(None, os.environ.get("BAD", "").split(","))):
        raise ValueError(f"item {n} is bad")
    note("end", n, os.getpid())
    return n * n


@ckpt.job(key="script")
def job(mode: str, executor: str, count: int) -> tuple[int, int]:
    total = failed = seen = 0
    results = ckpt.map(work, range(count), executor=executor, max_workers=2, on_error="collect")
    for result in ckpt.loop(results) if mode == "loop" else results:
        if isinstance(result, ckpt.Failed):
            failed += 1
        else:
            total += result
        if (seen := seen + 1) == 3:
            print("READY", flush=True)
            if os.environ.get("STOPS"):  # and results are there before the loop is back at its map
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.2)
    return total, failed


if __name__ == "__main__":
    print("RESULT", [*job(sys.argv[1], sys.argv[2], int(sys.argv[3]))], flush=True)
