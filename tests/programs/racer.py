"""One of two processes that take the same log over at the same moment, again and again. Usage: racer.py URL NAME

Reads ``RUN_ID`` lines. For each: looks at the log, says AT FENCE just before it creates its FENCE, waits for a line, and
says what became of it as JSON: {"won": epoch} once a record of its own is acknowledged, or {"fenced": successor}.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from ckpt import host
from ckpt.errors import FencedError
from ckpt.format.keys import Key
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.log import LogWriter, Place
from ckpt.protocols import Storage
from ckpt.storage import resolve

KEY = Key.from_secret(bytes(range(32)))


def say(**found: object) -> None:
    print(json.dumps(found), flush=True)


def gated(create: Callable[..., Any]) -> Callable[..., Any]:
    """``create``, which before its first call of a round waits for the other process to come as far."""

    @functools.wraps(create)
    def wait_then_create(key: str, data: bytes) -> Any:
        if gate:
            gate.clear()
            print("AT FENCE", flush=True)
            sys.stdin.readline()
        return create(key, data)

    return wait_then_create


gate: list[bool] = []


def race(storage: Storage, run_id: str, name: str) -> None:
    gate.append(True)
    place = Place(storage, RunNames("race", run_id), KEY, host.entropy, host.SystemClock())
    try:
        writer, _ = LogWriter.take_over(place, fence={"host": name, "pid": os.getpid(), "started": 1.0})
        writer.append(Kind.OPERATION, {"by": name})
    except FencedError as error:
        say(fenced=error.successor)
        return
    writer.close()
    say(won=writer.epoch)


def main() -> None:
    storage, name = resolve(sys.argv[1]), sys.argv[2]
    for method in ("put_if_absent", "create_append"):
        if hasattr(storage, method):
            setattr(storage, method, gated(getattr(storage, method)))
    say(ready=os.getpid())
    for line in sys.stdin:
        race(storage, line.strip(), name)


if __name__ == "__main__":
    main()
