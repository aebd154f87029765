"""How many operation-logged changes a second one core records, where nothing waits for the disk."""

from __future__ import annotations

from benchmarks.harness import Bench, Row, compare, not_measured

RATE_S = 1 / 100_000


def measure(bench: Bench) -> list[Row]:
    found = bench.result("append.py", bench.size(7, 3), bench.size(50_000, 5_000))
    if "missing" in found:
        return [not_measured("an operation-logged change", "this version of ckpt has none")]
    rows = []
    for name, label in (("set", "table[key] = value"), ("append", "rows.append(value)")):
        measure = f"operation-logged {label}, sync=interval:1s"
        limit = ("100,000 a second", [RATE_S] * len(found[name]))
        rows += [
            compare(measure, found[name], limit, target=1.0, note=f"a fixed rate: load counts; {found['bytes']} bytes each"),
            compare(measure, found[name], ("os.write of as many bytes", found["write"])),
            compare(measure, found[name], ("sqlite INSERT, WAL, nothing synced", found["sqlite"])),
        ]
    return rows
