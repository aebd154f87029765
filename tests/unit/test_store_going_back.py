"""What a run that was taken back to an old checkpoint rests on from then on, through later checkpoints, deaths and resets."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from programs.ticks import settle
from unit.runs import Writing

import ckpt
from ckpt.errors import CorruptionError, OptionError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.history import history_of
from ckpt.host import SystemClock
from ckpt.log import LogWriter, read_log
from ckpt.recovery import ResumePoint, counting, find_resume_point, maps_since, results_since_start
from ckpt.root import StoreRoot
from ckpt.snapshot import read_snapshot
from ckpt.store import Store
from ckpt.store.branching import reset_run


class Dies(Exception):
    """The job stops here; it can be resumed."""


dies_at = -1


@pytest.fixture(autouse=True)
def every_iteration(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPT_STORE", str(scratch / "store"))
    monkeypatch.setenv("CKPT_EVERY", "1it")


@pytest.fixture
def store(scratch: Path) -> Store:
    return Store(scratch / "store")


def dies(monkeypatch: pytest.MonkeyPatch, at: int) -> Any:
    monkeypatch.setitem(globals(), "dies_at", at)
    return pytest.raises(Dies)


@ckpt.job(name="large", key="a", keep=5)
def large(n: int = 25) -> Any:
    """Its logged object gets a new image every few checkpoints, so the newest checkpoint rests on little of the log."""
    table = ckpt.current_run().dict("table")
    for i in ckpt.loop(range(n)):
        table[i % 3] = random.Random(i).randbytes(300_000)
        table[f"seen {i}"] = i
        settle()
        if i == dies_at:
            raise Dies
    return {name: value for name, value in table.items() if isinstance(value, int)}


def test_what_the_run_was_taken_back_to_stays_while_older_checkpoints_rest_on_less(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dies(monkeypatch, 18):
        large()
    oldest, *_, newest = store.open("large/a").checkpoints
    store.reset("large/a", to=oldest.number)
    with dies(monkeypatch, 18 - (newest.number - oldest.number) + 2):
        large()
    assert store.verify() == []
    monkeypatch.setitem(globals(), "dies_at", -1)
    assert large() == {f"seen {i}": i for i in range(25)}


def block() -> list[int]:
    """The items that this attempt went through. Between two checkpoints its positions are recorded with the operations."""
    ran: list[int] = []
    with ckpt.open("block", run_id="a", keep=9, every="5it") as run:
        rows = run.list("rows")
        for i in run.loop(range(30)):
            ran.append(i)
            rows.append(i)
            settle()
            if i == dies_at:
                raise Dies
        assert list(rows) == [*range(30)]
    return ran


def test_positions_that_a_run_was_taken_back_over_do_not_count(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPT_EVERY", "5it")
    with dies(monkeypatch, 22):
        block()
    old = store.open("block/a").checkpoints[2]
    index = int(old.position.split()[1].split("/")[0])
    assert 0 < index < 15
    store.reset("block/a", to=old.number)
    with dies(monkeypatch, index + 2):
        block()
    monkeypatch.setitem(globals(), "dies_at", -1)
    assert block()[0] in (index + 2, index + 3), "not behind positions from before the reset, nor in front of those since"
    assert store.verify() == []


class Maps:
    """A run with checkpoints among records of a map, and what a resume would know of them."""

    def __init__(self, url: Path) -> None:
        self.url, self.store, self.address = url, Store(url), "sim/aaaa"
        self.number, self.before = 0, -1

    def attempt(self, *names: str) -> None:
        """Record items with these names; a number instead makes a checkpoint with that number."""
        writing = Writing.start(self.url)
        writing.number = self.number
        self.before = writing.log.position if self.before < 0 else self.before
        for name in names:
            if name.isdecimal():
                writing.number = int(name) - 1
                writing.checkpoint(int(name), maps_since=self.before)
            else:
                writing.log.append(Kind.OPERATION, {"map": name, "id": "00"}, [name.encode()])
        writing.end()

    def reset(self, to: int) -> int:
        return self.store.reset("sim/aaaa", to=to)

    def resume(self) -> ResumePoint:
        names, root = RunNames(*self.address.split("/")), StoreRoot.open(self.url)
        view = read_log(root.storage, names, root.key)
        point = find_resume_point(view, history_of(view.records), names, lambda ref: read_snapshot(ref, root.storage, names, root.key))
        assert point is not None
        return point

    def known(self) -> list[str]:
        return [one.head["map"] for one in self.resume().maps]


def test_what_the_run_was_taken_back_over_does_not_come_back_with_a_later_checkpoint(tmp_path: Path) -> None:
    run = Maps(tmp_path / "store")
    run.attempt("a", "1", "b", "2", "c")
    assert run.reset(to=1) == 3
    assert run.known() == ["a"]
    run.attempt("d", "4", "e")
    assert run.known() == ["a", "d", "e"]
    assert run.resume().head["number"] == 4
    run.address = run.store.fork("sim/aaaa", at=4).address
    assert run.known() == ["a", "d"]


def test_a_reset_can_be_undone_by_another_one(tmp_path: Path) -> None:
    run = Maps(tmp_path / "store")
    run.attempt("a", "1", "b", "2", "c")
    run.reset(to=1)
    run.attempt("d", "4", "e")
    assert run.reset(to=2) == 5
    assert run.known() == ["a", "b"]
    run.attempt("f", "6")
    assert run.known() == ["a", "b", "f"]


def test_verify_sees_what_a_resume_would_miss(tmp_path: Path) -> None:
    writing = Writing.start(tmp_path / "store")
    before = writing.log.position
    writing.operation()
    writing.log.rotate()
    writing.checkpoint(1)
    covers = writing.log.position
    writing.checkpoint(2, maps_since=before)
    assert Store(tmp_path / "store").verify() == []
    writing.log.trim(covers)
    writing.end()
    assert ["nothing to resume from" in one.what for one in Store(tmp_path / "store").verify() if one.serious] == [True]
    with pytest.raises(CorruptionError, match="trimmed away"):
        Maps(tmp_path / "store").resume()


def test_a_run_can_be_taken_back_to_what_it_was_taken_back_to(tmp_path: Path) -> None:
    run = Maps(tmp_path / "store")
    run.attempt("a", "1", "b", "2", "c")
    assert run.reset(to=1) == 3
    run.attempt("d")
    assert run.reset(to=3) == 4
    assert (run.known(), run.resume().head["number"]) == (["a"], 4)
    run.attempt("e", "5")
    assert run.known() == ["a", "e"]
    run.address = run.store.fork("sim/aaaa", at=4).address
    assert run.known() == ["a"]


def test_forks_rest_on_the_same_whether_forked_or_reset_again(tmp_path: Path) -> None:
    run = Maps(tmp_path / "store")
    run.attempt("a", "b", "1", "c")
    fork = run.store.fork("sim/aaaa", at=1).address
    run.address = run.store.fork(fork).address
    assert run.known() == ["a", "b"]
    run.address, number = fork, run.store.open(fork).checkpoints[-1].number
    run.store.reset(fork, to=number)
    assert run.known() == ["a", "b"]
    assert run.store.verify() == []


def test_what_was_taken_back_does_not_come_back_at_the_beginning_either(tmp_path: Path) -> None:
    run = Maps(tmp_path / "store")
    run.attempt("a", "1", "b")
    run.reset(to=1)
    run.attempt("c")
    names, root = RunNames("sim", "aaaa"), StoreRoot.open(run.url)
    history = history_of(read_log(root.storage, names, root.key).records)
    assert [one.head["map"] for one in maps_since(counting(history), -1)] == ["a", "c"]
    assert [data for _, data in results_since_start(history)] == [b"a", b"c"]


def test_a_reset_looks_again_behind_its_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Maps(tmp_path / "store")
    run.attempt("a", "1", "b", "2")
    take_over = LogWriter.take_over

    def late(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(LogWriter, "take_over", take_over)
        log, _ = take_over(*given, **named)
        log.append(Kind.STATUS, {"status": "finished", "when": 0.0}, [b""])
        log.close()
        return take_over(*given, **named)

    monkeypatch.setattr(LogWriter, "take_over", late)
    with pytest.raises(OptionError, match="finished"):
        reset_run(StoreRoot.open(run.url), RunNames("sim", "aaaa"), SystemClock(), number=1)
