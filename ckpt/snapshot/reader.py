"""Owns the reading of snapshots: a reference back into the parts that were staged.

Guarantees: every byte that is returned was verified under the run's key; anything missing, short or different is a
``CorruptionError`` with the pack and the offset. Reads run side by side and go straight into the final memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ckpt.codecs.compression import RAW, decompress
from ckpt.errors import CorruptionError, MissingKeyError
from ckpt.format.cipher import Cipher
from ckpt.format.keys import Key
from ckpt.format.names import pack_made_as
from ckpt.snapshot import layout
from ckpt.snapshot.layout import Manifest, Patch, Place
from ckpt.snapshot.reference import Inline, Packed, SnapshotRef, inline_body

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from ckpt.format.names import RunNames
    from ckpt.protocols import Buffer, Storage

READERS = 4
"""Reads that run at once: enough to keep a disk and two cores busy, few enough for a small machine's memory."""

RUN_SIZE = 4 * 1024 * 1024
"""Bytes read at once, at most: long enough for any storage's full speed, short enough to share among the readers."""

DIRECT_SIZE = 64 * 1024
"""Chunks from this size on are read straight to their place; for smaller ones one read for many of them is faster."""


def read_snapshot(ref: SnapshotRef, storage: Storage, names: RunNames, key: Key) -> list[bytearray | bytes]:
    """The parts of the snapshot, in order, in new writable memory. CorruptionError for what does not verify.

    UntrustedError if it was signed with a key that the reader does not have.
    """
    if isinstance(ref.body, Inline):
        return _open_inline(ref.body, _signer(ref, key, names.address))
    from concurrent.futures import ThreadPoolExecutor  # imports logging: too slow for `import ckpt`

    packs = _Packs(storage, _signer(ref, key, ref.body.packs[-1]), encrypted=ref.body.encrypted)
    manifest = _read_manifest(ref.body, storage, names, packs)
    if sum(manifest.lengths) != ref.nbytes:
        raise _corrupt(ref.body.packs[-1], ref.body.offset, "the snapshot's size is not the one in its reference")
    parts: list[bytearray | bytes] = [_uninitialised(length) for length in manifest.lengths]
    fetcher = _Fetcher(storage, packs)
    jobs: list[Callable[[], object]] = [partial(packs.open, pack) for pack in ref.body.packs]
    jobs += [partial(fetcher.fetch, run) for run in _runs(_wanted(manifest, parts, ref.body.encrypted))]
    with ThreadPoolExecutor(min(READERS, len(jobs)), "ckpt-read") as readers:
        _run_all(readers, jobs)
        # Over the chunks, so only when these are in their places.
        _run_all(readers, [partial(fetcher.patch, parts[index], patches) for index, patches in _patches(manifest)])
    return parts


def _run_all(readers: ThreadPoolExecutor, jobs: list[Callable[[], object]]) -> None:
    futures = [readers.submit(job) for job in jobs]
    try:
        for future in futures:
            future.result()
    except BaseException:
        readers.shutdown(wait=False, cancel_futures=True)
        raise


def _patches(manifest: Manifest) -> Iterator[tuple[int, list[Patch]]]:
    """The patches of each part that has some, oldest first."""
    found: dict[int, list[Patch]] = {}
    for patch in manifest.patches:
        found.setdefault(patch.part, []).append(patch)
    yield from found.items()


def read_manifest(ref: SnapshotRef, storage: Storage, names: RunNames, key: Key) -> Manifest:
    """The verified manifest of a snapshot that is in packs. CorruptionError, UntrustedError."""
    assert isinstance(ref.body, Packed)
    packs = _Packs(storage, _signer(ref, key, ref.body.packs[-1]), encrypted=ref.body.encrypted)
    return _read_manifest(ref.body, storage, names, packs)


def check_snapshot(ref: SnapshotRef, storage: Storage, names: RunNames, key: Key) -> None:
    """CorruptionError unless manifest and packs are there, made by whom they name, and long enough. Reads no chunk."""
    if isinstance(ref.body, Inline):
        _open_inline(ref.body, _signer(ref, key, names.address))
        return
    packs = _Packs(storage, _signer(ref, key, ref.body.packs[-1]), encrypted=ref.body.encrypted)
    ends = dict.fromkeys(ref.body.packs, 0)
    for place in _read_manifest(ref.body, storage, names, packs).places:
        ends[place.pack] = max(ends[place.pack], place.offset + place.length)
    for pack, end in ends.items():
        packs.open(pack)
        if storage.size(pack) < end:
            raise _corrupt(pack, end, "the pack ends early")


def _signer(ref: SnapshotRef, key: Key, where: str) -> Key:
    return key.named(ref.key_id, where=where, what="the snapshot")


class _Packs:
    """The headers of packs: each is verified before anything of its pack is used. Thread-safe."""

    def __init__(self, storage: Storage, key: Key, *, encrypted: bool) -> None:
        self.key = key
        self._storage, self._encrypted = storage, encrypted
        self._opened: dict[str, Cipher | None] = {}

    def open(self, pack: str) -> Cipher | None:
        """The pack's data key; None if it is not encrypted. CorruptionError."""
        if pack not in self._opened:  # two threads may both read a header: with the same outcome
            try:
                header = self._storage.get(pack, 0, layout.HEADER_SIZE)
                cipher = layout.open_header(self.key, pack_made_as(pack), header)
                if (cipher is not None) != self._encrypted:
                    raise ValueError("the pack's header does not fit the snapshot")
            except MissingKeyError as error:
                raise _corrupt(pack, 0, "the pack is missing") from error
            except ValueError as error:
                raise _corrupt(pack, 0, str(error)) from error
            self._opened[pack] = cipher
        return self._opened[pack]


def _read_manifest(body: Packed, storage: Storage, names: RunNames, packs: _Packs) -> Manifest:
    for name in body.packs:
        if names.parse_pack(name) is None:
            raise _corrupt(name, 0, "a snapshot names this as its pack, which it is not")
    pack = body.packs[-1]
    try:
        # The size first: a length that is not true must not become an allocation.
        if storage.size(pack) < body.offset + body.length:
            raise _corrupt(pack, body.offset, "the pack ends before its manifest does")
        encoded = storage.get(pack, body.offset, body.length)
    except MissingKeyError as error:
        raise _corrupt(pack, 0, "the pack is missing") from error
    if layout.manifest_digest(packs.key, encoded) != body.digest:
        raise _corrupt(pack, body.offset, "the snapshot's manifest does not verify")
    try:
        if body.encrypted and (cipher := packs.open(pack)) is not None:
            encoded = cipher.decrypt(body.offset, encoded)
        return layout.decode_manifest(encoded, body.packs, patched=body.patched)
    except ValueError as error:
        raise _corrupt(pack, body.offset, str(error)) from error


def _open_inline(body: Inline, key: Key) -> list[bytearray | bytes]:
    where = "snapshot reference"
    if layout.inline_digest(key, inline_body(body.lengths, body.codec, body.stored)) != body.digest:
        raise _corrupt(where, 0, "the parts inside it do not verify")
    try:
        raw = memoryview(decompress(body.codec, body.stored, sum(body.lengths)))
    except ValueError as error:
        raise _corrupt(where, 0, str(error)) from error
    parts: list[bytearray | bytes] = []
    start = 0
    for length in body.lengths:
        parts.append(bytearray(raw[start : start + length]))
        start += length
    return parts


class _Wanted(NamedTuple):
    """A stored chunk and where its raw bytes belong: (part, start) of each use, the first one being read into."""

    place: Place
    digest: bytes
    length: int
    direct: bool
    uses: list[tuple[int, int]]
    parts: list[bytearray | bytes]

    def target(self, use: int) -> memoryview:
        index, start = self.uses[use]
        return memoryview(self.parts[index])[start : start + self.length]


@dataclass(slots=True)
class _Run:
    """Neighbouring chunks of one pack that are read at once; ``direct``: raw, into neighbouring places of one part."""

    direct: bool
    chunks: list[_Wanted]
    length: int = 0

    def takes(self, chunk: _Wanted) -> bool:
        last = self.chunks[-1]
        if chunk.place[:2] != (last.place.pack, last.place.offset + last.place.length):
            return False
        if self.length + chunk.place.length > RUN_SIZE:
            return False
        if not self.direct:
            return not chunk.direct
        index, start = last.uses[0]
        return chunk.place.codec == RAW and chunk.uses[0] == (index, start + last.length)


def _wanted(manifest: Manifest, parts: list[bytearray | bytes], encrypted: bool) -> list[_Wanted]:
    """Each stored chunk once, in the order of packs and offsets."""
    wanted: dict[bytes, _Wanted] = {}
    for chunk, (index, start, stop) in zip(manifest.chunks, layout.cut(manifest.lengths), strict=True):
        direct = not encrypted and chunk.place.codec == RAW and chunk.place.length >= DIRECT_SIZE
        new = _Wanted(chunk.place, chunk.digest, stop - start, direct, [], parts)
        wanted.setdefault(chunk.digest, new).uses.append((index, start))
    return sorted(wanted.values(), key=lambda entry: entry.place)


def _runs(wanted: list[_Wanted]) -> Iterator[_Run]:
    run: _Run | None = None
    for chunk in wanted:
        if run is None or not run.takes(chunk):
            if run is not None:
                yield run
            run = _Run(chunk.direct, [])
        run.chunks.append(chunk)
        run.length += chunk.place.length
    if run is not None:
        yield run


class _Fetcher:
    """Reads and verifies; every method may run in any thread."""

    def __init__(self, storage: Storage, packs: _Packs) -> None:
        self._storage, self._packs = storage, packs

    def fetch(self, run: _Run) -> None:
        """Read the chunks of ``run`` into all the places that want them."""
        pack, start = run.chunks[0].place[:2]
        try:
            if run.direct:
                self._fetch_direct(run, pack, start)
            else:
                self._fetch_many(run, pack, start)
        except MissingKeyError as error:
            raise _corrupt(pack, start, "the pack is missing") from error
        for chunk in run.chunks:
            if layout.chunk_digest(self._packs.key, chunk.target(0)) != chunk.digest:
                raise _corrupt(pack, chunk.place.offset, "a chunk does not verify")
            for use in range(1, len(chunk.uses)):
                chunk.target(use)[:] = chunk.target(0)

    def patch(self, part: bytearray | bytes, patches: list[Patch]) -> None:
        """Read ``patches`` and write them over ``part``, one after the other."""
        target = memoryview(part)
        for patch in patches:
            pack, offset, length, codec = patch.place
            try:
                stored: Buffer = self._storage.get(pack, offset, length)
                if memoryview(stored).nbytes != length:
                    raise _corrupt(pack, offset + memoryview(stored).nbytes, "the pack ends early")
                cipher = self._packs.open(pack)
                if cipher is not None:
                    stored = cipher.decrypt(offset, stored)
                raw = decompress(codec, stored, patch.nbytes)
                if layout.patch_digest(self._packs.key, raw) != patch.digest:
                    raise _corrupt(pack, offset, "a patch does not verify")
                for start, data in layout.decode_patch(raw, target.nbytes):
                    target[start : start + data.nbytes] = data
            except MissingKeyError as error:
                raise _corrupt(pack, offset, "the pack is missing") from error
            except ValueError as error:
                raise _corrupt(pack, offset, str(error)) from error

    def _fetch_direct(self, run: _Run, pack: str, start: int) -> None:
        for chunk in run.chunks:
            if chunk.place.length != chunk.length:
                raise _corrupt(pack, chunk.place.offset, "a chunk's stored size is not its size")
        index, at = run.chunks[0].uses[0]
        target = memoryview(run.chunks[0].parts[index])[at : at + run.length]
        read = self._storage.read_into(pack, start, target)
        if read != run.length:
            raise _corrupt(pack, start + read, "the pack ends early")

    def _fetch_many(self, run: _Run, pack: str, start: int) -> None:
        data = memoryview(self._storage.get(pack, start, run.length))
        if data.nbytes != run.length:
            raise _corrupt(pack, start + data.nbytes, "the pack ends early")
        cipher = self._packs.open(pack)
        for chunk in run.chunks:
            at = chunk.place.offset - start
            stored: Buffer = data[at : at + chunk.place.length]
            try:
                if cipher is not None:
                    stored = cipher.decrypt(chunk.place.offset, stored)
                raw = decompress(chunk.place.codec, stored, chunk.length)
            except ValueError as error:
                raise _corrupt(pack, chunk.place.offset, str(error)) from error
            chunk.target(0)[:] = raw


_new_bytearray = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new_bytearray.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
_new_bytearray.restype = ctypes.py_object


def _uninitialised(length: int) -> bytearray:
    """A bytearray with any content. ``bytearray(n)`` fills with zeros, holding the GIL, which costs as much as reading.

    All of it is overwritten before it is returned: the chunks of a manifest cover every byte of every part.
    """
    part: bytearray = _new_bytearray(None, length)
    return part


def _corrupt(path: str, offset: int, what: str) -> CorruptionError:
    return CorruptionError(what, path=path, offset=offset, fix="Resume from another checkpoint; see `ckpt verify`.")
