"""How long the main thread is held up while a checkpoint is made durable beside it. Usage: pause.py w3|w8 MIB ROUNDS

w8: the main thread does nothing but look at the clock (pure Python); a pause is the time between two looks. w3: it takes
steps of a network; a pause is what the longest step takes beyond the usual one. Each round has a checkpoint of the network
of MIB, and as long a time without one before it.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import ckpt
from benchmarks.programs.common import say
from benchmarks.programs.workloads import make
from ckpt import events

committed = threading.Event()
found: dict[str, list[float]] = {"during": [], "before": [], "took": []}


class Watch:
    """No variable of the job."""

    last_s = 0.2
    """How long the last checkpoint took beside the job."""

    requested_s = 0.0
    stall_s = 0.0
    """What the checkpoint says that the job stood still for it."""


def hook(name: str, details: dict[str, object]) -> None:
    if name == "checkpoint" and details["reason"] == "requested":  # the very first may still be in flight
        Watch.stall_s = float(str(details["stall_s"]))
        committed.set()


def spin(until: Callable[[], bool]) -> float:
    """The longest time between two looks at the clock, until the condition holds."""
    longest, before = 0.0, time.perf_counter()
    while not until():
        now = time.perf_counter()
        longest = max(longest, now - before)
        before = now
    return longest


def steps(state: Any, until: Callable[[], bool]) -> list[float]:
    """What steps take, until the condition holds; at least three."""
    times: list[float] = []
    while len(times) < 3 or not until():
        began = time.perf_counter()
        state.step()
        times.append(time.perf_counter() - began)
    return times


def watch_pauses(kind: str, state: Any) -> None:
    """A checkpoint was handed over just now: see how the main thread fares until it is durable."""
    began = time.perf_counter()
    if kind == "w8":
        longest = spin(committed.is_set)
        # The main thread may be held up right behind the stall, too, before it is in its loop's body again.
        found["during"].append(max(longest, began - Watch.requested_s - Watch.stall_s))
        Watch.last_s = time.perf_counter() - began
        end = time.perf_counter() + Watch.last_s
        found["before"].append(spin(lambda: time.perf_counter() >= end))
    else:
        during = steps(state, committed.is_set)
        Watch.last_s = time.perf_counter() - began
        end = time.perf_counter() + Watch.last_s
        usual = steps(state, lambda: time.perf_counter() >= end)
        found["during"].append(max(0.0, max(during) - statistics.median(usual)))
        found["before"].append(max(usual) - statistics.median(usual))
    found["took"].append(Watch.last_s)


@ckpt.job(key="pause", every="1000h")
def job(kind: str, mib: int, rounds: int) -> None:
    state = make("w3", mib)
    for turn in ckpt.loop(range(rounds + 2)):
        if turn > 0:
            watch_pauses(kind, state)
        state.step()
        run = ckpt.current_run()
        committed.clear()
        if run is not None:
            run.request_checkpoint()
        Watch.requested_s = time.perf_counter()


if __name__ == "__main__":
    events.add_hook(hook)
    job(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    say(**{name: values[1:] for name, values in found.items()})
