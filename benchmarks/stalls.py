"""How long the job stands still for one checkpoint, against a bare copy and against other ways to save the same values."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.harness import Bench, Row, compare

PEERS = {
    "memcpy": "memcpy of the same bytes into used memory",
    "pickle": "pickle.dump to a file, not synced",
    "pickle_synced": "pickle.dump to a file + fsync",
    "joblib": "joblib.dump, not synced",
}


def _stall(label: str, found: dict[str, Any], peers: list[str]) -> list[Row]:
    stored = statistics.median(found["stored"])
    first = found["first"] / statistics.median(found["memcpy"])
    notes = {"memcpy": f"writes {stored:.1%} of the state; the run's very first: {first:.1f} x the memcpy"}
    return [
        compare(f"{label}: stall", found["stall"], (PEERS[name], found[name]), note=notes.get(name, ""))
        for name in peers
    ]


def _durable(label: str, found: dict[str, Any]) -> Row:
    name = "pickle_synced"
    return compare(f"{label}: until durable, beside the job", found["durable"], (PEERS[name], found[name]))


def measure(bench: Bench) -> list[Row]:
    rows: list[Row] = []
    mib, rounds = bench.size(256, 64), bench.size(7, 3)
    cases = [("0", "block"), ("1", "block"), ("1", "pages"), ("10", "block"), ("100", "block")]
    for percent, pattern in cases[1:4:2] if bench.quick else cases:
        label = f"W1 {mib} MiB, {percent} % changed" + (" in scattered pages" if pattern == "pages" else "")
        found = bench.result("stall.py", f"w1:{percent}:{pattern}", mib, rounds)
        rows += [*_stall(label, found, list(PEERS) if percent == "10" else ["memcpy"]), _durable(label, found)]
    size = bench.size(200, 32)
    others = [(f"W3 network with Adam, {size} MiB", "w3", size)]
    items = bench.size(100_000, 10_000)
    others.append((f"W6 list of {items:,} results", "w6", items))
    for label, name, size in others:
        found = bench.result("stall.py", name, size, rounds)
        rows += [*_stall(label, found, list(PEERS)), _durable(label, found)]
    return rows
