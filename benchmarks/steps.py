"""Recorded steps: what a durable result costs, against writing the same bytes durably by hand."""

from __future__ import annotations

from benchmarks.harness import Bench, Row, compare

THREADS = 16


def measure(bench: Bench) -> list[Row]:
    found = bench.result("steps.py", "durable", bench.size(7, 5), bench.size(400, 200), THREADS, 0)
    eager = bench.result("steps.py", "interval", bench.size(7, 5), bench.size(10_000, 2_000), 1, found["bytes"])
    size = f"{found['bytes']} bytes each"
    return [
        compare(
            "durable step, 1 thread",
            found["step"],
            ("write + fdatasync, 1 thread", found["synced"]),
            target=1.3,
            note=size,
        ),
        compare(
            "durable step, 1 thread", found["step"], ("sqlite INSERT + COMMIT, WAL, synchronous=FULL", found["sqlite"])
        ),
        compare(
            "some Python code right behind a write + fdatasync",
            found["python_behind"],
            ("the same code behind itself", found["python"]),
            note="a processor that has waited for the disk is slower for a while: so are the steps",
        ),
        compare(
            f"durable step, {THREADS} threads",
            found["step_threads"],
            (f"write + fdatasync, {THREADS} threads", found["synced_threads"]),
            note="steps that wait at the same time share one fdatasync",
        ),
        compare(
            f"durable step, {THREADS} threads",
            found["step_threads"],
            ("write + fdatasync, 1 thread", found["synced"]),
        ),
        compare(
            f"durable step, {THREADS} threads",
            found["step_threads"],
            ("durable step, 1 thread", found["step"]),
            target=1 / 5,
            note="group commit",
        ),
        compare(
            "step with sync=interval:1s",
            eager["step"],
            ("sqlite INSERT, WAL, nothing synced", eager["sqlite_unsynced"]),
        ),
        compare(
            "step with sync=interval:1s",
            eager["step"],
            ("write of the same bytes, not synced", eager["unsynced"]),
            note="what identity, pickling, digest and framing cost in Python",
        ),
    ]
