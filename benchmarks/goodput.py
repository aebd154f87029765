"""Useful time under kills: W3 with SIGKILL at exponential intervals, against the best that checkpoints can do then.

The ideal is a job whose checkpoints cost what they cost here, each Daly interval, under the very same kills: it loses the
work since its last checkpoint that was durable, and the time of a start.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.harness import Bench, Row, compare, not_measured
from ckpt.bench import daly_interval

MTBF_S = 10.0
OF_IDEAL = 0.95
LONGEST_S = 300.0
SEED = 4


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one step, one checkpoint (what it takes from the job; the time until it is durable) and one start, in seconds."""

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
        plain = _Life.of(bench.said("goodput.py", mib, 20, "observed", plain=True), 0.0)
        step_s = statistics.median(plain.steps()[1:])
        steps = max(10, round(useful_s / step_s))
        work = _Work(mib, steps, step_s, plain.steps()[0] + (steps - 1) * step_s)
        kills = [numbers.expovariate(1 / MTBF_S) for _ in range(200)]
        for case in (told, observed):
            if not case.play(bench, work, kills):
                return [not_measured("W3 under kills", f"no end after {LONGEST_S:.0f} s")]
    head = f"W3 {mib} MiB, SIGKILL at exponential intervals of {MTBF_S:g} s: useful share of the time"
    return [row for case in (told, observed) for row in case.rows(f"{head}, {case.label}")]


@dataclass(frozen=True, slots=True)
class _Work:
    """A job: ``steps`` of ``step_s`` without checkpoints and kills, ``useful_s`` in all."""

    mib: int
    steps: int
    step_s: float
    useful_s: float


@dataclass(slots=True)
class _Life:
    """What one process said: when its steps began (and the last one ended), and of its checkpoints."""

    began: float
    marks: list[float]
    checkpoints: list[dict[str, float]]

    @classmethod
    def of(cls, said: Sequence[dict[str, float]], began: float) -> _Life:
        marks = [one[name] for one in said for name in ("step", "end") if name in one]
        return cls(began, marks, [one for one in said if "stall" in one])

    def steps(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.marks)]

    def beside(self, checkpoint: dict[str, float]) -> list[tuple[float, float]]:
        """The steps (begin, end) that have some of the checkpoint in them, from its stall until it was durable."""
        begin, end = checkpoint["at"] - checkpoint["persist"] - checkpoint["stall"], checkpoint["at"]
        return [(a, b) for a, b in itertools.pairwise(self.marks) if b > begin and a < end]

    def alone(self) -> list[float]:
        """The steps without any checkpoint beside them; not the first one, in which a process warms up."""
        touched = {step for one in self.checkpoints for step in self.beside(one)}
        return [b - a for a, b in [*itertools.pairwise(self.marks)][1:] if (a, b) not in touched]

    def taken(self, step_s: float) -> list[float]:
        """What each checkpoint took from the job: the steps beside it, beyond the ``step_s`` that each takes alone.

        The first one of a process, which is a cold one, is left out, and one that the process did not outlive by a step.
        """
        found = []
        for one in self.checkpoints[1:]:
            steps = self.beside(one)
            if steps and steps[-1][1] >= one["at"]:
                found.append(max(one["stall"], sum(b - a for a, b in steps) - len(steps) * step_s))
        return found


@dataclass(slots=True)
class _Case:
    """One way to choose the interval, and what came of it in each round."""

    label: str
    mtbf: str
    kills: int = 0
    ours: list[float] = field(default_factory=list)
    ideals: list[float] = field(default_factory=list)
    stalls_only: list[float] = field(default_factory=list)
    costs: list[Costs] = field(default_factory=list)
    every: list[float] = field(default_factory=list)
    lost: list[tuple[float, float, float]] = field(default_factory=list)
    """Of each round, as shares of its time: starts, steps that were lost with a kill, what steps took beyond the usual."""

    def play(self, bench: Bench, work: _Work, kills: Sequence[float]) -> bool:
        """Kill the job and start it again until it ends; False if it does not."""
        lives: list[_Life] = []
        lived_s = killed = 0.0
        store, began = bench.new_folder(), time.monotonic()
        try:
            for life_s in kills:
                child = bench.child("goodput.py", work.mib, work.steps, self.mtbf, store=store)
                try:
                    out, _ = child.process.communicate(timeout=life_s)
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    killed = time.monotonic()  # what its end takes is nobody's: the memory is given back
                    out, _ = child.process.communicate()
                said = [json.loads(line) for line in out.splitlines()]
                lives.append(_Life.of(said, child.began))
                if said and "end" in said[-1]:  # perhaps killed just behind it
                    self._ended(lives, work, lived_s + said[-1]["end"] - child.began, kills)
                    return True
                if child.process.returncode != -signal.SIGKILL:
                    raise RuntimeError(f"{child.program} ended with status {child.process.returncode}")
                lived_s += killed - child.began
                if time.monotonic() - began > LONGEST_S:
                    return False
            return False
        finally:
            shutil.rmtree(store)

    def _ended(self, lives: Sequence[_Life], work: _Work, seconds: float, kills: Sequence[float]) -> None:
        usual = [one for life in lives for one in life.checkpoints[1:]]
        stall_s, persist_s = (_median([one[name] for one in usual]) for name in ("stall", "persist"))
        start_s = _median([life.marks[0] - life.began for life in lives if life.marks])
        # Against steps of these very lives. Their mean: a median would take the noise of the machine for the checkpoints'.
        alone = [each for life in lives for each in life.alone()]
        step_s = statistics.mean(alone) if alone else work.step_s
        taken_s = _median([each for life in lives for each in life.taken(step_s)])
        costs = Costs(work.step_s, max(stall_s, taken_s), persist_s, start_s)
        self.kills += len(lives) - 1
        self.costs.append(costs)
        self.every += [b["at"] - a["at"] for life in lives for a, b in itertools.pairwise(life.checkpoints[1:])]
        self.ours.append(work.useful_s / seconds)
        starts_s = sum(life.marks[0] - life.began for life in lives if life.marks)
        steps = [each for life in lives for each in life.steps()]
        again_s = (len(steps) - work.steps) * work.step_s
        besides_s = seconds - work.useful_s - starts_s - again_s
        self.lost.append((starts_s / seconds, again_s / seconds, besides_s / seconds))
        self.ideals.append(work.useful_s / ideal_s(costs, work.useful_s, kills))
        self.stalls_only.append(work.useful_s / ideal_s(replace(costs, stall_s=stall_s), work.useful_s, kills))

    def rows(self, label: str) -> list[Row]:
        costs = self.costs[-1]
        starts, again, slower = (_median(each) for each in zip(*self.lost, strict=True))
        note = (
            f"{self.kills} kills; a step {costs.step_s * 1e3:.0f} ms; a checkpoint takes {costs.stall_s * 1e3:.0f} ms from the "
            f"job and is durable {costs.persist_s:.2f} s later; a start {costs.start_s:.2f} s; a checkpoint each "
            f"{_median(self.every):.2f} s, the ideal each {costs.every_s:.2f} s; of the time {starts:.1%} are starts, {again:.1%} "
            f"steps that were lost, {slower:.1%} what checkpoints and kills take besides; seed {SEED}"
        )
        return [
            compare(label, self.ours, ("Young/Daly ideal", self.ideals), unit="%", floor=OF_IDEAL, note=note),
            compare(label, self.ours, ("the same if only stalls cost anything", self.stalls_only), unit="%"),
            compare(label, self.ours, ("no kills, no checkpoints", [1.0] * len(self.ours)), unit="%"),
        ]


def _median(values: Sequence[float]) -> float:
    """The median; 0 without any."""
    return statistics.median(values) if values else 0.0
