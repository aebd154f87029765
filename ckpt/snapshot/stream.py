"""The bytes of one pack, made while they are written: digests and compression run ahead of the storage, side by side."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ckpt import host
from ckpt.codecs.compression import compress_if_worth
from ckpt.format.cipher import SALT_SIZE
from ckpt.format.keys import Key
from ckpt.snapshot import layout
from ckpt.snapshot.images import Image, Plan, Unit
from ckpt.snapshot.layout import Chunk, Manifest, Patch, Place
from ckpt.snapshot.reference import Packed

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from ckpt.protocols import Buffer

BATCH_UNITS = 256
"""Chunks handed to a worker at once, at most: handing one over costs more than digesting a small one."""

BATCH_CHUNKS = 4
"""Full chunks handed to a worker at once."""

LOOKAHEAD = 4
"""Batches digested and compressed ahead of the write: what bounds the memory."""


class _Prepared(NamedTuple):
    """A unit's digest, raw size, codec number and stored bytes; None for these where the chunk was known at the time."""

    unit: Unit
    digest: bytes
    nbytes: int
    codec: int
    stored: Buffer | None


class PackStream:
    """The bytes of one pack. ``cpu_s``: processor time of the workers."""

    def __init__(
        self, pack: str, key: Key, known: dict[bytes, Place], entropy: Callable[[int], bytes], *, is_live: bool,
        given_up: frozenset[Place],
    ) -> None:  # fmt: skip
        """``is_live``: the sources may change at any time, so each chunk is copied before it is digested and stored.

        ``given_up``: what is not to be drawn on.
        """
        self._pack, self._key, self._known, self._is_live = pack, key, known, is_live
        self._given_up = given_up
        self._salt = entropy(SALT_SIZE) if key.encrypts else None
        self._cipher = None if self._salt is None else layout.pack_cipher(key, pack, self._salt)
        self._packs: set[str] = set()
        self._aligns = False
        self._lock = threading.Lock()
        self.stored: dict[bytes, Place] = {}
        self.length = 0
        self.cpu_s = 0.0
        self.manifest: Packed | None = None  # once the last byte was handed out
        self.chunks: list[list[Chunk]] = []
        self.patches: list[list[Patch]] = []

    def pieces(self, plans: list[Plan], lengths: tuple[int, ...], workers: ThreadPoolExecutor) -> Generator[Buffer]:
        """The pack from its header to its manifest. What is planned must stay as it is until this has ended."""
        yield self._count(layout.pack_header(self._key, self._pack, self._salt))
        self.chunks = [[] for _ in plans]
        self.patches = [[*plan.patches] for plan in plans]
        # Patches cannot be stored again from here: their packs come first. There are fewer than the bound.
        self._packs = {patch.place.pack for plan in plans for patch in plan.patches}
        self._packs |= {unit.known.place.pack for plan in plans for unit in plan.units if unit.known is not None}
        new = sum(unit.nbytes for plan in plans for unit in plan.units if unit.raw is not None)
        self._aligns = self._cipher is None and new >= layout.ALIGNED_FROM
        for done in self._prepared((unit for plan in plans for unit in plan.units), workers):
            if done.unit.pieces:
                place = yield from self._store(done)
                self.patches[done.unit.part].append(Patch(done.unit.part, done.nbytes, done.digest, place))
                continue
            if done.unit.known is not None:
                self.chunks[done.unit.part].append(done.unit.known)
                continue
            known = self._usable(self.stored.get(done.digest) or self._known.get(done.digest))
            if known is None:
                known = self.stored[done.digest] = yield from self._store(done)
            self.chunks[done.unit.part].append(Chunk(done.digest, known))
        yield from self._finish(lengths)

    def image(self, index: int, plan: Plan, number: int, nbytes: int) -> Image:
        """What is stored of the part ``index`` now."""
        return Image(number, nbytes, tuple(self.chunks[index]), tuple(self.patches[index]), plan.covered)

    @property
    def places(self) -> list[Place]:
        """Where all that the snapshot needs is stored."""
        of_chunks = [chunk.place for part in self.chunks for chunk in part]
        return of_chunks + [patch.place for part in self.patches for patch in part]

    def _usable(self, place: Place | None) -> Place | None:
        """``place`` unless it is given up, or its pack would be one too many: a chunk that is there is stored again."""
        if place in self._given_up:
            return None
        if place is not None and place.pack not in self._packs and place.pack != self._pack:
            if len(self._packs) >= layout.MAX_PACKS - 1:  # one of the packs is this one
                return None
            self._packs.add(place.pack)
        return place

    def _store(self, done: _Prepared) -> Generator[Buffer, None, Place]:
        codec, stored = done.codec, done.stored
        if stored is None:
            assert done.unit.raw is not None
            codec, stored = compress_if_worth(done.unit.raw)
        nbytes = memoryview(stored).nbytes
        gap = -self.length % layout.ALIGNED
        if gap and self._aligns and nbytes == layout.CHUNK_SIZE:
            yield self._count(bytes(gap))  # a storage can then write the chunk from where it is
        stored = self._encrypted(stored)
        place = Place(self._pack, self.length, memoryview(stored).nbytes, codec)
        yield self._count(stored)
        return place

    def _finish(self, lengths: tuple[int, ...]) -> Generator[Buffer]:
        all_packs = (*sorted(self._packs - {self._pack}), self._pack)
        patches = tuple(
            patch._replace(part=index) for index, patches in enumerate(self.patches) for patch in patches
        )
        manifest = Manifest(lengths, tuple(chunk for part in self.chunks for chunk in part), patches)
        stored = self._encrypted(layout.encode_manifest(manifest, all_packs))
        offset = self.length
        yield self._count(stored)
        digest = layout.manifest_digest(self._key, stored)
        nbytes = memoryview(stored).nbytes
        self.manifest = Packed(all_packs, offset, nbytes, digest, self._cipher is not None, patched=bool(patches))

    def _encrypted(self, piece: Buffer) -> Buffer:
        """``piece`` as it is stored next: its number is where it will stand, so no number is used twice."""
        return piece if self._cipher is None else self._cipher.encrypt(self.length, piece)

    def _count(self, piece: Buffer) -> Buffer:
        self.length += memoryview(piece).nbytes
        return piece

    def _prepared(self, units: Iterable[Unit], workers: ThreadPoolExecutor) -> Iterator[_Prepared]:
        """Every unit in order, digested and if new compressed, a bounded number ahead of its use."""
        pending: deque[Future[list[_Prepared]]] = deque()
        for batch in _batches(units):
            pending.append(workers.submit(self._prepare, batch))
            if len(pending) >= LOOKAHEAD:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()

    def _prepare(self, batch: list[Unit]) -> list[_Prepared]:
        began = host.thread_cpu_s()
        prepared: list[_Prepared] = []
        for unit in batch:
            if unit.known is not None:
                prepared.append(_Prepared(unit, unit.known.digest, 0, 0, None))
                continue
            raw: Buffer
            if unit.raw is not None:
                own = memoryview(bytes(unit.raw)) if self._is_live else unit.raw
                unit, raw = unit._replace(raw=own), own
                address = layout.chunk_digest(self._key, raw)
                if address in self._known or address in self.stored:
                    prepared.append(_Prepared(unit, address, 0, 0, None))
                    continue
            else:
                raw = layout.encode_patch([*unit.pieces])
                address = layout.patch_digest(self._key, raw)
            prepared.append(_Prepared(unit, address, memoryview(raw).nbytes, *compress_if_worth(raw)))
        with self._lock:
            self.cpu_s += host.thread_cpu_s() - began
        return prepared


def _batches(units: Iterable[Unit]) -> Iterator[list[Unit]]:
    batch: list[Unit] = []
    nbytes = 0
    for unit in units:
        batch.append(unit)
        nbytes += unit.nbytes
        if nbytes >= BATCH_CHUNKS * layout.CHUNK_SIZE or len(batch) >= BATCH_UNITS:
            yield batch
            batch, nbytes = [], 0
    if batch:
        yield batch
