"""Async maps beside an event loop: what goes on meanwhile, how they end, and what they leave in the log."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest
from unit.async_support import square, store_of_its_own  # noqa: F401 - the last is a fixture

import ckpt

Taken = list[Any]

# -- beside the event loop ----------------------------------------------------------------------------------------


async def beats_during(work: Any) -> tuple[int, Any]:
    """How often another task got its turn meanwhile."""
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    beating = asyncio.create_task(beat())
    found = await work
    beating.cancel()
    return beats, found


def nap(x: int) -> int:
    time.sleep(0.02)
    return x


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_event_loop_goes_on_while_an_executor_executes_the_items(executor: str) -> None:
    async def work() -> Taken:
        return [x async for x in ckpt.map(nap, range(6), executor=executor, max_workers=1)]

    beats, found = asyncio.run(beats_during(work()))
    assert found == list(range(6))
    assert beats >= 20, "the loop stood still"


@ckpt.job(key=lambda n, fail: n)
async def all_recorded(n: int, fail: bool) -> int:
    beats, found = await beats_during(counted(n))
    if fail:
        raise ValueError("once more")
    return beats if len(found) == n else -1


async def counted(n: int) -> Taken:
    return [x async for x in ckpt.map(square, range(n), ordered=False)]


def test_event_loop_goes_on_while_recorded_results_come_back() -> None:
    with pytest.raises(ValueError, match="once more"):
        asyncio.run(all_recorded(20_000, True))
    assert asyncio.run(all_recorded(20_000, False)) >= 3


# -- what ends a map ----------------------------------------------------------------------------------------------


class Watched:
    """Notes which coroutines are at work."""

    def __init__(self, patient: bool = True) -> None:
        self.patient = patient
        self.at_work: set[int] = set()
        self.begun: list[int] = []

    async def slow(self, x: int) -> int:
        self.at_work.add(x)
        self.begun.append(x)
        try:
            await asyncio.sleep(60 if x > 1 and self.patient else 0)
        finally:
            try:
                await asyncio.sleep(0)  # a clean-up that takes a while, and may be cancelled as well
            finally:
                self.at_work.discard(x)
        return x


def test_no_coroutine_goes_on_when_a_plain_for_is_left() -> None:
    watched = Watched()
    for _ in ckpt.map(watched.slow, range(9), ordered=False, max_workers=4):
        break
    assert len(watched.begun) >= 2
    assert not watched.at_work


def test_no_coroutine_goes_on_when_an_async_for_is_left_by_break() -> None:
    async def main() -> None:
        watched = Watched()
        async for _ in ckpt.map(watched.slow, range(9), ordered=False, max_workers=4):
            break
        assert watched.at_work
        # They are cancelled, and end as soon as the event loop gets to them.
        async with asyncio.timeout(30):
            while watched.at_work or asyncio.all_tasks() != {asyncio.current_task()}:
                await asyncio.sleep(0.001)

    asyncio.run(main())


WATCHED: list[Watched] = []
"""Not an argument, which would come back as it was."""


async def slow(x: int) -> int:
    return await WATCHED[-1].slow(x)


@ckpt.job
async def cancelled_job(names: list[int]) -> Taken:
    found = []
    async for x in ckpt.loop(ckpt.map(slow, names, max_workers=4)):
        found.append(x)
        await asyncio.sleep(0)
    return found


def test_a_cancelled_job_leaves_no_coroutine_and_goes_on_with_what_was_recorded() -> None:
    async def cancelled(watched: Watched) -> None:
        WATCHED.append(watched)
        task = asyncio.create_task(cancelled_job([0, 1, 2, 3]))
        while not {2, 3} <= watched.at_work:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not watched.at_work, "their clean-up has run before the cancellation is raised"

    watched = Watched()
    asyncio.run(cancelled(watched))
    again = Watched(patient=False)
    WATCHED.append(again)
    assert asyncio.run(cancelled_job([0, 1, 2, 3])) == [0, 1, 2, 3]
    assert sorted(again.begun) == [2, 3], "0 and 1 were recorded"


def test_an_item_that_raises_lets_the_others_be_recorded() -> None:
    executed: list[int] = []

    @ckpt.job(name="raising", key="raising")
    async def raising() -> Taken:
        return [x async for x in ckpt.map(one, [0, 1, 2], max_workers=3)]

    async def one(x: int) -> int:
        executed.append(x)
        await asyncio.sleep(0.05 * x)
        if x == 0 and executed.count(0) == 1:
            raise ValueError("first")
        return x

    with pytest.raises(ValueError, match="first"):
        asyncio.run(raising())
    assert asyncio.run(raising()) == [0, 1, 2]
    assert executed == [0, 1, 2, 0]


# -- in the log ---------------------------------------------------------------------------------------------------


def key_of(name: str) -> str:
    return ckpt.operation_key()


async def key_of_async(name: str) -> str:
    await asyncio.sleep(0)
    return ckpt.operation_key()


key_of_async.__qualname__ = "key_of"


def test_an_item_has_the_same_operation_key_in_a_thread_and_in_a_coroutine(tmp_path: Path) -> None:
    @ckpt.job(name="keys", key="same")
    def keys(function: Any) -> Taken:
        return list(ckpt.map(function, ["a", "b"]))

    @ckpt.job(name="keys", key="same")
    async def keys_async(function: Any) -> Taken:
        return [x async for x in ckpt.map(function, ["a", "b"])]

    found = [keys.options(store=tmp_path / "1")(key_of), keys.options(store=tmp_path / "2")(key_of_async)]
    found.append(asyncio.run(keys_async.options(store=tmp_path / "3")(key_of_async)))
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 2


def test_failed_items_are_dead_letters_and_only_they_run_again() -> None:
    executed: list[int] = []

    async def odd(x: int) -> int:
        executed.append(x)
        if x % 2:
            raise KeyError(x)
        return x

    @ckpt.job(name="letters", key="letters")
    async def letters() -> Taken:
        return [x async for x in ckpt.map(odd, range(4), on_error="collect")]

    found = asyncio.run(letters())
    assert [isinstance(one, ckpt.Failed) for one in found] == [False, True, False, True]
    store = ckpt.Store(os.environ["CKPT_STORE"])
    assert [letter.text for letter in store.failed("letters")] == ["1", "3"]
    store.retry("letters")
    asyncio.run(letters())
    assert sorted(executed) == [0, 1, 1, 2, 3, 3]
