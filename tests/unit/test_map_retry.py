"""Failed items that are to be tried again: executed where their results count, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs.ticks import settle

import ckpt
from ckpt.store import Store

executed: list[int] = []
good = False
dies_at = -1


class Dies(Exception):
    """The job stops here; it can be resumed."""


@pytest.fixture(autouse=True)
def every_iteration(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPT_STORE", str(scratch / "store"))
    monkeypatch.setenv("CKPT_EVERY", "1it")
    executed.clear()


def fails_twice(item: int) -> int:
    executed.append(item)
    if item in (1, 3) and not good:
        raise ValueError(item)
    return item * 10


def through(results: Any) -> list[int]:
    return [one for one in results if not isinstance(one, ckpt.Failed)]


def then_a_loop() -> None:
    for i in ckpt.loop(range(4)):
        settle()
        if i == dies_at:
            raise Dies


def mapped() -> Any:
    return ckpt.map(fails_twice, range(5), max_workers=1, on_error="collect")


@ckpt.job(key="a", keep=5)
def bare() -> list[int]:
    found = through(mapped())
    then_a_loop()
    return found


@ckpt.job(key="a", keep=5)
def in_a_loop() -> list[int]:
    found = []
    for one in ckpt.loop(mapped()):
        settle()
        found += through([one])
    then_a_loop()
    return found


@ckpt.job(key="a", keep=5)
def in_an_iteration() -> list[int]:
    found = []
    for _ in ckpt.loop(range(1)):
        found += through(mapped())
        then_a_loop()
    return found


JOBS = [bare, in_a_loop, in_an_iteration]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
@pytest.mark.parametrize("killed", [True, False])
def test_items_in_front_of_the_resume_point_are_not_executed_for_nothing(
    job: Callable[[], list[int]], killed: bool, scratch: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store(scratch / "store")
    monkeypatch.setitem(globals(), "dies_at", 2 if killed else -1)
    if killed:
        with pytest.raises(Dies):
            job()
    else:
        assert job() == [0, 20, 40]
    assert store.retry(job.__name__).items == 2
    monkeypatch.setitem(globals(), "dies_at", -1)
    monkeypatch.setitem(globals(), "good", True)
    executed.clear()
    assert job() == [0, 20, 40]
    assert executed == []
    assert "not reached were items that `ckpt retry` marked (2)" in capfd.readouterr().err
    assert [(one.text, one.marked) for one in store.failed(job.__name__)] == [("1", True), ("3", True)]


def block() -> list[int]:
    with ckpt.open("block", run_id="a", keep=5) as run:
        found = through(mapped())
        for i in run.loop(range(4)):
            settle()
            if i == dies_at:
                raise Dies
    return found


def test_a_block_has_the_results_of_what_is_executed_again(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variables do not come back, so what the map gives on the way is what it goes on with."""
    store = Store(scratch / "store")
    monkeypatch.setitem(globals(), "dies_at", 2)
    with pytest.raises(Dies):
        block()
    assert store.retry("block").items == 2
    monkeypatch.setitem(globals(), "dies_at", -1)
    monkeypatch.setitem(globals(), "good", True)
    executed.clear()
    assert block() == [0, 10, 20, 30, 40]
    assert executed == [1, 3]
    assert store.failed("block") == []


def block_with_two_loops() -> None:
    with ckpt.open("block", run_id="a", keep=5) as run:
        for _ in run.loop(mapped()):
            settle()
        for i in run.loop(range(4)):
            settle()
            if i == dies_at:
                raise Dies


def test_a_loop_of_a_block_that_is_over_takes_no_item_again(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "dies_at", 2)
    with pytest.raises(Dies):
        block_with_two_loops()
    assert Store(scratch / "store").retry("block").items == 2
    monkeypatch.setitem(globals(), "dies_at", -1)
    executed.clear()
    block_with_two_loops()
    assert executed == []
