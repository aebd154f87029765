"""Ranges of bytes, and what is known of the changes between two copies of one buffer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

Ranges = tuple[tuple[int, int], ...]
"""Half-open, sorted, apart: ``(start, stop)`` in bytes."""

REMEMBERED = 8
"""Copies of a buffer back to which its changes are remembered."""


def union(*several: Iterable[tuple[int, int]]) -> Ranges:
    """All bytes that are in any of ``several``; ranges that touch become one. A tuple is taken to be ``Ranges`` already."""
    given = [ranges for ranges in several if ranges != ()]
    if len(given) == 1 and isinstance(given[0], tuple):
        return given[0]
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(one for ranges in given for one in ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return tuple(merged)


def size_of(ranges: Ranges) -> int:
    return sum(stop - start for start, stop in ranges)


def pieces(ranges: Ranges, step: int) -> Iterator[tuple[int, int, int]]:
    """``ranges`` cut at the multiples of ``step``: (number of the cell, start, stop), in order."""
    for start, stop in ranges:
        while start < stop:
            cell = start // step
            end = min(stop, (cell + 1) * step)
            yield cell, start, end
            start = end


class Change(NamedTuple):
    """Where the copies numbered ``before`` and ``after`` of one buffer may differ; elsewhere they are equal."""

    before: int
    after: int
    ranges: Ranges


def changes_between(known: Sequence[Change], first: int, second: int) -> Ranges | None:
    """Where the copies ``first`` and ``second`` may differ; None if ``known`` does not tell.

    Equality has no direction and adds up, so any path of known changes that joins the two will do.
    """
    reached: dict[int, tuple[Change, ...]] = {second: ()}
    front = [second]
    while front and first not in reached:
        at = front.pop(0)
        for change in known:
            for here, there in ((change.after, change.before), (change.before, change.after)):
                if here == at and there not in reached:
                    reached[there] = (*reached[at], change)
                    front.append(there)
    if first not in reached:
        return None
    return union(*(change.ranges for change in reached[first]))
