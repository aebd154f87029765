"""Async jobs for the tests of steps and signals: side by side, with traces outside as in ``jobs_steps``."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from programs.jobs_signals import signals_at
from programs.jobs_steps import note
from programs.registry import form
from programs.ticks import tick

import ckpt

AT_ONCE = 4


@ckpt.step
async def async_effect(name: str) -> str:
    token = os.urandom(6).hex()
    await asyncio.sleep(0.0005 * (sum(map(ord, name)) % 7))
    note("do", name, token, ckpt.operation_key())
    tick()
    await asyncio.sleep(0)
    return token


async def acknowledged(name: str) -> tuple[str, str]:
    token = await async_effect(name)
    note("ack", name, token)
    tick()
    return name, token


@ckpt.job
async def async_orders(days: int) -> Any:
    done = [await acknowledged("open")]
    for day in ckpt.loop(range(days)):
        done += await asyncio.gather(*[acknowledged(f"{day}-{n}") for n in range(AT_ONCE)])
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(acknowledged(f"{day}-task-{n}")) for n in range(AT_ONCE)]
        done += [task.result() for task in tasks]
    done.append(await acknowledged("close"))
    return done


@form
def async_steps_with_effects() -> object:
    return [list(pair) for pair in asyncio.run(async_orders(2))]


@ckpt.job
async def async_long_job(n: int) -> Any:
    total = 0.0
    for i in ckpt.loop(range(n)):
        note("start", i)
        tick()
        total += random.random() * i
        signals_at(i)
        await asyncio.sleep(0.001)
        total += 1.0
        note("end", i)
    return total


@form
def async_signalled() -> object:
    random.seed(4)
    return asyncio.run(async_long_job(12))
