"""Jobs whose steps run in a pool of threads; each leaves a trace in ``effects.txt`` (see ``jobs_steps``)."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from programs.jobs_steps import note
from programs.registry import form
from programs.ticks import tick

import ckpt

THREADS = 4


@ckpt.step
def fetch(name: str) -> str:
    token = os.urandom(6).hex()
    note("do", name, token, ckpt.operation_key())
    tick()
    return token


def fetched(name: str) -> tuple[str, str]:
    """Runs in a thread of the pool: the step, and then the word that it returned."""
    token = fetch(name)
    note("ack", name, token)
    tick()
    return name, token


@ckpt.job(recreate=("pool",))
def fans_out(days: int) -> Any:
    done = []
    with ThreadPoolExecutor(THREADS) as pool:
        done += pool.map(fetched, ["open-a", "open-b"])
        for day in ckpt.loop(range(days)):
            done += pool.map(fetched, [f"day-{day}-{i}" for i in range(5)])
            for part in ckpt.loop("xy"):
                done += pool.map(fetched, [f"part-{day}-{part}-{i}" for i in range(3)])
                tick()
        done += pool.map(fetched, ["close-a", "close-b"])
    return done


@form
def steps_in_threads() -> object:
    return [list(pair) for pair in fans_out(2)]


@ckpt.step
def ping() -> str:
    token = os.urandom(6).hex()
    note("do", "ping", token, ckpt.operation_key())
    tick()
    return token


def pinged(_: int) -> str:
    token = ping()
    note("ack", "ping", token)
    tick()
    return token


@ckpt.job(recreate=("pool",))
def pings(days: int) -> Any:
    tokens: list[str] = []
    for _ in ckpt.loop(range(days)):
        with ThreadPoolExecutor(THREADS) as pool:
            tokens += pool.map(pinged, range(6))
    return tokens


@form
def equal_steps_in_threads() -> object:
    return pings(3)
