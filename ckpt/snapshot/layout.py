"""Owns the bytes of packs: their header, how parts are cut into chunks, and the manifest of a snapshot.

Pure: bytes in, bytes out. A pack is a header, chunks back to back, and one manifest at its end. Every digest here is
keyed, so with the run's key it is a MAC, and starts with a word for what it covers, so that no chunk can pass for
anything else. In an encrypted pack each chunk and the manifest are encrypted by themselves, under the pack's data key.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ckpt.format.cipher import SALT_SIZE, Cipher
from ckpt.format.keys import KEY_ID_SIZE, Key, digest

if TYPE_CHECKING:
    from ckpt.protocols import Buffer

CHUNK_SIZE = 1024 * 1024
"""Bytes of a full chunk. Smaller ones find more that did not change but cost 48 bytes of manifest each; at 1 MiB that
is 1/20,000 of the state, and hashing, compression and reads are already at their full speed."""

MAGIC = b"ckptpack"
VERSION = 1

_HEADER = struct.Struct("<8sII16s32s32s")
_SIGNED = 64  # bytes of a header in front of its digest
_ENCRYPTED = 1
_COUNTS = struct.Struct("<II")
_LENGTH = struct.Struct("<Q")
_ENTRY = struct.Struct("<32sQIHH")

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


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot consists of: the parts' sizes in bytes, and their chunks, part after part."""

    lengths: tuple[int, ...]
    chunks: tuple[Chunk, ...]


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
    return b"".join(pieces)


def decode_manifest(data: bytes, packs: tuple[str, ...]) -> Manifest:
    """The inverse of ``encode_manifest``; ValueError for anything that it cannot have made."""
    if len(data) < _COUNTS.size:
        raise ValueError("a manifest without its counts")
    part_count, chunk_count = _COUNTS.unpack_from(data)
    entries_at = _COUNTS.size + part_count * _LENGTH.size
    # Checked before anything is allocated from the counts.
    if len(data) != entries_at + chunk_count * _ENTRY.size:
        raise ValueError(f"a manifest of {len(data)} bytes for {part_count} parts and {chunk_count} chunks")
    lengths = tuple(length for (length,) in _LENGTH.iter_unpack(data[_COUNTS.size : entries_at]))
    if sum(-(-length // CHUNK_SIZE) for length in lengths) != chunk_count:
        raise ValueError("a manifest whose parts and chunks do not go together")
    chunks = []
    for address, offset, length, number, codec in _ENTRY.iter_unpack(data[entries_at:]):
        if number >= len(packs):
            raise ValueError(f"a manifest that names pack {number} of {len(packs)}")
        chunks.append(Chunk(address, Place(packs[number], offset, length, codec)))
    return Manifest(lengths, tuple(chunks))
