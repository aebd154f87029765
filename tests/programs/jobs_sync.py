"""Jobs that let their recorded steps be volatile for a while (``sync="interval:T"``).

A step leaves a line ``<process id> <number> <token>`` in ``effects.txt``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from programs.jobs_steps import note
from programs.registry import form
from programs.ticks import tick

import ckpt
from ckpt import events

RESULT_BYTES = 1000
"""Of each step, at least."""


@ckpt.step
def collect(number: int) -> str:
    token = os.urandom(RESULT_BYTES // 2).hex()
    note(os.getpid(), number, token[:12])
    return token


def log_bytes() -> int:
    return sum(path.stat().st_size for path in Path(os.environ["CKPT_STORE"]).rglob("*.log"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


checkpoints: list[str] = []
"""One entry for each checkpoint that this process has made durable."""
events.add_hook(lambda name, details: checkpoints.append(name) if name == "checkpoint" else None)


def settle() -> None:
    """Wait for the checkpoints at the entry of the job and of its loop: writing them makes operations durable, too."""
    if is_first_attempt():
        wait_until(lambda: len(checkpoints) >= 2)


def is_first_attempt() -> bool:
    run = ckpt.current_run()
    assert run is not None
    return not run.resumed


@ckpt.job(sync="interval:1h", every="1h")
def seldom(n: int) -> Any:
    tokens = []
    for i in ckpt.loop(range(n)):
        settle()
        tokens.append(collect(i)[:12])
        tick()
    return tokens


@form
def steps_volatile_for_an_hour() -> object:
    return seldom(6)


@ckpt.job(sync="interval:1h", every="1h")
def with_checkpoints(n: int) -> Any:
    tokens = []
    for i in ckpt.loop(range(n)):
        settle()
        tokens.append(collect(i)[:12])
        if i in (3, 6):
            save()
        tick()
    return tokens


def save() -> None:
    run = ckpt.current_run()
    assert run is not None
    run.checkpoint()


@form
def volatile_steps_and_checkpoints() -> object:
    return with_checkpoints(10)


@ckpt.job(sync="interval:20ms", every="1h")
def often(n: int) -> Any:
    tokens = []
    for i in ckpt.loop(range(n)):
        settle()
        begin = log_bytes() if i == 0 else begin  # noqa: F821
        tokens.append(collect(i)[:12])
        if i == 4 and is_first_attempt():
            wait_until(lambda enough=begin + 5 * RESULT_BYTES: log_bytes() > enough)  # type: ignore[misc]
            note("written", i, "-")
        tick()
    return tokens


@form
def steps_volatile_for_a_moment() -> object:
    return often(8)


@ckpt.job(sync="interval:5ms", every="1h")
def slowly(n: int) -> Any:
    tokens = []
    for i in ckpt.loop(range(n)):
        tokens.append(collect(i)[:12])
        time.sleep(0.002)
        tick()
    return tokens


@form
def slow_steps_volatile_for_a_moment() -> object:
    return slowly(30)
