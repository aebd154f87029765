"""Loops by key whose input the job itself works on: exact, or refused with the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import check_resumed, refusal, tick

import ckpt


@ckpt.job(key="1")
def grows() -> Any:
    queue = [1]
    for number in ckpt.loop(queue, key=str):
        if number < 4:
            queue.append(number + 1)
        tick()
    return queue


@ckpt.job(key="1")
def grows_late() -> Any:
    queue, seen = [1, 2, 3], []
    for number in ckpt.loop(queue, key=str):
        seen.append(number)
        tick()
        if number == 3:
            queue.append(4)
    return queue, seen


def test_input_by_key_that_the_job_makes_longer_is_refused(scratch: Path) -> None:
    error = refusal(grows, scratch / "store")
    assert "longer" in error.what
    assert "without key=" in error.fix


def test_input_by_key_that_grows_only_after_a_resume_is_refused_too(scratch: Path) -> None:
    from unit.capture_support import attempt

    attempt(grows_late, (), scratch / "store", 2)
    error = refusal(grows_late, scratch / "store")
    assert "longer" in error.what


@ckpt.job(key="1")
def grows_in_the_callers_sight(queue: list[list[int]]) -> Any:
    for row in ckpt.loop(queue, key=lambda row: row[0]):
        if row[0] < 5:
            queue.append([row[0] + 1])
        row.append(len(queue))
        tick()
    return len(queue)


def test_callers_list_that_grows_is_exact_by_key(scratch: Path) -> None:
    check_resumed(grows_in_the_callers_sight, scratch / "store", lambda: ([[1]],))


@ckpt.job(key="1")
def generated() -> Any:
    rows = [[1], [2]]
    for row in ckpt.loop((row for row in rows), key=lambda row: row[0]):
        row.append(1)
        tick()
    return rows


def test_generator_by_key_over_a_variable_is_refused(scratch: Path) -> None:
    with pytest.raises(ckpt.errors.UnsupportedCodeError, match="rows"):
        generated.options(store=str(scratch / "store"))()
