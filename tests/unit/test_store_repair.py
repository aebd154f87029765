"""``Store.repair``: what can be saved is saved, what is lost is named, the originals stay, and it may die anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from unit.runs import BIG, Interrupted, Writing, interrupt_after, make_run, start_live_run

from ckpt.errors import LossError, RunBusyError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.format.segment import HEADER_SIZE
from ckpt.history import history_of
from ckpt.log import read_log
from ckpt.recovery import ResumePoint, find_resume_point, result_record
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef, read_snapshot
from ckpt.store import Repair, Store

NAMES = RunNames("sim", "aaaa")
FIRST = "sim/aaaa/log/00000000000000000001.log"


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "local" else f"memory://repair-{tmp_path.name}"


def keys(url: str) -> dict[str, bytes]:
    storage = StoreRoot.open(url).storage
    return {key: storage.get(key) for key in storage.list("") if "/" in key and not key.endswith("/lock")}


def damage(url: str, key: str, offset: int) -> None:
    storage = StoreRoot.open(url).storage
    data = bytearray(storage.get(key))
    data[offset] ^= 4
    storage.put(key, [data])


def record_at(url: str, key: str, number: int) -> int:
    """Where the payload of record ``number`` (from 0) of a segment begins."""
    data, at = StoreRoot.open(url).storage.get(key), HEADER_SIZE
    for _ in range(number):
        at += 56 + int.from_bytes(data[at : at + 4], "little")
    return at + 24


def resume_point(url: str) -> ResumePoint | None:
    root = StoreRoot.open(url)
    view = read_log(root.storage, NAMES, root.key)

    def read(ref: SnapshotRef) -> list[object]:
        return list(read_snapshot(ref, root.storage, NAMES, root.key))

    return find_resume_point(view, history_of(view.records), NAMES, read)


def check_kept(before: dict[str, bytes], done: Repair, url: str) -> None:
    """The originals are there byte for byte, and nothing is wrong with the run any more."""
    after = keys(url)
    assert done.done
    for key in done.aside:
        assert after[done.kept_in + key.removeprefix(NAMES.prefix)] == before[key], key
    for key, data in before.items():
        assert key in done.aside or after[key] == data, key
    assert [finding for finding in Store(url).verify() if finding.serious] == []
    assert json.loads(after[done.kept_in + "report.json"])["losses"] == [
        {"path": one.path, "offset": one.offset, "what": one.what, "acknowledged": one.acknowledged} for one in done.losses
    ]


def last_of_first_slot(url: str) -> int:
    """How many records the first segment has."""
    root = StoreRoot.open(url)
    return read_log(root.storage, NAMES, root.key).segments[1].parsed.count


def test_a_run_without_problems_is_left_as_it_is(url: str) -> None:
    make_run(url)
    before = keys(url)
    done = Store(url).repair("sim", accept_loss=True, start_over=True)
    assert (done.done, done.found, done.losses) == (False, (), ())
    assert keys(url) == before


def test_damage_that_a_newer_checkpoint_makes_up_for_costs_nothing(url: str) -> None:
    make_run(url, status=None)
    writing = Writing.start(url)
    writing.number = 2
    writing.checkpoint(6)
    writing.operation("after")
    writing.end()
    damage(url, FIRST, record_at(url, FIRST, 0))
    before = keys(url)
    done = Store(url).repair("sim")
    check_kept(before, done, url)
    assert done.resumes.startswith("checkpoint 3 (")
    assert done.resumes.endswith(") at t 6/9 and 1 operation recorded since")
    assert not any(loss.acknowledged for loss in done.losses)
    assert [finding.path for finding in done.found] == [FIRST]
    point = resume_point(url)
    assert point is not None
    assert (point.head["number"], len(point.operations), point.parts[0][1]) == (3, 1, bytearray([3]) * 100)


def of_map(number: int) -> tuple[dict[str, object], list[bytes]]:
    head = {"map": "ab", "step": "fetch", "where": "", "items": 1, "seconds": 0.1, "outcome": "ok", "bytes": 2}
    return head, [b"index", b"m%d" % number]


def of_logged(number: int) -> tuple[dict[str, object], list[bytes]]:
    return {"logged": {"from": number, "count": 1, "objects": {"rows": 1}}}, [b"change %d" % number]


def test_a_repair_takes_along_what_maps_and_logged_objects_need_from_before_the_checkpoint(url: str) -> None:
    """Their records lie in front of what the checkpoint covers; in the new segment all of it lies behind."""
    writing = Writing.start(url)
    writing.checkpoint(1)
    for early in (of_map(0), of_logged(0)):
        writing.log.append(Kind.OPERATION, *early)
    since = writing.log.position
    for needed in (of_map(1), of_logged(1)):
        writing.log.append(Kind.OPERATION, *needed)
    logged = {"position": 2, "first": 1, "after": since, "image": None, "objects": {"rows": ["list", 2]}}
    writing.checkpoint(4, maps_since=since, logged=logged)
    for later in (of_map(2), of_logged(2)):
        writing.log.append(Kind.OPERATION, *later)
    writing.operation("behind")
    writing.end()
    before = resume_point(url)
    assert before is not None
    damage(url, FIRST, record_at(url, FIRST, 0))
    done = Store(url).repair("sim")
    assert done.done
    assert not any(loss.acknowledged for loss in done.losses)
    after = resume_point(url)
    assert after is not None
    for point in (before, after):
        assert point.head["number"] == 2
        assert [one.sections[1] for one in point.maps] == [b"m1", b"m2"]
        assert [bytes(one.sections[0]) for one in point.logged] == [b"change 1", b"change 2"]
        assert (point.position, len(point.operations)) == (2, 1)
    assert after.head["maps_since"] == after.head["logged"]["after"] == after.head["covers"]
    assert min(one.lsn for one in (*after.maps, *after.logged)) > after.lsn > after.head["covers"]


def test_an_acknowledged_operation_is_given_up_only_if_the_user_says_so_and_by_name(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    writing = Writing.start(url)
    writing.checkpoint(1)
    for name in ("kept", "broken", "behind"):
        writing.operation(name)
    writing.end()
    number = next(n for n in range(9) if b'"kept"' in keys(url)[FIRST][record_at(url, FIRST, n) :][:200])
    damage(url, FIRST, record_at(url, FIRST, number + 1) + 9)
    before = keys(url)
    planned = Store(url).repair("sim", dry_run=True)
    assert planned.needs == "accept-loss"
    with pytest.raises(LossError) as caught:
        Store(url).repair("sim")
    assert keys(url) == before, "nothing is changed without a consent"
    assert "--accept-loss" in str(caught.value)
    done = Store(url).repair("sim", accept_loss=True)
    check_kept(before, done, url)
    whats = [loss.what for loss in done.losses if loss.acknowledged]
    assert len(whats) == 2, whats
    assert f"OPERATION record 1.{number + 1}" in whats[0]
    assert "operation behind" in whats[1]
    assert f"1.{number + 2}" in whats[1]
    point = resume_point(url)
    assert point is not None
    assert (point.head["number"], len(point.operations)) == (1, 1)


def test_a_damaged_pack_leads_back_to_the_checkpoint_before_it(url: str) -> None:
    make_run(url, status=None)
    pack = "sim/aaaa/pack/1-0.pack"
    damage(url, pack, 100)
    before = keys(url)
    done = Store(url).repair("sim")
    check_kept(before, done, url)
    assert pack in done.aside
    assert pack not in keys(url)
    assert [loss.path for loss in done.losses] == [pack]
    assert "checkpoint 2" in done.losses[0].what
    point = resume_point(url)
    assert point is not None
    assert (point.head["number"], len(point.operations)) == (1, 1)


def test_a_run_begins_at_its_beginning_only_if_the_user_says_so(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    make_run(url, status=None)
    for number in range(last_of_first_slot(url)):
        if b'"covers"' in keys(url)[FIRST][record_at(url, FIRST, number) :][:400]:
            damage(url, FIRST, record_at(url, FIRST, number) + 9)
    before = keys(url)
    with pytest.raises(LossError, match="give up"):
        Store(url).repair("sim")
    assert keys(url) == before
    done = Store(url).repair("sim", accept_loss=True)
    check_kept(before, done, url)
    assert resume_point(url) is None


@pytest.mark.parametrize("finished", [True, False])
def test_a_lost_result_or_all_checkpoints_want_start_over(url: str, finished: bool) -> None:
    writing = Writing.start(url)
    writing.number = 1
    if finished:
        ref = writing.save(BIG)
        head = {"status": "finished", "when": 1.0, "seconds": 1.0, "error": None, "stall_s": 0.0, "cost_s": 0.0}
        writing.log.append(Kind.STATUS, head, [ref.encode()])
    else:
        writing.checkpoint(4, nbytes=BIG)
    writing.end()
    damage(url, "sim/aaaa/pack/1-0.pack", 60)
    before = keys(url)
    with pytest.raises(LossError, match="beginning") as caught:
        Store(url).repair("sim", accept_loss=True)
    assert "--start-over" in caught.value.fix
    assert keys(url) == before
    check_kept(before, Store(url).repair("sim", start_over=True), url)
    assert resume_point(url) is None
    assert Store(url).list()[0].status == "crashed", "it can be started again as it was started"


def test_the_result_of_a_finished_run_is_saved(url: str) -> None:
    make_run(url)
    Writing.start(url).end()
    damage(url, FIRST, record_at(url, FIRST, 0) + 3)
    before = keys(url)
    done = Store(url).repair("sim")
    check_kept(before, done, url)
    assert done.resumes == "its recorded result"
    root = StoreRoot.open(url)
    view = read_log(root.storage, NAMES, root.key)
    record = result_record(view, history_of(view.records), NAMES)
    assert record is not None
    parts = read_snapshot(SnapshotRef.decode(record.sections[0]), root.storage, NAMES, root.key)
    assert parts[1] == bytearray([2]) * 24
    assert Store(url).open("sim").summary.status == "finished"


def test_a_live_run_is_not_repaired(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    make_run(url, status=None)
    damage(url, FIRST, record_at(url, FIRST, 1))
    live = start_live_run(url, "sim", "aaaa")
    try:
        with pytest.raises(RunBusyError):
            Store(url).repair("sim", accept_loss=True)
    finally:
        live.kill()
        live.communicate()


@pytest.mark.parametrize("which", ["missing", "header", "floor"])
def test_what_is_no_record_is_repaired_too(which: str, url: str) -> None:
    make_run(url, status=None)
    writing = Writing.start(url)
    writing.number = 2
    writing.checkpoint(6)
    writing.checkpoint(7)
    if which == "floor":
        writing.log.rotate()
        covers = writing.log.position
        writing.checkpoint(8)
        writing.log.trim(covers)
    writing.end()
    if which == "missing":
        StoreRoot.open(url).storage.delete(FIRST)
    else:
        damage(url, FIRST if which == "header" else NAMES.floor, 50)
    before = keys(url)
    done = Store(url).repair("sim")
    check_kept(before, done, url)
    assert "checkpoint" in done.resumes
    assert resume_point(url) is not None


def interrupt_repair(url: str, calls: int) -> bool:
    """Repair by a process that dies before its storage call number ``calls`` + 1 that changes something; whether it died."""
    store = Store(url)
    store._opened = replace(store._root, storage=interrupt_after(calls, store._root.storage))
    try:
        store.repair("sim", accept_loss=True)
    except Interrupted:
        return True
    return False


def test_a_repair_may_die_anywhere(tmp_path: Path) -> None:
    calls = 0
    while True:
        url = str(tmp_path / str(calls))
        make_run(url, status=None)
        writing = Writing.start(url)
        writing.number = 2
        writing.checkpoint(7, nbytes=BIG)
        writing.operation("kept")
        writing.operation("broken")
        writing.end()
        second = "sim/aaaa/log/00000000000000000002.log"
        root = StoreRoot.open(url)
        count = read_log(root.storage, NAMES, root.key).segments[2].parsed.count
        damage(url, second, record_at(url, second, count - 1) + 9)
        before = keys(url)
        died = interrupt_repair(url, calls)
        serious = [finding for finding in Store(url).verify() if finding.serious]
        if serious:
            with pytest.raises(Exception, match="does not verify"):
                resume_point(url)
        if died:
            Store(url).repair("sim", accept_loss=True)
        point = resume_point(url)
        assert point is not None
        assert (point.head["number"], len(point.operations)) == (3, 1)
        assert [finding for finding in Store(url).verify() if finding.serious] == []
        after = keys(url)
        for key, data in before.items():
            copies = [after[one] for one in after if one.endswith(key.removeprefix("sim/aaaa/"))]
            assert data in copies, f"{key} is lost after {calls} calls"
        if not died:
            break
        calls += 1
    assert calls >= 8
