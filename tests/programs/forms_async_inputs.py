"""What an async for goes over, what an async job keeps in variables, and steps that fail, draw, or are cancelled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

from programs.registry import form
from programs.ticks import tick

import ckpt


class Pages:
    """An iterable that is not its own iterator, with a state that the loop's body changes."""

    def __init__(self, n: int) -> None:
        self.n, self.seen = n, 0

    async def __aiter__(self) -> AsyncIterator[int]:
        for i in range(self.n):
            await asyncio.sleep(0)
            yield i


@ckpt.job
async def over_an_object() -> Any:
    pages, rows = Pages(4), []
    async for i in ckpt.loop(pages):
        pages.seen += i
        rows.append((i, pages.seen))
        tick()
        for j in ckpt.loop(range(2)):
            rows.append(j)
            tick()
    return rows, pages.seen


@form
def async_for_over_an_object_that_travels() -> object:
    return asyncio.run(over_an_object())


class Shuffled:
    """An iterable that says itself where it is."""

    def __init__(self, n: int) -> None:
        self.order = random.sample(range(n), n)
        self.at = 0

    def __aiter__(self) -> Shuffled:
        return self

    async def __anext__(self) -> int:
        await asyncio.sleep(0)
        if self.at == len(self.order):
            raise StopAsyncIteration
        self.at += 1
        return self.order[self.at - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"order": list(self.order), "at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order, self.at = state["order"], state["at"]


@ckpt.job
async def over_a_loader() -> Any:
    rows = []
    async for i in ckpt.loop(Shuffled(6)):
        rows.append((i, random.random()))
        tick()
    return rows


@form
def async_for_over_a_state_dict() -> object:
    random.seed(5)
    return asyncio.run(over_a_loader())


async def words() -> AsyncIterator[str]:
    for word in ("pear", "fig", "plum", "kiwi"):
        await asyncio.sleep(0)
        yield word


@ckpt.job
async def by_key() -> Any:
    rows: list[Any] = []
    async for word in ckpt.loop(words(), key=str):
        tick()
        async for k in ckpt.loop(words(), key=len_of):
            rows.append((word, k))
            tick()
    return rows


def len_of(word: str) -> tuple[int, str]:
    return len(word), word


@form
def async_for_by_key() -> object:
    return asyncio.run(by_key())


@ckpt.step
async def page(number: int) -> list[int]:
    await asyncio.sleep(0.001)
    return [number, number + 1]


async def fetched(n: int) -> AsyncIterator[int]:
    for number in range(n):
        for one in await page(number):
            yield one


@ckpt.job
async def steps_in_the_input() -> Any:
    rows = []
    async for one in ckpt.loop(fetched(3)):
        rows.append((one, await page(one)))
        tick()
    return rows


@form
def async_generator_that_awaits_steps() -> object:
    return asyncio.run(steps_in_the_input())


@ckpt.job
async def keeps_objects() -> Any:
    rows: list[Any] = []
    gate, queue, lock = asyncio.Semaphore(2), asyncio.Queue[int](), asyncio.Lock()
    loop, me = asyncio.get_running_loop(), asyncio.current_task()

    async def limited(i: int) -> int:
        async with gate:
            await asyncio.sleep(0)
            return i

    done: list[asyncio.Task[int]] = []
    failed: asyncio.Future[int] = loop.create_future()
    failed.set_exception(ValueError("no"))
    for i in ckpt.loop(range(4)):
        queue.put_nowait(i)
        done.append(asyncio.create_task(limited(i)))
        async with lock:
            rows.append([await one for one in done])
        tick()
    assert loop is asyncio.get_running_loop()
    assert me is asyncio.current_task()
    assert isinstance(failed.exception(), ValueError)
    return rows, [queue.get_nowait() for _ in range(4)], gate.locked(), [one.result() for one in done]


@form
def semaphores_queues_and_finished_tasks_come_back() -> object:
    return asyncio.run(keeps_objects())


@ckpt.step(record_errors=True)
async def refuses(i: int) -> int:
    await asyncio.sleep(0)
    raise ValueError(i)


@ckpt.step
async def draws(i: int) -> float:
    before = random.random()
    await asyncio.sleep(0)
    return before + random.random() + i


@ckpt.job
async def failing_steps() -> Any:
    rows: list[Any] = []
    for i in ckpt.loop(range(3)):
        try:
            await refuses(i)
        except ValueError as error:
            rows.append(error.args)
        tick()
        rows.append((await draws(i), random.random()))
        tick()
    return rows


@form
def steps_that_fail_and_draw() -> object:
    random.seed(6)
    return asyncio.run(failing_steps())


@ckpt.step
async def slow(i: int) -> int:
    await asyncio.sleep(60)
    return i


@ckpt.job
async def cancelled_steps() -> Any:
    rows: list[Any] = []
    for i in ckpt.loop(range(3)):
        try:
            async with asyncio.timeout(0.005):
                rows.append(await slow(i))
        except TimeoutError:
            rows.append("late")
        tick()
        task = asyncio.create_task(slow(i))
        await asyncio.sleep(0)
        task.cancel()
        rows.append([type(one).__name__ for one in await asyncio.gather(task, return_exceptions=True)])
        rows.append(task.cancelled())
        tick()
    return rows


@form
def steps_cancelled_by_timeouts_and_by_hand() -> object:
    return asyncio.run(cancelled_steps())


@ckpt.job
async def mixed() -> Any:
    rows: list[Any] = []

    async def note(i: int) -> None:
        rows.append(i + offset)

    offset = 100
    for i in ckpt.loop(range(3)):
        await note(i)
        offset += 1
        rows.append(await asyncio.to_thread(ckpt.step(pow), i, 2))
        rows.append(ckpt.step(pow)(i, 3))
        tick()
    return rows


@form
def closures_and_plain_steps_in_a_coroutine() -> object:
    return asyncio.run(mixed())


async def breaks_down(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i
    raise OSError(n)


def cancel_me() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def go_on() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


@ckpt.job
async def interrupted() -> Any:
    rows: list[Any] = []
    for _ in ckpt.loop(range(2)):
        try:
            async for i in ckpt.loop(breaks_down(2)):
                rows.append((i, random.random()))
                tick()
        except OSError as error:
            rows.append(error.args)
        async for i in ckpt.loop(words()):
            rows.append(i)
            tick()
    return rows


@form
def inputs_that_break_down() -> object:
    random.seed(9)
    return asyncio.run(interrupted())


@ckpt.job
async def cancels_itself() -> Any:
    rows: list[Any] = []
    for turn in ckpt.loop(range(2)):
        try:
            async for i in ckpt.loop(breaks_down(5), key=str):
                rows.append(i)
                tick()
                if i == turn:
                    cancel_me()
                    await asyncio.sleep(0)  # here, or ...
        except asyncio.CancelledError:
            go_on()
            rows.append("cancelled in the body")
        try:
            async for i in ckpt.loop(breaks_down(5)):
                rows.append(i)
                tick()
                if i == turn:
                    cancel_me()  # ... where the input waits
        except asyncio.CancelledError:
            go_on()
            rows.append("cancelled in the input")
        async for i in ckpt.loop(words()):
            rows.append(i)
            tick()
    return rows


@form
def loops_that_are_cancelled_in_the_body_and_in_the_input() -> object:
    return asyncio.run(cancels_itself())
