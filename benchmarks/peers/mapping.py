"""Executes many items and remembers their results with another package. Usage: mapping.py PEER ROUNDS COUNT WORKERS WORK_US FOLDER

Imports nothing of this project. Says the seconds for one item, in each round.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PEER, FOLDER = sys.argv[1], Path(sys.argv[6])
ROUNDS, COUNT, WORKERS, WORK_US = map(int, sys.argv[2:6])

Mapped = Callable[[range], object]


def work(n: int) -> int:
    """An item: waits for so long, as a request would; 0 is nothing at all."""
    if WORK_US:
        time.sleep(WORK_US / 1e6)
    return n + 1


def joblib() -> Mapped:
    import joblib

    cached = joblib.Memory(FOLDER, verbose=0).cache(work)
    return lambda items: joblib.Parallel(n_jobs=WORKERS, prefer="threads")(joblib.delayed(cached)(n) for n in items)


def diskcache() -> Mapped:
    import diskcache

    cache, pool = diskcache.Cache(str(FOLDER), sqlite_synchronous=2), ThreadPoolExecutor(WORKERS)
    return lambda items: list(pool.map(lambda n: cache.set(n, work(n)), items))


def dbos() -> Mapped:
    import dbos as library

    url = f"sqlite:///{FOLDER / 'dbos.sqlite'}"
    library.DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
    workflow = library.DBOS.workflow()(work)
    library.DBOS.launch()
    queue = library.DBOS.register_queue("items", worker_concurrency=WORKERS, polling_interval_sec=0.05)
    return lambda items: [handle.get_result() for handle in [queue.enqueue(workflow, n) for n in items]]


if __name__ == "__main__":
    mapped = {"joblib": joblib, "diskcache": diskcache, "dbos": dbos}[PEER]()
    each = []
    for turn in range(ROUNDS):
        began = time.perf_counter()
        mapped(range(turn * COUNT, (turn + 1) * COUNT))
        each.append((time.perf_counter() - began) / COUNT)
    print(json.dumps({"each": each}), flush=True)
    os._exit(0)  # not to wait for what the package leaves running
