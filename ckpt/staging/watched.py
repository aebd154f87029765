"""One large buffer of the job, seen again and again at one address: which of its bytes changed between two copies.

The kernel tells it where it can (``pages``); elsewhere the bytes are compared with the last copy. Where most of a buffer
changes neither is worth it: then it is copied whole, and looked at again later.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal

from ckpt import rawmemory
from ckpt.staging.memory import Region
from ckpt.staging.pages import PAGE, WrittenPages
from ckpt.staging.ranges import REMEMBERED, Change, Ranges, changes_between, size_of, union

Strategy = Literal["auto", "copy", "compare", "pages"]
"""``copy``: always all of it; ``compare``: never ask the kernel; ``pages``: ask it whatever that costs."""

MUCH = 0.25
"""Where more than this part of a buffer changed, copying all of it is cheaper: a marked page costs its first write about as
much time as it takes to copy three pages."""

PAUSE = 16
"""Copies after which a buffer that changed much is looked at again; doubled each time, up to ``LONGEST_PAUSE``."""
LONGEST_PAUSE = 256

BLOCK = 64 * 1024
"""Bytes compared at once; where they differ, page by page."""

_serials = itertools.count()


@dataclass(slots=True, eq=False)
class Watched:
    """A buffer of ``nbytes`` bytes at ``address``. Its copies are numbered by ``copies``: the newest one's number."""

    address: int
    nbytes: int
    strategy: Strategy
    copies: int = 0
    known: tuple[Change, ...] = ()
    serial: int = field(default_factory=lambda: next(_serials))
    marks: WrittenPages | None = None
    _pause: int = PAUSE
    _look_at: int = 2

    @property
    def pages(self) -> tuple[int, int]:
        """The whole pages of the buffer: what is outside shares its pages with other objects."""
        return -(-self.address // PAGE) * PAGE, (self.address + self.nbytes) // PAGE * PAGE

    def copy_into(self, region: Region, source: memoryview, kernel: WrittenPages | None) -> int:
        """Make ``region`` the next copy, from ``source`` as it is now; the bytes that the kernel marked since the last one.

        Marks are cleared before anything is copied: what another thread writes meanwhile is marked again.
        """
        content, region.content = region.content, None  # until all of it is copied
        held = content[1] if content is not None and content[0] == self.serial else None
        newest = held is not None and held == self.copies
        self.copies += 1
        target = _address_of(region)
        marked = self._marked()
        changed = marked
        if marked is not None:
            changed = union(marked, self._edges(target if newest else None))
            self._learn(Change(self.copies - 1, self.copies, changed))
            stale = None if held is None else changes_between(self.known, held, self.copies)
        else:
            looks = self.strategy != "copy" and self.copies >= self._look_at and held is not None
            if looks:
                self._mark(kernel)
            stale = _differences(target, self.address, self.nbytes) if looks else None
            changed = ((0, self.nbytes),) if looks and stale is None else stale
            if stale is not None and held is not None:
                self._learn(Change(held, self.copies, stale))
        if stale is None:
            rawmemory.copy(target, self.address, self.nbytes)
        else:
            self._copy_ranges(region, source, stale)
        region.content = (self.serial, self.copies)
        size = size_of(changed) if changed is not None else None
        self._adapt(size)
        return 0 if marked is None or size is None else size  # a page or two more than were marked, maybe

    def _copy_ranges(self, region: Region, source: memoryview, ranges: Ranges) -> None:
        """Copy thousands of single pages without a call through ctypes for each, which costs as much as the copy."""
        with memoryview(region.memory) as view:
            target = _address_of(region)
            for start, stop in ranges:
                if stop - start < rawmemory.SMALL_COPY:
                    view[start:stop] = source[start:stop]
                else:
                    rawmemory.copy(target + start, self.address + start, stop - start)

    def forget(self) -> None:
        """Let go of the kernel's marks."""
        if self.marks is not None:
            self.marks.unwatch(*self.pages)
            self.marks = None

    def _learn(self, change: Change) -> None:
        self.known = (*self.known, change)[-REMEMBERED:]

    def _mark(self, kernel: WrittenPages | None) -> None:
        if kernel is not None and kernel.watch(*self.pages):
            self.marks = kernel

    def _marked(self) -> Ranges | None:
        """What was written since the copy before, relative to the buffer; None if that is not known."""
        if self.marks is None:
            return None
        found = self.marks.written(*self.pages)
        if found is None:
            self.forget()
            return None
        return tuple((start - self.address, stop - self.address) for start, stop in found)

    def _edges(self, target: int | None) -> Ranges:
        """What is outside of whole pages, where it is not the same as at ``target``, the copy before."""
        first, last = self.pages
        edges = ((0, first - self.address), (last - self.address, self.nbytes))
        return tuple(
            (start, stop)
            for start, stop in edges
            if start < stop
            and not (target is not None and rawmemory.equal(target + start, self.address + start, stop - start))
        )

    def _adapt(self, changed: int | None) -> None:
        """Stop looking for a while where many bytes changed."""
        if changed is None or self.strategy in ("pages", "copy"):
            return
        if changed > MUCH * self.nbytes:
            self.forget()
            self._look_at, self._pause = self.copies + self._pause, min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._pause = PAUSE


def _address_of(region: Region) -> int:
    with memoryview(region.memory) as view, rawmemory.Address(view) as address:
        return address


def _differences(first: int, second: int, nbytes: int) -> Ranges | None:
    """Where two buffers differ, in blocks of a page; None once more than ``MUCH`` of them does."""
    found: list[tuple[int, int]] = []
    differing = 0
    for block in range(0, nbytes, BLOCK):
        end = min(block + BLOCK, nbytes)
        if rawmemory.equal(first + block, second + block, end - block):
            continue
        for start in range(block, end, PAGE):
            stop = min(start + PAGE, end)
            if not rawmemory.equal(first + start, second + start, stop - start):
                found.append((start, stop))
                differing += stop - start
        if differing > MUCH * nbytes:
            return None
    return union(found)
