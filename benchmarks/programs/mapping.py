"""One map in one job, and the same items executed in other ways, in turn.

Usage: mapping.py peers ROUNDS COUNT WORKERS WORK_US | flat EXECUTOR COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import ckpt
from benchmarks.programs.common import say

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


async def awork(n: int) -> int:
    if WORK_US:
        await asyncio.sleep(WORK_US / 1e6)
    return n + 1


def mapped_coroutines(first: int, count: int, workers: int) -> None:
    for _ in ckpt.map(awork, range(first, first + count), max_workers=workers):
        pass


def bare_coroutines(first: int, count: int, workers: int) -> None:
    async def main() -> None:
        gate = asyncio.Semaphore(workers)

        async def bounded(n: int) -> int:
            async with gate:
                return await awork(n)

        await asyncio.gather(*(bounded(n) for n in range(first, first + count)))

    asyncio.run(main())


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
        "coroutines": lambda: mapped_coroutines(first, count, workers),
        "bare_coroutines": lambda: bare_coroutines(first, count, workers),
    }
    for name, case in cases.items():
        times.setdefault(name, []).append(timed(case, count))


@ckpt.job(key="peers", every="1000h")
def peers(rounds: int, count: int, workers: int) -> None:
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
