"""Durable steps in one job, and the same bytes written in other ways, in turn.

Usage: steps.py durable|interval ROUNDS COUNT THREADS BYTES. BYTES: what a step adds to the log (0: find out).
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ckpt
from benchmarks.programs.common import say

FOLDER = Path(os.environ["CKPT_STORE"])
times: dict[str, list[float]] = {}
sizes = [int(sys.argv[5])]


@ckpt.step
def double(number: int) -> int:
    return 2 * number


def each(work: Callable[[int], object], count: int, threads: int) -> float:
    """Seconds per call of ``count`` calls of ``work``."""
    began = time.perf_counter()
    if threads == 1:
        for number in range(count):
            work(number)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(count)))
    return (time.perf_counter() - began) / count


def log_bytes() -> int:
    return sum(path.stat().st_size for path in FOLDER.rglob("*.log"))


def ckpt_steps(first: int, count: int, threads: int) -> float:
    before = log_bytes()
    seconds = each(lambda number: double(first + number), count, threads)
    if not int(sys.argv[5]):
        sizes.append((log_bytes() - before) // count)
    return seconds


def appended(count: int, threads: int, *, sync: bool) -> float:
    """``write`` of a step's bytes at the end of a file, with ``fdatasync`` after each or without."""
    data = b"x" * max(sizes)
    descriptor = os.open(FOLDER / "peer", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(_: int) -> None:
        os.write(descriptor, data)
        if sync:
            os.fdatasync(descriptor)

    try:
        return each(write, count, threads)
    finally:
        os.close(descriptor)
        (FOLDER / "peer").unlink()


def sqlite(count: int) -> float:
    """One INSERT and COMMIT per result, durable on return: what a hand-written resume would do."""
    database = sqlite3.connect(FOLDER / "peer.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE results (id TEXT PRIMARY KEY, result BLOB)")
    data = b"x" * max(sizes)
    try:
        return each(lambda n: database.execute("INSERT INTO results VALUES (?, ?)", (str(n), data)), count, 1)
    finally:
        database.close()
        for path in FOLDER.glob("peer.sqlite*"):
            path.unlink()


def sqlite_unsynced(count: int) -> float:
    """One INSERT per result in a WAL, nothing synced, one COMMIT at the end."""
    connection = sqlite3.connect(FOLDER / "peer.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE results (key TEXT PRIMARY KEY, value BLOB)")
    data = b"x" * max(sizes)
    connection.execute("BEGIN")
    seconds = each(lambda number: connection.execute("INSERT INTO results VALUES (?, ?)", (str(number), data)), count, 1)
    began = time.perf_counter()
    connection.execute("COMMIT")
    seconds += (time.perf_counter() - began) / count
    connection.close()
    for path in FOLDER.glob("peer.sqlite*"):
        path.unlink()
    return seconds


def some_python() -> object:
    """About as much as a step does: texts, digests, a pickle."""
    found: object = None
    for number in range(6):
        text = json.dumps({"id": "ab" * 16, "n": number, "where": "loop#0"}, sort_keys=True)
        found = hashlib.blake2b(text.encode()).digest(), pickle.dumps((number, text)), json.loads(text)
    return found


def python_code(count: int, *, behind_sync: bool) -> float:
    """Seconds of ``some_python``, right behind a ``write`` + ``fdatasync`` or behind itself; the median."""
    seconds = []
    with open(FOLDER / "peer", "wb", buffering=0) as file:
        for _ in range(count):
            if behind_sync:
                file.write(b"x" * max(sizes))
                os.fdatasync(file.fileno())
            else:
                some_python()
            began = time.perf_counter()
            some_python()
            seconds.append(time.perf_counter() - began)
    (FOLDER / "peer").unlink()
    return statistics.median(seconds)


def one_round(turn: int, count: int, threads: int, *, durable: bool) -> None:
    first = turn * 3 * count
    cases: dict[str, Callable[[], float]] = {"step": lambda: ckpt_steps(first, count, 1)}
    if durable:
        cases["synced"] = lambda: appended(count, 1, sync=True)
        cases["sqlite"] = lambda: sqlite(count)
        cases["python"] = lambda: python_code(count, behind_sync=False)
        cases["python_behind"] = lambda: python_code(count, behind_sync=True)
        cases["step_threads"] = lambda: ckpt_steps(first + count, count, threads)
        cases["synced_threads"] = lambda: appended(count, threads, sync=True)
    else:
        cases["unsynced"] = lambda: appended(count, 1, sync=False)
        cases["sqlite_unsynced"] = lambda: sqlite_unsynced(count)
    for name, case in cases.items():
        times.setdefault(name, []).append(case())


@ckpt.job(key="durable", every="1000h")
def durable(rounds: int, count: int, threads: int) -> None:
    for turn in ckpt.loop(range(rounds)):
        one_round(turn, count, threads, durable=True)


@ckpt.job(key="interval", every="1000h", sync="interval:1s")
def interval(rounds: int, count: int, threads: int) -> None:
    for turn in ckpt.loop(range(rounds)):
        one_round(turn, count, threads, durable=False)


if __name__ == "__main__":
    arguments = tuple(map(int, sys.argv[2:5]))
    (durable if sys.argv[1] == "durable" else interval)(*arguments)
    say(**times, bytes=max(sizes))
