"""Owns the bytes of packs: their header, how parts are cut into chunks, and the manifest of a snapshot.

Pure: bytes in, bytes out. A pack is a header, chunks and patches one after the other, and one manifest at its end. Every digest here is
keyed, so with the run's key it is a MAC, and starts with a word for what it covers, so that no chunk can pass for
anything else. In an encrypted pack each chunk and the manifest are encrypted by themselves, under the pack's data key.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ckpt.format.cipher import SALT_SIZE, Cipher
from ckpt.format.keys import KEY_ID_SIZE, Key, digest

if TYPE_CHECKING:
    from ckpt.protocols import Buffer

CHUNK_SIZE = 1024 * 1024
"""Bytes of a full chunk. Smaller ones find more that did not change but cost 48 bytes of manifest each; at 1 MiB that
is 1/20,000 of the state, and hashing, compression and reads are already at their full speed."""

ALIGNED = 4096
"""In a large pack full chunks that are stored as they are begin at a multiple of this, the unit of direct writes."""

ALIGNED_FROM = 8 * CHUNK_SIZE
"""Bytes of new chunks from which a pack counts as large: smaller ones are not written past the page cache anyway."""

MAX_PACKS = 64
"""Packs that one snapshot may draw on: each keeps its unused chunks alive too, and is one more file to lose. See ``packs``
for which of them are given up at the bound."""

MAGIC = b"ckptpack"
VERSION = 1

_HEADER = struct.Struct("<8sII16s32s32s")
_SIGNED = 64  # bytes of a header in front of its digest
_ENCRYPTED = 1
_COUNTS = struct.Struct("<II")
_LENGTH = struct.Struct("<Q")
_ENTRY = struct.Struct("<32sQIHH")
_PATCH_COUNT = struct.Struct("<I")
_PATCH = struct.Struct("<II32sQIHH")  # part, raw length, then as a chunk
_EXTENT = struct.Struct("<QI")

HEADER_SIZE = _HEADER.size


class Place(NamedTuple):
    """Where a chunk is stored: ``length`` bytes at ``offset`` of the pack, in the codec's form, then encrypted."""

    pack: str
    offset: int
    length: int
    codec: int


class Chunk(NamedTuple):
    """A chunk of a snapshot: the keyed digest of its raw bytes, and where it is."""

    digest: bytes
    place: Place


class Patch(NamedTuple):
    """New bytes for a part, over its chunks and over the patches before it: ``nbytes`` is the size of its raw bytes."""

    part: int
    nbytes: int
    digest: bytes
    place: Place


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot consists of: the parts' sizes in bytes, their chunks, part after part, and patches, oldest first."""

    lengths: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    patches: tuple[Patch, ...] = ()

    @property
    def places(self) -> list[Place]:
        """Where all of it is stored."""
        return [*(chunk.place for chunk in self.chunks), *(patch.place for patch in self.patches)]


def pack_header(key: Key, pack: str, salt: bytes | None) -> bytes:
    """The first bytes of the pack of this name. ``salt``: that of its data key; None for a pack that is not encrypted."""
    flags, salt = (0, bytes(SALT_SIZE)) if salt is None else (_ENCRYPTED, salt)
    signed = _HEADER.pack(MAGIC, VERSION, flags, key.id.encode("ascii").ljust(KEY_ID_SIZE, b"\0"), salt, b"")[:_SIGNED]
    return signed + digest(key, b"ckpt pack", signed, pack.encode())


def open_header(key: Key, pack: str, header: bytes) -> Cipher | None:
    """The data key of a pack, None for one that is not encrypted. ValueError if ``key`` did not sign it for this name."""
    if len(header) != HEADER_SIZE or header[_SIGNED:] != digest(key, b"ckpt pack", header[:_SIGNED], pack.encode()):
        raise ValueError("the pack's header does not verify")
    magic, version, flags, _, salt, _ = _HEADER.unpack(header)
    if magic != MAGIC or version != VERSION or flags & ~_ENCRYPTED:
        raise ValueError("the pack's header makes no sense")
    return pack_cipher(key, pack, salt) if flags else None


def pack_cipher(key: Key, pack: str, salt: bytes) -> Cipher:
    """The data key of the pack with this ``salt``; its pieces are numbered by their offsets."""
    return Cipher(key, salt, pack)


def chunk_digest(key: Key, raw: Buffer) -> bytes:
    """The content address of a chunk."""
    return digest(key, b"ckpt chunk", raw)


def patch_digest(key: Key, raw: Buffer) -> bytes:
    """What a patch is verified by: where its bytes belong is part of them."""
    return digest(key, b"ckpt patch", raw)


def encode_patch(pieces: list[tuple[int, Buffer]]) -> bytes:
    """A patch's raw bytes, from (start in the part, bytes) of each piece."""
    extents = [_EXTENT.pack(start, memoryview(data).nbytes) for start, data in pieces]
    return b"".join([_PATCH_COUNT.pack(len(pieces)), *extents, *(data for _, data in pieces)])


def decode_patch(raw: Buffer, length: int) -> Iterator[tuple[int, memoryview]]:
    """The inverse of ``encode_patch`` for a part of ``length`` bytes; ValueError for what does not fit one."""
    data = memoryview(raw)
    count = _PATCH_COUNT.unpack_from(data)[0] if data.nbytes >= _PATCH_COUNT.size else 0
    at = _PATCH_COUNT.size + count * _EXTENT.size
    if at > data.nbytes or not count:
        raise ValueError("a patch without its extents")
    extents = [*_EXTENT.iter_unpack(data[_PATCH_COUNT.size : at])]
    if at + sum(size for _, size in extents) != data.nbytes or any(start + size > length for start, size in extents):
        raise ValueError("a patch whose extents do not fit")
    for start, size in extents:
        yield start, data[at : at + size]
        at += size


def manifest_digest(key: Key, encoded: Buffer) -> bytes:
    return digest(key, b"ckpt manifest", encoded)


def inline_digest(key: Key, body: Buffer) -> bytes:
    """For a snapshot that is stored inside its reference."""
    return digest(key, b"ckpt inline", body)


def cut(lengths: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """The chunks of parts of these lengths, in order: (index of the part, start, stop)."""
    for index, length in enumerate(lengths):
        for start in range(0, length, CHUNK_SIZE):
            yield index, start, min(start + CHUNK_SIZE, length)


def encode_manifest(manifest: Manifest, packs: Iterable[str]) -> bytes:
    """The manifest's bytes. ``packs`` gives the numbers that stand for the chunks' packs."""
    numbers = {pack: number for number, pack in enumerate(packs)}
    pieces = [_COUNTS.pack(len(manifest.lengths), len(manifest.chunks))]
    pieces += [_LENGTH.pack(length) for length in manifest.lengths]
    pieces += [
        _ENTRY.pack(chunk.digest, place.offset, place.length, numbers[place.pack], place.codec)
        for chunk in manifest.chunks
        for place in (chunk.place,)
    ]
    if manifest.patches:
        pieces.append(_PATCH_COUNT.pack(len(manifest.patches)))
    pieces += [
        _PATCH.pack(part, nbytes, digest, place.offset, place.length, numbers[place.pack], place.codec)
        for part, nbytes, digest, place in manifest.patches
    ]
    return b"".join(pieces)


def decode_manifest(data: bytes, packs: tuple[str, ...], *, patched: bool = False) -> Manifest:
    """The inverse of ``encode_manifest``; ValueError for anything that it cannot have made. ``patched``: it has patches."""
    if len(data) < _COUNTS.size:
        raise ValueError("a manifest without its counts")
    part_count, chunk_count = _COUNTS.unpack_from(data)
    entries_at = _COUNTS.size + part_count * _LENGTH.size
    patches_at = entries_at + chunk_count * _ENTRY.size
    # Checked before anything is allocated from the counts.
    if len(data) < patches_at if patched else len(data) != patches_at:
        raise ValueError(f"a manifest of {len(data)} bytes for {part_count} parts and {chunk_count} chunks")
    lengths = tuple(length for (length,) in _LENGTH.iter_unpack(data[_COUNTS.size : entries_at]))
    if sum(-(-length // CHUNK_SIZE) for length in lengths) != chunk_count:
        raise ValueError("a manifest whose parts and chunks do not go together")

    def place(offset: int, length: int, number: int, codec: int) -> Place:
        if number >= len(packs):
            raise ValueError(f"a manifest that names pack {number} of {len(packs)}")
        return Place(packs[number], offset, length, codec)

    chunks = [Chunk(address, place(*rest)) for address, *rest in _ENTRY.iter_unpack(data[entries_at:patches_at])]
    patches = [*_patches(data[patches_at:], part_count, place)] if patched else []
    return Manifest(lengths, tuple(chunks), tuple(patches))


def _patches(data: bytes, part_count: int, place: Callable[..., Place]) -> Iterator[Patch]:
    count = _PATCH_COUNT.unpack_from(data)[0] if len(data) >= _PATCH_COUNT.size else 0
    if not count or len(data) != _PATCH_COUNT.size + count * _PATCH.size:
        raise ValueError(f"a manifest with {len(data)} bytes of patches for {count} of them")
    for part, nbytes, address, *rest in _PATCH.iter_unpack(data[_PATCH_COUNT.size :]):
        if part >= part_count:
            raise ValueError(f"a manifest with a patch for part {part} of {part_count}")
        yield Patch(part, nbytes, address, place(*rest))
