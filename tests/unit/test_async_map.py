"""``ckpt.map`` with async functions, and ``async for`` over maps, without kills."""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from unit.async_support import noted, square, store_of_its_own  # noqa: F401 - the last is a fixture

import ckpt
from ckpt.errors import ItemError, ItemTimeoutError, OptionError, UncapturableError, UnsupportedCodeError

Taken = list[Any]


def by_for(function: Any, items: Any, **options: Any) -> Taken:
    return list(ckpt.map(function, items, **options))


def by_async_for(function: Any, items: Any, **options: Any) -> Taken:
    async def taken() -> Taken:
        return [result async for result in ckpt.map(function, items, **options)]

    return asyncio.run(taken())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not {"ckpt-map", "ckpt-map-record", "ckpt-map-loop"} & {one.name for one in threading.enumerate()}


WAYS = pytest.mark.parametrize("take", [by_for, by_async_for])


async def backwards(x: int) -> int:
    await asyncio.sleep(0.05 * (3 - x))
    return x


@WAYS
def test_results_come_in_the_order_of_the_items_or_as_completed(take: Any) -> None:
    assert take(square, range(300), max_workers=3) == [x * x for x in range(300)]
    assert take(backwards, range(4)) == [0, 1, 2, 3]
    assert take(backwards, range(4), ordered=False) == [3, 2, 1, 0]


@WAYS
def test_partials_and_objects_with_an_async_call_are_async_functions(take: Any) -> None:
    async def plus(a: int, b: int) -> int:
        return a + b

    class Plus:
        async def __call__(self, a: int) -> int:
            return a + 3

    assert take(functools.partial(plus, 2), [1, 2]) == [3, 4]
    assert take(Plus(), [1, 2]) == [4, 5]
    assert take(noted, ["step"]) == ["step"], "a step is plain inside"


@WAYS
@pytest.mark.parametrize("wanted", [1, 5])
def test_no_more_coroutines_at_a_time_than_max_workers(take: Any, wanted: int) -> None:
    at_work = most = 0

    async def count(_: int) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.003)
        at_work -= 1

    take(count, range(40), max_workers=wanted)
    assert most == wanted


@pytest.mark.parametrize("ordered", [True, False])
def test_an_endless_input_is_read_a_little_ahead_only(ordered: bool) -> None:
    read: list[int] = []

    async def some() -> int:
        found = 0
        numbers = (read.append(n) or n for n in itertools.count())  # type: ignore[func-returns-value]
        async for _ in ckpt.map(backwards_or_not, numbers, max_workers=2, ordered=ordered):
            found += 1
            if found == 20:
                break
        return found

    async def backwards_or_not(n: int) -> int:
        await asyncio.sleep(0.003)
        return n

    assert asyncio.run(some()) == 20
    assert len(read) <= 20 + 2 * 8 * 2


@WAYS
def test_retries_wait_without_holding_others_up(take: Any) -> None:
    tries: list[int] = []

    async def flaky(x: int) -> int:
        tries.append(x)
        if x and tries.count(x) < 3:
            raise OSError(x)
        return x

    assert take(flaky, [1, 2, 0], retries=2, backoff=0.05, max_workers=1) == [1, 2, 0]
    assert tries[:3] == [1, 2, 0], "the others are executed while the first waits for its next try"
    assert sorted(tries) == [0, 1, 1, 1, 2, 2, 2]


@WAYS
def test_a_coroutine_that_takes_too_long_is_cancelled_and_the_others_go_on(take: Any) -> None:
    ended: list[int] = []

    async def sleepy(x: int) -> int:
        try:
            await asyncio.sleep(60 if x == 1 else 0)
        finally:
            ended.append(x)
        return x

    began = time.monotonic()
    found = take(sleepy, range(4), timeout=0.1, retries=1, backoff=0, retry_on=TimeoutError, on_error="collect")
    assert time.monotonic() - began < 30, "it was not waited for"
    failed = found.pop(1)
    assert found == [0, 2, 3]
    assert isinstance(failed.error, ItemTimeoutError)
    assert failed.attempts == 2
    assert sorted(ended) == [0, 1, 1, 2, 3], "its clean-up has run"


@WAYS
def test_a_coroutine_that_catches_the_cancellation_of_its_timeout_has_failed_all_the_same(take: Any) -> None:
    async def stubborn(_: int) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "a late result"
        return ""

    [failed] = take(stubborn, [1], timeout=0.05, on_error="collect")
    assert isinstance(failed.error, ItemTimeoutError)


@WAYS
def test_what_fails_is_raised_collected_or_skipped(take: Any) -> None:
    async def divide(x: int) -> float:
        await asyncio.sleep(0)
        return 12 // x

    with pytest.raises(ZeroDivisionError):
        take(divide, [1, 0, 4])
    assert take(divide, [1, 0, 4], on_error="skip") == [12, 3]
    failed = take(divide, [1, 0, 4], on_error="collect")[1]
    assert (failed.item, failed.attempts, type(failed.error)) == (0, 1, ZeroDivisionError)
    assert "12 // x" in "".join(failed.error.__notes__)


@WAYS
def test_a_cancellation_from_inside_is_an_error_of_the_item(take: Any) -> None:
    async def awaits_what_is_cancelled(_: int) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    with pytest.raises(ItemError, match="cancelled"):
        take(awaits_what_is_cancelled, [1])


@WAYS
def test_an_exit_inside_an_item_ends_the_program_that_takes_the_results(take: Any) -> None:
    async def leave(_: int) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        take(leave, [1])


@WAYS
def test_tries_begin_no_faster_than_the_limit(take: Any) -> None:
    began: list[float] = []

    async def note(_: int) -> None:
        began.append(time.monotonic())

    take(note, range(12), limit="50/s")
    assert max(began) - min(began) >= 11 / 50 - 0.05


def test_a_plain_for_executes_coroutines_in_an_event_loop_of_its_own() -> None:
    async def where(_: int) -> int:
        asyncio.get_running_loop()
        return threading.get_ident()

    assert threading.get_ident() not in by_for(where, [1, 2])


def test_an_async_for_executes_coroutines_in_the_callers_event_loop() -> None:
    async def main() -> None:
        gate = asyncio.Lock()

        async def locked(x: int) -> Any:
            async with gate:
                await asyncio.sleep(0)
                return (x, id(asyncio.get_running_loop()))

        here = id(asyncio.get_running_loop())
        assert [pair async for pair in ckpt.map(locked, range(5))] == [(x, here) for x in range(5)]

    asyncio.run(main())


def test_tasks_that_items_leave_behind_end_with_the_map() -> None:
    left: list[asyncio.Task[None]] = []

    async def leaves(_: int) -> None:
        left.append(asyncio.get_running_loop().create_task(asyncio.sleep(60)))

    by_for(leaves, [1, 2])
    assert [task.cancelled() for task in left] == [True, True]


# -- refused ------------------------------------------------------------------------------------------------------


def test_an_executor_for_coroutines_is_refused_with_the_reason() -> None:
    for executor in ("threads", "processes", "ray"):
        with pytest.raises(OptionError, match=r"one event loop[\s\S]*max_workers"):
            ckpt.map(square, [1], executor=executor)  # type: ignore[call-overload]


def test_a_plain_for_over_coroutines_inside_an_event_loop_is_refused_with_the_fix() -> None:
    async def main() -> Taken:
        return list(ckpt.map(square, [1]))

    with pytest.raises(UnsupportedCodeError, match="async for"):
        asyncio.run(main())

    @ckpt.job(name="plain_for")
    async def plain_for() -> int:
        total = 0
        for x in ckpt.loop(ckpt.map(square, [1])):
            total += x
        return total

    with pytest.raises(UnsupportedCodeError, match="async for"):
        asyncio.run(plain_for())


def test_what_cannot_be_mapped_is_refused_with_the_fix() -> None:
    async def generator(x: int) -> Any:
        yield x

    async def items() -> Any:
        yield 1

    with pytest.raises(UnsupportedCodeError, match="generator function"):
        ckpt.map(generator, [1])
    with pytest.raises(OptionError, match="async for item in"):
        ckpt.map(square, items())  # type: ignore[call-overload]
    with pytest.raises(UncapturableError, match="async def"):
        list(ckpt.map(lambda x: square(x), [1]))
