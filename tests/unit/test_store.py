"""``ckpt.Store``: what it says of runs in every state, and that looking changes nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from unit.runs import BIG, Writing, make_run, start_live_run

from ckpt.errors import RunBusyError, RunNotFoundError, UntrustedError
from ckpt.format.records import Kind
from ckpt.storage import add_wrapper, remove_wrapper
from ckpt.store import Store
from ckpt.testing import FaultPlan, FaultyStorage


@pytest.fixture
def url(tmp_path: Path) -> Path:
    return tmp_path / "store"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def segments(url: Path) -> list[Path]:
    return sorted(url.glob("*/*/log/*.log"))


@pytest.mark.parametrize("status", ["finished", "failed", "preempted", None])
def test_a_run_that_ended_is_listed_as_it_ended(url: Path, status: str | None) -> None:
    make_run(url, status=status)
    (run,) = Store(url).list()
    assert run.status == (status or "crashed")
    position = "done" if status == "finished" else "t 4/9"
    assert (run.address, run.attempts, run.checkpoints, run.position) == ("sim/aaaa", 1, 2, position)
    assert run.nbytes == sum(len(data) for name, data in content(url).items() if name.startswith("sim/"))


def test_an_attempt_is_running_only_while_its_process_lives(url: Path) -> None:
    process = start_live_run(url, "sim", "aaaa")
    try:
        assert Store(url).list()[0].status == "running"
        info = Store(url).open("sim")
        assert info.alive is True
        assert info.newest is not None
        assert info.newest.pid == process.pid
    finally:
        process.kill()
        process.wait()
    assert Store(url).list()[0].status == "crashed"
    assert Store(url).open("sim").alive is False


def test_attempts_checkpoints_and_operations_are_told_apart(url: Path) -> None:
    make_run(url, status=None)
    second = Writing.start(url, arguments="steps=9, seed=1")
    second.number = 2
    second.operation()
    second.checkpoint(6, reason="signal", stall_s=0.5, interval_s=3.0)
    second.operation()
    second.operation()
    second.end("preempted")
    info = Store(url).open("sim/aaaa")
    assert [(a.number, a.status) for a in info.attempts] == [(1, "crashed"), (2, "preempted")]
    assert [(c.number, c.attempt, c.position) for c in info.checkpoints] == [
        (1, 1, "t 1/9"),
        (2, 1, "t 4/9"),
        (3, 2, "t 6/9"),
    ]
    last = info.checkpoints[-1]
    assert (last.reason, last.stall_s, last.interval_s, last.remade) == ("signal", 0.5, 3.0, ("sim.log",))
    assert info.checkpoints[1].captured["sim.x"] == BIG
    assert info.operations == 2
    assert info.arguments == "steps=9, seed=1"
    assert info.outcome is not None
    assert info.outcome.status == "preempted"
    assert info.summary == Store(url).list()[0]


def test_an_outcome_counts_only_until_the_next_attempt(url: Path) -> None:
    make_run(url, status="failed")
    assert Store(url).open("sim").outcome is not None
    Writing.start(url).end()
    info = Store(url).open("sim")
    assert (info.summary.status, info.outcome) == ("crashed", None)


def test_a_list_reads_only_the_newest_segments(url: Path) -> None:
    make_run(url)
    writing = Writing.start(url)
    writing.checkpoint()
    writing.end("finished")
    flip(segments(url)[0], 500)
    assert Store(url).list()[0].status == "finished"
    assert Store(url).open("sim").summary.status == "damaged"


def test_damage_is_listed_with_path_and_offset(url: Path) -> None:
    make_run(url)
    flip(segments(url)[0], 500)
    info = Store(url).open("sim")
    assert info.summary.status == "damaged"
    assert Store(url).list()[0].status == "damaged"
    assert info.damages[0].path == "sim/aaaa/log/00000000000000000001.log"
    assert 128 <= info.damages[0].offset <= 500


def test_a_torn_end_is_no_damage(url: Path) -> None:
    make_run(url, status=None)
    path = segments(url)[0]
    os.truncate(path, path.stat().st_size - 3)
    info = Store(url).open("sim")
    assert info.summary.status == "crashed"
    assert (info.damages, len(info.torn)) == ((), 1)


def test_a_run_of_another_store_is_listed_as_untrusted_and_not_opened(url: Path, tmp_path: Path) -> None:
    make_run(url)
    make_run(tmp_path / "other", job="theirs")
    (tmp_path / "other" / "theirs").rename(url / "theirs")
    assert [(run.address, run.status) for run in Store(url).list()] == [
        ("sim/aaaa", "finished"),
        ("theirs/aaaa", "other key"),
    ]
    with pytest.raises(UntrustedError):
        Store(url).open("theirs")


def test_addresses_may_be_shortened_as_long_as_one_run_fits(url: Path) -> None:
    for job, run_id in [("sim", "abc1"), ("sim", "abd2"), ("simulate", "ffff"), ("a job/with slash", "1234")]:
        make_run(url, job, run_id)
    store = Store(url)
    for address, whole in [
        ("sim/abc1", "sim/abc1"),
        ("sim/abc", "sim/abc1"),
        ("abd", "sim/abd2"),
        ("ffff", "simulate/ffff"),
        ("simulate", "simulate/ffff"),
        ("simu", "simulate/ffff"),
        ("a job", "a job/with slash/1234"),
        ("a job/with slash/12", "a job/with slash/1234"),
    ]:
        assert store.find(address) == whole
    with pytest.raises(RunNotFoundError, match=r"(?s)2 runs.*sim/abc1.*sim/abd2") as caught:
        store.find("sim")
    assert "simulate" not in str(caught.value)
    with pytest.raises(RunNotFoundError, match="2 runs"):
        store.find("ab")
    with pytest.raises(RunNotFoundError, match=r"(?s)no such run.*simulate/ffff"):
        store.find("nothing")


def test_an_address_need_not_name_the_module(url: Path) -> None:
    for job, run_id in [("sim.simulate", "776d"), ("sim.simulated", "88aa"), ("etl.load", "11aa"), ("web.load", "22bb")]:
        make_run(url, job, run_id)
    store = Store(url)
    for address, whole in [
        ("simulate", "sim.simulate/776d"),
        ("simulate/77", "sim.simulate/776d"),
        ("simulated/88aa", "sim.simulated/88aa"),
        ("load/2", "web.load/22bb"),
    ]:
        assert store.find(address) == whole
    with pytest.raises(RunNotFoundError, match=r"(?s)2 runs fit.*etl\.load/11aa.*web\.load/22bb") as caught:
        store.find("load")
    assert "simulate" not in str(caught.value)


def test_runs_that_an_address_fits_are_told_apart_by_status_and_arguments(url: Path) -> None:
    make_run(url, "sim", "aaaa")
    Writing.start(url, "sim", "bbbb", arguments="steps=7").end("failed")
    with pytest.raises(RunNotFoundError) as caught:
        Store(url).find("sim")
    assert "sim/aaaa  finished   steps=9\n  sim/bbbb  failed     steps=7" in str(caught.value)


def test_a_whole_name_wins_over_a_longer_one(url: Path) -> None:
    make_run(url, "sim", "aa")
    make_run(url, "sim", "aaa")
    assert Store(url).find("sim/aa") == "sim/aa"


def test_there_is_no_store_where_nothing_ran(url: Path) -> None:
    with pytest.raises(RunNotFoundError, match="no ckpt store"):
        Store(url).list()
    assert not url.exists()


def test_looking_writes_nothing_and_unpickles_nothing(url: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(url)

    def forbidden(*args: object, **kwargs: object) -> object:
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "loads", forbidden)
    monkeypatch.setattr(pickle, "load", forbidden)
    before = content(url)
    store = Store(url)
    store.list()
    store.open("sim")
    store.records("sim")
    store.verify()
    assert content(url) == before


def test_records_are_shown_in_order_with_their_kinds(url: Path) -> None:
    make_run(url)
    entries = Store(url).records("sim")
    shown = [entry.kind for entry in entries if entry.kind != "seal"]
    assert shown == ["fence", "checkpoint", "checkpoint", "operation", "status"]
    assert entries[0].head["arguments"] == "steps=9"


def test_following_gives_each_record_once(url: Path) -> None:
    writing = Writing.start(url)
    steps = Store(url).follow("sim")
    first = next(steps)
    assert first[0].kind == "fence"
    assert next(steps) == []
    writing.operation("a")
    assert [entry.head["step"] for entry in next(steps)] == ["a"]
    writing.log.rotate()
    writing.operation("b")
    writing.operation("c")
    added = [entry for entry in next(steps) if entry.kind == "operation"]
    assert [entry.head["step"] for entry in added] == ["b", "c"]
    assert next(steps) == []
    writing.end()


def test_a_live_run_is_neither_removed_nor_swept(url: Path) -> None:
    process = start_live_run(url, "sim", "aaaa")
    try:
        (url / "sim/aaaa/pack").mkdir(exist_ok=True)
        (url / "sim/aaaa/pack/1-77.pack").write_bytes(b"of a checkpoint that is about to be committed")
        before = content(url)
        with pytest.raises(RunBusyError) as caught:
            Store(url).remove("sim")
        assert caught.value.pid == process.pid
        assert Store(url).sweep().keys == ()
        assert content(url) == before
    finally:
        process.kill()
        process.wait()


def test_a_trimmed_run_still_knows_its_attempts_and_how_it_was_started(url: Path) -> None:
    """What retention does: a new segment that begins with how the attempt was started, and no more of the old ones."""
    make_run(url, status=None)
    writing = Writing.start(url, arguments="second")
    fence = Store(url).records("sim")[-2].head
    before = [{"attempt": n, "started": 5.0, "host": "old", "pid": n} for n in (1, 2)]
    writing.log.rotate()
    writing.log.append(Kind.STATUS, {**fence, "status": "running"}, durable=False)
    writing.number = 2
    writing.checkpoint(6, attempts=before)
    writing.log.trim(writing.log.position)
    assert Store(url).list()[0].status == "running"
    writing.end()
    info = Store(url).open("sim")
    assert (info.summary.status, info.summary.attempts, info.arguments) == ("crashed", 2, "second")
    assert [(a.number, a.status, a.host == "old") for a in info.attempts] == [(1, "ended", True), (2, "crashed", False)]
    assert info.newest is not None
    assert info.newest.command[-1].startswith("print")
    assert Store(url).verify() == [finding for finding in Store(url).verify() if not finding.serious]


def test_a_run_that_was_started_afresh_shows_nothing_from_before(url: Path) -> None:
    make_run(url)
    writing = Writing.start(url)
    writing.log.append(Kind.STATUS, {"status": "reset", "when": 1_700_000_200.0})
    assert (Store(url).list()[0].status, Store(url).list()[0].checkpoints) == ("running", 0)
    writing.checkpoint(2)
    writing.end()
    info = Store(url).open("sim")
    assert (info.summary.status, info.operations, info.outcome) == ("crashed", 0, None)
    assert [(c.number, c.position) for c in info.checkpoints] == [(1, "t 2/9")]


def test_calling_a_finished_run_again_leaves_it_finished(url: Path) -> None:
    """The call that returns the recorded result takes the run over, and ends without a word."""
    make_run(url)
    Writing.start(url).end()
    info = Store(url).open("sim")
    assert (info.summary.status, info.alive) == ("finished", False)
    assert info.outcome is not None
    assert Store(url).list()[0] == info.summary


def test_listing_runs_lists_the_store_once(url: Path) -> None:
    """A listing is the slow call of an object store: one for each run would be thousands."""
    for run_id in ("aaaa", "bbbb", "cccc"):
        make_run(url, "etl/daily", run_id)
    make_run(url, "sim")
    (url / "sim" / "stray").write_text("a file where runs are")
    plan = FaultPlan()
    add_wrapper(wrapper := lambda storage: FaultyStorage(storage, plan))
    try:
        runs = Store(url).list()
    finally:
        remove_wrapper(wrapper)
    assert [run.address for run in runs] == ["etl/daily/aaaa", "etl/daily/bbbb", "etl/daily/cccc", "sim/aaaa"]
    assert plan.count("list") == 1
    assert plan.count("children") == 0


def test_what_a_trim_cut_off_does_not_come_back_with_its_files(url: Path) -> None:
    """Deleting a segment need not survive a power loss; the floor does."""
    make_run(url, status=None)
    old = segments(url)[0]
    data = old.read_bytes()
    writing = Writing.start(url)
    writing.log.trim(writing.log.position)
    assert not old.exists()
    old.write_bytes(data)
    writing.end()
    assert Store(url).list()[0].checkpoints == 0
    assert Store(url).list()[0] == Store(url).open("sim").summary
