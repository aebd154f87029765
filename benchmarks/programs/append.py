"""Operation-logged changes that nothing waits for, and the same bytes written in other ways, in turn. Usage: append.py ROUNDS COUNT"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ckpt
from benchmarks.programs.common import say

FOLDER = Path(os.environ["CKPT_STORE"])
ROUNDS, COUNT = int(sys.argv[1]), int(sys.argv[2])
times: dict[str, list[float]] = {}


def note(name: str, call: Callable[[], float]) -> None:
    times.setdefault(name, []).append(call() / COUNT)


def timed(changes: Callable[[], None]) -> float:
    began = time.perf_counter()
    changes()
    return time.perf_counter() - began


def log_bytes() -> int:
    return sum(path.stat().st_size for path in FOLDER.rglob("*.log"))


def written(size: int) -> float:
    data = b"x" * max(1, size)
    descriptor = os.open(FOLDER / "peer", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    began = time.perf_counter()
    for _ in range(COUNT):
        os.write(descriptor, data)
    seconds = time.perf_counter() - began
    os.close(descriptor)
    (FOLDER / "peer").unlink()
    return seconds


def sqlite() -> float:
    """Nothing synced, one COMMIT at the end."""
    connection = sqlite3.connect(FOLDER / "peer.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE results (key INTEGER PRIMARY KEY, value INTEGER)")
    connection.execute("BEGIN")
    began = time.perf_counter()
    for number in range(COUNT):
        connection.execute("INSERT INTO results VALUES (?, ?)", (number, number))
    connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    for path in FOLDER.glob("peer.sqlite*"):
        path.unlink()
    return seconds


def measure(run: Any) -> None:
    table, rows = run.dict("table"), run.list("rows")

    def set_items() -> None:
        for number in range(COUNT):
            table[number] = number

    def append() -> None:
        for number in range(COUNT):
            rows.append(number)

    before = log_bytes()
    set_items()
    time.sleep(1.5)  # what is not synced is in the file after this
    size = (log_bytes() - before) // COUNT
    for turn in range(ROUNDS):
        cases: list[tuple[str, Callable[[], float]]] = [
            ("set", lambda: timed(set_items)),
            ("append", lambda: timed(append)),
            ("write", lambda: written(size)),
            ("sqlite", sqlite),
        ]
        for name, call in cases if turn % 2 == 0 else cases[::-1]:
            note(name, call)
    say(**times, bytes=size)


if __name__ == "__main__":
    with ckpt.open("append", every="1000h", **({"sync": "interval:1s"} if hasattr(ckpt, "Logged") else {})) as opened:
        if hasattr(opened, "dict"):
            measure(opened)
        else:
            say(missing=True)
