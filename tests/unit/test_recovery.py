"""Recovery where damage and trimming meet: what cannot be made up for is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from unit.log_doubles import KEY, NAMES, SimDisk, op, take_over

import ckpt
from ckpt.errors import CorruptionError
from ckpt.format.records import Kind
from ckpt.history import history_of
from ckpt.log import LogView, LogWriter, read_log, with_left_out
from ckpt.log.view import scan_log
from ckpt.recovery import find_resume_point, needed_from, needs_left_out, result_record
from ckpt.snapshot import SnapshotRef, SnapshotWriter, read_snapshot
from ckpt.staging import Stager


class Run:
    """Attempts on one disk, one after the other."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.begin()

    def begin(self) -> None:
        self.log: LogWriter = take_over(self.disk)[0]
        self.snapshots = SnapshotWriter(self.disk, NAMES, KEY, self.log.epoch, inline_limit=100)

    def checkpoint(self, covers: int, nbytes: int = 0) -> None:
        refs = [self.snapshots.write(Stager().stage(b"state", [bytes(size)])) for size in (nbytes, 0)]
        self.log.append(Kind.CHECKPOINT, {"number": self.log.position, "covers": covers, "path": []}, [ref.encode() for ref in refs])

    def record(self, number: int) -> None:
        self.log.append(Kind.OPERATION, {"id": f"{number:02x}"}, [b"result %d" % number])

    def view(self, **options: Any) -> LogView:
        return read_log(self.disk, NAMES, KEY, **options)

    def read(self, ref: SnapshotRef) -> list[Any]:
        return read_snapshot(ref, self.disk, NAMES, KEY)


def test_checkpoint_whose_operations_were_trimmed_is_no_way_back():
    run = Run()
    covers = run.log.position
    run.log.append(Kind.OPERATION, {"id": "aa"}, [b"trimmed later"])
    run.log.rotate()
    run.checkpoint(covers)  # committed late: what it covers ends in the segment before
    run.checkpoint(run.log.position, nbytes=5000)
    run.log.trim(run.log.position)
    (pack,) = run.disk.list(NAMES.pack_prefix)
    run.disk.delete(pack)
    view = run.view()
    with pytest.raises(CorruptionError, match="trimmed away"):
        find_resume_point(view, history_of(view.records), NAMES, run.read)


def test_end_of_a_run_that_may_have_been_started_afresh_since_is_not_believed():
    run = Run()
    op(run.log, 1)
    finish = run.log.append(Kind.STATUS, {"status": "finished"}, [])
    view = run.view()
    assert getattr(result_record(view, history_of(view.records), NAMES), "lsn", None) == finish
    run.begin()
    run.log.append(Kind.STATUS, {"status": "reset"})
    run.begin()
    view = run.view()
    assert result_record(view, history_of(view.records), NAMES) is None
    run.disk.delete(NAMES.segment(2))
    view = run.view()
    with pytest.raises(CorruptionError, match="missing"):
        result_record(view, history_of(view.records), NAMES)


@pytest.mark.parametrize("rotates", [False, True])
def test_what_the_newest_checkpoint_does_not_need_is_read_again_for_an_older_one(rotates):
    run = Run()
    for number in range(3):
        run.record(number)
        run.checkpoint(run.log.position, nbytes=5000)
        if rotates:
            run.log.rotate()
    run.record(3)
    thin, whole = run.view(needed_from=needed_from), run.view()
    assert [one for one in whole.records if one not in thin.records and one.kind is not Kind.OPERATION] == []
    for view in (thin, run.view(needed_from=needed_from)):
        point = find_resume_point(view, history_of(view.records), NAMES, run.read)
        assert point.operations == [(b"\3", b"result 3")]
        assert not needs_left_out(view, point)
    run.disk.delete(max(run.disk.list(NAMES.pack_prefix)))
    point = find_resume_point(thin, history_of(thin.records), NAMES, run.read)
    assert needs_left_out(thin, point)
    point = find_resume_point(whole, history_of(whole.records), NAMES, run.read)
    assert not needs_left_out(whole, point)
    assert point.operations == [(b"\2", b"result 2"), (b"\3", b"result 3")]


def test_a_run_without_any_usable_checkpoint_needs_all_operations():
    run = Run()
    run.record(0)
    run.checkpoint(run.log.position, nbytes=5000)
    run.record(1)
    run.disk.delete(max(run.disk.list(NAMES.pack_prefix)))
    thin = run.view(needed_from=needed_from)
    assert find_resume_point(thin, history_of(thin.records), NAMES, run.read) is None
    assert needs_left_out(thin, None)


def test_a_later_look_takes_from_an_earlier_one_only_what_leaves_out_the_same():
    run = Run()
    run.record(0)
    run.checkpoint(run.log.position)
    run.log.rotate()
    thin = run.view(needed_from=needed_from)
    ids = [one.head.get("id") for one in thin.records]
    assert "00" not in ids
    again = scan_log(run.disk, NAMES, KEY, known=thin, needed_from=needed_from).view
    assert [again.segments[slot] is thin.segments[slot] for slot in thin.segments] == [True] * len(thin.segments)
    assert again.left_out_to == thin.left_out_to
    run.record(1)  # by an attempt that was overtaken meanwhile, say
    same = with_left_out(thin, NAMES, KEY)
    assert [one.head.get("id") for one in same.records if one.kind is Kind.OPERATION] == ["00"], "what was read, and no more"
    whole = scan_log(run.disk, NAMES, KEY, known=thin).view
    assert whole.records[: len(same.records)] == same.records
    assert same.left_out_to == -1
    assert "00" in [one.head.get("id") for one in whole.records]
    assert whole.left_out_to == -1


def test_damage_of_what_is_left_out_is_listed():
    run = Run()
    run.record(0)
    run.checkpoint(run.log.position)
    (path,) = [one for one in run.disk.list(NAMES.log_prefix) if b"result 0" in run.disk.get(one)]
    data = run.disk.files[path].data
    data[data.index(b"result 0")] ^= 1
    whole, thin = run.view(), run.view(needed_from=needed_from)
    assert whole.damages
    assert thin.damages == whole.damages


executed: list[int] = []


@ckpt.step
def noted(number: int) -> int:
    executed.append(number)
    return number


@ckpt.job(key="noted", every="1000h")
def job_with_steps(stop: str) -> tuple[int, int]:
    state, total = bytearray(random.Random(1).randbytes(100_000)), 0
    for number in ckpt.loop(range(11)):
        total += noted(number)
        state[number] ^= 1
        if number in (4, 8):
            ckpt.current_run().checkpoint()
        if number == 10 and Path(stop).exists():
            raise InterruptedError
    return total, len(state)


def test_run_that_goes_on_from_an_older_checkpoint_executes_no_step_again(scratch: Path) -> None:
    executed.clear()
    stop, store = scratch / "stop", scratch / "store"
    stop.touch()
    with pytest.raises(InterruptedError):
        job_with_steps.options(store=str(store))(str(stop))
    stop.unlink()
    newest = max(store.rglob("*.pack"), key=lambda pack: int(pack.stem.split("-")[1]))
    newest.unlink()
    assert job_with_steps.options(store=str(store))(str(stop)) == (55, 100_000)
    assert executed == list(range(11))


def test_no_two_checkpoints_of_a_run_have_the_same_number(scratch: Path) -> None:
    stop, store = scratch / "stop", scratch / "store"
    stop.touch()
    for _ in range(2):
        with pytest.raises(InterruptedError):
            job_with_steps.options(store=str(store))(str(stop))
        numbers = [one.number for one in ckpt.Store(store).open("noted").checkpoints]
        assert numbers == sorted({*numbers})
        max(store.rglob("*.pack"), key=lambda pack: int(pack.stem.split("-")[1])).unlink(missing_ok=True)
    assert max(numbers) > 3
