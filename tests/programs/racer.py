"""One of two processes that take the same log over at the same moment, again and again. Usage: racer.py URL NAME

Reads lines ``LANE RUN_ID``; the races of a lane happen one after the other, those of several lanes side by side. For each:
looks at the log, says AT FENCE just before it creates its FENCE, waits for a line, and says what became of it as JSON:
{"won": epoch} once a record of its own is acknowledged, or {"fenced": successor}. What it says begins with the lane, too.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import sys
import threading
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


lane = threading.local()
"""Of each thread: ``number``, ``lines`` that came for it, and whether the ``gate`` is still to be waited at."""


def say(text: str) -> None:
    sys.stdout.write(f"{lane.number} {text}\n")  # in one piece, other than print
    sys.stdout.flush()


def gated(create: Callable[..., Any]) -> Callable[..., Any]:
    """``create``, which before its first call of a round waits for the other process to come as far."""

    @functools.wraps(create)
    def wait_then_create(key: str, data: bytes) -> Any:
        if lane.gate:
            lane.gate = False
            say("AT FENCE")
            lane.lines.get()
        return create(key, data)

    return wait_then_create


def race(storage: Storage, run_id: str, name: str) -> None:
    lane.gate = True
    place = Place(storage, RunNames("race", run_id), KEY, host.entropy, host.SystemClock())
    try:
        writer, _ = LogWriter.take_over(place, fence={"host": name, "pid": os.getpid(), "started": 1.0})
        writer.append(Kind.OPERATION, {"by": name})
    except FencedError as error:
        say(json.dumps({"fenced": error.successor}))
        return
    writer.close()
    say(json.dumps({"won": writer.epoch}))


def run(number: str, lines: queue.SimpleQueue[str], storage: Storage, name: str) -> None:
    lane.number, lane.lines = number, lines
    while True:
        race(storage, lines.get(), name)


def main() -> None:
    storage, name = resolve(sys.argv[1]), sys.argv[2]
    for method in ("put_if_absent", "create_append"):
        if hasattr(storage, method):
            setattr(storage, method, gated(getattr(storage, method)))
    lanes: dict[str, queue.SimpleQueue[str]] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        number, _, text = line.strip().partition(" ")
        if number not in lanes:
            lanes[number] = queue.SimpleQueue()
            threading.Thread(target=run, args=(number, lanes[number], storage, name), daemon=True).start()
        lanes[number].put(text)


if __name__ == "__main__":
    main()
