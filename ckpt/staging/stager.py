"""The copy of a state: which buffers are watched one by one, and which are copied together.

Large buffers have a region each, so that what did not change needs no second copy; the skeleton and all small buffers
share one. See the package's docstring for what is guaranteed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pickle import PickleBuffer
from typing import TYPE_CHECKING

from ckpt import rawmemory
from ckpt.rawmemory import Address
from ckpt.staging.memory import Arena, Region
from ckpt.staging.pages import PAGE, WrittenPages
from ckpt.staging.ranges import Change, Ranges, changes_between
from ckpt.staging.watched import Strategy, Watched

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ALIGNMENT = 64
"""Each part starts at a multiple of this many bytes: a cache line, and the widest vector registers."""

SMALL_STATE = 64 * 1024
"""States below this many bytes live in plain memory: mapping pages would cost more than the copy."""

LARGE_BUFFER = 1024 * 1024
"""Buffers from this size on are watched: below, asking what changed costs more than to copy it."""

MAX_WATCHED = 1024
"""Buffers that are watched at once, at most: each takes up to five of the process's mappings."""

UNSEEN = 8
"""Stagings after which a buffer that was not among them is forgotten: states of different loops take turns."""

MARK_COST_S = 1.5e-6
"""Seconds that the first write to a page costs the job after the page was staged, where the kernel marks pages."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a part is a copy of: the buffer's serial and the copy's number, and what is known of changes before it."""

    serial: int
    number: int
    known: tuple[Change, ...]

    def changes_since(self, number: int) -> Ranges | None:
        """Where this copy may differ from that of this number; None: anywhere."""
        return changes_between(self.known, number, self.number)


class StagedState:
    """A copy of one state. ``parts[0]`` is the skeleton, then the buffers in order; ``nbytes`` is the sum of their sizes.

    ``origins`` tells what large parts are copies of. ``is_live``: it is no copy but the job's memory itself, which threads of
    the job may write to at any time. The parts may be read by any thread until ``release``, and raise
    ValueError after it. A staged state that is dropped without ``release`` gives its memory back to the system instead of
    to the next copy.
    """

    __slots__ = ("_arena", "_regions", "is_live", "nbytes", "origins", "parts")

    def __init__(
        self, parts: list[memoryview], origins: dict[int, Origin], arena: Arena, regions: list[Region], *, is_live: bool = False
    ) -> None:  # fmt: skip
        self.parts, self.origins, self.is_live = parts, origins, is_live
        self.nbytes = sum(part.nbytes for part in parts)
        self._arena, self._regions = arena, regions

    @contextmanager
    def reading(self) -> Iterator[list[memoryview]]:
        """The parts, for a block in which ``release`` is refused: slices of them stay what they are."""
        held: list[PickleBuffer] = []
        try:
            for part in self.parts:
                held.append(PickleBuffer(part))
            yield self.parts
        finally:
            for hold in held:
                hold.release()

    def release(self) -> None:
        """End the use of this copy: its memory serves the next one. Calling it again does nothing.

        BufferError inside a ``reading`` block, or while an object made from a part (an array, a PickleBuffer) is alive;
        the memory is then not used again until ``release`` has succeeded.
        """
        for part in self.parts:
            part.release()
        regions, self._regions = self._regions, []
        for region in regions:
            self._arena.give_back(region)


class Stager:
    """Copies states into memory of its own. For one thread at a time; ``StagedState.release`` may be called in any."""

    strategy: Strategy = "auto"
    """How it is found out what changed in large buffers. For tests: set it on the class before jobs begin."""

    def __init__(self, limit: int | None = None) -> None:
        """``limit``: bytes of memory that copies may take; see ``fits``."""
        self._limit = limit
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._arena = Arena(self._limit)
        self._watched: dict[tuple[int, int], tuple[Watched, int]] = {}
        self._turn = 0
        self._kernel: WrittenPages | None = None
        self._asked_kernel = False
        self._marks_cost_s = 0.0

    @property
    def held_bytes(self) -> int:
        """Bytes of mapped memory that are in use or kept for the next state."""
        return self._arena.held_bytes

    def take_marks_cost_s(self) -> float:
        """Seconds that marking written pages cost the job, estimated, since this was asked last."""
        cost, self._marks_cost_s = self._marks_cost_s, 0.0
        return cost

    def stage(self, skeleton: bytes, buffers: Sequence[ReadableBuffer]) -> StagedState:
        """A copy of ``skeleton`` and ``buffers``; returns once nothing of the job's memory is referred to.

        Buffers are C- or F-contiguous (BufferError otherwise), maybe read-only, maybe empty. They are copied as the
        bytes that they occupy: an F-ordered one in F order. After a MemoryError the stager is as it was before.
        """
        if os.getpid() != self._pid:
            self._begin_anew()  # in a forked child: what is marked is the parent's memory
        sources: list[memoryview] = []
        try:
            for buffer in (skeleton, *buffers):
                sources.append(PickleBuffer(buffer).raw())
            return self._copy_all(sources)
        finally:
            for source in sources:
                source.release()

    def fits(self, skeleton: bytes, buffers: Sequence[ReadableBuffer]) -> bool:
        """Whether a copy of these can be made now within the limit."""
        if self._limit is None:
            return True
        sizes = [memoryview(buffer).nbytes for buffer in (skeleton, *buffers)]
        small = sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes if size < LARGE_BUFFER)
        return self._arena.fits([size for size in sizes if size >= LARGE_BUFFER] + ([small] if small >= SMALL_STATE else []))

    def live(self, skeleton: bytes, buffers: Sequence[ReadableBuffer]) -> StagedState:
        """The memory of ``buffers`` itself as a state: to be stored and released before the job goes on."""
        parts = [PickleBuffer(buffer).raw() for buffer in (skeleton, *buffers)]
        return StagedState(parts, {}, self._arena, [], is_live=True)

    def close(self) -> None:
        """Let go of the kernel's marks and of all memory that no staged state uses."""
        kernel = self._kernel
        self._begin_anew()
        if kernel is not None:
            kernel.close()

    def _copy_all(self, sources: list[memoryview]) -> StagedState:
        watched = self._watch(sources)
        regions: list[Region] = []
        parts: list[memoryview] = [memoryview(b"")] * len(sources)
        origins: dict[int, Origin] = {}
        try:
            self._copy_small(sources, [i for i in range(len(sources)) if i not in watched], parts, regions)
            serials = {one.serial for one in watched.values()}
            for index, one in watched.items():
                regions.append(self._arena.take(one.nbytes, one.serial, serials))
                marked = one.copy_into(regions[-1], sources[index], self._kernel)
                self._marks_cost_s += marked / PAGE * MARK_COST_S
                parts[index] = memoryview(regions[-1].memory)[: one.nbytes]
                origins[index] = Origin(one.serial, one.copies, one.known)
        except BaseException:
            for part in parts:
                part.release()
            for region in regions:
                self._arena.give_back(region)
            raise
        return StagedState(parts, origins, self._arena, regions)

    def _copy_small(self, sources: list[memoryview], small: list[int], parts: list[memoryview], regions: list[Region]) -> None:
        offsets, total = [], 0
        for index in small:
            offsets.append(total)
            total += -(-sources[index].nbytes // ALIGNMENT) * ALIGNMENT
        if total >= SMALL_STATE:
            regions.append(self._arena.take(total))
            regions[-1].content = None
            whole = memoryview(regions[-1].memory)
        else:
            whole = memoryview(bytearray(total))
        for at, index in zip(offsets, small, strict=True):
            source = sources[index]
            part = parts[index] = whole[at : at + source.nbytes]
            if source.nbytes < rawmemory.SMALL_COPY:
                part[:] = source
            else:
                # The GIL is released around this copy: other threads of the job run meanwhile.
                with Address(part) as target_address, Address(source) as source_address:
                    rawmemory.copy(target_address, source_address, source.nbytes)

    def _watch(self, sources: list[memoryview]) -> dict[int, Watched]:
        """The sources that are watched, by their index; those that were not seen for long are forgotten."""
        places: dict[int, tuple[int, int]] = {}
        for index, source in enumerate(sources):
            if index and source.nbytes >= LARGE_BUFFER:
                with Address(source) as address:
                    places[index] = address, source.nbytes
        largest = sorted(places, key=lambda index: -places[index][1])[:MAX_WATCHED]
        apart = _apart([places[index] for index in largest])
        places = {index: places[index] for index in sorted(largest) if places[index] in apart}
        self._turn += 1
        if places:
            self._check_kernel()
        self._forget_unseen(set(places.values()))
        watched = {}
        for index, place in places.items():
            one = self._watched[place][0] if place in self._watched else Watched(*place, self.strategy)
            self._watched[place] = one, self._turn
            watched[index] = one
        return watched

    def _forget_unseen(self, now: set[tuple[int, int]]) -> None:
        """Forget buffers that were not seen for long, and those whose place another buffer has taken in part."""
        gone = [place for place in self._watched if place not in now]
        if not gone:
            return
        still = _apart([*now, *gone])
        for place in gone:
            one, turn = self._watched[place]
            if place not in still or self._turn - turn > UNSEEN:
                one.forget()
                del self._watched[place]

    def _check_kernel(self) -> None:
        """Have the kernel's help where it can be had and is to be believed."""
        if not self._asked_kernel:
            self._asked_kernel = True
            if self.strategy in ("auto", "pages"):
                try:
                    self._kernel = WrittenPages()
                except OSError:
                    if self.strategy == "pages":
                        raise
        if self._kernel is not None and not self._kernel.usable():
            for one, _ in self._watched.values():
                one.forget()
            self._kernel.close()
            self._kernel = None


def _apart(places: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """The buffers that share no memory with another one: to ask for one's changes would hide those of the other."""
    apart: set[tuple[int, int]] = set()
    end = 0
    for address, nbytes in sorted(places):
        if address >= end:
            apart.add((address, nbytes))
        else:
            apart -= {place for place in apart if sum(place) > address}
        end = max(end, address + nbytes)
    return apart
