"""How near a checkpoint of 1 GiB comes to what the machine can do: stall, bytes, writing. And many small things at once."""

from __future__ import annotations

import platform
import statistics
from typing import Any

from benchmarks.harness import Bench, Row, compare

MEMCPY = "memcpy of the same bytes into used memory"
PAGE_SHARE_OF_MEMCPY = 0.05
OF_COMPARE = 1.2
OF_MEMCPY = 1.3
OF_DIRECT = 1 / 0.85
"""A persist of at least 85 % of the speed of O_DIRECT takes at most this many times as long."""


def kernel_tells_pages() -> bool:
    """Whether this is a Linux that can be asked for written pages (PAGEMAP_SCAN, 6.7)."""
    major, _, rest = platform.release().partition(".")
    minor = rest.partition(".")[0]
    return platform.system() == "Linux" and (int(major), int(minor)) >= (6, 7)


def measure(bench: Bench) -> list[Row]:
    mib, rounds = bench.size(1024, 64), bench.size(5, 3)
    rows: list[Row] = []
    cases = [("0", "block"), ("1", "block"), ("1", "pages"), ("10", "block"), ("100", "block")]
    for percent, pattern in cases[1:3] + cases[4:] if bench.quick else cases:
        scattered = " in scattered pages" if pattern == "pages" else ""
        label = f"W1 {mib} MiB, {percent} % changed{scattered}"
        ways = "memcpy,compare,direct" if percent == "100" else "memcpy,compare"
        found = bench.result("stall.py", f"w1:{percent}:{pattern}", mib, rounds, ways)
        rows += _stalls(label, found, percent)
        if percent == "1":
            rows.append(_bytes(label, found, 0.01 * mib * (1 << 20), limit=4.0 if scattered else 1.2))
        if percent == "100":
            rows.append(_persist(label, found))
    return rows


def _stalls(label: str, found: dict[str, Any], percent: str) -> list[Row]:
    pages = kernel_tells_pages()
    small = percent in ("0", "1")
    of_memcpy = PAGE_SHARE_OF_MEMCPY if small and pages else None if small else OF_MEMCPY
    note = f"the run's very first: {found['first'] / statistics.median(found['memcpy']):.1f} x the memcpy"
    rows = [compare(f"{label}: stall", found["stall"], (MEMCPY, found["memcpy"]), target=of_memcpy, note=note)]
    if small:
        peer = ("comparing as many bytes (memcmp)", found["compare"])
        how = "the target where the kernel does not tell written pages" if not pages else "the kernel tells written pages"
        rows.append(compare(f"{label}: stall", found["stall"], peer, target=None if pages else OF_COMPARE, note=how))
    return rows


def _bytes(label: str, found: dict[str, Any], changed: float, *, limit: float) -> Row:
    peer = ("the bytes that changed", [changed] * len(found["written"]))
    return compare(f"{label}: bytes written, record included", found["written"], peer, unit="B", target=limit)


def _persist(label: str, found: dict[str, Any]) -> Row:
    how = "O_DIRECT write + fsync" if found["direct_io"] else "buffered write + fsync (no O_DIRECT here)"
    return compare(
        f"{label}: persist, beside the job",
        found["persist"],
        (f"{how} of the same bytes", found["direct"]),
        target=OF_DIRECT,
        note="incompressible; hashing, log record and fsyncs included",
    )


def measure_objects(bench: Bench) -> list[Row]:
    """W2 and W7."""
    rounds = bench.size(5, 3)
    items = bench.size(1_000_000, 50_000)
    found = bench.result("stall.py", "w2", items, rounds, "changed,dumps")
    label = f"W2 {items:,} dict entries, {items // 5:,} slotted objects, 0.1 % changed"
    least = ("pickle.dumps of what changed + a look at every object", found["changed"])
    rows = [
        compare(f"{label}: stall", found["stall"], least, target=1.3),
        compare(f"{label}: stall", found["stall"], ("pickle.dumps of everything", found["dumps"])),
    ]
    arrays = bench.size(10_000, 1_000)
    found = bench.result("stall.py", "w7", arrays, rounds, "dumps,memcpy")
    label = f"W7 {arrays:,} arrays of 8 KiB, 1 % changed"
    files = [float(each) for each in found["files"]]
    return [
        *rows,
        compare(f"{label}: stall", found["stall"], ("pickle.dumps of everything", found["dumps"]), target=2.0),
        compare(f"{label}: stall", found["stall"], (MEMCPY, found["memcpy"])),
        compare(
            f"{label}: new files for a checkpoint",
            files,
            ("limit of 3", [3.0] * len(files)),
            unit="",
            target=1.0,
            note="packs that are there after it and were not before",
        ),
    ]
