"""What the records of a run tell: recovery and the command line see the same run."""

from __future__ import annotations

from pathlib import Path

from unit.runs import BIG, Writing

from ckpt.format.records import Kind
from ckpt.history import history_of
from ckpt.log import read_log
from ckpt.recovery import find_resume_point
from ckpt.snapshot import read_snapshot
from ckpt.store import Store


def test_reopened_block_is_the_same_for_recovery_show_and_verify(tmp_path: Path) -> None:
    """Its final checkpoint is behind all that is to be tried again: it does not count, whoever looks."""
    writing = Writing.start(tmp_path)
    writing.checkpoint(3)
    packs = {path.name for path in tmp_path.rglob("*.pack")}
    writing.checkpoint(9, nbytes=BIG, reason="final")
    final = [path for path in tmp_path.rglob("*.pack") if path.name not in packs]
    writing.status("finished")
    assert Store(tmp_path).open("sim").summary.checkpoints == 2
    writing.log.append(Kind.STATUS, {"status": "reopened", "when": 1_700_000_200.0})
    writing.end()

    info = Store(tmp_path).open("sim")
    assert [one.number for one in info.checkpoints] == [1]
    assert (info.summary.status, info.summary.checkpoints, info.summary.position) == ("reopened", 1, "t 3/9")
    [run] = Store(tmp_path).list()
    assert run == info.summary, "the list looks at the newest segments only"

    root, names = writing.root, writing.names
    view = read_log(root.storage, names, root.key)
    history = history_of(view.records)
    point = find_resume_point(view, history, names, lambda ref: read_snapshot(ref, root.storage, names, root.key))
    assert point is not None
    assert point.head["number"] == 1
    assert [one.lsn for one in history.needed()] == [point.lsn]

    [pack] = final
    pack.unlink()
    assert [one.what for one in Store(tmp_path).verify() if one.serious] == [], "nothing needs it any more"


def test_nothing_before_a_fresh_start_counts_but_its_attempts_are_told(tmp_path: Path) -> None:
    first = Writing.start(tmp_path)
    first.checkpoint(3)
    first.operation()
    first.end("failed", "no")
    second = Writing.start(tmp_path)
    second.log.append(Kind.STATUS, {"status": "reset", "when": 1_700_000_200.0})
    reset = second.log.position
    second.end()
    history = history_of(read_log(first.root.storage, first.names, first.root.key).records)
    assert (history.checkpoints, history.operations, history.finished) == ([], [], None)
    assert (history.began_lsn, history.reset_by) == (reset, 2)
    assert [one.epoch for one in history.starts] == [1, 2]
    assert [(one.epoch, one.head["status"]) for one in history.outcomes] == [(1, "failed")]
    assert not history.ended, "the second attempt has said nothing"
