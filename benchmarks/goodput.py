"""Useful time under kills: W3 with SIGKILL at exponential intervals, against the best that checkpoints can do then.

The ideal is a job whose checkpoints cost what they cost here, each Daly interval, under the very same kills: it loses the
work since its last checkpoint that was durable, and the time of a start.
"""

from __future__ import annotations

import math
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness import Bench, Row, compare, not_measured
from ckpt.bench import daly_interval

MTBF_S = 10.0
OF_IDEAL = 0.95
LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one step, one checkpoint (the job stands still; the rest until it is durable) and one start, in seconds."""

    step_s: float
    stall_s: float
    persist_s: float
    start_s: float

    @property
    def every_s(self) -> float:
        return daly_interval(self.stall_s, MTBF_S)


def ideal_s(costs: Costs, useful_s: float, kills: Sequence[float]) -> float:
    """How long the ideal job takes for ``useful_s`` of work; ``kills``: how long each process lives."""
    saved_s = spent_s = 0.0
    for life_s in (*kills, math.inf):
        at_s, done_s = costs.start_s, saved_s
        while at_s + (work_s := min(costs.every_s, useful_s - done_s)) <= life_s:
            at_s, done_s = at_s + work_s, done_s + work_s
            if done_s >= useful_s - 1e-9:
                return spent_s + at_s
            at_s += costs.stall_s
            if at_s + costs.persist_s <= life_s:
                saved_s = done_s
        spent_s += life_s
    raise AssertionError("the last life has no end")


def measure(bench: Bench) -> list[Row]:
    mib, rounds, useful_s = bench.size(200, 16), bench.size(5, 1), bench.size(40, 6)
    costs = _costs(bench, mib)
    steps = max(10, round(useful_s / costs.step_s))
    numbers = random.Random(4)
    ours: list[float] = []
    ideals: list[float] = []
    plain: list[float] = []
    lives = 0
    for _ in range(rounds):
        kills = [numbers.expovariate(1 / MTBF_S) for _ in range(200)]
        seconds, used = _killed(bench, mib, steps, f"{costs.every_s:.3f}s", kills)
        if seconds is None:
            return [not_measured("W3 under kills", f"no end after {LONGEST_S:.0f} s")]
        lives += used
        ours.append(steps * costs.step_s / seconds)
        ideals.append(steps * costs.step_s / ideal_s(costs, steps * costs.step_s, kills))
        plain.append(1.0)
    note = (
        f"{lives} kills; a step {costs.step_s * 1e3:.0f} ms, a stall {costs.stall_s * 1e3:.0f} ms, durable "
        f"{costs.persist_s:.2f} s later, a start {costs.start_s:.2f} s; a checkpoint each {costs.every_s:.2f} s; seed 4"
    )
    label = f"W3 {mib} MiB, SIGKILL at exponential intervals of {MTBF_S:g} s: useful share of the time"
    return [
        compare(label, ours, ("Young/Daly ideal", ideals), unit="%", floor=OF_IDEAL, note=note),
        compare(label, ours, ("no kills, no checkpoints", plain), unit="%"),
    ]


def _costs(bench: Bench, mib: int) -> Costs:
    """From one run without kills, one without checkpoints, and one resume."""
    plain = bench.result("goodput.py", mib, 20, "1000h", plain=True)
    starts: list[float] = []
    store = bench.new_folder()
    for _ in range(3):
        child = bench.child("goodput.py", mib, 1_000_000, "500ms", store=store)
        starts.append(child.next()["ready"] - child.began)
        time.sleep(2.0)
        child.kill()
    shutil.rmtree(store)
    found = bench.result("goodput.py", mib, max(20, round(8 / plain["step_s"])), "1s")
    return Costs(
        step_s=plain["step_s"],
        stall_s=statistics.median(found["stalls"][1:] or found["stalls"]),
        persist_s=statistics.median(found["persists"][1:] or found["persists"]),
        start_s=statistics.median(starts[1:]),
    )


def _killed(bench: Bench, mib: int, steps: int, every: str, kills: Sequence[float]) -> tuple[float | None, int]:
    """(seconds to the end, or None if there is none; kills that there were)."""
    store = bench.new_folder()
    began = time.monotonic()
    try:
        for number, life_s in enumerate(kills):
            child = bench.child("goodput.py", mib, steps, every, store=store)
            try:
                child.process.wait(life_s)
            except subprocess.TimeoutExpired:
                child.kill()
                if time.monotonic() - began > LONGEST_S:
                    return None, number
                continue
            return child.last()["end"] - began, number
        return None, len(kills)
    finally:
        shutil.rmtree(store)
