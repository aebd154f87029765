"""Operation-logged objects in a block, and the same in other ways, in turn.

Usage: logged.py append ROUNDS COUNT | replay ROUNDS COUNT | big ENTRIES CHANGED
"""

from __future__ import annotations

import os
import pickle
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import ckpt
from benchmarks.programs.common import say

FOLDER = Path(os.environ["CKPT_STORE"])


def clock() -> float:
    return time.perf_counter()


def setting(target: Any, count: int) -> float:
    """Seconds per operation of ``count`` sets of small entries."""
    began = clock()
    for number in range(count):
        target[number] = "value"
    return (clock() - began) / count


def logged(count: int) -> tuple[float, int]:
    """The same for a logged dict, one iteration each, all of it in the log at the end; and the bytes of an operation."""
    name = f"append{time.perf_counter_ns()}"
    with ckpt.open("append", run_id=name, sync="interval:1s") as run:
        target = run.dict("target")
        began = clock()
        for number in run.loop(range(count)):
            target[number] = "value"
        seconds = (clock() - began) / count
        size = sum(path.stat().st_size for path in (FOLDER / "append" / name).rglob("*.log"))
    return seconds, size // count


def written(count: int, size: int) -> float:
    data, path = b"x" * size, FOLDER / "peer"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    began = clock()
    for _ in range(count):
        os.write(descriptor, data)
    seconds = (clock() - began) / count
    os.close(descriptor)
    path.unlink()
    return seconds


def sqlite(count: int, synchronous: str) -> float:
    path = FOLDER / "peer.sqlite"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={synchronous}")
    database.execute("CREATE TABLE target (key INTEGER PRIMARY KEY, value TEXT)")
    began = clock()
    for number in range(count):
        database.execute("INSERT INTO target VALUES (?, ?)", (number, "value"))
    seconds = (clock() - began) / count
    database.close()
    for one in FOLDER.glob("peer.sqlite*"):
        one.unlink()
    return seconds


def append(rounds: int, count: int) -> None:
    found: dict[str, list[float]] = {name: [] for name in ("logged", "written", "sqlite", "plain")}
    size = 0
    for _ in range(rounds):
        seconds, size = logged(count)
        found["logged"].append(seconds)
        found["written"].append(written(count, max(size, 1)))
        found["sqlite"].append(sqlite(count, "OFF"))
        found["plain"].append(setting({}, count))
    say(**found, bytes=size)


def replay(rounds: int, count: int) -> None:
    """Bring back a dict from ``count`` operations, as a resume does it, and do them in a plain loop."""
    from ckpt.format.records import Kind, Record
    from ckpt.session.containers import LoggedDict, unheard
    from ckpt.session.history import History
    from ckpt.session.journal import _replay

    operations = [("target", "set", number, "value") for number in range(count)]
    records = []
    for start in range(0, count, 10_000):
        batch = operations[start : start + 10_000]
        head = {"logged": {"from": start, "count": len(batch)}}
        records.append(Record(Kind.OPERATION, start, 1, head, (pickle.dumps(batch, protocol=5),)))
    found: dict[str, list[float]] = {"replay": [], "plain": []}
    for _ in range(rounds):
        began = clock()
        body = LoggedDict("target", unheard)
        _replay(body, History(0, None, records, "").operations(0, count))
        found["replay"].append((clock() - began) / count)
        assert len(body) == count
        found["plain"].append(setting({}, count))
    say(**found)


def big(entries: int, changed: int) -> None:
    """How long a checkpoint takes with ``entries`` entries of which ``changed`` changed since the last one."""
    with ckpt.open("big", run_id=f"n{entries}", sync="interval:1h", every="1h") as run:
        target = run.dict("target")
        target.update((number, number) for number in range(entries))
        run.checkpoint()
        run._saving.wait_idle()
        took = []
        for turn in range(7):
            for number in range(changed):
                target[number] = turn
            began = clock()
            run.checkpoint()
            took.append(clock() - began)
        say(took=took)


if __name__ == "__main__":
    {"append": append, "replay": replay, "big": big}[sys.argv[1]](*map(int, sys.argv[2:]))
