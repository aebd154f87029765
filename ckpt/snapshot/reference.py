"""Owns ``SnapshotRef``: the value that names one snapshot, and its bytes as they stand in a record.

A small snapshot is inside its reference; of a larger one the reference names the packs and the manifest.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

from ckpt.errors import CorruptionError, UnknownFormatError
from ckpt.format.keys import KEY_ID_SIZE
from ckpt.protocols import Buffer

VERSION = 1
PATCHED_VERSION = 2
"""Of references to snapshots with patches, which older readers would restore without them."""
_INLINE, _PACKED, _PACKED_ENCRYPTED = 0, 1, 2

_HEAD = struct.Struct("<BBQQ16s")  # version, form, nbytes, stored_nbytes, id of the key
_INLINE_HEAD = struct.Struct("<HI")  # codec, number of parts
_PART = struct.Struct("<I")
_PACKED_HEAD = struct.Struct("<QI32sHH")  # manifest: offset, length, digest; number of packs, length of their prefix
_TEXT = struct.Struct("<H")
_CRC = struct.Struct("<I")
_DIGEST_SIZE = 32
_MAX_NAME = 1024


@dataclass(frozen=True, slots=True)
class Inline:
    """Parts stored inside the reference, joined: their sizes in bytes, codec, stored bytes, keyed digest of all."""

    lengths: tuple[int, ...]
    codec: int
    stored: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Packed:
    """All packs that the snapshot draws on, and where in the last of them its manifest is, with its keyed digest.

    ``encrypted``: all the packs are, or none of them is. ``patched``: the manifest has patches.
    """

    packs: tuple[str, ...]
    offset: int
    length: int
    digest: bytes
    encrypted: bool
    patched: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """Names one durable snapshot of ``nbytes`` bytes, for which ``stored_nbytes`` bytes were newly written.

    ``key_id`` is that of the key whose digests it has: a record that names an older snapshot may have another one.
    """

    nbytes: int
    stored_nbytes: int
    body: Inline | Packed
    key_id: str

    @property
    def packs(self) -> frozenset[str]:
        """Keys of the packs that must stay as long as this snapshot is wanted."""
        return frozenset(self.body.packs) if isinstance(self.body, Packed) else frozenset()

    def encode(self) -> bytes:
        """The reference's bytes, with a checksum over all of them."""
        body = _encode_packed(self.body) if isinstance(self.body, Packed) else _encode_inline(self.body)
        packed = _PACKED_ENCRYPTED if isinstance(self.body, Packed) and self.body.encrypted else _PACKED
        form = packed if isinstance(self.body, Packed) else _INLINE
        key_id = self.key_id.encode("ascii").ljust(KEY_ID_SIZE, b"\0")
        version = PATCHED_VERSION if isinstance(self.body, Packed) and self.body.patched else VERSION
        encoded = _HEAD.pack(version, form, self.nbytes, self.stored_nbytes, key_id) + body
        return encoded + _CRC.pack(zlib.crc32(encoded))

    @staticmethod
    def decode(data: Buffer) -> SnapshotRef:
        """The inverse of ``encode``. CorruptionError for other bytes, UnknownFormatError for a newer version's.

        The contents of an inline snapshot are verified by ``read_snapshot``, which has the key.
        """
        data = bytes(data)  # references are small, and the caller may go on to use its memory
        if len(data) < _HEAD.size + _CRC.size or _CRC.unpack(data[-_CRC.size :])[0] != zlib.crc32(data[: -_CRC.size]):
            raise _corrupt("its checksum does not hold", len(data))
        version, form, nbytes, stored_nbytes, key_id = _HEAD.unpack_from(data)
        if version not in (VERSION, PATCHED_VERSION):
            raise UnknownFormatError(
                f"a snapshot reference of version {version}; this ckpt knows {VERSION} and {PATCHED_VERSION}",
                fix="Use a newer ckpt.",
            )
        rest = _Reader(data[: -_CRC.size], _HEAD.size)
        if form not in (_INLINE, _PACKED, _PACKED_ENCRYPTED) or not key_id.isascii():
            raise _corrupt(f"unknown form {form}", 1)
        if form == _INLINE and version != VERSION:
            raise _corrupt("it is inline and has patches", 0)
        body: Inline | Packed
        if form == _INLINE:
            body = _decode_inline(rest)
        else:
            body = replace(_decode_packed(rest, encrypted=form == _PACKED_ENCRYPTED), patched=version == PATCHED_VERSION)
        return SnapshotRef(nbytes, stored_nbytes, body, key_id.rstrip(b"\0").decode("ascii"))


def inline_body(lengths: tuple[int, ...], codec: int, stored: Buffer) -> bytes:
    """What the digest of an inline snapshot covers: sizes, codec and stored bytes."""
    return b"".join([_INLINE_HEAD.pack(codec, len(lengths)), *map(_PART.pack, lengths), stored])


def _encode_inline(body: Inline) -> bytes:
    return body.digest + inline_body(body.lengths, body.codec, body.stored)


def _decode_inline(data: _Reader) -> Inline:
    digest = data.take(_DIGEST_SIZE)
    codec, count = _INLINE_HEAD.unpack(data.take(_INLINE_HEAD.size))
    lengths = tuple(length for (length,) in _PART.iter_unpack(data.take(count * _PART.size)))
    return Inline(lengths, codec, data.rest(), digest)


def _encode_packed(body: Packed) -> bytes:
    # All packs of a run are in one folder: its name is written once.
    folder = body.packs[0].rpartition("/")[0] + "/"
    prefix = folder if all(pack.startswith(folder) for pack in body.packs) else ""
    shared = prefix.encode()
    pieces = [_PACKED_HEAD.pack(body.offset, body.length, body.digest, len(body.packs), len(shared)), shared]
    for pack in body.packs:
        own = pack[len(prefix) :].encode()
        pieces += (_TEXT.pack(len(own)), own)
    return b"".join(pieces)


def _decode_packed(data: _Reader, *, encrypted: bool) -> Packed:
    offset, length, digest, count, prefix_length = _PACKED_HEAD.unpack(data.take(_PACKED_HEAD.size))
    try:
        prefix = data.take(prefix_length).decode()
        packs = tuple(prefix + data.take(_TEXT.unpack(data.take(_TEXT.size))[0]).decode() for _ in range(count))
    except UnicodeDecodeError as error:
        raise _corrupt("a pack's name is not text", data.position) from error
    if any(len(pack) > _MAX_NAME for pack in packs):
        raise _corrupt("a pack's name is longer than any", data.position)
    if not packs or data.rest():
        raise _corrupt("names no pack, or goes on behind the last one", data.position)
    return Packed(packs, offset, length, digest, encrypted)


class _Reader:
    """Takes bytes from the front; CorruptionError where there are too few, before anything is allocated for them."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self.position = data, position

    def take(self, length: int) -> bytes:
        start, self.position = self.position, self.position + length
        if self.position > len(self._data):
            raise _corrupt(f"ends {self.position - len(self._data)} bytes early", len(self._data))
        return self._data[start : self.position]

    def rest(self) -> bytes:
        return self.take(len(self._data) - self.position)


def _corrupt(what: str, offset: int) -> CorruptionError:
    return CorruptionError(f"a snapshot reference is damaged: {what}", path="snapshot reference", offset=offset)
