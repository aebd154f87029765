"""What goes wrong in the threads beside a job: it is told, hangs nobody, and takes back nothing that is durable."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.retention_support import Kit, big
from unit.test_checkpointer import kept

import ckpt
from ckpt import events
from ckpt.checkpointer import Checkpointer, Request
from ckpt.errors import CkptError
from ckpt.host import SystemClock
from ckpt.session.ticker import Chore, Ticker
from ckpt.store import Store
from ckpt.testing import Action, FakeClock, Fault
from ckpt.triggers import Every

LIMIT_S = 20


def ended(checkpointer: Checkpointer) -> bool:
    """Whether ``close`` comes back."""
    closing = threading.Thread(target=checkpointer.close, daemon=True)
    closing.start()
    closing.join(LIMIT_S)
    return not closing.is_alive()


def test_error_that_escapes_neither_hangs_the_job_nor_ends_the_thread() -> None:
    kit, told = Kit.begin(None), list[CkptError]()

    def failed(error: CkptError) -> None:
        told.append(error)
        raise ValueError("stderr is gone, say")

    checkpointer = Checkpointer(kit.log, kit.snapshots, FakeClock(), lambda *_: None, failed)
    for number in (1, 2):
        kit.plan.add(Fault(Action.FAIL, "put", "*/pack/*"))
        request = Request({"number": number, "covers": kit.log.position}, [kept(big(number))], kept(b""), 0.0)
        checkpointer.submit(request)
        assert request.done.wait(LIMIT_S), "the thread died"
        assert request.error is not None
    assert len(told) >= 2
    assert ended(checkpointer)


def test_trouble_behind_the_commit_point_takes_no_checkpoint_back() -> None:
    kit, told = Kit.begin(None), list[CkptError]()

    def committed(*_: Any) -> None:
        raise ValueError("no")

    checkpointer = Checkpointer(kit.log, kit.snapshots, FakeClock(), committed, told.append)
    request = Request({"number": 7, "covers": kit.log.position}, [kept(big(1))], kept(b""), 0.0)
    checkpointer.submit(request)
    assert request.done.wait(LIMIT_S)
    assert request.error is None, "it is durable"
    (error,) = told
    assert "checkpoint 7 is stored" in str(error)
    assert isinstance(error.__cause__, ValueError)
    assert ended(checkpointer)


def test_chore_that_fails_is_told_and_checkpoints_go_on() -> None:
    told: list[Exception] = []
    reached = threading.Event()

    def broken() -> None:
        raise ValueError("no")

    def tell(error: Exception) -> None:
        told.append(error)
        reached.set()

    attention: list[str] = []
    ticker = Ticker(attention, SystemClock(), [Chore(0.01, broken)], tell)
    assert reached.wait(LIMIT_S)
    came = threading.Event()
    ticker.add(Chore(0.01, came.set))
    assert came.wait(LIMIT_S), "the thread died"
    ticker.close()
    assert isinstance(told[0].__cause__, ValueError)


@pytest.fixture
def hook() -> Iterator[list[str]]:
    seen: list[str] = []

    def raises(name: str, details: dict[str, object]) -> None:
        if name == "checkpoint" and details["number"] == 2:
            seen.append(name)
            raise ValueError("a hook that raises")

    events.add_hook(raises)
    yield seen
    events.remove_hook(raises)


def test_hook_that_raises_ends_the_job_at_its_next_safe_point_and_keeps_the_checkpoint(
    scratch: Path, hook: list[str]
) -> None:
    with pytest.raises(CkptError, match="checkpoint 2 is stored"), ckpt.open("hooked", store=str(scratch)) as run:
        run.checkpoint()
    assert hook == ["checkpoint"]
    (info,) = Store(scratch).list()
    assert info.checkpoints >= 2


class Broken(Every):
    def committed(self, iterations: int, now_s: float, cost_s: float) -> None:
        raise ValueError("a trigger that raises")


def test_trigger_that_raises_ends_the_job_at_its_next_safe_point(scratch: Path) -> None:
    with (
        pytest.raises(CkptError, match="is stored"),
        ckpt.open("triggered", store=str(scratch), every=Broken(1000)) as run,
    ):
        run.checkpoint()
