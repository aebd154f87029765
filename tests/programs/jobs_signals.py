"""Jobs that get a signal at a chosen tick: ``SIGNAL=<name>@<iteration>[,...]`` is sent to the own process there.

Each iteration notes that it began, so a test sees what was executed twice.
"""

from __future__ import annotations

import os
import random
import signal
from typing import Any

from programs.jobs_steps import note
from programs.registry import form
from programs.ticks import tick

import ckpt


def signals_at(iteration: int) -> None:
    for text in filter(None, os.environ.get("SIGNAL", "").split(",")):
        name, at = text.split("@")
        if int(at) == iteration:
            os.kill(os.getpid(), getattr(signal, name))


@ckpt.job
def long_job(n: int) -> Any:
    total = 0.0
    for i in ckpt.loop(range(n)):
        note("start", i)
        tick()
        total += random.random() * i
        signals_at(i)
        total += 1.0
        note("end", i)
    return total


@form
def signalled() -> object:
    random.seed(4)
    return long_job(12)


@ckpt.job
def inner_loop_job() -> Any:
    total = 0.0
    for i in ckpt.loop(range(3)):
        start = random.random()
        for j in ckpt.loop(range(4)):
            note("start", i * 4 + j)
            total += random.random() * start
            signals_at(i * 4 + j)
            tick()
        total *= 2
    return total


@form
def signalled_in_an_inner_loop() -> object:
    random.seed(4)
    return inner_loop_job()


@ckpt.job
def tries_to_swallow(n: int) -> Any:
    log: list[Any] = []
    for i in ckpt.loop(range(n)):
        note("start", i)
        try:
            signals_at(i)
            log.append(i)
            tick()
        except Exception:  # noqa: BLE001 - the form is about this
            log.append("swallowed")
    return log


@form
def signalled_where_exceptions_are_swallowed() -> object:
    return tries_to_swallow(6)


@form
def signalled_with_a_handler_of_its_own() -> object:
    def mine(number: int, frame: object) -> None:
        note("handled", number)

    signal.signal(signal.SIGTERM, mine)
    result = tries_to_swallow(6)
    assert signal.getsignal(signal.SIGTERM) is mine, "the job is over: the handler is the program's again"
    return result
