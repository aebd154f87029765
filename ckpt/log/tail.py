"""The end of a log, as the one attempt that writes there sees it: append, open the next segment, notice the fence.

Not thread-safe: ``writer`` gives it to one thread at a time. Two rules make every acknowledgement true:
 - Appended records count once they are synced and *then* no next slot is seen. A successor creates its FENCE there
   first and reads this segment after that: so it either reads these records, or is seen.
 - A new segment counts once it is created and *then* its predecessor is seen to be still there. Sweeps delete upwards:
   so if it is, the new slot was never used and deleted by a successor.
From an error nothing is concluded: the slot is read back, and the nonce in its header tells whose it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ckpt.errors import CkptError, FencedError, LogLostError, MissingKeyError, StorageError, UnknownFormatError
from ckpt.format.floor import decode_floor
from ckpt.format.keys import DIGEST_SIZE, Key
from ckpt.format.names import RunNames
from ckpt.format.records import Kind, Record, encode_payload, lsn_of
from ckpt.format.segment import (
    HEADER_SIZE,
    Damage,
    SegmentHeader,
    encode_frames,
    encode_header,
    parse_segment,
    stored_payload,
)
from ckpt.log.seals import Seal, seal_head
from ckpt.log.view import read_header
from ckpt.protocols import AppendableStorage, AppendFile, Buffer, Clock, Storage

NONCE_SIZE = 16
FACTS = ("host", "pid", "started")
"""What of a FENCE's head describes its attempt to others, and is repeated in its SEALs."""
BY = "by"
"""The head entry of a SEAL with the facts of the attempt that wrote it: its FENCE may be swept while it still lives."""

_FENCE_ROOM = 1 << 20  # bytes of a segment that are read to describe the attempt that began it
_DESCRIBED = 8  # segments that are looked at for that


@dataclass(slots=True)
class Entry:
    """One record on its way. ``durable``: somebody waits. ``settled``: it is acknowledged, or ``error`` is why not.

    Who waits has taken ``wakes``, and goes on when it is released: the record is settled, or it ``leads`` the next commit.
    """

    lsn: int
    kind: int
    payload: bytes
    durable: bool
    settled: bool = False
    error: BaseException | None = None
    leads: bool = False
    wakes: threading.Lock | None = None

    def settle(self, error: BaseException | None = None) -> None:
        self.settled, self.error = True, error
        self.wake()

    def wake(self) -> None:
        """Under the writer's lock: nobody else releases meanwhile."""
        if self.wakes is not None and self.wakes.locked():
            self.wakes.release()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt writes: the log of one run, under one key."""

    storage: Storage
    names: RunNames
    key: Key
    entropy: Callable[[int], bytes]
    clock: Clock

    def payload(self, kind: Kind, head: Mapping[str, Any], sections: Sequence[Buffer] = ()) -> bytes:
        """The payload of a record as it is stored. OptionError as for ``encode_payload``."""
        return stored_payload(self.key, self.names, kind, encode_payload(head, sections), self.entropy)


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A segment that is being created. The same bytes are tried until it is known whether they are there."""

    slot: int
    nonce: bytes
    data: bytes
    records: int

    @property
    def seal(self) -> Seal:
        return Seal(self.slot, len(self.data), self.records, self.data[-DIGEST_SIZE:])


def new_segment(place: Place, slot: int, epoch: int, entries: list[Entry]) -> NewSegment:
    """The bytes of a segment that begins with ``entries``."""
    nonce = place.entropy(NONCE_SIZE)
    header, seed = encode_header(place.key, place.names, slot, epoch, nonce)
    pieces, _ = encode_frames(place.key, seed, epoch, ((e.lsn, e.kind, e.payload) for e in entries))
    return NewSegment(slot, nonce, b"".join((header, *pieces)), len(entries))


@dataclass(frozen=True, slots=True)
class Created:
    """The outcome of a creation: mine (``file`` to go on appending, where the storage can) or ``other``'s."""

    file: AppendFile | None
    other: SegmentHeader | None


def create_segment(place: Place, segment: NewSegment) -> Created:
    """Create a segment if its slot is free. StorageError: it was not created, or (if it cannot be read back) unknown."""
    storage, path = place.storage, place.names.segment(segment.slot)
    problem: StorageError | None = None
    try:
        if isinstance(storage, AppendableStorage):
            file = storage.create_append(path, segment.data)
            if file is not None:
                return Created(file, None)
        elif storage.put_if_absent(path, segment.data):
            return Created(None, None)
    except StorageError as error:
        problem = error  # perhaps only the answer was lost
    found = read_header(storage, place.names, place.key, segment.slot)
    if isinstance(found, SegmentHeader):
        return Created(None, None if found.nonce == segment.nonce else found)
    raise problem or StorageError(
        "the slot is taken, but what is there cannot be read",
        where=path,
        fix="look at it with `ckpt verify`; if the storage is being repaired, run again afterwards",
    )


@dataclass(slots=True)
class Tail:
    """The segment that this attempt writes (``slot``), and what it still has to seal. See the module's docstring."""

    place: Place
    epoch: int
    slot: int
    head: bytes
    """The segment's header, as it must still be found there."""
    end: Seal
    """What is acknowledged, or could be, of this segment."""
    file: AppendFile | None
    unsealed: list[Seal]
    floor: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What describes this attempt to those that it ends (see ``FACTS``)."""
    opening: NewSegment | None = None
    """A creation of the next slot whose outcome is not known."""
    unconfirmed: bool = False
    """What was synced last does not count yet: whether a successor has begun could not be seen."""
    must_open: bool = field(default=False)
    """The next write goes to the next slot."""
    took: list[Entry] | None = None
    """The entries that the log holds, or will hold: those of the last write, unless it failed without a trace."""

    @property
    def can_append(self) -> bool:
        return self.file is not None and not self.must_open

    def append(self, entries: list[Entry]) -> None:
        """Append to this segment: durable and acknowledged on return. Needs ``can_append``.

        Raises StorageError: the segment is as before, or it is left behind (``can_append`` is then False).
        """
        file = self.file
        if file is None:
            raise AssertionError("append() without an open segment")
        pieces, digest = encode_frames(
            self.place.key, self.end.digest, self.epoch, ((e.lsn, e.kind, e.payload) for e in entries)
        )
        try:
            file.append(pieces)
        except StorageError:
            if file.broken:
                self._leave()
            raise
        try:
            file.sync()
        except StorageError:
            # What of the file is on disk is unknown, and a second fsync would say "yes" without writing: never again.
            self._leave()
            raise
        self.end = Seal(self.slot, file.length, self.end.records + len(entries), digest)
        self.took, self.unconfirmed = entries, True
        # Commit point. The sync comes first: whoever creates the next slot reads this segment afterwards, so a
        # successor that this check does not see has the records in its view.
        self.check_current()

    def check_current(self) -> None:
        """FencedError if a later attempt has begun; StorageError. What was ``unconfirmed`` counts on return."""
        if self.place.storage.exists(self.place.names.segment(self.slot + 1)):
            raise self._fenced(self.slot + 1)
        # "Not there" may also mean swept. Sweeps go upwards, so they would have deleted this segment before the next.
        self._check_still_there()
        self.unconfirmed = False

    def open_next(self, entries: list[Entry]) -> None:
        """Create the next segment, with the SEAL of all before it and ``entries``: acknowledged on return.

        Entries keep their LSNs: those given out in an older slot come in front of the SEAL.
        Raises StorageError: try again, after ``settle_opening`` if there is an ``opening``.
        """
        self.must_open = True
        slot = self.slot + 1
        head = self._seal_head([*self.unsealed, self.end])
        seal = Entry(lsn_of(slot, 0), Kind.SEAL, self.place.payload(Kind.SEAL, head), durable=False)
        ordered = sorted([*entries, seal], key=lambda entry: entry.lsn)
        segment = new_segment(self.place, slot, self.epoch, ordered)
        self.opening, self.took = segment, entries
        try:
            self.settle_opening()
        except StorageError:
            if isinstance(self.place.storage, AppendableStorage) and self._is_absent(slot):
                # A local creation cannot arrive late: this one never happened.
                self.opening = self.took = None
            raise

    def settle_opening(self) -> None:
        """Find out what became of an ``opening``, by trying it again. Raises StorageError if that is still unknown."""
        segment = self.opening
        if segment is None:
            return
        created = create_segment(self.place, segment)
        if created.other is not None:
            raise self._fenced(segment.slot)
        try:
            # Commit point, if the predecessor is still there: else a sweep was here, and this slot was used before.
            self._check_still_there()
        except CkptError:
            if created.file is not None:
                created.file.close()
            raise
        self._leave()
        self.slot, self.head, self.end = segment.slot, segment.data[:HEADER_SIZE], segment.seal
        # Mine, but without a handle (the answer was lost): complete as it is, the next write goes to the next slot.
        self.file, self.must_open = created.file, created.file is None
        self.unsealed, self.opening, self.unconfirmed = [], None, False

    def seal_log(self) -> int:
        """Seal all earlier segments, in this one or in the next; returns the LSN of the SEAL."""
        if not self.can_append:
            self.open_next([])
            return lsn_of(self.slot, 0)
        head = self._seal_head(self.unsealed)
        seal = Entry(lsn_of(self.slot, self.end.records), Kind.SEAL, self.place.payload(Kind.SEAL, head), durable=True)
        self.append([seal])
        self.unsealed = []
        return seal.lsn

    def close(self) -> None:
        """Let go of the open segment."""
        self._leave()

    def _seal_head(self, seals: list[Seal]) -> dict[str, Any]:
        facts = {BY: dict(self.facts)} if self.facts else {}
        return seal_head(seals, self.floor, self.place.clock.now()) | facts

    def _leave(self) -> None:
        file, self.file, self.must_open = self.file, None, True
        if file is not None:
            file.close()

    def _is_absent(self, slot: int) -> bool:
        try:
            return not self.place.storage.exists(self.place.names.segment(slot))
        except StorageError:
            return False  # unknown: the creation stays open

    def _check_still_there(self) -> None:
        path = self.place.names.segment(self.slot)
        try:
            head = self.place.storage.get(path, 0, HEADER_SIZE)
        except MissingKeyError:
            if not self._is_swept():
                raise self._lost(path) from None
            head = b""
        if head != self.head:
            raise self._fenced(self.slot + 1)

    def _is_swept(self) -> bool:
        """Whether this segment, which is gone, was taken away by a later attempt; True in doubt.

        A sweep raises the floor before it deletes anything, and is done by an attempt whose own, later segments stay. A
        slot that this attempt is just creating itself says nothing. Either answer ends this attempt.
        """
        storage, names = self.place.storage, self.place.names
        own = (self.slot, self.opening.slot if self.opening is not None else self.slot)
        listed = map(names.parse_segment, storage.list(names.log_prefix))
        if any(slot is not None and slot > self.slot and slot not in own for slot in listed):
            return True
        try:
            floor = decode_floor(storage.get(names.floor), self.place.key, names)
        except MissingKeyError:
            return False
        except UnknownFormatError:
            return True
        return isinstance(floor, Damage) or floor.slot > self.slot

    def _lost(self, path: str) -> LogLostError:
        return LogLostError(
            f"the log of the run was deleted while attempt {self.epoch} was running; nothing more can be committed from here",
            where=path,
            fix="do not delete a run's files while it is alive (`ckpt rm` refuses to); run again: it starts from the beginning",
        )

    def _fenced(self, slot: int) -> FencedError:
        return fenced(self.place, self.epoch, slot)


def fenced(place: Place, epoch: int, slot: int) -> FencedError:
    """The error for an attempt that found ``slot`` taken by another one."""
    successor = _describe(place, slot)
    return FencedError(
        f"attempt {epoch} was overtaken by {successor or 'a later attempt'}; nothing more can be committed from here",
        successor=successor,
        where=place.names.address,
        fix="let the other attempt run; start this one again only when that has ended",
    )


def _describe(place: Place, slot: int) -> str:
    """The attempt that began at ``slot`` or, if that is a late segment of an old one, soon after; '' if unknown.

    If its FENCE is swept already: the one whose segments are the newest.
    """
    try:
        for candidate in range(slot, slot + _DESCRIBED):
            records = _records(place, candidate)
            if not records:
                break
            if records[0].kind is Kind.FENCE:
                return _attempt_text(records[0].epoch, records[0].head)
        listed = (place.names.parse_segment(key) for key in place.storage.list(place.names.log_prefix))
        for newest in sorted((one for one in listed if one is not None and one >= slot), reverse=True)[:_DESCRIBED]:
            for record in _records(place, newest):
                if record.kind is Kind.SEAL and BY in record.head:
                    return _attempt_text(record.epoch, record.head[BY])
    except CkptError:
        return ""  # only a description is lost: the caller raises FencedError whether or not it has one
    return ""


def _records(place: Place, slot: int) -> Sequence[Record]:
    """The records at the beginning of a segment; none if it is not there. Raises what reading and parsing raise."""
    try:
        data = place.storage.get(place.names.segment(slot), 0, _FENCE_ROOM)
    except MissingKeyError:
        return ()
    return parse_segment(data, place.key, place.names, slot).records


def _attempt_text(epoch: int, facts: Mapping[str, Any]) -> str:
    known = [f"{name} {facts[name]}" for name in FACTS if name in facts]
    return f"attempt {epoch} ({', '.join(known)})" if known else f"attempt {epoch}"
