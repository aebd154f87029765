"""Appending: what an acknowledgement means, group commit, rotation, trimming, and what errors leave behind."""

from __future__ import annotations

import random
import threading

import pytest
from unit.log_doubles import KEY, NAMES, Fault, SimDisk, SimObjects, op, ops, take_over

from ckpt.errors import FencedError, OptionError, StorageError, StorageFullError, UsageError
from ckpt.format.records import Kind, lsn_of, lsn_slot
from ckpt.log import read_log
from ckpt.log.writer import BUFFER_LIMIT
from ckpt.storage.local import LocalStorage

BOTH = pytest.mark.parametrize("make", [SimDisk, SimObjects], ids=["disk", "objects"])


def quiet(operation: str, key: str) -> None:
    return None


def recovered(storage: SimObjects) -> list[int]:
    view = read_log(storage, NAMES, KEY)
    assert view.damages == []
    lsns = [record.lsn for record in view.records]
    assert lsns == sorted(set(lsns))
    return ops(view)


@BOTH
def test_acknowledged_record_survives_a_power_loss_and_a_queued_one_need_not(make):
    storage = make()
    writer, _ = take_over(storage)
    first = op(writer, 1)
    op(writer, 2, durable=False)
    assert writer.position > first
    if isinstance(storage, SimDisk):
        storage.lose_power(random.Random(0))
    assert recovered(storage) == [1]


@BOTH
@pytest.mark.parametrize("settle", ["append", "flush", "rotate", "close"])
def test_queued_records_become_durable_in_order(make, settle):
    storage = make()
    writer, _ = take_over(storage)
    lsns = [op(writer, n, durable=False) for n in range(3)]
    if settle == "append":
        op(writer, 3)
    else:
        getattr(writer, settle)()
    if isinstance(storage, SimDisk):
        storage.lose_power(random.Random(0))
    assert recovered(storage)[:3] == [0, 1, 2]
    found = [record.lsn for record in read_log(storage, NAMES, KEY).records if record.kind is Kind.OPERATION]
    assert found[:3] == lsns


@BOTH
def test_queue_is_bounded(make):
    storage = make()
    writer, _ = take_over(storage)
    value = b"x" * 10_000
    for n in range(BUFFER_LIMIT // 10_000 + 2):
        writer.append(Kind.OPERATION, {"n": n}, [value], durable=False)
    assert len([r for r in read_log(storage, NAMES, KEY).records if r.kind is Kind.OPERATION]) > 100


@BOTH
def test_sections_may_change_after_a_queued_append(make):
    storage = make()
    writer, _ = take_over(storage)
    value = bytearray(b"value 1")
    writer.append(Kind.OPERATION, {"n": 1}, [value], durable=False)
    value[:] = b"changed"
    writer.flush()
    assert recovered(storage) == [1]


@BOTH
def test_many_threads_share_syncs_and_lose_nothing(make):
    storage = make()
    writer, _ = take_over(storage)
    commits = 0
    leader_in, go = threading.Event(), threading.Event()

    def hold(operation: str, key: str) -> None:
        nonlocal commits
        if operation in ("sync", "create"):
            commits += 1
            if commits == 1:  # until all others have queued
                leader_in.set()
                assert go.wait(60)

    storage.before = hold
    threads = [threading.Thread(target=op, args=(writer, n)) for n in range(20)]
    threads[0].start()
    assert leader_in.wait(60)
    for thread in threads[1:]:
        thread.start()
    while writer._next_lsn & 0xFFFF_FFFF < 20 and len(writer._pending) < 19:
        threading.Event().wait(0.001)
    go.set()
    for thread in threads:
        thread.join()
    assert commits == 2
    assert sorted(recovered(storage)) == list(range(20))


def test_threads_on_a_real_folder_append_rotate_and_lose_nothing(tmp_path):
    storage = LocalStorage(tmp_path)
    writer, _ = take_over(storage)

    def work(thread: int) -> None:
        for n in range(50):
            op(writer, thread * 1000 + n, durable=n % 3 == 0)
            if n % 20 == thread:
                writer.rotate()

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    view = read_log(storage, NAMES, KEY)
    assert (view.damages, view.torn) == ([], [])
    for thread in range(4):
        assert [n for n in ops(view) if n // 1000 == thread] == [thread * 1000 + n for n in range(50)]


@BOTH
def test_rotation_seals_and_trim_deletes_whole_segments_only(make):
    storage = make()
    writer, _ = take_over(storage)
    for n in range(3):
        op(writer, n)
        writer.rotate()
    keep = op(writer, 3)
    op(writer, 4)
    writer.trim(keep)
    assert recovered(storage)[-2:] == [3, 4]
    view = read_log(storage, NAMES, KEY)
    assert view.floor == lsn_slot(keep)
    assert all(lsn_slot(record.lsn) >= view.floor for record in view.records)
    slots = [NAMES.parse_segment(key) for key in storage.list(NAMES.log_prefix)]
    assert slots == list(range(view.floor, view.next_slot))
    writer.trim(lsn_of(10_000, 0))  # never the current segment
    writer.trim(lsn_of(1, 0))  # never down again
    op(writer, 5)
    assert recovered(storage)[-1] == 5
    new, view = take_over(storage)
    assert view.damages == []
    op(new, 6)
    assert recovered(storage)[-2:] == [5, 6]


@BOTH
def test_trim_that_dies_at_any_call_leaves_a_whole_log(make):
    for nth in range(1, 60):
        storage = make()
        writer, _ = take_over(storage)
        for n in range(4):
            op(writer, n)
            writer.rotate()
        keep = op(writer, 4)
        storage.before = fault = Fault("any", KeyboardInterrupt(), nth)
        try:
            writer.trim(keep)
        except KeyboardInterrupt:
            pass
        storage.before = quiet
        assert recovered(storage)[-1] == 4
        new, view = take_over(storage)
        assert view.damages == []
        new.trim(keep)
        listed = [NAMES.parse_segment(key) for key in storage.list(NAMES.log_prefix)]
        assert min(slot for slot in listed if slot) == lsn_slot(keep)
        if fault.left > 0:
            return
    raise AssertionError("the trim makes more calls than this test reaches")


@BOTH
def test_full_disk_is_typed_and_the_writer_goes_on(make):
    storage = make()
    writer, _ = take_over(storage)
    op(writer, 1)
    op(writer, 2, durable=False)
    storage.before = Fault("append" if make is SimDisk else "create", StorageFullError("full"))
    with pytest.raises(StorageFullError):
        op(writer, 3)
    storage.before = quiet
    op(writer, 4)
    found = recovered(storage)
    assert found == [1, 2, 4] if make is SimDisk else found in ([1, 2, 4], [1, 2, 3, 4])


def test_full_disk_at_a_rotation_loses_nothing():
    disk = SimDisk()
    writer, _ = take_over(disk)
    op(writer, 1, durable=False)
    disk.before = Fault("create", StorageFullError("full"))
    with pytest.raises(StorageFullError):
        writer.rotate()
    op(writer, 2, durable=False)
    disk.before = Fault("create", StorageFullError("full"))
    with pytest.raises(StorageFullError):
        op(writer, 3)
    disk.before = quiet
    for n in (4, 5):
        op(writer, n)
    assert recovered(disk) == [1, 2, 4, 5]
    _, view = take_over(disk)
    assert (ops(view), view.damages) == ([1, 2, 4, 5], [])


def test_file_whose_sync_failed_is_left_behind():
    disk = SimDisk()
    writer, _ = take_over(disk)
    op(writer, 1)
    queued = op(writer, 2, durable=False)
    disk.before = Fault("sync", StorageError("EIO"))
    with pytest.raises(StorageError, match="EIO"):
        op(writer, 3)
    disk.before = quiet
    slot = lsn_slot(op(writer, 4, durable=False))
    op(writer, 5)
    disk.lose_power(random.Random(0))
    assert recovered(disk) == [1, 2, 4, 5]
    moved = [record.lsn for record in read_log(disk, NAMES, KEY).records if record.head.get("n") == 2]
    assert moved == [queued]  # a position that was given out stays true
    assert slot == lsn_slot(queued)
    assert NAMES.segment(slot + 1) in disk.files


@BOTH
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", ["create", "sync", "append", "get", "exists", "any"])
def test_any_failing_call_loses_no_acknowledged_record(make, when, operation):
    for nth in range(1, 12):
        storage = make()
        writer, _ = take_over(storage)
        acknowledged, refused = [], []
        setattr(storage, when, Fault(operation, StorageError("trouble"), nth))
        for n in range(5):
            try:
                op(writer, 10 * n, durable=False)
                op(writer, 10 * n + 1)
                acknowledged += [10 * n, 10 * n + 1]
            except StorageError:
                refused.append(10 * n + 1)
                acknowledged.append(10 * n)
            try:
                writer.rotate()
            except StorageError:
                pass
        storage.before = storage.after = quiet
        op(writer, 99)
        found = recovered(storage)
        assert [n for n in found if n not in refused] == [*acknowledged, 99]
        _, view = take_over(storage)
        assert (ops(view), view.damages) == (found, [])


@BOTH
def test_interrupted_write_ends_the_writer_for_good(make):
    storage = make()
    writer, _ = take_over(storage)
    storage.before = Fault("sync" if make is SimDisk else "create", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        op(writer, 1)
    storage.before = quiet
    for call in (lambda: op(writer, 2), writer.flush, writer.rotate, lambda: writer.trim(writer.position)):
        with pytest.raises(StorageError, match="interrupted"):
            call()
    writer.close()


@BOTH
def test_fenced_writer_raises_the_same_error_for_ever(make):
    storage = make()
    writer, _ = take_over(storage)
    take_over(storage)
    errors = []
    for call in (lambda: op(writer, 1), lambda: op(writer, 2, durable=False), writer.flush):
        with pytest.raises(FencedError) as caught:
            call()
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 1


@BOTH
def test_closed_writer_takes_nothing_more(make):
    storage = make()
    writer, _ = take_over(storage)
    op(writer, 1, durable=False)
    writer.close()
    writer.close()
    with pytest.raises(UsageError, match="closed"):
        op(writer, 2)
    assert recovered(storage) == [1]


@BOTH
def test_head_that_is_no_json_leaves_the_log_as_it_was(make):
    storage = make()
    writer, _ = take_over(storage)
    with pytest.raises(OptionError):
        writer.append(Kind.OPERATION, {"n": object()})
    op(writer, 1)
    assert recovered(storage) == [1]


def test_acknowledgement_comes_after_sync_and_fence_check():
    disk = SimDisk()
    writer, _ = take_over(disk)
    calls: list[str] = []
    disk.before = lambda operation, key: calls.append(f"{operation} {NAMES.parse_segment(key)}")
    op(writer, 1)
    assert calls == ["append 1", "sync 1", "exists 2", "get 1"]


@BOTH
def test_sweep_deletes_upwards_after_the_floor_is_durable_and_stops_at_an_error(make):
    storage = make()
    writer, _ = take_over(storage)
    for n in range(4):
        keep = op(writer, n)
        writer.rotate()
    listing = storage.list
    storage.list = lambda prefix: listing(prefix)[::-1]  # type: ignore[method-assign]
    calls: list[tuple[str, str]] = []

    def watch(operation: str, key: str) -> None:
        calls.append((operation, key))
        if operation == "delete" and key == NAMES.segment(2):
            raise StorageError("no")

    storage.before = watch
    with pytest.raises(StorageError, match="no"):
        writer.trim(keep)
    changes = [key for operation, key in calls if operation in ("put", "delete")]
    assert changes == [NAMES.floor, NAMES.segment(1), NAMES.segment(2)]
