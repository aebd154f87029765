"""What async jobs may not do, or cannot be resumed from: refused with the fix."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
from programs.ticks import settle
from unit.async_support import DONE, noted, numbers, store_of_its_own  # noqa: F401 - the last is a fixture

import ckpt
from ckpt.errors import InputChangedError, UncapturableError, UnsupportedCodeError


def refusal(job: Any) -> str:
    with pytest.raises((UnsupportedCodeError, UncapturableError)) as caught:
        asyncio.run(job())
    assert caught.value.fix
    return str(caught.value)


async def sleeps() -> None:
    await asyncio.sleep(60)


def test_task_that_is_at_work_at_a_safe_point_is_refused_after_one_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPT_EVERY", "1h")

    @ckpt.job(name="leaves_tasks")
    async def leaves_tasks() -> None:
        async with asyncio.TaskGroup() as group:
            for i in ckpt.loop(range(9)):
                DONE.append(i)
                group.create_task(sleeps())

    with pytest.raises(BaseExceptionGroup) as caught:
        asyncio.run(leaves_tasks())
    assert isinstance(caught.value.exceptions[0], UncapturableError)
    assert "sleeps" in str(caught.value.exceptions[0])
    assert DONE == [0]


def test_task_in_a_variable_is_refused_by_name_and_recreate_is_the_fix() -> None:
    async def beating(recreate: tuple[str, ...]) -> int:
        @ckpt.job(name="beating", recreate=recreate)
        async def job() -> int:
            beat = asyncio.create_task(sleeps())
            total = 0
            async for i in ckpt.loop(numbers(3)):
                total += i
                await asyncio.sleep(0)
            beat.cancel()
            return total

        return await job()

    with pytest.raises(UncapturableError, match="sleeps"):
        asyncio.run(beating(()))
    assert asyncio.run(beating(("beat",))) == 3


def test_future_that_nobody_completed_is_refused_by_name() -> None:
    @ckpt.job(name="pending")
    async def pending() -> None:
        answer = asyncio.get_running_loop().create_future()
        for _ in ckpt.loop(range(2)):
            assert not answer.done()

    assert "answer" in refusal(pending)


def test_cancellation_of_the_jobs_own_task_that_is_due_at_a_safe_point_is_refused() -> None:
    @ckpt.job(name="cancels_itself")
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        for _ in ckpt.loop(range(2)):
            task.cancel()

    assert "asyncio.sleep(0)" in refusal(cancels_itself)


def test_marked_loop_in_another_task_is_refused() -> None:
    async def inside() -> None:
        async for _ in ckpt.loop(numbers(3)):
            pass

    @ckpt.job(name="elsewhere")
    async def elsewhere() -> None:
        await asyncio.gather(inside(), inside())

    assert "gather" in refusal(elsewhere)


def test_wrong_kind_of_for_statement_is_refused_with_the_right_one() -> None:
    @ckpt.job(name="wrong_for")
    async def wrong_for() -> None:
        for _ in ckpt.loop(numbers(3)):  # type: ignore[attr-defined]
            pass

    @ckpt.job(name="wrong_async_for")
    async def wrong_async_for() -> None:
        async for _ in ckpt.loop([1, 2]):  # type: ignore[attr-defined]
            pass

    assert "async for" in refusal(wrong_for)
    assert "cannot be iterated" in refusal(wrong_async_for)


def test_async_generator_in_a_variable_under_an_unmarked_async_for_is_refused() -> None:
    @ckpt.job(name="unmarked")
    async def unmarked() -> None:
        stream = numbers(3)
        async for i in stream:
            for _ in ckpt.loop(range(i + 1)):
                await asyncio.sleep(0)

    assert "stream" in refusal(unmarked)


def test_timeout_object_in_a_variable_is_refused_by_name() -> None:
    @ckpt.job(name="timed")
    async def timed() -> None:
        async with asyncio.timeout(60) as limit:
            for _ in ckpt.loop(range(2)):
                await asyncio.sleep(0)
                assert not limit.expired()

    assert "limit" in refusal(timed)


def test_generator_functions_as_steps_are_refused() -> None:
    @ckpt.job(name="generates")
    async def generates() -> None:
        ckpt.step(numbers)(3)

    assert "generator" in refusal(generates)


def test_async_input_that_changed_is_found() -> None:
    letters = ["a", "b", "c", "d"]

    async def stream() -> AsyncIterator[str]:
        for letter in letters:
            yield letter

    @ckpt.job(name="changing")
    async def changing() -> str:
        text = ""
        async for letter in ckpt.loop(stream()):
            text += letter
            settle()
            if letter == "c" and not DONE:
                DONE.append("raised")
                raise ValueError("stop")
        return text

    with pytest.raises(ValueError, match="stop"):
        asyncio.run(changing())
    letters[:2] = ["x", "y"]
    with pytest.raises(InputChangedError, match="'b' when the checkpoint"):
        asyncio.run(changing())
    letters[:] = ["a"]
    with pytest.raises(InputChangedError, match="consumed before"):
        asyncio.run(changing())
    letters[:] = ["a", "b", "c", "d"]
    assert asyncio.run(changing()) == "abcd"


class Twice:
    """An object that several loops may go over."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def __aiter__(self) -> AsyncIterator[int]:
        for i in range(3):
            yield i


def test_object_with_a_state_of_its_own_is_refused_under_key() -> None:
    @ckpt.job(name="keyed_object")
    async def keyed_object() -> None:
        items = Twice()
        async for i in ckpt.loop(items, key=str):
            items.seen.append(i)

    assert "key=" in refusal(keyed_object)


def test_frames_that_are_kept_do_not_keep_a_left_loop_open() -> None:
    kept: list[Any] = []

    async def keeping(n: int) -> AsyncIterator[int]:
        for i in range(n):
            kept.append(inspect.currentframe())
            yield i

    @ckpt.job(name="left_open")
    async def left_open() -> int:
        async for i in ckpt.loop(keeping(5)):
            kept.append(inspect.currentframe())
            if i == 2:
                break
        run: Any = ckpt.current_run()
        assert len(run.track.active) == 1
        return i

    assert asyncio.run(left_open()) == 2
