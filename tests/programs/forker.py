"""A job on a shared store that makes children, by fork and by spawn, which use the store themselves while it goes on.

A child says in its file: whether its client is its own, what it read, and the result of a run of its own there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

from programs.bits import report

import ckpt
from ckpt.protocols import Storage
from ckpt.storage import resolve

WAYS = {1: "fork", 3: "spawn"}
BESIDE = 8

here: list[Storage] = []
"""The parent's storage and client: a forked child inherits them, a spawned one has none."""
clients: list[object] = []


def client_of(storage: Any) -> object:
    """What the storage makes its requests with in this process."""
    if hasattr(storage, "_connection"):
        return storage._connection._own_state().client
    return storage._client()._filesystem


@ckpt.step
def ask(number: int) -> int:
    return number * 7919


@ckpt.job(every="1it")
def small(way: str) -> int:
    total = 0
    for number in ckpt.loop(range(3)):
        total += ask(number)
    return total


def in_child(way: str) -> None:
    storage = here[0] if here else resolve(os.environ["CKPT_STORE"])
    read = "store" in json.loads(storage.get("FORMAT"))
    own = all(client_of(storage) is not one for one in clients)
    result = small.options(run_id=way)(way)
    Path(f"{way}.json").write_text(json.dumps([own, read, result]))


@ckpt.job(key="parent", every="1it")
def parent(items: int) -> list[int]:
    done = []
    for item in ckpt.loop(range(items)):
        if item in WAYS:
            child = multiprocessing.get_context(WAYS[item]).Process(target=in_child, args=(WAYS[item],))
            child.start()
            done += [ask(100 * item + number) for number in range(BESIDE)]  # each waits for the storage
            child.join(60)
            assert child.exitcode == 0, (WAYS[item], child.exitcode)
            del child
        done.append(ask(item))
    return done


if __name__ == "__main__":
    here.append(resolve(os.environ["CKPT_STORE"]))
    here[0].exists("FORMAT")  # from here on it has a client
    clients.append(client_of(here[0]))
    report(parent(5))
