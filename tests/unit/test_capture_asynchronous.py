"""Objects of asyncio in a state: what is done comes back as it was, what is pending is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from unit.capture_support import through_a_state

from ckpt.errors import UncapturableError


def in_a_loop(check: Any) -> None:
    asyncio.run(check())


def test_finished_futures_and_tasks_come_back_with_what_came_of_them() -> None:
    async def gives(value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    async def check() -> None:
        items = [1]
        done, failed, left = (asyncio.ensure_future(gives(value)) for value in (items, ValueError("no"), 3))
        left.cancel()
        await asyncio.wait([done, failed, left])
        again = through_a_state({"done": done, "same": done, "failed": failed, "left": left, "items": items})
        assert again["done"] is again["same"]
        assert await again["done"] is again["items"], "what is shared stays shared"
        with pytest.raises(ValueError, match="no"):
            await again["failed"]
        assert again["left"].cancelled()

    in_a_loop(check)


def test_loop_and_own_task_are_those_of_the_process_that_goes_on() -> None:
    async def save() -> tuple[Any, Any]:
        loop, task = through_a_state((asyncio.get_running_loop(), asyncio.current_task()))
        assert loop is asyncio.get_running_loop()
        assert task is asyncio.current_task()
        return loop, task

    in_a_loop(save)


def test_primitives_come_back_as_they_were() -> None:
    async def check() -> None:
        lock, gate, queue, event = asyncio.Lock(), asyncio.Semaphore(3), asyncio.Queue[int](), asyncio.Event()
        await lock.acquire()
        await gate.acquire()
        queue.put_nowait(7)
        event.set()
        again = through_a_state((lock, gate, queue, event))
        assert again[0].locked()
        assert again[1]._value == 2
        assert again[2].get_nowait() == 7
        assert again[3].is_set()

    in_a_loop(check)


def test_pending_futures_tasks_and_waiters_are_refused() -> None:
    async def check() -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        waiting = asyncio.ensure_future(lock.acquire())
        await asyncio.sleep(0)
        for pending in (asyncio.get_running_loop().create_future(), waiting, lock):
            with pytest.raises(UncapturableError) as caught:
                through_a_state([pending])
            assert "await it" in caught.value.fix
        waiting.cancel()

    in_a_loop(check)


def test_finished_coroutines_and_async_generators_come_back_finished() -> None:
    async def nothing() -> None: ...

    async def letters() -> AsyncIterator[str]:
        yield "a"

    async def check() -> None:
        over, spent = nothing(), letters()
        await over
        assert [one async for one in spent] == ["a"]
        over_again, spent_again = through_a_state((over, spent))
        with pytest.raises(RuntimeError, match="already awaited"):
            await over_again
        assert [one async for one in spent_again] == []

    in_a_loop(check)
