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
from dataclasses import dataclass, field

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


def measure(bench: Bench) -> list[Row]:
    mib, rounds, useful_s = bench.size(200, 16), bench.size(5, 1), bench.size(30, 6)
    numbers = random.Random(SEED)
    told, observed = _Case(f'every="auto", mtbf="{MTBF_S:g}s"', f"{MTBF_S:g}s"), _Case('every="auto", failures observed', "observed")
    for _ in range(rounds):
        # Without checkpoints and without kills, just before: what a step takes changes with the load of the machine.
        plain = bench.result("goodput.py", mib, 20, "observed", plain=True)
        steps = max(10, round(useful_s / plain["step_s"]))
        work_s = plain["first_s"] + (steps - 1) * plain["step_s"]
        kills = [numbers.expovariate(1 / MTBF_S) for _ in range(200)]
        for case in (told, observed):
            if not _killed(bench, case, (mib, steps), plain["step_s"], work_s, kills):
                return [not_measured("W3 under kills", f"no end after {LONGEST_S:.0f} s")]
    head = f"W3 {mib} MiB, SIGKILL at exponential intervals of {MTBF_S:g} s: useful share of the time"
    return [row for case in (told, observed) for row in case.rows(f"{head}, {case.label}")]


@dataclass(slots=True)
class _Case:
    """One way to choose the interval, and what came of it in each round."""

    label: str
    mtbf: str
    kills: int = 0
    ours: list[float] = field(default_factory=list)
    ideals: list[float] = field(default_factory=list)
    costs: list[Costs] = field(default_factory=list)

    def rows(self, label: str) -> list[Row]:
        costs = self.costs[-1]
        note = (
            f"{self.kills} kills; a step {costs.step_s * 1e3:.0f} ms, a stall {costs.stall_s * 1e3:.0f} ms, durable "
            f"{costs.persist_s:.2f} s later, a start {costs.start_s:.2f} s; the ideal: a checkpoint each {costs.every_s:.2f} s; "
            f"seed {SEED}"
        )
        return [
            compare(label, self.ours, ("Young/Daly ideal", self.ideals), unit="%", floor=OF_IDEAL, note=note),
            compare(label, self.ours, ("no kills, no checkpoints", [1.0] * len(self.ours)), unit="%"),
        ]


def _usual(values: Sequence[float]) -> float:
    """The median; 0 without any."""
    return statistics.median(values) if values else 0.0


def _killed(
    bench: Bench, case: _Case, size: tuple[int, int], step_s: float, work_s: float, kills: Sequence[float]
) -> bool:
    """Kill a job of ``size`` (MiB, steps) and start it again until it ends; False if it does not."""
    store = bench.new_folder()
    starts: list[float] = []
    saved: list[dict[str, float]] = []
    began = time.monotonic()
    try:
        for number, life_s in enumerate(kills):
            child = bench.child("goodput.py", *size, case.mtbf, store=store)
            try:
                out, _ = child.process.communicate(timeout=life_s)
            except subprocess.TimeoutExpired:
                child.process.kill()
                out, _ = child.process.communicate()
            said = [json.loads(line) for line in out.splitlines()]
            starts += [one["ready"] - child.began for one in said if "ready" in one]
            saved += [one for one in said if "stall" in one][1:]  # the first of a process is a cold one
            if child.process.returncode == 0:
                costs = Costs(step_s, *(_usual([one[name] for one in saved]) for name in ("stall", "persist")), _usual(starts))
                case.kills += number
                case.costs.append(costs)
                case.ours.append(work_s / (said[-1]["end"] - began))
                case.ideals.append(work_s / ideal_s(costs, work_s, kills))
                return True
            if child.process.returncode != -signal.SIGKILL:
                raise RuntimeError(f"{child.program} ended with status {child.process.returncode}")
            if time.monotonic() - began > LONGEST_S:
                return False
        return False
    finally:
        shutil.rmtree(store)
