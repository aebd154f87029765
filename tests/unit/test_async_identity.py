"""Async steps side by side: which call is which, and the random numbers that they draw."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from unit.async_support import DONE, noted, numbers, store_of_its_own  # noqa: F401 - the last is a fixture

import ckpt
from ckpt.errors import IdentityError


class Source:
    def __init__(self, name: str) -> None:
        self.name = name

    async def read(self, x: int) -> str:
        await asyncio.sleep(0.002 if self.name == "a" else 0)
        DONE.append(self.name)
        return f"{self.name}{x}"


@ckpt.job
async def reads_two() -> Any:
    found = await asyncio.gather(*[ckpt.step(one.read)(1) for one in (Source("a"), Source("b"))])
    if len(DONE) == 2:
        raise ValueError("once more")
    return found


def test_steps_called_in_the_jobs_own_task_are_told_apart_by_the_order_of_the_calls() -> None:
    with pytest.raises(ValueError, match="once more"):
        asyncio.run(reads_two())
    DONE.append("resumed")
    assert asyncio.run(reads_two()) == ["a1", "b1"]
    assert DONE == ["b", "a", "resumed"], "results came back in another order than they were recorded in"


def test_equal_calls_of_two_objects_in_other_tasks_are_refused() -> None:
    async def one(source: Source) -> str:
        found: str = await ckpt.step(source.read)(1)
        return found

    @ckpt.job(name="in_tasks")
    async def in_tasks() -> Any:
        return await asyncio.gather(one(Source("a")), one(Source("b")))

    with pytest.raises(IdentityError, match="cannot be told apart"):
        asyncio.run(in_tasks())


@ckpt.step
async def draws(i: int, fails: bool) -> int:
    await asyncio.sleep(0)
    random.random()
    if fails and i == 1 and "failed" not in DONE:
        DONE.append("failed")
        raise ValueError("once more")
    return i


@ckpt.job
async def drawing(side_by_side: bool, fails: bool) -> float:
    if side_by_side:
        for outcome in await asyncio.gather(*[draws(i, fails) for i in range(3)], return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
    else:
        for i in range(3):
            await draws(i, fails)
    return random.random()


@pytest.mark.parametrize("side_by_side", [False, True])
def test_generators_after_steps_that_draw_are_the_same_after_a_resume(
    side_by_side: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    random.seed(8)
    expected = asyncio.run(drawing(side_by_side, False))
    random.seed(8)
    with pytest.raises(ValueError, match="once more"):
        asyncio.run(drawing(side_by_side, True))
    random.seed(9)
    assert asyncio.run(drawing(side_by_side, True)) == expected
    assert ("generator of its own" in capsys.readouterr().err) is side_by_side
