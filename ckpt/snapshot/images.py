"""Owns what is known of parts that were stored before: which of their chunks still hold, and what has to be patched.

A part that is a later copy of the same buffer, with known changes, needs no digest of what did not change. Where little
of a chunk changed, the new bytes are stored as a patch over it: so single pages, scattered over a large array, cost what
they are, not a chunk each. Once patches cover half of a part they are given up, and its chunks are stored afresh.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ckpt.snapshot import layout
from ckpt.snapshot.layout import Chunk, Patch, Place
from ckpt.staging.ranges import Ranges, pieces, size_of, union

if TYPE_CHECKING:
    from ckpt.staging import Origin

PATCHED_SHARE = 0.5
"""A part of which patches cover more than this is stored afresh: a resume reads them on top of all its chunks."""

WHOLE_SHARE = 0.875
"""A chunk of which more than this changed is stored whole: it is found again then, wherever else its content occurs."""

PATCH_EXTENTS = 4096
"""Pieces of one patch, at most; together they are at most as large as a chunk."""


@dataclass(frozen=True, slots=True)
class Image:
    """A part as it is stored: the copy ``number`` of a buffer of ``nbytes`` bytes; ``covered`` by ``patches``."""

    number: int
    nbytes: int
    chunks: tuple[Chunk, ...]
    patches: tuple[Patch, ...] = ()
    covered: Ranges = ()

    @property
    def places(self) -> set[Place]:
        return {one.place for one in self.chunks} | {one.place for one in self.patches}

    @property
    def packs(self) -> set[str]:
        return {place.pack for place in self.places}


class Unit(NamedTuple):
    """One piece of work: a chunk (``raw``, or ``known`` as it is stored), or a patch of ``pieces`` (start, bytes)."""

    part: int
    raw: memoryview | None = None
    known: Chunk | None = None
    pieces: tuple[tuple[int, memoryview], ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes that have to be digested."""
        return self.raw.nbytes if self.raw is not None else sum(data.nbytes for _, data in self.pieces)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one part is stored: its units, the patches that stay, and what patches cover then."""

    units: list[Unit]
    patches: tuple[Patch, ...] = ()
    covered: Ranges = ()


def plan(
    part: int, source: memoryview, origin: Origin | None, image: Image | None, given_up: frozenset[Place] = frozenset()
) -> Plan:
    """How ``source`` is stored, given what is stored of an earlier copy of its buffer, without what is ``given_up``."""
    changed = None
    if origin is not None and image is not None and image.nbytes == source.nbytes:
        changed = origin.changes_since(image.number)
    if changed is None or image is None:
        return Plan([Unit(part, raw=source[start:stop]) for _, start, stop in layout.cut([source.nbytes])])
    old = {cell for cell, chunk in enumerate(image.chunks) if chunk.place in given_up}
    patches = image.patches
    if any(patch.place in given_up for patch in patches):
        # What is there now, in one patch over all: the newest patch counts, so the order stays right.
        patches, changed = (), union(image.covered, changed)
    covered = union(image.covered, changed)
    if size_of(covered) > PATCHED_SHARE * source.nbytes:
        afresh = {cell for cell, _, _ in pieces(covered, layout.CHUNK_SIZE)}
        return Plan(_chunks(part, source, image, afresh | old))
    # A chunk under patches that stay may be stored as it is now, but what changed has to come on top of them.
    patched = {cell for cell, _, _ in pieces(image.covered, layout.CHUNK_SIZE)} if patches else set()
    whole = (_mostly(changed, source.nbytes) | old) - patched
    rest = union((start, stop) for cell, start, stop in pieces(changed, layout.CHUNK_SIZE) if cell not in whole)
    units = [*_chunks(part, source, image, whole | old), *_patches(part, source, rest)]
    return Plan(units, patches, union(image.covered, rest) if patches else rest)


def _chunks(part: int, source: memoryview, image: Image, new: set[int]) -> list[Unit]:
    return [
        Unit(part, raw=source[start:stop]) if cell in new else Unit(part, known=image.chunks[cell])
        for cell, (_, start, stop) in enumerate(layout.cut([source.nbytes]))
    ]


def _mostly(changed: Ranges, nbytes: int) -> set[int]:
    """The chunks of which nearly all changed."""
    bytes_of: dict[int, int] = {}
    for cell, start, stop in pieces(changed, layout.CHUNK_SIZE):
        bytes_of[cell] = bytes_of.get(cell, 0) + stop - start
    return {
        cell for cell, size in bytes_of.items() if size > WHOLE_SHARE * min(layout.CHUNK_SIZE, nbytes - cell * layout.CHUNK_SIZE)
    }


def _patches(part: int, source: memoryview, ranges: Ranges) -> Iterator[Unit]:
    gathered: list[tuple[int, memoryview]] = []
    size = 0
    for _, start, stop in pieces(ranges, layout.CHUNK_SIZE):
        if gathered and (size + stop - start > layout.CHUNK_SIZE or len(gathered) == PATCH_EXTENTS):
            yield Unit(part, pieces=tuple(gathered))
            gathered, size = [], 0
        gathered.append((start, source[start:stop]))
        size += stop - start
    if gathered:
        yield Unit(part, pieces=tuple(gathered))
