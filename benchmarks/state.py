"""What checkpoints do beside the job and to its memory, and what bringing 1 GiB back takes."""

from __future__ import annotations

import shutil
from collections import defaultdict

from benchmarks.harness import MIB, Bench, Row, compare, not_measured

PAUSE_S = 0.010
PEAK = 2.1
"""State, and at most 1.1 times as much besides."""


def measure_pauses(bench: Bench) -> list[Row]:
    mib, rounds = bench.size(200, 32), bench.size(7, 3)
    labels = {
        "w8": "W8 pure-Python loop: longest pause of the main thread while a checkpoint is written",
        "w3": "W3 steps: the longest step beyond the usual one while a checkpoint is written",
    }
    rows = []
    for kind, label in labels.items():
        found = bench.result("pause.py", kind, mib, rounds)
        label = f"{label}, {mib} MiB"
        limit = ("limit of 10 ms", [PAUSE_S] * len(found["during"]))
        without = ("as long a time without a checkpoint", [max(1e-6, each) for each in found["before"]])
        rows.append(compare(label, found["during"], limit, target=1.0, note="other programs on the machine add to it"))
        rows.append(compare(label, found["during"], without))
    return rows


def measure_memory(bench: Bench) -> list[Row]:
    mib = bench.size(512, 64)
    ours: list[float] = []
    plain: list[float] = []
    state = 0.0
    for turn in range(bench.size(5, 3)):
        for disabled in (turn % 2 == 0, turn % 2 == 1):
            found = bench.result("memory.py", mib, "100", 3, plain=disabled)
            (plain if disabled else ours).append(float(found["peak"]))
            state = float(found["state"])
    label = f"W1 {mib} MiB, 100 % changed: peak of memory"
    return [
        _limited(bench, mib),
        compare(label, ours, ("the state itself", [state] * len(ours)), unit="B", target=PEAK),
        compare(label, ours, ("CKPT_DISABLE=1", plain), unit="B"),
    ]


def _limited(bench: Bench, mib: int) -> Row:
    """With a limit of a quarter of the state: what is taken besides it."""
    limit = mib // 4
    label = f"W1 {mib} MiB, memory_limit={limit}MiB: peak of memory besides the state"
    besides: list[float] = []
    for _ in range(bench.size(3, 1)):
        found = bench.result("memory.py", mib, "100", 3, limit)
        if "unknown" in found:
            return not_measured(label, "this version of ckpt has no memory_limit")
        besides.append(float(found["peak"] - found["state"]))
    return compare(label, besides, ("the limit", [limit * float(MIB)] * len(besides)), unit="B", target=1.0)


def measure_restore(bench: Bench) -> list[Row]:
    mib = bench.size(1024, 64)
    store = bench.new_folder()
    bench.child("restore.py", mib, "killed", store=store).wait_killed()
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(bench.size(5, 3) + 1):
        for name, value in bench.child("restore.py", mib, "resumed", store=store).last().items():
            found[name].append(value)
    shutil.rmtree(store)
    restore, read, digest = (found[name][1:] for name in ("restore", "read", "hash"))  # the first reads from the disk
    slower = [max(pair) for pair in zip(read, digest, strict=True)]
    label = f"W1 {mib} MiB: restore, warm, verified"
    note = "from the call of the job to the first line of its loop's body: lock, log, FENCE and its fsync included"
    return [
        compare(label, restore, ("the slower of the two below", slower), target=1.3, note=note),
        compare(label, restore, ("reading as many bytes into fresh memory", read)),
        compare(label, restore, ("BLAKE3 of as many bytes on all cores", digest)),
    ]
