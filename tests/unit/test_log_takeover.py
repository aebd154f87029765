"""Takeovers: who wins, what the winner sees, and what nobody can do afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.log_doubles import KEY, NAMES, Fault, FixedClock, SimDisk, SimObjects, op, ops, take_over

from ckpt.errors import FencedError, StorageError, UntrustedError
from ckpt.format.keys import UNSIGNED, Key
from ckpt.format.records import Kind, lsn_slot
from ckpt.log import LogWriter, Place, read_log
from ckpt.storage.local import LocalStorage

BOTH = pytest.mark.parametrize("make", [SimDisk, SimObjects], ids=["disk", "objects"])


@BOTH
def test_empty_log_gives_epoch_1_and_an_empty_view(make):
    writer, view = take_over(make())
    assert (writer.epoch, view.epoch, view.records, view.damages, view.torn) == (1, 0, [], [], [])


@BOTH
def test_view_holds_everything_acknowledged_before(make):
    storage = make()
    for epoch in range(1, 5):
        writer, view = take_over(storage)
        assert writer.epoch == epoch == view.epoch + 1
        assert ops(view) == list(range((epoch - 1) * 3))
        for n in range(3):
            op(writer, (epoch - 1) * 3 + n)
    lsns = [record.lsn for record in read_log(storage, NAMES, KEY).records]
    assert lsns == sorted(set(lsns))


@BOTH
def test_what_changed_since_an_earlier_look_is_read_and_verified(make):
    storage = make()
    writer, _ = take_over(storage)
    op(writer, 0)
    op(writer, 1)
    known = read_log(storage, NAMES, KEY)
    op(writer, 2)
    path, file = next((path, file) for path, file in storage.files.items() if b"value 0" in file.data)
    file.data[file.data.index(b"value 0")] ^= 1
    _, view = take_over(storage, known=known)
    assert [damage.path for damage in view.damages] == [path]
    assert ops(view) == [1, 2]


@BOTH
def test_fence_describes_the_attempt(make):
    storage = make()
    take_over(storage)
    _, view = take_over(storage)
    fence = view.records[0]
    assert fence.kind is Kind.FENCE
    assert fence.head == {"attempt": 1, "host": "h1", "pid": 7, "started": 1.5}


@BOTH
def test_stale_attempt_can_commit_nothing_and_names_its_successor(make):
    storage = make()
    old, _ = take_over(storage)
    op(old, 1)
    op(old, 2, durable=False)
    new, _ = take_over(storage, host="h2")
    for call in (
        lambda: op(old, 3),
        old.flush,
        old.rotate,
        lambda: old.trim(old.position + (5 << 32)),
        lambda: op(old, 4),
    ):
        with pytest.raises(FencedError, match="host h2, pid 7") as caught:
            call()
        assert "attempt 2" in caught.value.successor
    op(new, 5)
    assert ops(read_log(storage, NAMES, KEY)) == [1, 5]


@BOTH
@pytest.mark.parametrize("call", range(1, 14))
def test_zombie_that_appends_during_a_takeover_is_seen_or_fenced(make, call):
    storage = make()
    old, _ = take_over(storage)
    op(old, 1)
    acknowledged = [1]

    def interfere(operation: str, key: str) -> None:
        nonlocal call
        call -= 1
        if call == 0:
            try:
                op(old, 2)
                acknowledged.append(2)
            except FencedError:
                pass

    storage.before = interfere
    new, view = take_over(storage)
    storage.before = lambda operation, key: None
    assert set(acknowledged) <= set(ops(view))
    op(new, 3)
    assert ops(read_log(storage, NAMES, KEY)) == [*ops(view), 3]


@BOTH
@pytest.mark.parametrize("call", range(1, 14))
def test_rotation_during_a_takeover_is_stepped_over(make, call):
    storage = make()
    old, _ = take_over(storage)

    def interfere(operation: str, key: str) -> None:
        nonlocal call
        call -= 1
        if call == 0:
            try:
                op(old, 1)
                old.rotate()
                op(old, 2)
            except FencedError:
                pass

    storage.before = interfere
    new, view = take_over(storage)
    storage.before = lambda operation, key: None
    assert new.epoch == 2
    op(new, 3)
    after = read_log(storage, NAMES, KEY)
    assert ops(after) == [*ops(view), 3]
    assert after.damages == []


@BOTH
@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
def test_takeover_that_dies_at_any_call_is_continued_by_the_next(make, lost):
    for nth in range(1, 40):
        storage = make()
        old, _ = take_over(storage)
        op(old, 1)
        old.rotate()
        op(old, 2)
        fault = Fault("any", KeyboardInterrupt(), nth)
        setattr(storage, "after" if lost else "before", fault)
        try:
            take_over(storage)
        except KeyboardInterrupt:
            pass
        storage.before = storage.after = lambda operation, key: None
        new, view = take_over(storage)
        assert ops(view) == [1, 2]
        assert view.damages == []
        op(new, 3)
        assert ops(read_log(storage, NAMES, KEY)) == [1, 2, 3]
        if fault.left > 0:
            return
    raise AssertionError("the takeover makes more calls than this test reaches")


@BOTH
def test_lost_answer_to_the_fence_is_no_lost_fence(make):
    for nth in (1, 2):
        storage = make()
        old, _ = take_over(storage)
        op(old, 1)
        storage.after = Fault("create", StorageError("lost"), nth)
        new, view = take_over(storage)
        storage.after = lambda operation, key: None
        assert (new.epoch, ops(view)) == (2, [1])
        op(new, 2)
        op(new, 3)
        assert ops(read_log(storage, NAMES, KEY)) == [1, 2, 3]
        with pytest.raises(FencedError):
            op(old, 4)


@BOTH
def test_of_attempts_with_one_epoch_exactly_one_wins(make):
    """The second one runs, whole, inside the first one's takeover: at every call of it."""
    for call in range(1, 8):
        storage = make()
        outcome: list[str] = []
        left = call

        def rival(operation: str, key: str, storage: SimObjects = storage, outcome: list[str] = outcome) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                take_over(storage, host="rival")
                outcome.append("rival")

        storage.before = rival
        try:
            writer, _ = take_over(storage)
            op(writer, 1)
            outcome.append("first")
        except FencedError as error:
            assert "rival" in error.successor  # noqa: PT017
        storage.before = lambda operation, key: None
        fences = [r for r in read_log(storage, NAMES, KEY).records if r.kind is Kind.FENCE]
        assert len({fence.epoch for fence in fences}) == len(fences)
        assert ops(read_log(storage, NAMES, KEY)) == ([1] if "first" in outcome else [])


def test_racing_threads_on_a_real_folder_have_one_winner_per_epoch(tmp_path):
    storage = LocalStorage(tmp_path)
    won: list[LogWriter] = []
    start = threading.Barrier(6)

    def race(seed: int) -> None:
        entropy = random.Random(seed).randbytes
        start.wait()
        try:
            writer, _ = LogWriter.take_over(Place(storage, NAMES, KEY, entropy, FixedClock()), fence={})
            won.append(writer)
        except FencedError:
            pass

    threads = [threading.Thread(target=race, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({writer.epoch for writer in won}) == len(won) >= 1
    newest = max(won, key=lambda writer: writer.epoch)
    for writer in won:
        if writer is not newest:
            with pytest.raises(FencedError):
                op(writer, 0)
    op(newest, 1)
    view = read_log(storage, NAMES, KEY)
    assert (ops(view), view.damages) == ([1], [])
    for writer in won:
        writer.close()


def overtaken_and_swept(storage: SimObjects, then: Callable[[], None] = lambda: None) -> Callable[[str, str], None]:
    """Before the first create: a rival takes over, writes on, and sweeps what was there; then ``then``."""
    done = False

    def overtake(operation: str, key: str) -> None:
        nonlocal done
        if operation == "create" and not done:
            done = True
            rival, _ = take_over(storage)
            for n in range(4):
                rival.rotate()
                op(rival, 10 + n)
            rival.trim(rival.position)
            then()

    return overtake


@BOTH
def test_sleeper_whose_slot_was_swept_meanwhile_has_lost(make):
    storage = make()
    old, _ = take_over(storage)
    op(old, 1)
    storage.before = overtaken_and_swept(storage)
    with pytest.raises(FencedError):
        take_over(storage)
    storage.before = lambda operation, key: None
    view = read_log(storage, NAMES, KEY)
    assert (ops(view), view.damages) == ([13], [])


@BOTH
def test_sleeper_on_an_empty_log_has_lost_its_slot_even_if_the_floor_rots_meanwhile(make):
    storage = make()

    def rot() -> None:
        storage.files[NAMES.floor].data[-1] ^= 1

    storage.before = overtaken_and_swept(storage, rot)
    with pytest.raises(FencedError):
        take_over(storage)


@BOTH
@pytest.mark.parametrize("regress", [False, True], ids=["floor", "floor written back"])
def test_zombie_whose_segments_were_swept_is_fenced_without_a_next_slot(make, regress):
    storage = make()
    old, _ = take_over(storage)
    op(old, 1)
    new, _ = take_over(storage)
    for n in range(5):
        op(new, 10 + n)
        new.rotate()
    new.trim(new.position)
    if regress:  # a stalled sweep of an attempt in between
        del storage.files[NAMES.floor]
    assert NAMES.segment(lsn_slot(old.position) + 1) not in storage.files
    with pytest.raises(FencedError):
        op(old, 2)


def test_flush_after_a_check_that_failed_does_not_say_yes_to_a_zombie():
    storage = SimDisk()
    zombie, _ = take_over(storage)
    op(zombie, 1, durable=False)
    _, view = take_over(storage)
    assert ops(view) == []
    storage.before = Fault("exists", StorageError("the network is away"))
    with pytest.raises(StorageError):
        zombie.flush()
    storage.before = lambda operation, key: None
    with pytest.raises(FencedError):
        zombie.flush()


def test_written_but_unsynced_records_are_made_durable_before_they_are_built_upon():
    disk = SimDisk()
    old, _ = take_over(disk)
    op(old, 1)
    disk.before = Fault("sync", KeyboardInterrupt())  # killed between write and sync
    with pytest.raises(KeyboardInterrupt):
        op(old, 2)
    disk.before = lambda operation, key: None
    new, view = take_over(disk)
    assert ops(view) == [1, 2]
    op(new, 3)
    disk.lose_power(random.Random(1))
    after = read_log(disk, NAMES, KEY)
    assert (ops(after), after.damages) == ([1, 2, 3], [])


KILLED_BEFORE_ITS_SYNC = """
import sys
from pathlib import Path
from unit.log_doubles import op, take_over
from ckpt.storage import LocalStorage
from ckpt.testing import Fault, FaultPlan, FaultyStorage
plan = FaultPlan()
writer, _ = take_over(FaultyStorage(LocalStorage(Path(sys.argv[1])), plan))
op(writer, 1)
print(writer.segment_bytes, flush=True)
plan.add(Fault.parse("kill-before:sync@1"))
op(writer, 2)
"""


def test_unsynced_record_of_a_killed_process_survives_takeover_and_power_loss(tmp_path, monkeypatch):
    tests = Path(__file__).parent.parent
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent), *sys.path])}
    command = [sys.executable, "-c", KILLED_BEFORE_ITS_SYNC, str(tmp_path)]
    killed = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=False)
    assert killed.returncode == -signal.SIGKILL
    durable = {str(tmp_path / NAMES.segment(1)): int(killed.stdout)}
    assert os.path.getsize(tmp_path / NAMES.segment(1)) > int(killed.stdout)
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        real(fd)
        durable[os.readlink(f"/proc/self/fd/{fd}")] = os.fstat(fd).st_size

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    writer, view = take_over(LocalStorage(tmp_path))
    writer.close()
    for path, length in durable.items():  # the power loss: what was not synced is gone
        if os.path.exists(path):
            os.truncate(path, length)
    after = read_log(LocalStorage(tmp_path), NAMES, KEY)
    assert (ops(view), ops(after), after.damages, after.torn) == ([1, 2], [1, 2], [], [])


@BOTH
def test_foreign_key_is_refused_and_nothing_is_written(make):
    storage = make()
    op(take_over(storage)[0], 1)
    before = set(storage.files)
    for key in (UNSIGNED, Key.from_secret(b"another key, exactly 32 bytes!!!")):
        with pytest.raises(UntrustedError, match="CKPT_KEY"):
            take_over(storage, key=key)
        with pytest.raises(UntrustedError, match="CKPT_KEY"):
            read_log(storage, NAMES, key)
    with pytest.raises(UntrustedError, match="not signed"):
        read_log(storage, NAMES, Key(KEY.id, b"the same id, but another secret!"))
    assert set(storage.files) == before
