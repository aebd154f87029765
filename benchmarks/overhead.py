"""What checkpoints at the default budget add to a job's time: the same program with ckpt and with CKPT_DISABLE=1."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Bench, Row, compare

BUDGET = 0.01
LOOP = 1.01
PROMISED = ("small", "w3")
"""Where the loop is promised to take at most ``LOOP`` times as long, once the first checkpoint, which is on top, is over."""
RARELY = "1000h"


@dataclass(frozen=True, slots=True)
class Case:
    """A job of ``benchmarks/programs/overhead.py``; sizes and steps for a full and for a quick run."""

    label: str
    name: str
    size: tuple[int, int]
    steps: tuple[int, int]


CASES = (
    Case("small state, Python loop", "small", (0, 0), (200_000, 5_000)),
    Case("W1 10 % changed", "w1:10:block", (256, 32), (100, 40)),
    Case("W3 network with Adam", "w3", (200, 16), (200, 20)),
    Case("W6 results in a list", "batch", (0, 0), (100_000, 10_000)),
    Case("W6 a step per item, sync=interval:1s", "steps", (0, 0), (25_000, 5_000)),
)
QUICK = (CASES[0], CASES[1], CASES[4])


def _rows(bench: Bench, case: Case) -> list[Row]:
    size, steps = case.size[bench.quick], case.steps[bench.quick]
    ours: list[dict[str, Any]] = []
    plain: list[dict[str, Any]] = []
    rarely: list[dict[str, Any]] = []
    for turn in range(bench.size(5, 3)):
        for disabled in (turn % 2 == 0, turn % 2 == 1):
            found = bench.result("overhead.py", case.name, size, steps, plain=disabled)
            (plain if disabled else ours).append(found)
        if case.name == "small":
            rarely.append(bench.result("overhead.py", case.name, size, steps, RARELY))
    label = f"{case.label}{f', {size} MiB' if size else ''}, {steps:,} iterations"
    count = statistics.median(one["checkpoints"] for one in ours)
    notes = {
        "whole": f"start, first checkpoint and recorded result included; {count:.0f} checkpoints",
        "loop": "from the first iteration on",
        "steady": "from a tenth of the iterations on: the first checkpoint, which is on top of the budget, is over",
    }
    titles = {"whole": "whole call", "loop": "loop alone", "steady": "behind the first checkpoint"}
    rows = [
        compare(
            f"{label}: {titles[part]}",
            [one[part] for one in ours],
            ("CKPT_DISABLE=1", [one[part] for one in plain]),
            note=note,
            target=LOOP if part == "steady" and case.name in PROMISED else None,
        )
        for part, note in notes.items()
    ]
    if rarely:
        rows.append(
            compare(
                f"{label}: behind the first checkpoint, none due",
                [one["steady"] for one in rarely],
                ("CKPT_DISABLE=1", [one["steady"] for one in plain]),
                note=f'every="{RARELY}": what the marked loop itself takes, {1e6 * plain[0]["loop"] / steps:.0f} us an iteration without',
            )
        )
    shares = [one["cost_s"] / one["seconds"] for one in ours]
    rows.append(
        compare(
            f"{label}: share of time, as ckpt counts it",
            shares,
            ("budget of 1 %", [BUDGET] * len(shares)),
            unit="%",
            note="a short job is above it: the first checkpoint is taken whatever it costs",
        )
    )
    return rows


def measure(bench: Bench) -> list[Row]:
    return [row for case in (QUICK if bench.quick else CASES) for row in _rows(bench, case)]
