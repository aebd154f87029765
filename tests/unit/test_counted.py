"""Checkpoints that are counted out (``every="Nit"``): where they are taken, on storages that are quick, slow and full."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ckpt
from ckpt import storage
from ckpt.session import saving
from ckpt.session.saving import Saving
from ckpt.snapshot import SnapshotWriter
from ckpt.testing import Action, Fault, FaultPlan, FaultyStorage

PLAN = FaultPlan()


def wrapped(inner: Any) -> Any:
    return FaultyStorage(inner, PLAN)


@pytest.fixture
def faults() -> Iterator[FaultPlan]:
    storage.add_wrapper(wrapped)
    yield PLAN
    PLAN.clear()
    storage.remove_wrapper(wrapped)


AT: list[int] = []
"""The iteration at whose end each checkpoint was taken."""
PASSED = {"iterations": 0}


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> None:
    AT.clear()
    PASSED["iterations"] = 0
    submit = Saving.submit

    def noted(self: Saving, *arguments: Any, **options: Any) -> Any:
        if arguments[0] == "trigger":
            AT.append(PASSED["iterations"])
        return submit(self, *arguments, **options)

    monkeypatch.setattr(Saving, "submit", noted)


def settle() -> None:
    """Wait for the checkpoint in flight, so that what comes next does not depend on the machine."""
    ckpt.current_run()._saving.wait_idle()  # type: ignore[union-attr]


def counted(count: int, pause_s: float, settles: int = 0) -> int:
    for i in ckpt.loop(range(count)):
        PASSED["iterations"] = i + 1
        if pause_s:
            time.sleep(pause_s)
        if settles and i % settles == settles - 1:
            settle()
    return count


def run(store: Path, every: Any, *arguments: Any) -> None:
    ckpt.job(key="counted", name="counted", every=every)(counted).options(store=str(store))(*arguments)


def test_counted_checkpoints_are_taken_where_they_are_due_and_do_not_drift(scratch: Path) -> None:
    run(scratch, "100it", 1050, 0, 50)
    assert list(range(100, 1001, 100)) == AT


def test_each_counted_checkpoint_is_taken_once_while_the_storage_is_slow(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SnapshotWriter.write

    def slow(self: SnapshotWriter, state: Any) -> Any:
        time.sleep(0.02)
        return write(self, state)

    monkeypatch.setattr(SnapshotWriter, "write", slow)
    run(scratch, "100it", 500, 0.001)
    assert AT[0] == 100
    assert all(later - earlier >= 100 for earlier, later in itertools.pairwise(AT)), AT
    assert len(AT) >= 2


def test_job_never_waits_for_the_storage_where_a_checkpoint_is_counted_out(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    wait = Saving.wait_idle
    monkeypatch.setattr(Saving, "wait_idle", lambda self: (waited.append(PASSED["iterations"]), wait(self))[1])
    run(scratch, "1it", 300, 0.001)
    assert waited == [0, 300], "for the first one, and at its end"
    assert AT


@pytest.mark.usefixtures("faults")
def test_full_storage_is_not_tried_again_at_each_iteration(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "RETRY_S", 3600.0)

    def filled(count: int) -> int:
        for i in ckpt.loop(range(count)):
            PASSED["iterations"] = i + 1
            if i == 5:
                settle()
                PLAN.add(Fault(Action.FULL, "write", "*", 1, float("inf")))
            if i == 15:
                settle()
            if i == count - 2:
                PLAN.clear()
        return count

    ckpt.job(key="filled", name="filled", every="10it")(filled).options(store=str(scratch))(200)
    assert AT == [10], "one that failed, and no other within the pause"


@pytest.mark.usefixtures("faults")
def test_full_storage_is_tried_again_after_the_pause(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "RETRY_S", 0.05)

    def filled(limit: int) -> int:
        for i in ckpt.loop(range(limit)):
            PASSED["iterations"] = i + 1
            if i == 5:
                settle()
                PLAN.add(Fault(Action.FULL, "write", "*", 1, float("inf")))
            if len(AT) >= 2:
                break
            time.sleep(0.001)
        PLAN.clear()
        return 0

    ckpt.job(key="filled", name="filled", every="10it")(filled).options(store=str(scratch))(60_000)
    assert len(AT) >= 2
    assert AT[1] - AT[0] >= 20


def test_iterations_of_all_loops_count_and_only_the_safe_point_that_is_due_is_slow(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckpt.session.run import Run

    seen: list[int] = []
    passed = Run.passed
    monkeypatch.setattr(Run, "passed", lambda self, node, *more: (seen.append(node.index), passed(self, node, *more))[1])

    def nested() -> int:
        for _ in ckpt.loop(range(3), name="outer"):
            for _ in ckpt.loop(range(1000), name="inner"):
                PASSED["iterations"] += 1
                if PASSED["iterations"] % 100 == 50:
                    settle()
        return 0

    ckpt.job(key="nested", name="nested", every="700it")(nested).options(store=str(scratch))()
    assert AT[0] == 700
    assert len(AT) == 4
    assert len(seen) < 200, "the others took the fast lane, but for those that a thread asked for"
