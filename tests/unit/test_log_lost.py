"""The log is deleted, or its storage does not answer, while an attempt writes it: what is said then, and what is not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import attempt, tick
from unit.log_doubles import NAMES, SimDisk, SimObjects, op, ops, take_over

import ckpt
from ckpt.errors import FencedError, LogLostError, StorageError

BOTH = pytest.mark.parametrize("make", [SimDisk, SimObjects], ids=["disk", "objects"])


@BOTH
def test_attempt_whose_log_was_deleted_says_so_and_commits_nothing_more(make):
    storage = make()
    writer, _ = take_over(storage)
    op(writer, 1)
    storage.files.clear()
    for call in (lambda: op(writer, 2), writer.flush, writer.rotate, lambda: op(writer, 3)):
        with pytest.raises(LogLostError, match="deleted") as caught:
            call()
        assert "ckpt rm" in caught.value.fix
        assert caught.value.where.startswith(NAMES.address)


@BOTH
def test_segment_that_vanishes_while_the_next_is_created_is_said_to_be_deleted(make):
    storage = make()
    writer, _ = take_over(storage)
    op(writer, 1)
    storage.files.clear()
    with pytest.raises(LogLostError):
        writer.rotate() or op(writer, 2)


@BOTH
@pytest.mark.parametrize("trace", ["segments", "floor", "damaged floor"])
def test_any_trace_of_a_later_attempt_means_that_it_took_over(make, trace):
    storage = make()
    old, _ = take_over(storage)
    op(old, 1)
    new, _ = take_over(storage)
    for n in range(5):
        op(new, 10 + n)
        new.rotate()
    new.trim(new.position)
    if trace == "segments":
        del storage.files[NAMES.floor]
    else:
        storage.files = {key: file for key, file in storage.files.items() if key == NAMES.floor}
    if trace == "damaged floor":
        storage.files[NAMES.floor].data[20] ^= 1
    with pytest.raises(FencedError):
        op(old, 2)


@ckpt.job(key="1")
def deletes_its_run(folder: str) -> int:
    total = 0
    for i in ckpt.loop(range(100)):
        tick()
        total += i
        if i == 3:
            run = ckpt.current_run()
            assert run is not None
            shutil.rmtree(Path(folder, *run.address.split("/")) / "log")
    return total


def test_job_whose_run_was_deleted_ends_with_that_error(scratch: Path, capsys: Any) -> None:
    with pytest.raises(LogLostError, match="was deleted while attempt 1 was running"):
        attempt(deletes_its_run, (str(scratch / "store"),), scratch / "store")
    said = capsys.readouterr().err
    assert "overtaken" not in said
    assert "the job goes on" not in said


def test_flush_that_settles_an_unknown_creation_does_not_say_yes_to_a_zombie():
    storage = SimObjects()
    zombie, _ = take_over(storage)
    op(zombie, 0, durable=False)

    def unreachable(call: str, key: str) -> None:
        if call == "get":
            storage.before = lambda call, key: None
            raise StorageError("down")

    storage.before = unreachable
    with pytest.raises(StorageError):
        op(zombie, 1)
    assert ops(take_over(storage)[1]) == [0, 1]
    with pytest.raises(FencedError):
        zombie.flush()
