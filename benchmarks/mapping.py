"""``ckpt.map``: what recording each item costs, against the bare executor and against others that remember results."""

from __future__ import annotations

from benchmarks.harness import Bench, Row, compare, not_measured

WORKERS = 4
MEMORIES = {
    "joblib": "joblib.Parallel with Memory (threads)",
    "diskcache": "diskcache, synchronous=FULL (threads)",
    "dbos": "DBOS queue on SQLite",
}


def measure(bench: Bench) -> list[Row]:
    rows = []
    for work_us, count in ((0, bench.size(20_000, 2_000)), (1_000, bench.size(4_000, 400))):
        found = bench.result("mapping.py", "peers", bench.size(5, 3), count, WORKERS, work_us)
        kind = "tiny items" if not work_us else "items of 1 ms"
        for executor in ("threads", "processes"):
            bare = (f"bare {executor}, nothing recorded", found[f"bare_{executor}"])
            rows.append(compare(f"map, {WORKERS} {executor}, {kind}", found[executor], bare, note=_rate(found[executor])))
        for name, peer in MEMORIES.items():
            measure_name = f"map, {WORKERS} threads, {kind}"
            if name in found:
                rows.append(compare(measure_name, found["threads"], (peer, found[name])))
            else:
                rows.append(not_measured(measure_name, f"{peer}: not installed"))
    return rows + [_flat(bench, executor) for executor in ("threads", "processes")]


def _flat(bench: Bench, executor: str) -> Row:
    count = bench.size(1_000_000, 50_000)
    blocks = bench.result("mapping.py", "flat", executor, count)["blocks"]
    each = [seconds * len(blocks) / count for seconds in blocks]
    return compare(
        f"map of {count:,} tiny items, {executor}: the last tenth",
        each[-1:],
        ("the second tenth", each[1:2]),
        note=f"flat is 1; {_rate(each)} in all",
    )


def _rate(each_s: list[float]) -> str:
    return f"{len(each_s) / sum(each_s):,.0f} items/s"
