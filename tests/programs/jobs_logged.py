"""A block whose whole state is operation-logged; it notes in the file "executed" which iterations it begins.

Usage: jobs_logged.py range|list|key|frontier always|interval:T
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from programs.bits import report
from programs.ticks import tick

import ckpt

ITEMS = 24


def items(run: Any) -> Iterable[int]:
    if sys.argv[1] == "frontier":
        frontier = run.list("frontier")
        frontier.append(0)
        return run.loop(frontier)
    if sys.argv[1] == "key":
        return run.loop([n * 7 % ITEMS for n in range(ITEMS)], key=int)
    return run.loop(range(ITEMS) if sys.argv[1] == "range" else list(range(ITEMS)))


def main() -> None:
    with ckpt.open("logged", sync=sys.argv[2]) as run:
        seen, rows, hits = run.dict("seen"), run.list("rows"), run.counter("hits")
        hits.add(1000)
        for item in items(run):
            with open("executed", "a") as executed:
                executed.write(f"{item}\n")
            if sys.argv[2] != "always":
                time.sleep(0.01)
            seen[item] = len(rows)
            if sys.argv[1] == "frontier" and item + 1 < ITEMS:
                run.list("frontier").append(item + 1)
            tick()
            rows.append([item, hits.add(item)])
        report([dict(seen), list(rows), hits.value])


if __name__ == "__main__":
    main()
