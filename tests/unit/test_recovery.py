"""Recovery where damage and trimming meet: what cannot be made up for is refused."""

from __future__ import annotations

from typing import Any

import pytest
from unit.log_doubles import KEY, NAMES, SimDisk, op, take_over

from ckpt.errors import CorruptionError
from ckpt.format.records import Kind
from ckpt.history import history_of
from ckpt.log import LogView, LogWriter, read_log
from ckpt.recovery import find_resume_point, result_record
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
        self.log.append(Kind.CHECKPOINT, {"covers": covers, "path": []}, [ref.encode() for ref in refs])

    def view(self) -> LogView:
        return read_log(self.disk, NAMES, KEY)

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
