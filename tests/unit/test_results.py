"""The end of a run: the result is recorded with all that the caller sees, and the caller gets it whatever happens."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs.bits import exact
from unit.capture_support import attempt, tick

import ckpt
from ckpt import storage
from ckpt.testing import Action, Fault, FaultPlan, FaultyStorage

PLAN = FaultPlan()
RUNS: list[Any] = []


@pytest.fixture(autouse=True)
def _storage_under_a_plan() -> Iterator[None]:
    def wrapped(inner: Any) -> Any:
        return FaultyStorage(inner, PLAN)

    RUNS.clear()
    PLAN.clear()
    storage.add_wrapper(wrapped)
    yield
    storage.remove_wrapper(wrapped)


class Account:
    def __init__(self) -> None:
        self.history: list[int] = []


@ckpt.job(key="fills")
def fills(rows: list[Any], table: dict[str, Any], grid: Any, account: Account) -> Any:
    RUNS.append("ran")
    for i in ckpt.loop(range(4)):
        rows.append([i])
        table[f"k{i}"] = rows[-1]
        grid[i % 2] += i
        account.history.append(i)
        tick()
    account.last = rows[0]  # type: ignore[attr-defined]
    return {"rows": rows, "first": rows[0], "account": account, "own": [1.5]}


def arguments() -> tuple[Any, ...]:
    return [], {"k": 0}, np.zeros((2, 3)), Account()


def test_second_call_gives_the_result_and_brings_what_the_caller_sees_to_its_end(
    scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = arguments(), arguments()
    attempt(fills, first, scratch / "store")
    result = attempt(fills, second, scratch / "store")
    assert RUNS == ["ran"]
    assert "finished earlier, returning the recorded result" in capsys.readouterr().err
    assert exact(second[:3]) == exact(first[:3])
    rows, table, _, account = second
    assert account.history == [0, 1, 2, 3]
    assert result["rows"] is rows
    assert result["account"] is account
    assert result["first"] is rows[0] is table["k0"] is account.last
    assert result["own"] == [1.5]


@pytest.mark.parametrize("dies_at", [1, 4])
def test_resumed_run_shows_its_later_callers_the_same(dies_at: int, scratch: Path) -> None:
    attempt(fills, arguments(), scratch / "store", dies_at=dies_at)
    first, second = arguments(), arguments()
    attempt(fills, first, scratch / "store")
    attempt(fills, second, scratch / "store")
    assert RUNS == ["ran", "ran"]
    assert exact(second[:3]) == exact(first[:3])
    assert len(second[0]) == 4


@ckpt.job(key="draws")
def draws() -> Any:
    RUNS.append("ran")
    for _ in ckpt.loop(range(3)):
        random.random()
        np.random.rand()
    return random.random(), float(np.random.rand())


def test_generators_are_where_the_run_left_them(scratch: Path) -> None:
    def start() -> Any:
        random.seed(1)
        np.random.seed(2)
        return draws.options(store=str(scratch / "store"))(), random.random(), float(np.random.rand())

    first = start()
    random.seed(99)
    assert start() == first
    assert RUNS == ["ran"]


RESULTS: dict[str, Any] = {
    "none": None,
    "false": False,
    "nan": float("nan"),
    "array": np.arange(5000.0)[::2],
    "shared": [*[[1]] * 2],
    "error": ValueError("as a value"),
}


@ckpt.job(key=lambda name: name)
def returns(name: str) -> Any:
    RUNS.append("ran")
    for _ in ckpt.loop(range(2)):
        pass
    return RESULTS[name]


@pytest.mark.parametrize("name", RESULTS)
def test_result_is_recorded_whatever_it_is(name: str, scratch: Path) -> None:
    first, second = [attempt(returns, (name,), scratch / "store") for _ in range(2)]
    assert RUNS == ["ran"]
    assert repr(second) == repr(first)
    assert type(second) is type(first)
    assert name != "shared" or second[0] is second[1]


@ckpt.job(key="generates")
def generates() -> Any:
    RUNS.append("ran")
    total = 0
    for i in ckpt.loop(range(4)):
        tick()
        RUNS.append(i)
        total += i
    return (total + i for i in range(2))


def test_result_that_cannot_be_saved_is_returned_and_it_is_said(
    scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(attempt(generates, (), scratch / "store")) == [6, 7]
    said = capsys.readouterr().err
    assert "the result cannot be recorded" in said
    assert "a later call runs the end again" in said
    assert "test_results.generates/generates: the result" in said
    assert "return a list" in said
    assert "marked loop" not in said
    assert list(attempt(generates, (), scratch / "store")) == [6, 7]
    assert RUNS == ["ran", 0, 1, 2, 3, "ran"], "the loop was over and saved"
    info = ckpt.Store(scratch / "store").open("generates")
    assert [one.status for one in info.attempts] == ["failed", "failed"]
    assert info.summary.status == "failed"
    assert info.outcome is not None
    assert info.outcome.error == "the result cannot be recorded: a generator in the middle of its work"


def held_lock() -> Any:
    lock = threading.Lock()
    lock.acquire()
    return lock


@pytest.mark.parametrize(
    ("kept", "makes", "fix"),
    [
        (False, lambda: {"lock": held_lock()}, "return plain data"),
        (False, lambda: map(str, (n for n in [1])), "return a list"),
        (True, lambda: 3, "do not leave in them what cannot be saved"),
    ],
    ids=["in the result", "an iterator", "in an argument"],
)
def test_fix_of_a_result_that_cannot_be_saved_fits(
    kept: bool, makes: Any, fix: str, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @ckpt.job(key="unrecordable")
    def keeps(seen: list[Any]) -> Any:
        for _ in ckpt.loop(range(2)):
            tick()
        if kept:
            seen.append(held_lock())
        return makes()

    attempt(keeps, ([],), scratch / "store")
    said = capsys.readouterr().err
    assert "the result cannot be recorded" in said
    assert fix in said


def test_what_checkpoints_cost_in_all_is_not_less_than_what_the_job_stood_still(scratch: Path) -> None:
    @ckpt.job(key="costs", every="1it", store=scratch / "store")
    def costs() -> None:
        content = np.ones(4_000_000)
        PLAN.add(Fault(Action.FULL, "put", "*", 1, float("inf")))
        for _ in ckpt.loop(range(8)):
            content += 1  # is copied, and cannot be stored
        PLAN.clear()

    costs()
    outcome = ckpt.Store(scratch / "store").open("costs").outcome
    assert outcome is not None
    assert 0 < outcome.stall_s <= outcome.cost_s


@ckpt.job(key="full")
def ends_on_a_full_disk(size: int) -> Any:
    RUNS.append("ran")
    total = np.zeros(size)
    for i in ckpt.loop(range(4)):
        total += i
        tick()
    PLAN.add(Fault(Action.FULL, "put", "*", 1, float("inf")))
    PLAN.add(Fault(Action.FULL, "append", "*", 1, float("inf")))
    return total


@pytest.mark.parametrize("size", [3, 50_000], ids=["in its record", "in a pack"])
def test_result_is_returned_though_the_disk_is_full(
    size: int, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = attempt(ends_on_a_full_disk, (size,), scratch / "store")
    assert first.tolist() == [6.0] * size
    assert "the result could not be recorded" in capsys.readouterr().err
    for runs in (2, 3):
        PLAN.clear()
        assert attempt(ends_on_a_full_disk, (size,), scratch / "store").tolist() == [6.0] * size
        assert ["ran"] * runs == RUNS, "there is no recorded result"


def test_result_that_was_lost_on_a_full_disk_is_recorded_by_the_next_call(scratch: Path) -> None:
    @ckpt.job(key="once")
    def once() -> Any:
        RUNS.append("ran")
        for _ in ckpt.loop(range(2)):
            pass
        if len(RUNS) == 1:
            PLAN.add(Fault(Action.FULL, "append", "*", 1, float("inf")))
        return len(RUNS)

    assert attempt(once, (), scratch / "store") == 1
    PLAN.clear()
    assert [attempt(once, (), scratch / "store") for _ in range(2)] == [2, 2]


@ckpt.job(key="fails")
def fails(times: list[int]) -> Any:
    RUNS.append("ran")
    for i in ckpt.loop(range(3)):
        times.append(i)
        tick()
    if len(RUNS) == 1:
        raise KeyError("once")
    return times


def test_failed_run_is_run_again_from_where_it_was_saved(scratch: Path) -> None:
    with pytest.raises(KeyError):
        attempt(fails, ([],), scratch / "store")
    given: list[int] = []
    assert attempt(fails, (given,), scratch / "store") is given
    assert given == [0, 1, 2]


def test_fresh_run_forgets_the_result(scratch: Path) -> None:
    for fresh, runs in ((False, 1), (False, 1), (True, 2), (False, 2)):
        attempt(returns, ("none",), scratch / "store", fresh=fresh)
        assert len(RUNS) == runs
