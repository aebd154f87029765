"""Owns the writing of snapshots: one attempt's packs, and what is known to be stored already.

Guarantees: a reference is returned only when every byte that it needs is durable; a chunk counts as known only once
the pack that holds it is durable; memory beyond the staged state is bounded, whatever the state's size.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from ckpt import host
from ckpt.codecs.compression import compress_if_worth
from ckpt.errors import StorageError
from ckpt.format.cipher import SALT_SIZE
from ckpt.format.keys import Key
from ckpt.snapshot import layout
from ckpt.snapshot.layout import Chunk, Manifest, Place
from ckpt.snapshot.reader import read_manifest
from ckpt.snapshot.reference import Inline, Packed, SnapshotRef, inline_body

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from ckpt.format.names import RunNames
    from ckpt.protocols import Buffer, Storage
    from ckpt.staging import StagedState

MAX_PACKS = 64
"""Packs that one snapshot may draw on. Each keeps its unused chunks alive too, and is one more file to lose; a snapshot
that has reached the bound is followed by one that stores everything afresh, so that the old packs can go."""

PART_OVERHEAD = 4
"""Bytes that an inline reference spends on each part: counted, so that many empty parts are not a small state."""

BATCH_CHUNKS = 256
"""Chunks handed to the worker at once, at most: handing one over costs more than digesting a small one."""

LOOKAHEAD = 8
"""Batches digested and compressed ahead of the write: what bounds the memory."""


class SnapshotWriter:
    """Writes the snapshots of one attempt. Thread-safe: one call at a time does its work, others wait."""

    def __init__(
        self, storage: Storage, names: RunNames, key: Key, epoch: int, *, inline_limit: int = 16384,
        entropy: Callable[[int], bytes] = host.entropy,
    ) -> None:  # fmt: skip
        """``inline_limit``: states up to about this many bytes are stored inside their references.

        ``entropy`` gives fresh random bytes: where the store encrypts, each pack has a data key from them.
        """
        self._storage, self._names, self._key = storage, names, key
        self._epoch, self._inline_limit, self._entropy = epoch, inline_limit, entropy
        self._lock = threading.Lock()
        self._next_pack = 0
        self._known: dict[bytes, Place] = {}
        self._last_pack_count = 0

    def write(self, state: StagedState) -> SnapshotRef:
        """Store ``state``; durable on return, and ``state`` is not looked at any more.

        StorageFullError or another StorageError leaves earlier snapshots and this writer as they were.
        """
        with state.reading() as parts:
            if state.nbytes + PART_OVERHEAD * len(parts) <= self._inline_limit:
                return self._write_inline(parts)
            with self._lock:
                if self._last_pack_count >= MAX_PACKS:
                    self._known = {}
                return self._write_pack(parts)

    def adopt(self, refs: Iterable[SnapshotRef]) -> None:
        """Make the chunks of earlier snapshots known, so that they are not written again.

        Only for snapshots that ``read_snapshot`` has just verified: a chunk that is known is not looked at again.
        Chunks of an older key are never drawn on: their digests are others. CorruptionError if a manifest does not verify.
        """
        for ref in refs:
            if isinstance(ref.body, Packed):
                manifest = read_manifest(ref, self._storage, self._names, self._key)
                with self._lock:
                    self._known.update(manifest.chunks)
                    self._last_pack_count = max(self._last_pack_count, len(ref.packs))

    def forget(self, packs: Iterable[str]) -> None:
        """No later snapshot draws on these packs. To be called *before* they are deleted.

        References returned earlier may still name them: packs of a reference that is yet to be committed must stay.
        """
        gone = frozenset(packs)
        with self._lock:
            self._known = {address: place for address, place in self._known.items() if place.pack not in gone}

    def _write_inline(self, parts: list[memoryview]) -> SnapshotRef:
        lengths = tuple(part.nbytes for part in parts)
        codec, stored = compress_if_worth(b"".join(parts))
        body = inline_body(lengths, codec, stored)
        inline = Inline(lengths, codec, bytes(stored), layout.inline_digest(self._key, body))
        return SnapshotRef(sum(lengths), len(body), inline, self._key.id)

    def _write_pack(self, parts: list[memoryview]) -> SnapshotRef:
        from concurrent.futures import ThreadPoolExecutor  # imports logging: too slow for `import ckpt`

        pack = self._names.pack(self._epoch, self._next_pack)
        # Never the same name twice: after an error nobody knows for sure what is stored under this one.
        self._next_pack += 1
        stream = _PackStream(pack, self._key, self._known, self._entropy)
        # Leaving this block, by an error too, waits for the worker: it reads memory that the caller will release.
        with ThreadPoolExecutor(1, "ckpt-chunks") as worker, closing(stream.pieces(parts, worker)) as pieces:
            written = self._storage.put(pack, pieces)
        if stream.manifest is None or written != stream.length:
            raise StorageError(f"{written} bytes of {stream.length} were stored", where=pack, fix="Mend the storage.")
        # Commit point: the pack is durable, so its chunks are known from here on.
        self._known.update(stream.stored)
        self._last_pack_count = len(stream.manifest.packs)
        return SnapshotRef(sum(part.nbytes for part in parts), written, stream.manifest, self._key.id)


class _PackStream:
    """The bytes of one pack, made while they are written."""

    def __init__(
        self, pack: str, key: Key, known: dict[bytes, Place], entropy: Callable[[int], bytes]
    ) -> None:  # fmt: skip
        self._pack, self._key, self._known = pack, key, known
        self._salt = entropy(SALT_SIZE) if key.encrypts else None
        self._cipher = None if self._salt is None else layout.pack_cipher(key, pack, self._salt)
        self.stored: dict[bytes, Place] = {}
        self.length = 0
        self.manifest: Packed | None = None  # once the last byte was handed out

    def pieces(self, sources: list[memoryview], worker: ThreadPoolExecutor) -> Generator[Buffer]:
        """The pack from its header to its manifest. ``sources`` must stay as they are until this has ended."""
        yield self._count(layout.pack_header(self._key, self._pack, self._salt))
        chunks: list[Chunk] = []
        packs: set[str] = set()
        for address, raw, codec, stored in self._prepared(sources, worker):
            place = self.stored.get(address) or self._known.get(address)
            if place is not None and place.pack not in packs and place.pack != self._pack:
                # One of the packs is this one. A chunk in a pack past the bound is stored again.
                place = place if len(packs) < MAX_PACKS - 1 else None
            if place is None:
                if stored is None:
                    codec, stored = compress_if_worth(raw)
                stored = self._encrypted(stored)
                length = memoryview(stored).nbytes
                place = self.stored[address] = Place(self._pack, self.length, length, codec)
                yield self._count(stored)
            if place.pack != self._pack:
                packs.add(place.pack)
            chunks.append(Chunk(address, place))
        all_packs = (*sorted(packs), self._pack)
        lengths = tuple(source.nbytes for source in sources)
        stored = self._encrypted(layout.encode_manifest(Manifest(lengths, tuple(chunks)), all_packs))
        offset = self.length
        yield self._count(stored)
        digest = layout.manifest_digest(self._key, stored)
        self.manifest = Packed(all_packs, offset, memoryview(stored).nbytes, digest, self._cipher is not None)

    def _encrypted(self, piece: Buffer) -> Buffer:
        """``piece`` as it is stored next: its number is where it will stand, so no number is used twice."""
        return piece if self._cipher is None else self._cipher.encrypt(self.length, piece)

    def _count(self, piece: Buffer) -> Buffer:
        self.length += memoryview(piece).nbytes
        return piece

    def _prepared(self, sources: list[memoryview], worker: ThreadPoolExecutor) -> Iterator[_Prepared]:
        """Every chunk of ``sources`` in order, digested and if new compressed, a bounded number ahead of its use."""
        pending: deque[Future[list[_Prepared]]] = deque()
        for batch in _batches(sources):
            pending.append(worker.submit(self._prepare, batch))
            if len(pending) >= LOOKAHEAD:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()

    def _prepare(self, batch: list[memoryview]) -> list[_Prepared]:
        prepared: list[_Prepared] = []
        for raw in batch:
            address = layout.chunk_digest(self._key, raw)
            if address in self._known or address in self.stored:
                prepared.append((address, raw, 0, None))
            else:
                prepared.append((address, raw, *compress_if_worth(raw)))
        return prepared


_Prepared = tuple[bytes, memoryview, int, "Buffer | None"]
"""A chunk's digest, raw bytes, codec number and stored bytes; None where the chunk was known at the time."""


def _batches(sources: list[memoryview]) -> Iterator[list[memoryview]]:
    batch: list[memoryview] = []
    nbytes = 0
    for index, start, stop in layout.cut(source.nbytes for source in sources):
        batch.append(sources[index][start:stop])
        nbytes += stop - start
        if nbytes >= layout.CHUNK_SIZE or len(batch) >= BATCH_CHUNKS:
            yield batch
            batch, nbytes = [], 0
    if batch:
        yield batch
