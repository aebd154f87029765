"""Which checkpoints stay, what goes with the others, and in which order, so that dying in between loses nothing."""

from __future__ import annotations

import pytest
from unit.log_doubles import KEY, NAMES, SimDisk
from unit.retention_support import RUNNING, Kit, big
from unit.snapshot_doubles import fresh_storage

from ckpt import retention
from ckpt.errors import StorageError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.history import history_of
from ckpt.log import read_log
from ckpt.retention import KeptCheckpoint
from ckpt.testing import Action, Fault


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_newest_checkpoints_stay_and_the_others_packs_go(keep: int) -> None:
    kit = Kit.begin(keep=keep)
    for n in range(1, 7):
        kit.checkpoint(big(n))
        kept = kit.taken[-keep:]
        assert kit.packs() == {pack for ref, _ in kept for pack in ref.packs}
        kit.check_readable(len(kept))


def test_pack_stays_as_long_as_a_kept_checkpoint_draws_on_it() -> None:
    kit = Kit.begin(keep=2)
    for n in range(6):
        kit.checkpoint(big(0), big(n))
    first = next(iter(kit.taken[0][0].packs))
    assert first in kit.packs(), "the common part was stored once"
    assert len(kit.packs()) == 3
    kit.check_readable(2)
    for n in range(10, 12):
        kit.checkpoint(big(n))
    assert first not in kit.packs()
    kit.check_readable(2)


def test_contents_that_come_back_after_their_pack_is_gone_are_stored_again() -> None:
    kit = Kit.begin(keep=1)
    for n in (1, 2, 1, 2, 1):
        kit.checkpoint(big(n))
        kit.check_readable(1)
    assert len(kit.packs()) == 1


def test_log_is_trimmed_to_what_the_oldest_kept_checkpoint_covers() -> None:
    kit = Kit.begin(keep=2)
    n = 0
    for _ in range(5):
        for _ in range(3):
            n += 1
            kit.operation(n)
        n += 1
        kit.checkpoint(big(n), late_operation=n)
    left = [record.head["n"] for record in read_log(kit.storage, NAMES, KEY).records if record.kind == Kind.OPERATION]
    # Each round records three operations, then reads the state, then records one more that the state does not cover: 16.
    assert left == list(range(15, 21))
    kit.check_readable(2)


@pytest.mark.parametrize("make", [fresh_storage, SimDisk])
def test_how_to_start_the_run_again_survives_every_trim_and_is_not_told_with_every_checkpoint(make) -> None:
    kit = Kit.begin(make())
    told = set()
    for n in range(12):
        kit.checkpoint(big(n))
        kit.check_readable(min(2, n + 1))
        told |= {one.lsn for one in history_of(read_log(kit.storage, NAMES, KEY).records).starts}
    assert len(told) <= 8


def test_checkpoints_of_earlier_attempts_are_kept_and_counted() -> None:
    storage = fresh_storage()
    first = Kit.begin(storage)
    for n in range(3):
        first.checkpoint(big(n))
    kept = [KeptCheckpoint(*one) for one in (first.commit(big(3)), first.commit(big(4)))]
    second = Kit.begin(storage, keep=3)
    second.taken = first.taken
    second.retention.recovered(kept)
    second.retention.sweep_orphans()
    assert second.packs() == kept[0].packs | kept[1].packs, "an attempt that died left its older packs"
    second.check_readable(2)
    second.checkpoint(big(5))
    second.check_readable(3)
    second.checkpoint(big(6))
    assert not kept[0].packs & second.packs()
    second.check_readable(3)


def test_sweep_of_orphans_leaves_packs_of_this_attempt_and_what_is_no_pack() -> None:
    kit = Kit.begin()
    kit.save(big(1))
    other = RunNames("job", "run2")
    strange = [f"{NAMES.pack_prefix}note.txt", other.pack(0, 0)]
    for key in (*strange, NAMES.pack(0, 7)):
        kit.storage.put(key, [b"x"])
    kit.retention.sweep_orphans()
    assert kit.packs() == {NAMES.pack(kit.log.epoch, 0), strange[0]}
    assert kit.storage.exists(strange[1])


def test_finished_run_keeps_its_result_only() -> None:
    kit = Kit.begin(keep=3)
    for n in range(3):
        kit.checkpoint(big(n))
    ref = kit.save(big(9))
    lsn = kit.log.append(Kind.STATUS, {"status": "finished"}, [ref.encode()])
    kit.retention.finished(lsn, ref.packs)
    assert kit.packs() == set(ref.packs)
    records = read_log(kit.storage, NAMES, KEY).records
    assert [record.head.get("status") for record in records if record.kind != Kind.SEAL] == ["finished"]


# -- dying in between -------------------------------------------------------------------------------------------


def ready_to_let_go() -> Kit:
    """A run with two checkpoints kept; the next one that is committed pushes the first one out."""
    kit = Kit.begin(keep=2)
    for n in range(1, 3):
        kit.operation(n)
        kit.checkpoint(big(n))
    kit.operation(3)
    return kit


def test_the_floor_rises_before_segments_go_and_packs_go_last() -> None:
    kit = ready_to_let_go()
    third = kit.commit(big(3))
    kit.plan.calls.clear()
    kit.retention.committed(*third)
    changes = [(call, key) for call, key in kit.plan.calls if call in ("put", "put_if_absent", "delete")]
    kinds = [
        "seal" if call == "put_if_absent" else "floor" if key == NAMES.floor else key.removeprefix(NAMES.prefix)[:3]
        for call, key in changes
    ]
    assert kinds[:2] == ["seal", "floor"]
    assert kinds[-1] == "pac"
    assert set(kinds[2:-1]) == {"log"}
    deleted = [key for call, key in changes if call == "delete" and key.startswith(NAMES.log_prefix)]
    assert deleted == sorted(deleted), "upwards: a segment that is there has all behind it"


def calls_of_letting_go() -> int:
    kit = ready_to_let_go()
    third = kit.commit(big(3))
    kit.plan.calls.clear()
    kit.retention.committed(*third)
    return len(kit.plan.calls)


@pytest.mark.parametrize("action", [Action.FAIL, Action.LOSE])
def test_storage_that_fails_at_any_call_leaves_too_much_and_never_too_little(action: Action) -> None:
    calls = calls_of_letting_go()
    assert calls >= 5
    failures = 0
    for call in range(1, calls + 1):
        kit = ready_to_let_go()
        third = kit.commit(big(3))
        kit.plan.add(Fault(action, "any", "*", call, call))
        try:
            kit.retention.committed(*third)
        except StorageError:
            failures += 1
        kit.plan.clear()
        kit.check_readable(2)
        kit.checkpoint(big(4))
        kit.check_readable(2)
        after = Kit.begin(kit.storage)
        after.taken = kit.taken
        after.retention.recovered([KeptCheckpoint(0, 0, ref.packs) for ref, _ in kit.taken[-2:]])
        after.retention.sweep_orphans()
        assert after.packs() == {pack for ref, _ in kit.taken[-2:] for pack in ref.packs}
    assert failures >= 3


def test_chunks_of_a_pack_whose_deletion_failed_are_not_counted_on() -> None:
    kit = Kit.begin(keep=1)
    kit.checkpoint(big(1))
    kit.plan.add(Fault(Action.LOSE, "delete", "*/pack/*"))
    with pytest.raises(StorageError):
        kit.checkpoint(big(2))
    kit.checkpoint(big(1))
    kit.check_readable(1)


def test_failed_checkpoint_pushes_none_out() -> None:
    kit = ready_to_let_go()
    kit.plan.add(Fault(Action.FULL, "put", "*/pack/*", 1, 3))
    for _ in range(3):
        with pytest.raises(StorageError):
            kit.commit(big(9))
    kit.check_readable(2)


# -- on a file system -------------------------------------------------------------------------------------------


def test_long_segment_is_closed_so_that_what_is_old_can_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROTATE_BYTES", 20_000)
    disk = SimDisk()
    kit = Kit.begin(disk)
    for n in range(200):
        kit.log.append(Kind.OPERATION, {"n": n}, [bytes(1000)])
        if n % 10 == 9:
            kit.checkpoint(big(n))
    length = sum(len(disk.files[key].data) for key in disk.list(NAMES.log_prefix))
    assert length < 4 * 20_000 + 10 * 1500
    kit.check_readable(2)
    records = read_log(kit.storage, NAMES, KEY).records
    assert any(record.head.get("status") == "running" and record.head == RUNNING for record in records), (
        "how to start the run again survives the trimming"
    )


def test_short_segment_is_not_closed() -> None:
    disk = SimDisk()
    kit = Kit.begin(disk)
    before = len(disk.list(NAMES.log_prefix))
    for n in range(50):
        kit.operation(n)
        kit.checkpoint(big(n))
    assert len(disk.list(NAMES.log_prefix)) == before
    kit.check_readable(2)
