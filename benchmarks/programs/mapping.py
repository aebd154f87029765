"""One map in one job, and the same items executed in other ways, in turn.

Usage: mapping.py peers ROUNDS COUNT WORKERS WORK_US | flat EXECUTOR COUNT. Peers that are not installed are left out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ckpt
from benchmarks.programs.common import say

FOLDER = Path(os.environ["CKPT_STORE"])
WORK_US = int(sys.argv[5]) if len(sys.argv) > 5 else 0
BLOCKS = 10
times: dict[str, list[float]] = {}


def work(n: int) -> int:
    """An item: waits for so long, as a request would; 0 is nothing at all."""
    if WORK_US:
        time.sleep(WORK_US / 1e6)
    return n + 1


def mapped(executor: str, first: int, count: int, workers: int) -> None:
    for _ in ckpt.map(work, range(first, first + count), executor=executor, max_workers=workers):
        pass


def bare(make: Callable[[int], Executor], first: int, count: int, workers: int) -> None:
    with make(workers) as pool:
        for _ in pool.map(work, range(first, first + count)):
            pass


def joblib_memory(first: int, count: int, workers: int) -> None:
    import joblib

    cached = joblib.Memory(FOLDER / "joblib", verbose=0).cache(work)
    joblib.Parallel(n_jobs=workers, prefer="threads")(joblib.delayed(cached)(n) for n in range(first, first + count))


def diskcache(first: int, count: int, workers: int) -> None:
    import diskcache as dc

    with dc.Cache(str(FOLDER / "diskcache"), sqlite_synchronous=2) as cache, ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda n: cache.set(n, work(n)), range(first, first + count)))


def dbos(first: int, count: int, workers: int) -> None:
    handles = [_dbos["queue"].enqueue(_dbos["work"], n) for n in range(first, first + count)]
    for handle in handles:
        handle.get_result()


_dbos: dict[str, Any] = {}


def start_dbos(workers: int) -> None:
    import dbos as library

    url = f"sqlite:///{FOLDER / 'dbos.sqlite'}"
    library.DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
    _dbos["work"] = library.DBOS.workflow()(work)
    library.DBOS.launch()
    _dbos["queue"] = library.DBOS.register_queue("items", worker_concurrency=workers, polling_interval_sec=0.05)


def timed(call: Callable[[], None], count: int) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) / count


def one_round(turn: int, count: int, workers: int) -> None:
    first = turn * count
    cases: dict[str, Callable[[], None]] = {
        "threads": lambda: mapped("threads", first, count, workers),
        "bare_threads": lambda: bare(ThreadPoolExecutor, first, count, workers),
        "processes": lambda: mapped("processes", first, count, workers),
        "bare_processes": lambda: bare(ProcessPoolExecutor, first, count, workers),
    }
    if importlib.util.find_spec("joblib"):
        cases["joblib"] = lambda: joblib_memory(first, count, workers)
    if importlib.util.find_spec("diskcache"):
        cases["diskcache"] = lambda: diskcache(first, count, workers)
    for name, case in cases.items():
        times.setdefault(name, []).append(timed(case, count))
    if _dbos:
        few = max(count // 20, 10)  # it takes milliseconds for each
        times.setdefault("dbos", []).append(timed(lambda: dbos(first, few, workers), few))


@ckpt.job(key="peers", every="1000h")
def peers(rounds: int, count: int, workers: int) -> None:
    if importlib.util.find_spec("dbos"):
        start_dbos(workers)
    for turn in ckpt.loop(range(rounds)):
        one_round(turn, count, workers)


@ckpt.job(key="flat")
def flat(executor: str, count: int) -> list[float]:
    """Seconds of each tenth of the items."""
    blocks, began = [], time.perf_counter()
    for seen, _ in enumerate(ckpt.map(work, range(count), executor=executor, max_workers=2), 1):
        if seen % (count // BLOCKS) == 0:
            now = time.perf_counter()
            blocks.append(now - began)
            began = now
    return blocks


if __name__ == "__main__":
    if sys.argv[1] == "flat":
        say(blocks=flat(sys.argv[2], int(sys.argv[3])))
    else:
        peers(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        say(**times)
        sys.stdout.flush()
        shutil.rmtree(FOLDER / "joblib", ignore_errors=True)
        os._exit(0)  # not to wait for what peers leave running
