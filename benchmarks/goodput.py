"""Useful time under kills: W3 with SIGKILL at exponential intervals, against the best that checkpoints can do then.

The ideal is a job whose checkpoints cost what they cost here, each Daly interval, under the very same kills: it loses the
work since its last checkpoint that was durable, and the time of a start.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.harness import Bench, Row, compare, not_measured
from ckpt.bench import daly_interval

MTBF_S = 10.0
OF_IDEAL = 0.95
LONGEST_S = 300.0
SEED = 4


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


@dataclass(slots=True)
class Killed:
    """A job that was killed again and again, and ended after ``seconds``. ``costs`` are those of its own processes."""

    seconds: float
    kills: int
    costs: Costs


def measure(bench: Bench) -> list[Row]:
    mib, rounds, useful_s = bench.size(200, 16), bench.size(5, 1), bench.size(30, 6)
    first = _costs(bench, mib)
    numbers = random.Random(SEED)
    ours: list[float] = []
    ideals: list[float] = []
    done: list[Killed] = []
    for _ in range(rounds):
        # Without checkpoints and without kills, just before: what a step takes changes with the load of the machine.
        plain = bench.result("goodput.py", mib, 20, "1000h", plain=True)
        steps = max(10, round(useful_s / plain["step_s"]))
        work_s = plain["first_s"] + (steps - 1) * plain["step_s"]
        kills = [numbers.expovariate(1 / MTBF_S) for _ in range(200)]
        killed = _killed(bench, mib, steps, replace(first, step_s=plain["step_s"]), kills)
        if killed is None:
            return [not_measured("W3 under kills", f"no end after {LONGEST_S:.0f} s")]
        done.append(killed)
        ours.append(work_s / killed.seconds)
        ideals.append(work_s / ideal_s(killed.costs, work_s, kills))
    costs = done[-1].costs
    note = (
        f"{sum(each.kills for each in done)} kills; a step {costs.step_s * 1e3:.0f} ms, a stall {costs.stall_s * 1e3:.0f} ms, "
        f"durable {costs.persist_s:.2f} s later, a start {costs.start_s:.2f} s; a checkpoint each {first.every_s:.2f} s; "
        f"seed {SEED}"
    )
    label = f"W3 {mib} MiB, SIGKILL at exponential intervals of {MTBF_S:g} s: useful share of the time"
    return [
        compare(label, ours, ("Young/Daly ideal", ideals), unit="%", floor=OF_IDEAL, note=note),
        compare(label, ours, ("no kills, no checkpoints", [1.0] * len(ours)), unit="%"),
    ]


def _costs(bench: Bench, mib: int) -> Costs:
    """What to choose the interval by: from one run without kills."""
    found = bench.result("goodput.py", mib, 40, "1s")
    return Costs(found["step_s"], _usual(found["stalls"]), _usual(found["persists"]), 0.0)


def _usual(values: Sequence[float]) -> float:
    """The median, without the very first, which is a cold one."""
    return statistics.median(values[1:] or values)


def _killed(bench: Bench, mib: int, steps: int, costs: Costs, kills: Sequence[float]) -> Killed | None:
    """Kill a job and start it again until it ends; None if it does not."""
    store = bench.new_folder()
    starts: list[float] = []
    began = time.monotonic()
    try:
        for number, life_s in enumerate(kills):
            child = bench.child("goodput.py", mib, steps, f"{costs.every_s:.3f}s", store=store)
            try:
                out, _ = child.process.communicate(timeout=life_s)
            except subprocess.TimeoutExpired:
                child.process.kill()
                out, _ = child.process.communicate()
            starts += [json.loads(line)["ready"] - child.began for line in out.splitlines()[:1]]
            if child.process.returncode == 0:
                said = json.loads(out.splitlines()[-1])
                stalls, persists = said["stalls"] or [costs.stall_s], said["persists"] or [costs.persist_s]
                own = Costs(costs.step_s, _usual(stalls), _usual(persists), statistics.median(starts))
                return Killed(said["end"] - began, number, own)
            if child.process.returncode != -signal.SIGKILL:
                raise RuntimeError(f"{child.program} ended with status {child.process.returncode}")
            if time.monotonic() - began > LONGEST_S:
                return None
        return None
    finally:
        shutil.rmtree(store)
