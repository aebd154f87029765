"""Records results of small steps durably with another package. Usage: recording.py PEER COUNT FOLDER

Imports nothing of this project. Says the seconds for one step: called for the first time, its result recorded on return.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

PEER, COUNT, FOLDER = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])


def double(number: int) -> int:
    return 2 * number


def sqlite() -> Callable[[], object]:
    import sqlite3

    connection = sqlite3.connect(FOLDER / "results.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE results (key TEXT PRIMARY KEY, value TEXT)")

    def each() -> None:
        for number in range(COUNT):
            connection.execute("INSERT INTO results VALUES (?, ?)", (f"double {number}", str(double(number))))

    return each


def diskcache() -> Callable[[], object]:
    import diskcache

    recorded = diskcache.Cache(str(FOLDER)).memoize()(double)

    def each() -> None:
        for number in range(COUNT):
            recorded(number)

    return each


def joblib() -> Callable[[], object]:
    import joblib

    recorded = joblib.Memory(FOLDER, verbose=0).cache(double)

    def each() -> None:
        for number in range(COUNT):
            recorded(number)

    return each


def dbos() -> Callable[[], object]:
    from dbos import DBOS

    DBOS(config={"name": "benchmark", "system_database_url": f"sqlite:///{FOLDER}/dbos.sqlite"})
    recorded = DBOS.step()(double)

    @DBOS.workflow()
    def each() -> None:
        for number in range(COUNT):
            recorded(number)

    DBOS.launch()
    return each


if __name__ == "__main__":
    each = {"sqlite": sqlite, "diskcache": diskcache, "joblib": joblib, "dbos": dbos}[PEER]()
    began = time.perf_counter()
    each()
    print(json.dumps({"step": (time.perf_counter() - began) / COUNT}), flush=True)
    os._exit(0)
