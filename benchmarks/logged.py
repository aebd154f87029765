"""Operation-logged objects: what an operation costs, what bringing them back costs, and checkpoints of big ones."""

from __future__ import annotations

from benchmarks.harness import Bench, Row, compare

CHANGED = 1000
RATE_S = 1 / 100_000


def measure(bench: Bench) -> list[Row]:
    count = bench.size(200_000, 20_000)
    appended = bench.result("logged.py", "append", bench.size(7, 3), count)
    replayed = bench.result("logged.py", "replay", bench.size(5, 3), bench.size(1_000_000, 100_000))
    small, large = bench.size(100_000, 10_000), bench.size(10_000_000, 100_000)
    took = [bench.result("logged.py", "big", entries, CHANGED)["took"] for entries in (large, small)]
    size = f"{appended['bytes']} bytes each; an iteration of a marked loop each, sync=interval:1s"
    return [
        compare(
            "set of a logged dict",
            appended["logged"],
            ("100,000 a second", [RATE_S] * len(appended["logged"])),
            target=1.0,
            note="a fixed rate: load counts",
        ),
        compare(
            "set of a logged dict",
            appended["logged"],
            ("os.write of the same bytes, not synced", appended["written"]),
            note=size,
        ),
        compare("set of a logged dict", appended["logged"], ("sqlite INSERT, WAL, synchronous=OFF", appended["sqlite"])),
        compare("set of a logged dict", appended["logged"], ("set of a dict", appended["plain"])),
        compare(
            f"replay of {bench.size(1_000_000, 100_000):,} operations",
            replayed["replay"],
            ("the same in a plain loop", replayed["plain"]),
        ),
        compare(
            f"checkpoint of a dict of {large:,}, {CHANGED:,} changed",
            took[0],
            (f"the same with {small:,} entries", took[1]),
            note="flat: it costs what changed",
        ),
    ]
