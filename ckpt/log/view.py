"""Reading a log: what counts, what is damaged, where it ends. Writes nothing.

Guarantees:
 - ``LogView.records`` holds verified records only, in order, gap-free unless ``damages`` says otherwise;
 - damage is listed, not raised; a foreign key (UntrustedError) and a newer format (UnknownFormatError) are raised;
 - a log that another attempt writes or trims at the same time gives a prefix of what that attempt wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ckpt.errors import MissingKeyError, RolledBackError
from ckpt.format.floor import Floor, decode_floor
from ckpt.format.keys import Key
from ckpt.format.names import FIRST_SLOT, RunNames
from ckpt.format.records import Kind, Record, lsn_text, parse_lsn
from ckpt.format.segment import (
    HEADER_SIZE,
    Damage,
    ParsedSegment,
    SegmentHeader,
    SinceCheckpoint,
    TornTail,
    decode_header,
    parse_segment,
)
from ckpt.log.seals import Seal, parse_seal_head
from ckpt.protocols import Storage

NeededFrom = Callable[[Mapping[str, Any]], int]


@dataclass(frozen=True, slots=True)
class SegmentRead:
    """A segment as it was read: its bytes, as far as they count (``limit``; None: all), and what they say.

    OPERATIONs up to ``left_out_to`` (an LSN) are not in ``parsed``.
    """

    data: bytes
    limit: int | None
    parsed: ParsedSegment
    left_out_to: int = -1


@dataclass(frozen=True, slots=True)
class LogView:
    """What a run's log says at one moment."""

    records: list[Record]
    damages: list[Damage]
    torn: list[TornTail]
    floor: int
    """Lowest slot that counts."""
    next_slot: int
    """The slot that nobody has created yet."""
    epoch: int
    """The highest epoch that any attempt may have had; 0 for an empty log."""
    segments: Mapping[int, SegmentRead] = field(default_factory=dict, repr=False)
    """What it was read from, by slot: so that a later look verifies only what is new."""
    left_out_to: int = -1
    """OPERATIONs up to this LSN are not in ``records``, for the newest CHECKPOINT does not need them; -1: all are."""

    @property
    def end(self) -> int:
        """The LSN of the last record; -1 for an empty log."""
        return self.records[-1].lsn if self.records else -1

    def expect(self, at_least: str | None, names: RunNames) -> None:
        """RolledBackError if the log ends before the position ``at_least`` (None: expect nothing). OptionError."""
        if at_least is None or self.end >= parse_lsn(at_least):
            return
        end = lsn_text(self.end) if self.records else "nothing"
        raise RolledBackError(
            f"the log ends at {end}, and {at_least} was there before: somebody put an older copy back, or cut it",
            end=end,
            expected=at_least,
            where=names.address,
            fix="restore the store from a newer copy; to go on from the older state all the same, expect less",
        )


def with_left_out(view: LogView, names: RunNames, key: Key) -> LogView:
    """The same view with all OPERATIONs, from the bytes that it was made of: what was written since does not count."""
    records: list[Record] = []
    damages = [*view.damages]
    for slot, read in sorted(view.segments.items()):
        parsed = read.parsed
        if read.left_out_to >= 0:
            parsed = parse_segment(read.data, key, names, slot, limit=read.limit)
            damages += [damage for damage in parsed.damages if damage not in damages]
        records += parsed.records
    damages.sort(key=lambda damage: (damage.path, damage.offset))
    return replace(view, records=records, damages=damages, left_out_to=-1)


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a log lies. ``floor`` is that of the floor's ``key``, or the lowest slot that is there if that has none.
    No epoch below it was higher than ``base_epoch``."""

    floor: int
    tail: int
    base_epoch: int
    key: Floor | Damage | None


@dataclass(slots=True)
class Scan:
    """A view, and what a successor has to seal: the ends of the segments that no SEAL names (ascending)."""

    view: LogView
    unsealed: list[Seal]
    lost_floor: Damage | None
    """What is wrong with the floor's key, where a SEAL in the log tells the floor as well: to be written again."""


def read_log(storage: Storage, names: RunNames, key: Key, *, needed_from: NeededFrom | None = None) -> LogView:
    """All that counts in the log of ``names`` now; an empty view if there is none. ``needed_from``: see ``scan_log``.

    Raises StorageError, UntrustedError and UnknownFormatError; never for damage.
    """
    return scan_log(storage, names, key, needed_from=needed_from).view


def find_extent(storage: Storage, names: RunNames, key: Key) -> Extent:
    """Floor and last slot. ``tail`` is ``floor - 1`` for an empty log."""
    listed = [slot for text in storage.list(names.log_prefix) if (slot := names.parse_segment(text)) is not None]
    stored = read_floor(storage, names, key)
    if isinstance(stored, Floor):
        # The floor never passes the newest segment: its slot was there, whether or not it still is.
        floor, base, tail = stored.slot, stored.epoch, max([stored.slot, *listed])
    else:
        floor = min(listed, default=FIRST_SLOT)
        # Every epoch took a slot of its own, so that many at most have gone by below the first one that is left.
        base, tail = floor - 1, max(listed, default=floor - 1)
    while storage.exists(names.segment(tail + 1)):  # a listing is a hint; this is the truth
        tail += 1
    return Extent(floor, tail, base, stored)


def read_floor(storage: Storage, names: RunNames, key: Key) -> Floor | Damage | None:
    """The floor as its key has it; None if nothing was ever trimmed."""
    try:
        return decode_floor(storage.get(names.floor), key, names)
    except MissingKeyError:
        return None


def read_header(storage: Storage, names: RunNames, key: Key, slot: int) -> SegmentHeader | Damage | None:
    """The header of a slot's segment; None if there is no segment."""
    try:
        return decode_header(storage.get(names.segment(slot), 0, HEADER_SIZE), key, names, slot)
    except MissingKeyError:
        return None


def scan_log(
    storage: Storage, names: RunNames, key: Key, *, below: int | None = None, known: LogView | None = None,
    needed_from: NeededFrom | None = None,
) -> Scan:  # fmt: skip
    """As ``read_log``, of the slots under ``below`` only (None: all). ``known``: an earlier view of the same log.

    Everything is read again; bytes that are the same as in ``known`` are not verified and taken apart a second time.
    ``needed_from(head)`` is the LSN behind which a resume from the CHECKPOINT with this head needs OPERATIONs: given, those that
    the newest one does not need are verified, and left out (see ``LogView.left_out_to``).
    """
    known_segments = known.segments if known is not None else {}
    while True:
        extent = find_extent(storage, names, key)
        since = SinceCheckpoint(needed_from) if needed_from is not None else None
        scanner = _Scanner(storage, names, key, extent, known_segments, since)
        scan = scanner.run(extent.tail if below is None else below - 1)
        # A sweep in another process raises the floor, then deletes: what is missing now may just not count any more.
        if not scanner.missing or find_extent(storage, names, key).floor == extent.floor:
            return scan


@dataclass(slots=True)
class _Scanner:
    storage: Storage
    names: RunNames
    key: Key
    extent: Extent
    known: Mapping[int, SegmentRead]
    since: SinceCheckpoint | None
    read: dict[int, SegmentRead] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    sealed_floor: int = 0
    """The highest floor that a SEAL names; 0 if there is none."""
    epoch: int = 0
    unknown_epochs: int = 0
    closed: bool = False
    """Whether a segment above the one in hand holds more than a FENCE: then a SEAL names this one."""
    seals: dict[int, Seal] = field(default_factory=dict)
    unsealed: list[Seal] = field(default_factory=list)
    records: list[list[Record]] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    torn: list[TornTail] = field(default_factory=list)

    def run(self, last: int) -> Scan:
        """From the newest segment down: a SEAL is read before the segments that it names, so they are read after it
        was written, and are never shorter than it says, even while another attempt goes on writing."""
        self.epoch = self.extent.base_epoch
        slot = last
        while slot >= self.floor:  # which the SEALs that are found may move
            self._segment(slot)
            slot -= 1
        lost = self._lost_floor()
        if lost is not None:
            self.damages.append(lost)
        self.damages.sort(key=lambda damage: (damage.path, damage.offset))
        records = [record for segment in reversed(self.records) for record in segment]
        epoch = self.epoch + self.unknown_epochs
        view = LogView(records, self.damages, self.torn[::-1], self.floor, last + 1, epoch, self.read, self._left_out_to)
        return Scan(view, self.unsealed[::-1], lost if self.sealed_floor else None)

    @property
    def floor(self) -> int:
        """The SEALs tell the truth, once the newest is read; the key is a hint that may be late, and saves reading."""
        if isinstance(self.extent.key, Floor):
            return max(self.extent.floor, self.sealed_floor)
        return self.sealed_floor or self.extent.floor

    def _lost_floor(self) -> Damage | None:
        key = self.extent.key
        if isinstance(key, Damage):
            return key
        # Without a key: nothing was trimmed yet, or a trim died before it deleted anything, or the key was taken away.
        if key is None and self.floor > FIRST_SLOT and self.extent.floor >= self.floor:
            reason = f"the floor is missing, and the log begins with slot {self.extent.floor}"
            return Damage(self.names.floor, 0, None, reason)
        return None

    def _segment(self, slot: int) -> None:
        path = self.names.segment(slot)
        try:
            data = self.storage.get(path)
        except MissingKeyError:
            self.missing.append(slot)
            self.unknown_epochs += 1  # each slot may have been the FENCE of one more attempt
            self.damages.append(Damage(path, 0, None, "the segment is missing"))
            return
        seal = self.seals.get(slot)
        parsed = self._parse(slot, data, seal.length if seal else None)
        if parsed.header is None:
            self.unknown_epochs += 1
        else:
            self.epoch = max(self.epoch, parsed.header.epoch)
        self.damages += parsed.damages
        if seal is not None:
            self._check_seal(path, len(data), seal, parsed)
        else:
            self._note_unsealed(path, slot, len(data), parsed)
        self._note_seals(path, slot, parsed)
        self.records.append(parsed.records)
        if parsed.count > 1 or any(record.kind is not Kind.FENCE for record in parsed.records):
            self.closed = True

    def _parse(self, slot: int, data: bytes, limit: int | None) -> ParsedSegment:
        known = self.known.get(slot)
        if known is None or known.limit != limit or known.data != data or not self._suits(known):
            parsed = parse_segment(data, self.key, self.names, slot, limit=limit, choose=self.since)
            known = SegmentRead(data, limit, parsed, self._left_out_to)
        elif self.since is not None:
            self.since.left_out_to = max(self.since.left_out_to, known.left_out_to)
        self.read[slot] = known
        return known.parsed

    @property
    def _left_out_to(self) -> int:
        return -1 if self.since is None else self.since.left_out_to

    def _suits(self, known: SegmentRead) -> bool:
        """Whether what is left out of ``known``, if anything, would be left out again."""
        if known.left_out_to < 0:
            return True
        return self.since is not None and self.since.left_out_to in (-1, known.left_out_to)

    def _check_seal(self, path: str, size: int, seal: Seal, parsed: ParsedSegment) -> None:
        if size > seal.length:
            self.torn.append(TornTail(path, seal.length, size - seal.length))
        if not parsed.damages and not seal.fits(parsed):
            reason = f"the segment is not what was sealed ({seal.records} records, {seal.length} bytes)"
            self.damages.append(Damage(path, parsed.good_length, None, reason))

    def _note_unsealed(self, path: str, slot: int, size: int, parsed: ParsedSegment) -> None:
        if parsed.torn is not None:
            self.torn.append(parsed.torn)
        # Parsing stopped at damage: what lies behind it is unknown, so it is sealed with all its bytes.
        length = size if parsed.damages and parsed.torn is None else parsed.good_length
        self.unsealed.append(Seal(slot, length, parsed.count, parsed.last_digest))
        if self.closed:
            self.damages.append(Damage(path, length, None, "the SEAL that tells where the segment ends is missing"))

    def _note_seals(self, path: str, slot: int, parsed: ParsedSegment) -> None:
        for record in parsed.records:
            if record.kind is not Kind.SEAL:
                continue
            try:
                seals, floor = parse_seal_head(record.head)
            except ValueError as error:
                self.damages.append(Damage(path, 0, record.lsn, str(error)))
                continue
            self.sealed_floor = max(self.sealed_floor, min(floor, slot))
            for seal in seals:
                if self.seals.setdefault(seal.slot, seal) != seal:
                    self.damages.append(Damage(path, 0, record.lsn, f"slot {seal.slot} is sealed twice, differently"))
