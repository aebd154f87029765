"""A map on Dask, Ray or loky, for tests that kill workers and schedulers. Usage: map_engines.py EXECUTOR ITEMS.

Items leave their pids in ``items.txt`` as in ``map_script``. Says READY at the third result.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import ckpt

FOLDER = str(Path.cwd())


def work(n: int) -> int:
    with open(os.path.join(FOLDER, "items.txt"), "a") as out:
        out.write(f"begin {n} {os.getpid()}\n")
    time.sleep(0.3)
    with open(os.path.join(FOLDER, "items.txt"), "a") as out:
        out.write(f"end {n} {os.getpid()}\n")
    return n * n


def chosen() -> Any:
    if sys.argv[1] == "loky":
        import loky

        return lambda: loky.ProcessPoolExecutor(2)
    return sys.argv[1]


@ckpt.job(key="engines")
def job(count: int) -> int:
    total = seen = 0
    for result in ckpt.loop(ckpt.map(work, range(count), executor=chosen(), max_workers=2, ordered=False)):
        total += result
        if (seen := seen + 1) == 3:
            print("READY", flush=True)
    return total


if __name__ == "__main__":
    print("RESULT", job(int(sys.argv[2])), flush=True)
