"""Segments: a header that nobody can mistake for another's, then chained record frames.

    header  (144 bytes)  magic 8 | u32 version | u32 epoch | u64 slot | nonce 16 | key id 16 | address digest 32
                         | u32 flags | store id 16 | seed digest 32 (keyed, of all before) | u32 CRC-32 of all before
    frame                u32 payload length | u8 kind | 3 zero | u32 epoch | u64 LSN | u32 CRC-32 of these 20 bytes
                         | payload | digest 32
    digest               keyed BLAKE3 of (previous digest, the 24 bytes of the frame's header, payload); the first
                         frame's previous digest is the seed

All integers are little-endian. Guarantees of ``parse_segment``:
 - a record is returned only if its digest verifies from the header on, or from the stored digest of a damaged record
   in front of it, which is then listed;
 - torn (an interrupted append) is told from damaged (changed afterwards): a frame's length is covered by a CRC of its
   own, so a flipped bit cannot make a whole frame look unfinished;
 - an encrypted payload (flag 1 of the header) is decrypted only after its record was verified;
 - damage is listed, never raised. UntrustedError (another key, another store) and UnknownFormatError (a newer version)
   are raised.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from blake3 import blake3

from ckpt.errors import UnknownFormatError, UntrustedError
from ckpt.format.cipher import SALT_SIZE, decrypt_record, encrypt_record
from ckpt.format.keys import DIGEST_SIZE, KEY_ID_SIZE, Key, keyed
from ckpt.format.names import RunNames
from ckpt.format.records import Kind, Record, decode_payload, lsn_slot
from ckpt.protocols import Buffer

VERSION = 1
HEADER_SIZE = 144
FRAME_OVERHEAD = 56
"""Bytes of a frame that are not payload."""

_MAGIC = b"CKPTLOG\n"
_HEADER = struct.Struct("<8sIIQ16s16s32sI16s32sI")
_SEEDED = 108  # bytes in front of the seed digest
_ENCRYPTED = 1
_CRC = struct.Struct("<I")
_FRAME = struct.Struct("<IB3xIQ")
_WHOLE_FRAME = struct.Struct("<IB3xIQI")
_FRAME_HEAD = 24
Frame = tuple[int, int, int, int, int]
"""Of a verified record: where its frame begins, where its payload ends, kind, epoch, LSN."""

Choose = Callable[[list[Frame], Callable[[Frame], Record | None]], list[Frame]]
"""Which of a segment's verified frames become records. It is given what decodes one (None: it cannot be read)."""
_KINDS = {int(kind): kind for kind in Kind}
_SECTOR = 512
_COPY_BELOW = 1 << 16  # bytes: a copy is cheaper than a second call into the hasher
_MIN_ZEROS = 8  # so many zero bytes at the end of a whole frame would be a digest that ends so: 1 in 2**64


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that do not verify: in the key ``path`` at byte ``offset``; ``lsn`` of the record where it is known."""

    path: str
    offset: int
    lsn: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class TornTail:
    """``length`` bytes from ``offset`` on that were never acknowledged and do not count."""

    path: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Who made a segment: ``nonce`` (16 bytes) is new at every creation. ``seed`` starts the chain of digests.

    ``key`` signed it; ``encrypted``: its payloads are.
    """

    slot: int
    epoch: int
    nonce: bytes
    seed: bytes
    key: Key
    encrypted: bool


@dataclass(frozen=True, slots=True)
class ParsedSegment:
    """What a segment holds. ``count`` frames are whole (damaged ones included) and end at ``good_length``;
    ``last_digest`` is the stored digest of the last of them. ``header`` is None where it is damaged."""

    header: SegmentHeader | None
    records: list[Record]
    count: int
    good_length: int
    last_digest: bytes
    torn: TornTail | None
    damages: list[Damage]


def encode_header(key: Key, names: RunNames, slot: int, epoch: int, nonce: bytes) -> tuple[bytes, bytes]:
    """(the 144 bytes, the seed digest) of a new segment."""
    key_id = key.id.encode("ascii").ljust(KEY_ID_SIZE, b"\0")
    address = _address_digest(key, names)
    flags = _ENCRYPTED if key.encrypts else 0
    seeded = _HEADER.pack(_MAGIC, VERSION, epoch, slot, nonce, key_id, address, flags, key.store, b"", 0)[:_SEEDED]
    seed = keyed(key.derive("segment header"), seeded)
    covered = seeded + seed
    return covered + _CRC.pack(crc32(covered)), seed


def decode_header(data: Buffer, key: Key, names: RunNames, slot: int) -> SegmentHeader | Damage:
    """The header of ``slot``'s segment, or what is wrong with it.

    Raises UnknownFormatError and UntrustedError, both only where the CRC shows that no accident changed the header.
    """
    path = names.segment(slot)
    head = bytes(data[:HEADER_SIZE])
    if len(head) < HEADER_SIZE:
        return Damage(path, len(head), None, "the segment ends inside its header, which is written whole or not at all")
    magic, version, epoch, own_slot, nonce, key_id, address, flags, store, seed, crc = _HEADER.unpack(head)
    if crc != crc32(head[:-4]) or magic != _MAGIC:
        return Damage(path, 0, None, "the segment's header does not verify")
    if version != VERSION or flags & ~_ENCRYPTED:
        raise UnknownFormatError(
            f"the segment has format version {version} and flags {flags}; this ckpt reads version {VERSION}",
            where=path,
            fix="use a newer ckpt",
        )
    if store != key.store:
        # Raised, so that nothing is written behind it: perhaps it is only FORMAT that is not this store's own.
        raise UntrustedError(
            f"the segment was made for the store {store.hex()}, and this is {key.store.hex()}, as its FORMAT says",
            where=path,
            fix="if it was copied here: take it away; if it was always here: put the store's own FORMAT file back",
        )
    owner = key_id.rstrip(b"\0").decode("ascii", "replace")
    signer = key.named(owner, where=path, what="the segment")
    if keyed(signer.derive("segment header"), head[:_SEEDED]) != seed:
        raise UntrustedError(
            f"the segment claims the key {owner}, but was not signed with it",
            where=path,
            fix="somebody without the key wrote this: do not use it, restore the store from a copy",
        )
    if own_slot != slot or address != _address_digest(signer, names):
        return Damage(path, 0, None, "the segment belongs to another place: it was moved or copied here")
    return SegmentHeader(slot, epoch, nonce, seed, signer, bool(flags & _ENCRYPTED))


def origin_of(data: Buffer) -> tuple[bytes, bool] | None:
    """(id of the store for which a segment was made, whether it is encrypted); None if damaged. Not verified."""
    head = bytes(data[:HEADER_SIZE])
    if len(head) < HEADER_SIZE or crc32(head[:-4]) != _CRC.unpack_from(head, HEADER_SIZE - 4)[0]:
        return None
    flags, store = _HEADER.unpack(head)[7:9]
    return store, bool(flags & _ENCRYPTED)


def stored_payload(key: Key, names: RunNames, kind: int, payload: bytes, entropy: Callable[[int], bytes]) -> bytes:
    """The payload of a record as it goes into a frame: encrypted, with a salt of its own, where the store encrypts."""
    if not key.encrypts:
        return payload
    return encrypt_record(key, _place(names, kind), entropy(SALT_SIZE), payload)


def encode_frames(
    key: Key, previous: bytes, epoch: int, records: Iterable[tuple[int, int, bytes]]
) -> tuple[list[bytes], bytes]:
    """(pieces to write one after the other, digest of the last frame) of ``records``: (LSN, kind, payload) each."""
    secret = key.derive("record chain")
    pieces: list[bytes] = []
    for lsn, kind, payload in records:
        head = _FRAME.pack(len(payload), kind, epoch, lsn)
        head += _CRC.pack(crc32(head))
        hasher = blake3(previous + head, key=secret)
        hasher.update(payload)
        previous = hasher.digest()
        pieces += (head, payload, previous)
    return pieces, previous


def kind_at(data: Buffer, offset: int) -> Kind | None:
    """What the record whose frame begins at ``offset`` was, if its frame's head is whole; its payload need not be."""
    head = bytes(data[offset : offset + _FRAME_HEAD])
    if len(head) < _FRAME_HEAD or crc32(head[:-4]) != _CRC.unpack_from(head, _FRAME_HEAD - 4)[0]:
        return None
    return _KINDS.get(_FRAME.unpack_from(head)[1])


def newest_only(frames: list[Frame], decode: Callable[[Frame], Record | None]) -> list[Frame]:
    """``Choose`` of CHECKPOINTs only the last one, and of OPERATIONs those behind it: enough to see how a run is."""
    for frame in frames:
        if frame[2] == Kind.STATUS and (record := decode(frame)) is not None and record.head.get("status") == "reopened":
            return frames  # the last checkpoint may not count any more
    last = max((place for place, frame in enumerate(frames) if frame[2] == Kind.CHECKPOINT), default=0)
    return [frame for frame in frames[:last] if frame[2] not in (Kind.CHECKPOINT, Kind.OPERATION)] + frames[last:]


class SinceCheckpoint:
    """``Choose`` of OPERATIONs those that the newest CHECKPOINT needs, by its head. For the segments of a log, newest first."""

    def __init__(self, needed_from: Callable[[Mapping[str, Any]], int]) -> None:
        """``needed_from(head)``: the LSN behind which a resume from the CHECKPOINT with this head needs OPERATIONs."""
        self._needed_from = needed_from
        self.left_out_to = -1
        """Up to this LSN they are left out; -1 as long as no CHECKPOINT was seen."""

    def __call__(self, frames: list[Frame], decode: Callable[[Frame], Record | None]) -> list[Frame]:
        if self.left_out_to < 0:
            last = next((frame for frame in reversed(frames) if frame[2] == Kind.CHECKPOINT), None)
            record = None if last is None else decode(last)
            self.left_out_to = -1 if record is None else self._needed_from(record.head)
        return [frame for frame in frames if frame[2] != Kind.OPERATION or frame[4] > self.left_out_to]


def parse_segment(
    data: Buffer, key: Key, names: RunNames, slot: int, *, limit: int | None = None, choose: Choose | None = None
) -> ParsedSegment:
    """Verify and take apart the segment of ``slot``, as far as ``limit`` (bytes; None: all of it).

    See the module's guarantees for what is raised and what is listed. All frames are verified; those that ``choose`` does
    not return (None: it takes all) are not decoded.
    """
    view = memoryview(data).cast("B").toreadonly()[:limit]
    header = decode_header(view, key, names, slot)
    if isinstance(header, Damage):
        return ParsedSegment(None, [], 0, 0, b"", None, [header])
    return _FrameParser(view, header, names, names.segment(slot)).parse(choose)


class _FrameParser:
    """One pass over the frames behind a segment's header."""

    def __init__(self, view: memoryview, header: SegmentHeader, names: RunNames, path: str) -> None:
        self._view, self._header, self._names, self._path = view, header, names, path
        self._secret = header.key.derive("record chain")
        self._damages: list[Damage] = []
        self._torn: TornTail | None = None
        self._count = 0

    def parse(self, choose: Choose | None) -> ParsedSegment:
        view, size = self._view, len(self._view)
        whole: list[Frame] = []
        at, previous = HEADER_SIZE, self._header.seed
        while at < size:
            body = at + _FRAME_HEAD
            if body > size:
                self._cut_off(at)
                break
            length, kind, epoch, lsn, crc = _WHOLE_FRAME.unpack_from(view, at)
            if crc32(view[at : body - 4]) != crc:
                if not self._zeroed(at, size):
                    self._damages.append(Damage(self._path, at, None, "the head of a record does not verify"))
                break
            tail = body + length
            end = tail + DIGEST_SIZE
            if end > size:
                self._cut_off(at)
                break
            stored = bytes(view[tail:end])
            computed = self._chained(previous, at, tail)
            if stored == computed or self._vouches(stored, computed, end):
                whole.append((at, tail, kind, epoch, lsn))
            elif self._zeroed(at, end):
                break
            else:
                self._damages.append(Damage(self._path, at, lsn, "a record does not verify"))
            at, previous = end, stored
            self._count += 1
        if size == HEADER_SIZE:
            self._damages.append(Damage(self._path, at, None, "the segment has no record; it is created with one"))
        records = self._records(whole if choose is None else choose(whole, self._peek))
        self._damages.sort(key=lambda damage: damage.offset)
        return ParsedSegment(self._header, records, self._count, at, previous, self._torn, self._damages)

    def _cut_off(self, at: int) -> None:
        """No whole frame is there: note the reason."""
        if self._count == 0:  # torn is only what is appended: the first record is created together with the header
            self._damages.append(Damage(self._path, at, None, "the segment ends inside its first record"))
        else:
            self._torn = TornTail(self._path, at, len(self._view) - at)

    def _chained(self, previous: bytes, at: int, tail: int) -> bytes:
        if tail - at <= _COPY_BELOW:
            return blake3(previous + self._view[at:tail], key=self._secret).digest()
        hasher = blake3(previous, key=self._secret)
        hasher.update(self._view[at:tail])
        return hasher.digest()

    def _vouches(self, stored: bytes, computed: bytes, end: int) -> bool:
        """Whether the stored digest, which is not the computed one, is all the same known to be right.

        A power loss may have zeroed the last bytes of the file from a sector boundary on. Fewer than eight of them do not
        show a torn append (see ``_zeroed``), but the other bytes of the digest still vouch for all of the record.
        """
        behind = end % _SECTOR
        if behind < _MIN_ZEROS and end == len(self._view):
            kept = DIGEST_SIZE - behind
            return stored[:kept] == computed[:kept] and not any(stored[kept:])
        return False

    def _records(self, frames: list[Frame]) -> list[Record]:
        records: list[Record] = []
        last_lsn = -1
        for frame in frames:
            record = self._record(frame, last_lsn)
            if record is not None:
                records.append(record)
                last_lsn = record.lsn
        return records

    def _record(self, frame: Frame, last_lsn: int) -> Record | None:
        """The record of a frame that verifies. What is wrong here was written so: a defect, or another writer's."""
        try:
            return self._decoded(frame, last_lsn)
        except (ValueError, KeyError) as error:
            self._damages.append(Damage(self._path, frame[0], frame[4], f"a record cannot be read: {error}"))
            return None

    def _peek(self, frame: Frame) -> Record | None:
        """The record of a frame; what is wrong with it is told when it is decoded for good."""
        try:
            return self._decoded(frame, -1)
        except (ValueError, KeyError):
            return None

    def _decoded(self, frame: Frame, last_lsn: int) -> Record:
        at, tail, kind, epoch, lsn = frame
        if epoch != self._header.epoch or lsn <= last_lsn or lsn_slot(lsn) > self._header.slot:
            raise ValueError("it is out of order")
        payload: Buffer = self._view[at + _FRAME_HEAD : tail]
        if self._header.encrypted:
            payload = decrypt_record(self._header.key, _place(self._names, kind), payload)
        head, sections = decode_payload(payload)
        return Record(_KINDS[kind], lsn, epoch, head, sections)

    def _zeroed(self, at: int, end: int) -> bool:
        """A power loss can keep a file's new length and lose its new blocks: zeros up to the end of the file.

        Torn if all from ``at`` on is zero, or all from a sector boundary inside the frame ``at .. end`` on. What one
        flipped bit can do never looks so: the zeros cover the frame's digest, or at least its last eight bytes.
        """
        rest = bytes(self._view[at:])
        zeros_from = at + len(rest.rstrip(b"\0"))
        boundary = at if zeros_from == at else -(-zeros_from // _SECTOR) * _SECTOR
        if self._count == 0 or boundary >= end or len(self._view) - boundary < _MIN_ZEROS:
            return False
        self._torn = TornTail(self._path, at, len(rest))
        return True


def _address_digest(key: Key, names: RunNames) -> bytes:
    return keyed(key.derive("run address"), names.address.encode("utf-8"))


def _place(names: RunNames, kind: int) -> str:
    return f"record {kind} of {names.address}"
