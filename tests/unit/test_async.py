"""Async jobs in one process: what they are, cancellation, and what runs beside the job."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from unit.async_support import DONE, noted, numbers, store_of_its_own  # noqa: F401 - the last is a fixture

import ckpt
from ckpt.errors import OptionError, UsageError

# -- what it is ---------------------------------------------------------------------------------------------------


@ckpt.job
async def counting(n: int) -> int:
    total = 0
    async for i in ckpt.loop(numbers(n)):
        total += await noted(i)
    return total


def test_calling_an_async_job_gives_a_coroutine_and_a_second_call_the_recorded_result() -> None:
    coroutine = counting(4)
    assert inspect.iscoroutine(coroutine)
    assert DONE == []
    assert asyncio.run(coroutine) == 6
    assert asyncio.run(counting(4)) == 6
    assert DONE == [0, 1, 2, 3]
    assert asyncio.run(counting.options(fresh=True)(4)) == 6
    assert len(DONE) == 8
    assert "test_async.counting/" in counting.address(4)


def test_async_jobs_and_steps_count_as_coroutine_functions() -> None:
    assert asyncio.iscoroutinefunction(counting)
    assert asyncio.iscoroutinefunction(noted)


def test_outside_a_job_everything_is_plain() -> None:
    async def plain() -> list[int]:
        return [await noted(i) async for i in ckpt.loop(numbers(3))]

    assert asyncio.run(plain()) == [0, 1, 2]


class Service:
    @ckpt.job(key=lambda self, n: n)
    async def work(self, n: int) -> int:
        total = 0
        for i in ckpt.loop(range(n)):
            total += await noted(i)
        return total


def test_method_is_a_job_and_a_job_inside_a_job_is_a_plain_call() -> None:
    assert asyncio.run(Service().work(3)) == 3

    @ckpt.job(name="outer")
    async def outer() -> int:
        return await counting(3)

    assert asyncio.run(outer()) == 3
    assert len(DONE) == 6


def test_path_stays_short_under_a_while_around_an_awaited_helper() -> None:
    async def helper(rows: list[int]) -> None:
        for i in ckpt.loop(range(2)):
            rows.append(i)
            await asyncio.sleep(0)

    longest = 0

    @ckpt.job(name="under_while")
    async def under_while() -> int:
        nonlocal longest
        rows: list[int] = []
        while len(rows) < 40:
            await helper(rows)
            run: Any = ckpt.current_run()
            run._saving.wait_idle()
            longest = max(longest, len(run.track.root.children))
        return len(rows)

    assert asyncio.run(under_while()) == 40
    assert longest == 1, "entries of one loop under a while stand for each other"


# -- cancelled, timed out -----------------------------------------------------------------------------------------


async def cancelled_at(job: Any, steps: int, turns: int) -> None:
    """Run the job for so many steps, and so many turns of the event loop more; then cancel it."""
    task, before = asyncio.create_task(job), len(DONE)
    while len(DONE) < before + steps and not task.done():
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_job_cancelled_anywhere_goes_on_where_it_was_and_no_recorded_step_runs_again() -> None:
    rng = random.Random(5)
    cancelled = 0
    while cancelled < 40 and 29 not in DONE:
        asyncio.run(cancelled_at(counting(30), rng.randrange(6), rng.randrange(9)))
        cancelled += 1
    assert asyncio.run(counting(30)) == sum(range(30))
    assert cancelled > 1
    assert sorted(set(DONE)) == list(range(30))
    assert len(DONE) <= 30 + cancelled, "one step per cancellation at most is executed twice"


@ckpt.job
async def with_a_timeout() -> Any:
    seen: list[Any] = []
    for i in ckpt.loop(range(2)):
        try:
            async with asyncio.timeout(0.5):  # the step has begun long before
                seen.append(await stuck(i))
        except TimeoutError:
            seen.append("late")
    if len(DONE) == 2:
        raise ValueError("once more")
    seen += [await stuck(i) for i in range(2)]
    return seen


@ckpt.step
async def stuck(i: int) -> int:
    DONE.append(i)
    await asyncio.sleep(60 if len(DONE) < 3 else 0)
    return i


def test_cancelled_step_is_not_recorded() -> None:
    with pytest.raises(ValueError, match="once more"):
        asyncio.run(with_a_timeout())
    DONE.append("resumed")
    assert asyncio.run(with_a_timeout()) == ["late", "late", 0, 1]


def test_cancellation_while_the_record_is_written_comes_when_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    from ckpt.session.operations import Operations

    writing, go_on = threading.Event(), threading.Event()
    record = Operations.record

    def slow(self: Any, *given: Any) -> None:
        writing.set()
        assert go_on.wait(10)
        record(self, *given)

    monkeypatch.setattr(Operations, "record", slow)

    async def cancel() -> None:
        task = asyncio.create_task(counting(3))
        while not writing.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done(), "nobody knows yet what became of the record"
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert DONE == [0]
    assert asyncio.run(counting(3)) == 3
    assert DONE == [0, 1, 2], "the step whose record was being written is recorded"


# -- beside the event loop ----------------------------------------------------------------------------------------


def test_event_loop_goes_on_while_records_are_made_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    real, threads = os.fdatasync, set()
    beats = 0

    def slow(fd: int) -> None:
        threads.add(threading.current_thread().name.partition("_")[0])
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.02)
        real(fd)

    @ckpt.job(name="beside", every="1h")
    async def beside() -> int:
        nonlocal beats
        monkeypatch.setattr(os, "fdatasync", slow)

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.001)
                beats += 1

        beating = asyncio.create_task(beat())
        found = [await noted(i) for i in range(5)]
        beating.cancel()
        return len(found)

    assert asyncio.run(beside()) == 5
    assert "ckpt-appender" in threads
    assert beats >= 15, "the loop stood still while a record was synced"


def test_retries_wait_without_holding_the_event_loop_up() -> None:
    tries: list[int] = []

    @ckpt.step(retries=3, backoff=0.01, retry_on=(OSError,))
    async def flaky(i: int) -> int:
        tries.append(i)
        if tries.count(i) < 3:
            raise OSError(i)
        return i

    @ckpt.job(name="retrying")
    async def retrying() -> list[int]:
        return await asyncio.gather(flaky(1), flaky(2))

    assert asyncio.run(retrying()) == [1, 2]
    assert tries[:2] == [1, 2], "the second step is tried while the first one waits"
    assert len(tries) == 6


def test_other_tasks_of_the_event_loop_do_not_belong_to_the_run() -> None:
    seen: list[Any] = []

    async def bystander() -> None:
        seen.append((ckpt.current_run(), await noted("plain"), [i async for i in ckpt.loop(numbers(2))]))

    async def main() -> None:
        server = asyncio.create_task(bystander_later())
        assert await counting(3) == 3
        await server

    async def bystander_later() -> None:
        while not DONE:
            await asyncio.sleep(0)
        await bystander()

    asyncio.run(main())
    assert seen == [(None, "plain", [0, 1])]


def test_second_job_in_the_same_event_loop_is_refused() -> None:
    async def main() -> list[Any]:
        return await asyncio.gather(counting(3), counting(4), return_exceptions=True)

    outcome = asyncio.run(main())
    refused = [one for one in outcome if isinstance(one, OptionError)]
    assert len(refused) == 1
    assert "one after the other" in str(refused[0])
    assert asyncio.run(counting(4)) == 6


def test_plain_with_block_works_in_async_code() -> None:
    async def block() -> int:
        with ckpt.open("block") as run:
            state = run.state(total=0)
            async for i in run.loop(numbers(4)):
                state.total += await run.step(noted)(i)
            return int(state.total)

    assert asyncio.run(block()) == 6
    assert asyncio.run(block()) == 6
    assert len(DONE) == 4


def test_step_that_outlives_its_run_says_so() -> None:
    outcome: list[Any] = []

    @ckpt.job(name="outlived")
    async def outlived() -> asyncio.Task[Any]:
        outcome.append(asyncio.create_task(lingers()))
        await asyncio.sleep(0)
        return 1  # type: ignore[return-value]

    @ckpt.step
    async def lingers() -> None:
        await asyncio.sleep(0.1)

    async def main() -> None:
        assert await outlived() == 1
        with pytest.raises(UsageError, match="closed"):
            await outcome[0]

    asyncio.run(main())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [one for one in threading.enumerate() if one.name.startswith("ckpt-appender")]
