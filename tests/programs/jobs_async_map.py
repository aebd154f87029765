"""Jobs that map async functions, and async jobs that map; traces as in ``jobs_map``."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from programs.jobs_map import WORKERS, fetch, fetch_in_process, seen
from programs.jobs_signals import signals_at
from programs.jobs_steps import note
from programs.registry import form
from programs.ticks import tick

import ckpt

SLOW_S = 0.003


async def fetch_async(name: str) -> tuple[str, str]:
    token = os.urandom(6).hex()
    note("do", name, token, ckpt.operation_key())
    await asyncio.sleep(SLOW_S)
    tick()
    return name, token


@ckpt.job
def coroutines_from_a_plain_job(ordered: bool) -> Any:
    done = []
    for pair in ckpt.map(fetch_async, (f"item-{i}" for i in range(9)), ordered=ordered, max_workers=WORKERS):
        done.append(seen(pair))
    for pair in ckpt.loop(ckpt.map(fetch_async, [f"late-{i}" for i in range(5)], max_workers=WORKERS)):
        done.append(seen(pair))
    return done


@form
def amap_in_a_plain_job() -> object:
    return coroutines_from_a_plain_job(True)


@form
def amap_as_completed_in_a_plain_job() -> object:
    return coroutines_from_a_plain_job(False)


@ckpt.job
async def coroutines_from_an_async_job(ordered: bool) -> Any:
    done = []
    async for pair in ckpt.map(fetch_async, (f"item-{i}" for i in range(9)), ordered=ordered, max_workers=WORKERS):
        done.append(seen(pair))
        for _ in ckpt.loop("xy"):  # a safe point while items are being executed
            tick()
    names = [f"late-{i}" for i in range(5)]
    async for pair in ckpt.loop(ckpt.map(fetch_async, names, ordered=ordered, max_workers=WORKERS)):
        done.append(seen(pair))
        await asyncio.sleep(0)
    return done


@form
def amap_in_an_async_job() -> object:
    return asyncio.run(coroutines_from_an_async_job(True))


@form
def amap_as_completed_in_an_async_job() -> object:
    return asyncio.run(coroutines_from_an_async_job(False))


@ckpt.job
async def other_executors() -> Any:
    """``async for`` is right for every executor."""
    done = []
    async for pair in ckpt.map(fetch, [f"thread-{i}" for i in range(4)], max_workers=WORKERS):
        done.append(seen(pair))
    names = [f"process-{i}" for i in range(4)]
    async for pair in ckpt.loop(ckpt.map(fetch_in_process, names, executor="processes", max_workers=WORKERS)):
        done.append(seen(pair))
    return done


@form
def amap_with_other_executors() -> object:
    return asyncio.run(other_executors())


@ckpt.job
async def side_by_side() -> Any:
    """Two maps of one function in two tasks."""

    async def part(name: str) -> list[list[str]]:
        items = [f"{name}-{i}" for i in range(4)]
        return [seen(pair) async for pair in ckpt.map(fetch_async, items, max_workers=WORKERS)]

    first, second = await asyncio.gather(part("left"), part("right"))
    return first + second


@form
def amaps_side_by_side() -> object:
    return asyncio.run(side_by_side())


async def signalling(n: int) -> int:
    note("start", n)
    signals_at(n)
    await asyncio.sleep(SLOW_S)
    note("end", n)
    return n


@ckpt.job
def signalled_from_a_plain_job(n: int) -> Any:
    return sum(ckpt.map(signalling, range(n), max_workers=WORKERS))


@form
def amap_signalled_in_a_plain_job() -> object:
    return signalled_from_a_plain_job(30)


@ckpt.job
async def signalled_from_an_async_job(n: int) -> Any:
    total = 0
    async for x in ckpt.loop(ckpt.map(signalling, range(n), max_workers=WORKERS)):
        total += x
    return total


@form
def amap_signalled_in_an_async_job() -> object:
    return asyncio.run(signalled_from_an_async_job(30))
