"""The thread that makes checkpoints durable: in which order, and what becomes of errors."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import attempt, tick
from unit.log_doubles import KEY, NAMES, SimDisk, take_over
from unit.retention_support import Kit, big

import ckpt
from ckpt import storage
from ckpt.checkpointer import Checkpointer, Kept, Request
from ckpt.errors import CkptError, FencedError, StorageError, StorageFullError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.log import LogWriter, Place, read_log
from ckpt.retention import Retention
from ckpt.session import saving
from ckpt.snapshot import SnapshotRef, read_snapshot
from ckpt.staging import Stager
from ckpt.storage.files import translate
from ckpt.testing import Action, FakeClock, Fault, FaultPlan, FaultyStorage


@dataclass
class Desk:
    """A checkpointer, and what it told the session."""

    kit: Kit
    committed: list[tuple[Request, int, frozenset[str]]] = field(default_factory=list)
    failed: list[CkptError] = field(default_factory=list)
    number: int = 0
    checkpointer: Any = None

    def open(self) -> Desk:
        self.checkpointer = Checkpointer(
            self.kit.log,
            self.kit.snapshots,
            FakeClock(),
            lambda request, lsn, packs, cost_s: self.committed.append((request, lsn, packs)),
            self.failed.append,
        )
        return self

    def request(self, *contents: bytes) -> Request:
        self.number += 1
        states = [kept(one) for one in contents]
        head = {"number": self.number, "covers": self.kit.log.position}
        return Request(head, states, kept(b"results"), 0.0)

    def take(self, *contents: bytes) -> Request:
        """A checkpoint of ``contents``, waited for."""
        request = self.request(*contents)
        self.checkpointer.submit(request)
        assert request.done.wait(30)
        return request

    def checkpoints(self) -> list[Any]:
        return [one for one in read_log(self.kit.storage, NAMES, KEY).records if one.kind == Kind.CHECKPOINT]


def kept(contents: bytes) -> Kept:
    staged = Stager().stage(b"skeleton", [contents])
    return Kept(staged, None, staged.nbytes)


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    """On an object storage, or on what the test asks for."""
    opened = Desk(Kit.begin(request.param() if hasattr(request, "param") else None)).open()
    yield opened
    opened.checkpointer.close()


def test_packs_are_durable_before_the_record_that_names_them(desk: Desk) -> None:
    desk.kit.plan.calls.clear()
    request = desk.take(big(1), big(2))
    assert request.error is None
    changes = [key for call, key in desk.kit.plan.calls if call in ("put", "put_if_absent")]
    assert [key.startswith(NAMES.pack_prefix) for key in changes] == [True, True, True, False]
    (record,) = desk.checkpoints()
    refs = [SnapshotRef.decode(section) for section in record.sections]
    parts = [bytes(read_snapshot(ref, desk.kit.storage, NAMES, KEY)[1]) for ref in refs]
    assert parts == [big(1), big(2), b"results"]
    ((told, lsn, packs),) = desk.committed
    assert told is request
    assert lsn == record.lsn
    assert packs == frozenset[str]().union(*(ref.packs for ref in refs))


def test_state_that_is_stored_already_is_named_again_and_not_written(desk: Desk) -> None:
    request = desk.take(big(1))
    again = desk.request(big(2))
    again.states = [*request.states, *again.states]
    assert request.states[0].staged is None, "its memory was given back"
    before = desk.kit.plan.count("put")
    desk.checkpointer.submit(again)
    assert again.done.wait(30)
    assert desk.kit.plan.count("put") == before + 2
    assert desk.checkpoints()[1].sections[0] == desk.checkpoints()[0].sections[0]


def test_a_full_disk_is_not_to_be_answered_by_another_start(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(state: object) -> None:
        raise translate(OSError(errno.ENOSPC, "No space left on device"), "write", "/store/pack")

    monkeypatch.setattr(desk.kit.snapshots, "write", full)
    error = desk.take(big(1)).error
    said = capsys.readouterr().err
    assert "free space or raise the quota there; the job tries again by itself" in said
    assert "run again" not in said
    assert "then run again" in str(error), "what is raised ends the job"


@pytest.mark.parametrize("keys", ["*/pack/*", "*/log/*"])
@pytest.mark.parametrize("desk", [SimDisk], indirect=True)
def test_storage_error_costs_the_checkpoint_and_is_said_once(
    keys: str, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.take(big(1))
    desk.kit.plan.add(Fault(Action.FULL, "write", keys, 1, float("inf")))
    failed = [desk.take(big(n)) for n in (2, 3, 4)]
    assert [type(request.error) for request in failed] == [StorageFullError] * 3
    assert desk.failed == [request.error for request in failed]
    desk.kit.plan.clear()
    assert [one.head["number"] for one in desk.checkpoints()] == [1]
    said = capsys.readouterr().err
    assert said.count("could not be stored, the job goes on") == 1
    assert "no space left" in said

    assert desk.take(big(5)).error is None
    assert desk.take(big(6)).error is None
    assert [one.head["number"] for one in desk.checkpoints()] == [1, 5, 6]
    assert capsys.readouterr().err.count("stored again") == 1


def test_state_of_a_failed_checkpoint_is_written_by_the_next_one_that_names_it(desk: Desk) -> None:
    desk.kit.plan.add(Fault(Action.FAIL, "put", "*/pack/*"))
    request = desk.take(big(1))
    assert isinstance(request.error, StorageError)
    again = desk.request()
    again.states = request.states
    desk.checkpointer.submit(again)
    assert again.done.wait(30)
    ref = SnapshotRef.decode(desk.checkpoints()[0].sections[0])
    assert bytes(read_snapshot(ref, desk.kit.storage, NAMES, KEY)[1]) == big(1)


def test_attempt_that_was_taken_over_is_told_so(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.take(big(1))
    take_over(desk.kit.storage, host="other")
    request = desk.take(big(2))
    assert isinstance(request.error, FencedError)
    assert desk.failed == [request.error]
    assert [one.head["number"] for one in desk.checkpoints()] == [1]
    assert "goes on" not in capsys.readouterr().err


def test_defect_ends_the_attempt_and_not_the_thread(desk: Desk) -> None:
    broken = desk.request(big(1))
    broken.states = [Kept(None, None, 0)]
    desk.checkpointer.submit(broken)
    assert broken.done.wait(30)
    assert "the checkpointer failed" in str(broken.error)
    assert broken.error is not None
    assert isinstance(broken.error.__cause__, AssertionError)
    assert desk.failed == [broken.error]
    assert desk.take(big(2)).error is None


def test_second_request_waits_for_the_first_and_closing_for_both(desk: Desk) -> None:
    reached, go = threading.Event(), threading.Event()
    write = desk.kit.snapshots.write

    def slow(state: Any) -> Any:
        reached.set()
        assert go.wait(30)
        return write(state)

    desk.kit.snapshots.write = slow  # type: ignore[method-assign]
    first, second = desk.request(big(1)), desk.request(big(2))
    desk.checkpointer.submit(first)
    assert reached.wait(30)
    assert desk.checkpointer.busy
    waiter = threading.Thread(target=desk.checkpointer.submit, args=(second,))
    waiter.start()
    assert not first.done.is_set()
    go.set()
    waiter.join(30)
    desk.checkpointer.close()
    assert [one.head["number"] for one in desk.checkpoints()] == [1, 2]
    assert not desk.checkpointer.busy


# -- through whole jobs -------------------------------------------------------------------------------------------

PLAN = FaultPlan()
STORE: dict[str, Path] = {}


def wrapped(inner: Any) -> Any:
    return FaultyStorage(inner, PLAN)


@pytest.fixture
def faults() -> Iterator[FaultPlan]:
    """Strike the storages of jobs that run meanwhile."""
    storage.add_wrapper(wrapped)
    yield PLAN
    PLAN.clear()
    storage.remove_wrapper(wrapped)


SEEN: list[int] = []


@ckpt.job(key="troubled", name="troubled")
def troubled(trouble: str) -> Any:
    total = []
    for i in ckpt.loop(range(8)):
        tick()  # every safe point has its checkpoint
        total.append(i)
        SEEN.append(i)
        if i == 2 and trouble == "full":
            PLAN.add(Fault(Action.FULL, "append", "*/log/*", 1, float("inf")))
        if i == 5 and trouble == "full":
            PLAN.clear()
        if i == 2 and trouble == "fenced":
            steal()
    return total


def steal() -> None:
    """Somebody takes the run over, lease or no lease."""
    from ckpt import host
    from ckpt.host import SystemClock
    from ckpt.root import StoreRoot

    root = StoreRoot.open(STORE["path"])
    names = RunNames.parse(troubled.options(store=str(STORE["path"])).address("fenced"))
    place = Place(root.storage, names, root.key, host.entropy, SystemClock())
    log, _ = LogWriter.take_over(place, fence={"host": "elsewhere", "pid": 1})
    log.close()


def test_full_storage_does_not_stop_the_job_and_is_said_once(
    faults: FaultPlan, scratch: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "RETRY_S", 0.0)
    assert attempt(troubled, ("full",), scratch / "store") == list(range(8))
    said = capsys.readouterr().err
    assert said.count("could not be stored, the job goes on") == 1
    assert said.count("is stored again") == 1
    assert attempt(troubled, ("full",), scratch / "store") == list(range(8)), "the recorded result"


def test_attempt_that_was_taken_over_stops_at_its_next_safe_point(scratch: Path) -> None:
    STORE["path"] = scratch / "store"
    SEEN.clear()
    with pytest.raises(FencedError, match="overtaken by attempt 2"):
        attempt(troubled, ("fenced",), scratch / "store")
    assert SEEN[:3] == [0, 1, 2]
    assert len(SEEN) <= 5, "it may go on while its checkpoint is tried, and no further"


ENDED: list[int] = []


@ckpt.job(key="slow", name="slow", every="10ms")
def slow() -> int:
    done = 0
    for i in ckpt.loop(range(20_000)):
        done = i
        if len(ENDED) >= 5:
            break
        time.sleep(0.001)
    return done


def test_checkpoint_that_comes_due_while_the_one_before_is_in_flight_is_taken_later(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean_up = Retention.committed

    def takes_long(self: Retention, *given: Any) -> None:
        time.sleep(0.1)
        clean_up(self, *given)
        ENDED.append(given[0])

    monkeypatch.setattr(Retention, "committed", takes_long)
    ENDED.clear()
    slow.options(store=str(scratch / "store"))()
    assert len(ENDED) >= 5
