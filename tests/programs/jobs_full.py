"""Jobs for a disk of half a MiB: state, or a step's result, that does not fit for a while."""

from __future__ import annotations

import random
from typing import Any

from programs.jobs_steps import note
from programs.registry import form
from programs.ticks import tick

import ckpt


@ckpt.job(keep=1)
def outgrows(n: int) -> Any:
    total, blob = 0, b""
    for i in ckpt.loop(range(n)):
        tick()
        blob = random.Random(i).randbytes(700_000 if 3 <= i < 6 else 1000)
        total += sum(blob[:10]) + i
    return total


@form
def state_that_outgrows_the_disk() -> object:
    return outgrows(9)


@ckpt.step
def small(value: int) -> int:
    note(f"small-{value}")
    return value


@ckpt.step
def large(size: int) -> bytes:
    return random.Random(1).randbytes(size)


@ckpt.job
def large_result() -> Any:
    log: list[Any] = [small(10)]
    tick()
    try:
        log.append(len(large(700_000)))
    except ckpt.errors.StorageFullError as error:
        log.append(type(error).__name__)
    tick()
    log.append(small(20))
    tick()
    return log


@form
def step_with_a_result_larger_than_the_disk() -> object:
    return large_result()
