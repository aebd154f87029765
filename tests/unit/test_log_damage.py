"""Reading a log of which anything was changed, cut off or taken away: listed or refused, never wrong."""

from __future__ import annotations

import pytest
from unit.log_doubles import KEY, NAMES, FixedClock, SimDisk, SimFile, SimObjects, op, ops, take_over

from ckpt.errors import IntegrityError
from ckpt.format.records import Kind, encode_payload, lsn_of, lsn_slot
from ckpt.log import LogView, read_log
from ckpt.log.tail import Entry, Place, new_segment

BOTH = pytest.mark.parametrize("make", [SimDisk, SimObjects], ids=["disk", "objects"])


def build(make: type[SimObjects], *, trim: bool = False) -> tuple[dict[str, bytes], LogView]:
    """The keys of a log of two attempts with rotations, and what it says."""
    storage = make()
    first, _ = take_over(storage)
    op(first, 1)
    first.rotate()
    keep = op(first, 2)
    second, _ = take_over(storage)
    op(second, 3)
    if trim:
        second.trim(keep)
    view = read_log(storage, NAMES, KEY)
    assert (view.damages, view.torn) == ([], [])
    return {key: bytes(file.data) for key, file in storage.files.items()}, view


def read(make: type[SimObjects], files: dict[str, bytes]) -> LogView | None:
    """The view, None if refused; the records are checked to be ones that were written."""
    storage = make()
    storage.files = {key: SimFile(data) for key, data in files.items()}
    try:
        return read_log(storage, NAMES, KEY)
    except IntegrityError:
        return None


def flat(view: LogView) -> list[tuple[int, int, int, str, list[bytes]]]:
    return [(r.kind, r.lsn, r.epoch, str(r.head), [bytes(s) for s in r.sections]) for r in view.records]


@BOTH
@pytest.mark.parametrize("trim", [False, True])
def test_every_flipped_bit_is_listed_or_refused(make, trim):
    files, whole = build(make, trim=trim)
    truth = flat(whole)
    for key, data in files.items():
        for bit in range(len(data) * 8):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            view = read(make, {**files, key: bytes(changed)})
            if view is not None:
                assert [d for d in view.damages if d.path == key], (key, bit)
                assert all(record in truth for record in flat(view)), (key, bit)


@BOTH
def test_every_cut_is_listed_except_at_the_end_of_the_last_segment(make):
    files, whole = build(make)
    truth = flat(whole)
    for key, data in files.items():
        for cut in range(len(data)):
            view = read(make, {**files, key: data[:cut]})
            assert view is not None
            found = flat(view)
            assert all(record in truth for record in found)
            if not view.damages:
                assert key == max(files), (key, cut)
                assert found == truth[: len(found)]


@BOTH
@pytest.mark.parametrize("trim", [False, True])
def test_every_missing_key_is_listed_except_the_last_segment(make, trim):
    files, whole = build(make, trim=trim)
    truth = flat(whole)
    for key in files:
        view = read(make, {k: v for k, v in files.items() if k != key})
        assert view is not None
        assert all(record in truth for record in flat(view))
        if not view.damages:
            assert key == max(k for k in files if k != NAMES.floor)
        elif key != NAMES.floor:
            assert key in [damage.path for damage in view.damages]
            assert view.next_slot == whole.next_slot


@BOTH
def test_swapped_and_repeated_segments_are_listed(make):
    files, whole = build(make)
    segments = sorted(files)
    for a in segments:
        for b in segments:
            if a != b:
                view = read(make, {**files, a: files[b]})
                assert view is not None
                assert a in [damage.path for damage in view.damages]
                assert all(record in flat(whole) for record in flat(view))


def test_segment_of_another_run_is_listed():
    files, _ = build(SimDisk)
    other = type(NAMES)("job", "other")
    storage = SimDisk()
    op(take_over(storage, names=other)[0], 7)
    key = NAMES.segment(1)
    view = read(SimDisk, {**files, key: bytes(storage.files[other.segment(1)].data)})
    assert view is not None
    assert 7 not in ops(view)
    assert key in [damage.path for damage in view.damages]


def test_sealed_segment_rolled_back_to_an_earlier_whole_record_is_listed():
    disk = SimDisk()
    writer, _ = take_over(disk)
    op(writer, 1)
    earlier = bytes(disk.files[NAMES.segment(1)].data)
    op(writer, 2)
    writer.rotate()
    op(writer, 3)
    disk.files[NAMES.segment(1)] = SimFile(earlier)
    view = read_log(disk, NAMES, KEY)
    assert ops(view) == [1, 3]
    assert [damage.offset for damage in view.damages] == [len(earlier)]


def test_bytes_behind_a_seal_do_not_count():
    disk = SimDisk()
    old, _ = take_over(disk)
    op(old, 1)
    new, _ = take_over(disk)
    op(new, 2)
    length = len(disk.files[NAMES.segment(1)].data)
    with pytest.raises(Exception, match="overtaken"):
        op(old, 3)
    view = read_log(disk, NAMES, KEY)
    assert (ops(view), view.damages) == ([1, 2], [])
    (torn,) = view.torn
    assert (torn.path, torn.offset) == (NAMES.segment(1), length)
    assert torn.offset + torn.length == len(disk.files[NAMES.segment(1)].data)


@BOTH
def test_damaged_floor_is_mended_from_the_log_by_the_next_attempt(make):
    files, whole = build(make, trim=True)
    storage = make()
    storage.files = {key: SimFile(data) for key, data in files.items()}
    storage.files[NAMES.floor].data[20] ^= 1
    assert [damage.path for damage in read_log(storage, NAMES, KEY).damages] == [NAMES.floor]
    _, view = take_over(storage)
    assert (flat(view), view.damages, view.floor) == (flat(whole), [], whole.floor)
    assert read_log(storage, NAMES, KEY).damages == []


@BOTH
def test_attempt_on_a_damaged_log_keeps_the_damage_and_gets_an_epoch_of_its_own(make):
    files, whole = build(make)
    for key in files:
        storage = make()
        storage.files = {k: SimFile(data) for k, data in files.items()}
        storage.files[key].data[40] ^= 1  # in the header: its epoch cannot be known any more
        writer, view = take_over(storage)
        assert writer.epoch > whole.epoch
        assert key in [damage.path for damage in view.damages]
        op(writer, 9)
        after = read_log(storage, NAMES, KEY)
        assert key in [damage.path for damage in after.damages]
        assert ops(after)[-1] == 9


@BOTH
def test_listing_is_only_a_hint(make):
    files, whole = build(make)
    storage = make()
    storage.files = {key: SimFile(data) for key, data in files.items()}
    for hidden in range(len(files) + 1):
        listed = sorted(files)[: len(files) - hidden]
        storage.list = lambda prefix, listed=listed: listed  # type: ignore[method-assign]
        assert flat(read_log(storage, NAMES, KEY)) == flat(whole)


def test_segments_below_the_floor_are_ignored():
    files, whole = build(SimDisk, trim=True)
    view = read(SimDisk, {**files, NAMES.segment(1): b"left over"})
    assert view is not None
    assert (flat(view), view.damages) == (flat(whole), [])


def test_floor_written_back_by_a_stalled_sweep_changes_nothing():
    disk = SimDisk()
    writer, _ = take_over(disk)
    keeps = []
    for n in range(4):
        keeps.append(op(writer, n))
        writer.rotate()
    writer.trim(keeps[1])
    stale = bytes(disk.files[NAMES.floor].data)
    writer.trim(keeps[3])
    disk.files[NAMES.floor] = SimFile(stale)
    view = read_log(disk, NAMES, KEY)
    assert (ops(view), view.damages, view.floor) == ([3], [], lsn_slot(keeps[3]))


@BOTH
@pytest.mark.parametrize("call", range(1, 12))
def test_sweep_while_reading_is_no_damage(make, call):
    storage = make()
    writer, _ = take_over(storage)
    for n in range(4):
        keep = op(writer, n)
        writer.rotate()

    def sweep(operation: str, key: str) -> None:
        nonlocal call
        call -= 1
        if call == 0:
            writer.trim(keep)

    storage.before = sweep
    view = read_log(storage, NAMES, KEY)
    assert ops(view)[-1] == 3
    assert view.damages == []


def test_segment_that_nobody_sealed_is_listed():
    disk = SimDisk()
    first, _ = take_over(disk)
    op(first, 1)
    place = Place(disk, NAMES, KEY, bytes, FixedClock())
    records = [(Kind.FENCE, {"attempt": 2}), (Kind.OPERATION, {"n": 2})]
    entries = [
        Entry(lsn_of(2, i), kind, encode_payload(head, [b"value 2"]), True) for i, (kind, head) in enumerate(records)
    ]
    disk.files[NAMES.segment(2)] = SimFile(new_segment(place, 2, 2, entries).data)
    view = read_log(disk, NAMES, KEY)
    assert [damage.path for damage in view.damages] == [NAMES.segment(1)]
    assert "SEAL" in view.damages[0].reason
