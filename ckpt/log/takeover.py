"""Beginning an attempt: the FENCE that ends all lower epochs, then the SEAL that fixes what they have said.

    find the tail and the highest epoch | create FENCE(epoch + 1) in the next slot | read everything before it | SEAL

A crash between any two steps leaves a log that the next takeover continues: a FENCE without a SEAL is one more segment
to seal. Of many attempts with the same epoch exactly one creates the FENCE; the others get FencedError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ckpt.format.floor import Floor, encode_floor
from ckpt.format.names import FIRST_SLOT
from ckpt.format.records import Kind, lsn_of
from ckpt.format.segment import HEADER_SIZE, Damage, SegmentHeader
from ckpt.log.tail import FACTS, Created, Entry, NewSegment, Place, Tail, create_segment, fenced, new_segment
from ckpt.log.view import Extent, LogView, NeededFrom, find_extent, read_floor, read_header, scan_log
from ckpt.protocols import AppendableStorage


@dataclass(frozen=True, slots=True)
class _Tip:
    """The newest segment before a takeover: its slot, its header (None if unreadable), and the highest epoch."""

    slot: int
    header: SegmentHeader | None
    epoch: int


def take_over(
    place: Place, fence: Mapping[str, Any], known: LogView | None, needed_from: NeededFrom | None
) -> tuple[Tail, LogView, int]:
    """(the tail, what counted before it, LSN of the SEAL). See ``LogWriter.take_over``."""
    tip = _find_tip(place)
    epoch = tip.epoch + 1
    while True:
        segment = _fence(place, tip.slot + 1, epoch, fence)
        created = create_segment(place, segment)
        if created.other is None:
            break
        if created.other.epoch >= epoch:
            raise fenced(place, epoch, segment.slot)
        # A lower epoch that does not know yet that it ends: step over it.
        tip = _Tip(segment.slot, created.other, tip.epoch)
    tail = _begin(place, epoch, segment, created)
    tail.facts = {name: fence[name] for name in FACTS if name in fence}
    try:
        _check_not_swept(place, tip, epoch)
        return tail, *_settle_log(tail, known, needed_from)
    except BaseException:
        tail.close()
        raise


def _settle_log(tail: Tail, known: LogView | None, needed_from: NeededFrom | None) -> tuple[LogView, int]:
    """Behind the FENCE: read all that counts before it, mend the floor's key, and seal; (view, LSN of the SEAL)."""
    place = tail.place
    # The segments before the FENCE are read only now: what a lower epoch has acknowledged was durable before it.
    scan = scan_log(place.storage, place.names, place.key, below=tail.slot, known=known, needed_from=needed_from)
    view = scan.view
    if scan.lost_floor is not None:
        place.storage.put(place.names.floor, [encode_floor(place.key, place.names, Floor(view.floor, tail.epoch))])
        view = replace(view, damages=[damage for damage in view.damages if damage != scan.lost_floor])
    if isinstance(place.storage, AppendableStorage):
        for seal in scan.unsealed:
            # A killed process may have written without syncing: that is seen here, but gone after a power loss.
            place.storage.make_durable(place.names.segment(seal.slot))
    tail.unsealed, tail.floor = scan.unsealed, view.floor
    return view, tail.seal_log()


def _find_tip(place: Place) -> _Tip:
    """Looks at as few segments as possible: only at the newest one, unless that is damaged."""
    extent: Extent = find_extent(place.storage, place.names, place.key)
    for unreadable, slot in enumerate(range(extent.tail, extent.floor - 1, -1)):
        header = read_header(place.storage, place.names, place.key, slot)
        if isinstance(header, SegmentHeader):
            # Each segment that cannot be read may have been the FENCE of one more attempt.
            return _Tip(extent.tail, header if unreadable == 0 else None, header.epoch + unreadable)
    return _Tip(extent.tail, None, extent.base_epoch + extent.tail - extent.floor + 1)


def _fence(place: Place, slot: int, epoch: int, fence: Mapping[str, Any]) -> NewSegment:
    head = {**fence, "attempt": epoch}
    payload = place.payload(Kind.FENCE, head)
    return new_segment(place, slot, epoch, [Entry(lsn_of(slot, 0), Kind.FENCE, payload, durable=True)])


def _check_not_swept(place: Place, tip: _Tip, epoch: int) -> None:
    """If this process slept since it looked, the slot of its FENCE may have been used, swept, and so free again.

    Sweeps delete upwards: if the segment before the FENCE is still the one that was seen, the slot was never used.
    """
    floor = read_floor(place.storage, place.names, place.key)
    swept = isinstance(floor, Floor) and floor.slot > tip.slot + 1
    if tip.header is not None:
        swept = swept or read_header(place.storage, place.names, place.key, tip.slot) != tip.header
    if tip.header is None or isinstance(floor, Damage):
        # Nothing was seen that a sweep would have deleted, or nobody can tell any more how far sweeps have gone (a stalled
        # attempt may have put an old floor back, too). But whoever has used our slot has gone on behind it.
        swept = swept or find_extent(place.storage, place.names, place.key).tail > tip.slot + 1
    if swept:
        raise fenced(place, epoch, tip.slot + 2)


def _begin(place: Place, epoch: int, segment: NewSegment, created: Created) -> Tail:
    return Tail(
        place=place,
        epoch=epoch,
        slot=segment.slot,
        head=segment.data[:HEADER_SIZE],
        end=segment.seal,
        file=created.file,
        unsealed=[],
        floor=FIRST_SLOT,
    )
