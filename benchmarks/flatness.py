"""Whether an item and a resume cost the same after a million items as after a thousand."""

from __future__ import annotations

import shutil
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from benchmarks.harness import Bench, Row, compare

KINDS = {
    "tiny": "marked loop, tiny work",
    "step": "a step per item, sync=interval:1s",
}
SMALLEST = 1_000
FLAT = 1.5
"""What counts as flat, from the smallest number of items to any other."""
Found = dict[str, list[float]]


def _one(bench: Bench, kind: str, count: int) -> dict[str, float]:
    """Run ``count`` items, kill, resume."""
    store = bench.new_folder()
    killed = bench.child("flat.py", kind, count, "killed", store=store)
    per_item = killed.next()["per_item"]
    killed.wait_killed()
    resumed = bench.child("flat.py", kind, count, "resumed", store=store)
    said: dict[str, Any] = resumed.last()
    shutil.rmtree(store)
    return {
        "per_item": per_item,
        "running": said["running"] - resumed.began,
        "new": said["new"] - resumed.began,
        "again": said["again"],
    }


def _rows(label: str, count: int, found: Found, smallest: Found) -> list[Row]:
    again = statistics.median(found["again"])
    what = {
        "per_item": ("cost of an item", ""),
        "running": ("start to running again", ""),
        "new": ("start to the first new item", f"{again:,.0f} items since the last checkpoint run again"),
    }
    return [
        compare(
            f"{label}, {count:,} items: {title}",
            found[name],
            (f"{SMALLEST:,} items", smallest[name][: len(found[name])]),
            note=note,
            target=None if name == "new" else FLAT,
        )
        for name, (title, note) in what.items()
    ]


def _measure(bench: Bench, kind: str, rounds: Sequence[tuple[int, int]]) -> list[Row]:
    """``rounds``: (items, repetitions), the smallest first."""
    found: dict[int, Found] = {count: defaultdict(list) for count, _ in rounds}
    for turn in range(rounds[0][1]):
        for count, repetitions in rounds:
            if turn < repetitions:
                for name, value in _one(bench, kind, count).items():
                    found[count][name].append(value)
    return [row for count, _ in rounds[1:] for row in _rows(KINDS[kind], count, found[count], found[SMALLEST])]


def measure(bench: Bench) -> list[Row]:
    if bench.quick:
        return [
            *_measure(bench, "tiny", [(1_000, 2), (100_000, 2)]),
            *_measure(bench, "step", [(1_000, 2), (10_000, 2)]),
        ]
    counts = (1_000, 10_000, 100_000, 1_000_000)
    tiny = [(count, 5) for count in counts]
    steps = [(count, 5 if count < 1_000_000 else 1) for count in counts]
    return [*_measure(bench, "tiny", tiny), *_measure(bench, "step", steps)]
