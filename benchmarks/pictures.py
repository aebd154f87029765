"""Pictures of results for the README: ``python -m benchmarks.pictures results.json FOLDER``. Needs matplotlib (extra plot).

Writes ``targets.svg``, every promise and how far it is met, ``peers.svg``, other packages beside ckpt, and ``summary.md``, the
promises as a table in Markdown. The same results give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.table import bound

Record = Mapping[str, Any]
PEERS = ("peers", "recording")
MET, MISSED, PEER = "#2a7f62", "#c8553d", "#47647f"
LONGEST = 84
"""Letters of a label."""


def of_target(row: Record) -> float:
    """How many times its target a row takes: 1 where it is just met, below where it is better."""
    best = row["target"] / row["ratio"] if row["target"] is not None else row["ratio"] / row["floor"]
    return 1 / best if best > 0 else math.inf


def draw_targets(rows: Sequence[Record], caption: str) -> Figure:
    """One bar for each promise: to the left of the line it is met."""
    shown = [row for row in rows if row["met"] is not None and row["group"] not in PEERS]
    figure = Figure(figsize=(11, 0.8 + 0.27 * len(shown)), layout="constrained")
    axes = figure.subplots()
    values = [min(max(of_target(row), 1e-2), 1e3) for row in shown]
    axes.barh(range(len(shown)), [value - 1e-2 for value in values], left=1e-2, color=[MET if r["met"] else MISSED for r in shown])
    axes.set_yticks(range(len(shown)), [_label(f"{row['measure']} / {row['peer']}") for row in shown], fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel(f"measured / promised (left of the line: met)\n{caption}", fontsize=8)
    return figure


def draw_peers(rows: Sequence[Record], caption: str) -> Figure:
    """For each aspect the peers, as multiples of what ckpt takes."""
    aspects: dict[str, list[Record]] = {}
    for row in rows:
        if row["group"] in PEERS and row["rounds"] > 0:
            aspects.setdefault(row["measure"], []).append(row)
    count = max(1, len(aspects))
    columns = min(4, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(4 * columns, 0.6 + 2.3 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (aspect, found) in zip(grid.flat, aspects.items(), strict=False):
        axes.set_axis_on()
        values = [1 / max(row["ratio"], 1e-9) for row in found]
        axes.barh(range(len(found)), values, color=[PEER if value >= 1 else MISSED for value in values])
        axes.set_yticks(range(len(found)), [row["peer"] for row in found], fontsize=6)
        axes.set_xscale("log")
        axes.axvline(1, color="black", linewidth=1)
        axes.invert_yaxis()
        axes.set_title(aspect, fontsize=8)
        axes.tick_params(axis="x", labelsize=6)
    figure.supxlabel(f"multiples of ckpt (right of the line: ckpt is ahead)\n{caption}", fontsize=8)
    return figure


def summary(rows: Sequence[Record], caption: str) -> str:
    """The promises, met or not, as a table in Markdown; what could not be measured is listed below it."""
    lines = ["| measure | against | ratio (spread) | promised | |", "|---|---|---|---|---|"]
    for row in rows:
        if row["met"] is not None and row["group"] not in PEERS:
            spread = f"{row['ratio']:.3g} ({row['low']:.3g} to {row['high']:.3g})"
            limit = bound(row["target"], row["floor"])
            lines.append(f"| {row['measure']} | {row['peer']} | {spread} | {limit} | {'met' if row['met'] else '**missed**'} |")
    missing = [f"* not measured: {row['measure']} ({row['note']})" for row in rows if row["rounds"] == 0]
    return "\n".join([*lines, "", *missing, f"Measured on: {caption}.", ""])


def _label(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    found = json.loads(asked.results.read_text())
    machine = found["machine"]
    caption = ", ".join(str(machine[key]) for key in ("python", "platform", "processor", "file_system") if key in machine)
    caption += f", {machine['processors']} processors"
    matplotlib.rcParams["svg.hashsalt"] = "ckpt"
    asked.folder.mkdir(parents=True, exist_ok=True)
    (asked.folder / "summary.md").write_text(summary(found["rows"], caption))
    for name, draw in (("targets", draw_targets), ("peers", draw_peers)):
        draw(found["rows"], caption).savefig(asked.folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
