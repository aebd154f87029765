"""Owns the writing of snapshots: one attempt's packs, and what is known to be stored already.

Guarantees: a reference is returned only when every byte that it needs is durable; a chunk counts as known only once
the pack that holds it is durable; memory beyond the staged state is bounded, whatever the state's size.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TYPE_CHECKING

from ckpt import host
from ckpt.codecs import compression
from ckpt.codecs.compression import compress_if_worth
from ckpt.errors import IntegrityError, StorageError
from ckpt.format.keys import Key
from ckpt.rawmemory import Address, equal
from ckpt.snapshot import layout
from ckpt.snapshot.images import Image, plan
from ckpt.snapshot.layout import Place
from ckpt.snapshot.packs import PackUse
from ckpt.snapshot.reader import read_manifest, read_snapshot
from ckpt.snapshot.reference import Inline, Packed, SnapshotRef, inline_body
from ckpt.snapshot.stream import PackStream

if TYPE_CHECKING:
    from ckpt.format.names import RunNames
    from ckpt.protocols import Storage
    from ckpt.staging import StagedState

PART_OVERHEAD = 4
"""Bytes that an inline reference spends on each part: counted, so that many empty parts are not a small state."""

WORKERS = max(1, min(4, (os.cpu_count() or 2) - 1))
"""Threads that digest and compress: one core is left to the job. Four are faster than any storage."""


class SnapshotWriter:
    """Writes the snapshots of one attempt. Thread-safe: one call at a time does its work, others wait."""

    validate: bool = False
    """Whether what was stored in packs is read back and compared before ``write`` returns."""

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
        self._images: dict[int, Image] = {}  # by the serial of the buffer
        self._use = PackUse()
        self._cpu_s = 0.0
        _load_modules()

    def write(self, state: StagedState) -> SnapshotRef:
        """Store ``state``; durable on return, and ``state`` is not looked at any more.

        StorageFullError or another StorageError leaves earlier snapshots and this writer as they were.
        """
        with state.reading() as parts:
            if state.nbytes + PART_OVERHEAD * len(parts) <= self._inline_limit:
                return self._write_inline(parts)
            with self._lock:
                return self._write_pack(state)

    def take_cpu_s(self) -> float:
        """Processor time that threads of this writer's own took since this was asked last, seconds."""
        with self._lock:
            cpu_s, self._cpu_s = self._cpu_s, 0.0
            return cpu_s

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
                    self._use.note(manifest.places)

    def forget(self, packs: Iterable[str]) -> None:
        """No later snapshot draws on these packs. To be called *before* they are deleted.

        References returned earlier may still name them: packs of a reference that is yet to be committed must stay.
        """
        gone = frozenset(packs)
        with self._lock:
            self._known = {address: place for address, place in self._known.items() if place.pack not in gone}
            self._images = {serial: image for serial, image in self._images.items() if not image.packs & gone}

    def _write_inline(self, parts: list[memoryview]) -> SnapshotRef:
        lengths = tuple(part.nbytes for part in parts)
        codec, stored = compress_if_worth(b"".join(parts))
        body = inline_body(lengths, codec, stored)
        inline = Inline(lengths, codec, bytes(stored), layout.inline_digest(self._key, body))
        return SnapshotRef(sum(lengths), len(body), inline, self._key.id)

    def _write_pack(self, state: StagedState) -> SnapshotRef:
        from concurrent.futures import ThreadPoolExecutor

        pack = self._names.pack(self._epoch, self._next_pack)
        # Never the same name twice: after an error nobody knows for sure what is stored under this one.
        self._next_pack += 1
        given_up = self._use.given_up(state.nbytes)
        stream = PackStream(pack, self._key, self._known, self._entropy, is_live=state.is_live, given_up=given_up)
        images = self._usable_images(state, given_up)
        plans = [
            plan(index, part, state.origins.get(index), images.get(index), given_up) for index, part in enumerate(state.parts)
        ]
        lengths = tuple(part.nbytes for part in state.parts)
        # Leaving this block, by an error too, waits for the workers: they read memory that the caller will release.
        with ThreadPoolExecutor(WORKERS, "ckpt-chunks") as workers, closing(stream.pieces(plans, lengths, workers)) as pieces:
            written = self._storage.put(pack, pieces)
        self._cpu_s += stream.cpu_s
        if stream.manifest is None or written != stream.length:
            raise StorageError(f"{written} bytes of {stream.length} were stored", where=pack, fix="Mend the storage.")
        ref = SnapshotRef(sum(lengths), written, stream.manifest, self._key.id)
        if self.validate:
            self._compare(ref, state)
        # Commit point: the pack is durable, so its chunks are known from here on.
        self._known.update(stream.stored)
        for index, origin in state.origins.items():
            self._images[origin.serial] = stream.image(index, plans[index], origin.number, lengths[index])
        self._use.note(stream.places, (pack, stream.length))
        return ref

    def _compare(self, ref: SnapshotRef, state: StagedState) -> None:
        """StorageError unless ``ref`` reads back as ``state``. Of a live state only the digests tell."""
        where = max(ref.packs)
        try:
            stored = read_snapshot(ref, self._storage, self._names, self._key)
        except IntegrityError as error:
            raise StorageError(f"what was stored does not read back: {error.what}", where=where, fix="Mend the storage.") from error
        for part, again in zip(state.parts, stored, strict=True):
            with Address(part) as wanted, Address(memoryview(again)) as found:
                if not state.is_live and not equal(wanted, found, part.nbytes):
                    raise StorageError("what was stored is not what was given", where=where, fix="Mend the storage.")

    def _usable_images(self, state: StagedState, given_up: frozenset[Place]) -> dict[int, Image]:
        """What is stored of earlier copies of the parts; nothing where that is in too many packs."""
        found = {
            index: self._images[origin.serial]
            for index, origin in state.origins.items()
            if origin.serial in self._images
        }
        places = set[Place]().union(*(image.places for image in found.values()))
        return found if len({place.pack for place in places - given_up}) < layout.MAX_PACKS else {}


def _load_modules() -> None:
    """Import what writing needs (it would be too slow for `import ckpt`) in the thread that makes a writer, the job's.

    Beside a job that is busy in Python each of the many file operations of an import waits a switch interval for the
    interpreter lock.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: F401

    compression.load()
