"""Jobs that map; items leave a trace in ``effects.txt`` (see ``jobs_steps``), results are tokens drawn at each execution."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from programs.jobs_steps import note
from programs.registry import form
from programs.ticks import tick

import ckpt

WORKERS = 3
SLOW_S = 0.003
"""So slow that items do not travel together: then a kill repeats one item per worker at most."""


def fetch(name: str) -> tuple[str, str]:
    token = os.urandom(6).hex()
    note("do", name, token, ckpt.operation_key())
    time.sleep(SLOW_S)
    tick()
    return name, token


def fetch_in_process(name: str) -> tuple[str, str]:
    """The same where ticks are not those of the job."""
    token = os.urandom(6).hex()
    note("do", name, token, ckpt.operation_key())
    time.sleep(SLOW_S)
    return name, token


def seen(pair: tuple[str, str]) -> list[str]:
    note("ack", *pair)
    tick()
    return list(pair)


@ckpt.job
def bare(ordered: bool, executor: str) -> Any:
    done = []
    function = fetch if executor == "threads" else fetch_in_process
    names = (f"item-{i}" for i in range(9))
    for pair in ckpt.map(function, names, ordered=ordered, executor=executor, max_workers=WORKERS):
        done.append(seen(pair))
    return done


@form
def map_ordered() -> object:
    return bare(True, "threads")


@form
def map_as_completed() -> object:
    return bare(False, "threads")


@form
def map_processes() -> object:
    return bare(False, "processes")


@ckpt.job
def looped(ordered: bool) -> Any:
    done: list[Any] = []
    names = [f"item-{i}" for i in range(9)]
    for pair in ckpt.loop(ckpt.map(fetch, names, ordered=ordered, max_workers=WORKERS)):
        done.append(seen(pair))
    tick()
    return done


@form
def map_in_a_loop() -> object:
    return looped(True)


@form
def map_as_completed_in_a_loop() -> object:
    return looped(False)


@ckpt.step
def after(name: str, token: str) -> str:
    """Its identity holds the token: executed again if a resume handed results out in another order."""
    note("do", f"after-{name}", f"{token}x", ckpt.operation_key())
    return f"{token}x"


@ckpt.job
def nested(days: int) -> Any:
    done = [seen(pair) for pair in ckpt.map(fetch, ["open-a", "open-b"], max_workers=WORKERS)]
    for day in ckpt.loop(range(days)):
        names = [f"day-{day}-{i}" for i in range(4)]
        for pair in ckpt.loop(ckpt.map(fetch, names, ordered=False, max_workers=WORKERS)):
            done.append(seen(pair))
            for _ in ckpt.loop("xy"):
                tick()
            done.append(seen((f"after-{pair[0]}", after(*pair))))
        done += [seen(pair) for pair in ckpt.map(fetch, [f"evening-{day}"] * 1, max_workers=WORKERS)]
    done += [seen(pair) for pair in ckpt.map(fetch, ["close-a"], max_workers=WORKERS)]
    return done


@form
def maps_nested() -> object:
    return nested(2)


@form
def map_in_a_block() -> object:
    with ckpt.open("block") as run:
        s = run.state(done=[])
        for pair in run.loop(ckpt.map(fetch, [f"item-{i}" for i in range(7)], max_workers=WORKERS)):
            s.done.append(seen(pair))
        return s.done


@ckpt.job
def equal_items() -> Any:
    return [pair[1] for pair in ckpt.map(fetch, ["same"] * 8, max_workers=WORKERS)]


@form
def map_of_equal_items() -> object:
    return equal_items()


def ticking(names: list[str]) -> Iterator[str]:
    for name in names:
        tick()
        yield name


@ckpt.job
def kept_at_entry() -> Any:
    """In later attempts a checkpoint is taken at the entry of the loop, before the first item is read again."""
    done = []
    run = ckpt.current_run()
    assert run is not None
    for _ in ckpt.loop("a"):
        pass  # the first loop of a job always takes one
    if run.attempt > 1:
        run.request_checkpoint()
    for pair in ckpt.loop(ckpt.map(fetch_in_process, ticking([f"item-{i}" for i in range(9)]), max_workers=1)):
        done.append(seen(pair))
    return done


@form
def map_kept_at_its_entry() -> object:
    return kept_at_entry()


def names_now() -> list[str]:
    return os.environ["NAMES"].split(",")


@ckpt.job(key="changing")
def changing(ordered: bool) -> Any:
    return [seen(pair) for pair in ckpt.map(fetch, names_now(), ordered=ordered, max_workers=1)]


@form
def map_of_changing_items() -> object:
    return changing(os.environ["ORDERED"] == "yes")
