"""The table that people read, and the JSON that programs read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.harness import Row

HEADINGS = ("measure", "ckpt", "limit or peer", "", "ratio", "spread", "target")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (0.0, "ns"))


def text(groups: Mapping[str, Iterable[Row]]) -> str:
    """All rows, group by group, notes below their rows."""
    lines: dict[str, list[tuple[tuple[str, ...], str]]] = {
        group: [(_cells(row), row.note) for row in rows] for group, rows in groups.items()
    }
    every = [HEADINGS, *(cells for rows in lines.values() for cells, _ in rows)]
    widths = [max(len(cells[column]) for cells in every) for column in range(len(HEADINGS))]
    parts = [_line(HEADINGS, widths), _line(tuple("-" * width for width in widths), widths)]
    for group, rows in lines.items():
        parts.append(f"[{group}]")
        for cells, note in rows:
            parts.append(_line(cells, widths))
            if note:
                parts.append(f"    ({note})")
    return "\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    if row.rounds == 0:
        return (row.measure, "not measured", "", "", "", "", "")
    spread = f"{_number(row.low)} - {_number(row.high)} ({row.rounds})"
    limit = bound(row.target, row.floor)
    target = limit and f"{limit}  {'met' if row.met else 'missed'}"
    return (
        row.measure,
        amount(row.ours, row.unit),
        row.peer,
        amount(row.theirs, row.unit),
        _number(row.ratio),
        spread,
        target,
    )


def amount(value: float, unit: str) -> str:
    """A time in a unit that people read, a size, a share in percent, a multiple ("x") or a number ("")."""
    if unit == "%":
        return f"{value:.2%}"
    if unit == "B":
        return f"{value / 1024:,.0f} KiB" if value < 1 << 20 else f"{value / (1 << 20):,.4g} MiB"
    if unit == "x" or not unit:
        return f"{value:.3g}{unit and ' x'}"
    scale, name = next((scale, name) for scale, name in _UNITS if abs(value) >= scale)
    return f"{value / (scale or 1e-9):.3g} {name}"


def bound(target: float | None, floor: float | None) -> str:
    """What is promised, as text; empty if nothing is."""
    if target is not None:
        return f"<= {target:.3g}"
    return f">= {floor:.3g}" if floor is not None else ""


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def document(groups: Mapping[str, Iterable[Row]], machine: Mapping[str, object], *, quick: bool) -> dict[str, Any]:
    """Everything, for ``--json``. Times are seconds."""
    rows = [{"group": group, **asdict(row), "met": row.met} for group, found in groups.items() for row in found]
    return {"machine": dict(machine), "quick": quick, "rows": rows}
