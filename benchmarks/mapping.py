"""``ckpt.map``: what recording each item costs, against the bare executor and against others that remember results."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.environments import CannotInstall, python_with
from benchmarks.harness import Bench, Row, compare, not_measured
from benchmarks.rivals import Peer

WORKERS = 4
PEERS = Path(__file__).parent / "peers" / "mapping.py"
PEER_S = 300
MEMORIES = (
    Peer("joblib", "joblib.Parallel 1.6.0 with Memory (threads)", "not synced", ("joblib==1.6.0",)),
    Peer("diskcache", "diskcache 5.6.3, synchronous=FULL (threads)", "synced", ("diskcache==5.6.3",)),
    Peer("dbos", "DBOS 3.4.0 queue on SQLite", "as it comes", ("dbos==3.4.0",)),
)
DBOS_SHARE = 20
"""Of so many items DBOS gets one: it takes milliseconds for each."""


def measure(bench: Bench) -> list[Row]:
    rows = []
    for work_us, count in ((0, bench.size(20_000, 2_000)), (1_000, bench.size(4_000, 400))):
        found = bench.result("mapping.py", "peers", bench.size(5, 3), count, WORKERS, work_us)
        kind = "tiny items" if not work_us else "items of 1 ms"
        for executor in ("threads", "processes"):
            bare = (f"bare {executor}, nothing recorded", found[f"bare_{executor}"])
            rows.append(compare(f"map, {WORKERS} {executor}, {kind}", found[executor], bare, note=_rate(found[executor])))
        gathered = ("asyncio.Semaphore and gather, nothing recorded", found["bare_coroutines"])
        note = _rate(found["coroutines"])
        rows.append(compare(f"map, {WORKERS} coroutines, {kind}", found["coroutines"], gathered, note=note))
        for peer in MEMORIES:
            measure_name = f"map, {WORKERS} threads, {kind}"
            try:
                each = _peer(bench, peer, max(count // DBOS_SHARE, 10) if peer.name == "dbos" else count, work_us)
            except (CannotInstall, RuntimeError, subprocess.TimeoutExpired) as why:
                rows.append(not_measured(measure_name, f"{peer.label}: {why}"))
            else:
                rows.append(compare(measure_name, found["threads"], (f"{peer.label} ({peer.durable})", each)))
    return rows + [_flat(bench, executor) for executor in ("threads", "processes")]


def _peer(bench: Bench, peer: Peer, count: int, work_us: int) -> list[float]:
    """Seconds for an item with another package, in each round. CannotInstall, RuntimeError, TimeoutExpired."""
    python = python_with(peer.packages, install=not bench.quick)
    folder = bench.new_folder()
    command = [python, PEERS, peer.name, bench.size(5, 3), count, WORKERS, work_us, folder]
    done = subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, timeout=PEER_S, env=bench.environ()
    )
    shutil.rmtree(folder)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])
    each: list[float] = json.loads(done.stdout.splitlines()[-1])["each"]
    return each


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
