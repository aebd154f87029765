"""Jobs that are coroutines: async for, awaited helpers, steps awaited one by one and side by side, async with."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any, Self

from programs.registry import form
from programs.ticks import tick

import ckpt


async def numbers(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


@ckpt.step
async def tenfold(x: int) -> int:
    await asyncio.sleep(0.001)
    return 10 * x


@ckpt.job
async def plain_loops() -> Any:
    rows: list[Any] = []
    total = 0.0
    for i in ckpt.loop(range(3)):
        await asyncio.sleep(0)
        total += random.random()
        tick()
        for j in ckpt.loop("ab"):
            rows.append((i, j, await tenfold(i)))
            tick()
    return rows, total


@form
def for_statements_in_a_coroutine() -> object:
    random.seed(1)
    return asyncio.run(plain_loops())


@ckpt.job
async def async_loops() -> Any:
    rows: list[Any] = []
    async for i in ckpt.loop(numbers(3)):
        rows.append(i)
        tick()
        async for j in ckpt.loop(numbers(2), name="inner"):
            rows.append((i, j, random.randrange(100)))
            tick()
        async for j in ckpt.loop(numbers(2)):
            rows.append((i, -j))
            tick()
    return rows


@form
def async_for_nested_and_in_sequence() -> object:
    random.seed(2)
    return asyncio.run(async_loops())


async def weigh(base: int, log: list[int]) -> int:
    total = 0
    async for k in ckpt.loop(numbers(3)):
        tick()
        total += base * k + random.randrange(10)
        log.append(total)
        await asyncio.sleep(0)
    return total


@ckpt.job
async def awaits_helpers() -> Any:
    total, log = 0, []
    for base in ckpt.loop(range(2)):
        total += await weigh(base, log)
        tick()
    waiting = weigh(7, log)
    pair = await waiting - await weigh(8, log)
    tick()
    return total, log, pair


@form
def awaited_helpers_with_loops_of_their_own() -> object:
    random.seed(3)
    return asyncio.run(awaits_helpers())


async def down(depth: int, log: list[Any]) -> None:
    async for i in ckpt.loop(numbers(2)):
        log.append((depth, i))
        tick()
        if depth:
            await down(depth - 1, log)


@ckpt.job
async def awaits_itself() -> Any:
    log: list[Any] = []
    await down(2, log)
    return log


@form
def recursive_coroutine() -> object:
    return asyncio.run(awaits_itself())


@ckpt.job
async def side_by_side() -> Any:
    rows = []
    for i in ckpt.loop(range(3)):
        rows.append(await asyncio.gather(*[tenfold(10 * i + k) for k in range(4)]))
        tick()
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(tenfold(-k)) for k in range(i + 1)]
        rows.append([one.result() for one in made])
        tick()
    return rows


@form
def steps_side_by_side_in_gather_and_task_groups() -> object:
    return asyncio.run(side_by_side())


@ckpt.job
async def leaves_loops() -> Any:
    rows: list[Any] = []
    async for i in ckpt.loop(numbers(9)):
        if i == 1:
            continue
        rows.append(i)
        tick()
        if i == 3:
            break
    tick()
    async for i in ckpt.loop(numbers(3)):
        try:
            async for j in ckpt.loop(numbers(9)):
                rows.append((i, j))
                tick()
                if j == i:
                    raise ValueError(j)
        except ValueError as error:
            rows.append(error.args)
        tick()
    async for i in ckpt.loop(numbers(2)):
        tick()
        if i > 2:
            break
    else:
        rows.append("else")
    return rows


@form
def async_for_left_by_break_continue_and_exceptions() -> object:
    return asyncio.run(leaves_loops())


async def first_above(limit: int, rows: list[int]) -> int | None:
    async for i in ckpt.loop(numbers(9)):
        rows.append(i)
        tick()
        if i > limit:
            return i
    return None


@ckpt.job
async def returns_from_inside() -> Any:
    rows: list[int] = []
    found = await first_above(1, rows)
    tick()
    return found, await first_above(20, rows), rows


@form
def return_from_an_async_for() -> object:
    return asyncio.run(returns_from_inside())


class Gate:
    """Counts who is inside."""

    def __init__(self) -> None:
        self.inside: list[str] = []

    async def __aenter__(self) -> Self:
        await asyncio.sleep(0)
        self.inside.append("in")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.sleep(0)
        self.inside.append("out")


@contextlib.asynccontextmanager
async def noted(log: list[Any], name: str) -> AsyncIterator[str]:
    log.append(f"{name} begins")
    try:
        yield name
    finally:
        log.append(f"{name} ends")


@ckpt.job
async def inside_async_with() -> Any:
    log: list[Any] = []
    gate = Gate()
    async with gate, noted(log, "outer"):
        async for i in ckpt.loop(numbers(3)):
            gate.inside.append(str(i))
            tick()
            async with noted(log, f"inner {i}"):
                for j in ckpt.loop(range(2)):
                    log.append(j)
                    tick()
    return log, gate.inside


@form
def loops_inside_async_with() -> object:
    return asyncio.run(inside_async_with())


@ckpt.job
async def under_unmarked() -> Any:
    rows: list[Any] = []
    async for i in numbers(3):
        async for j in ckpt.loop(numbers(2)):
            rows.append((i, j, random.random()))
            tick()
    while len(rows) < 12:
        async for j in ckpt.loop(numbers(2)):
            rows.append(j)
            tick()
    return rows


@form
def marked_under_an_unmarked_async_for_and_a_while() -> object:
    random.seed(4)
    return asyncio.run(under_unmarked())


async def both(rows: list[Any]) -> None:
    async for j in ckpt.loop(numbers(2)):
        rows.append(j)
        tick()


async def one(rows: list[Any]) -> None:
    for j in ckpt.loop(range(2)):  # entries of this one stand for each other
        rows.append(random.random() + j)
        await asyncio.sleep(0)
        tick()


@ckpt.job
async def awaited_under_while() -> Any:
    rows: list[Any] = []
    while len(rows) < 6:
        await one(rows)
    while len(rows) < 10:
        await both(rows)
    return rows


@form
def helper_awaited_again_and_again_under_a_while() -> object:
    random.seed(8)
    return asyncio.run(awaited_under_while())


@ckpt.job
async def in_expressions() -> Any:
    log: list[Any] = []
    table: dict[str, int] = {}
    total = await weigh(1, log) + await weigh(2, log)
    log.append(await weigh(3, log))
    total += await weigh(4, log)
    table["k"] = await weigh(5, log)
    tick()
    rows = [await weigh(i, log) for i in range(2)]
    return total, log, table, rows, max(await weigh(6, log), 3)


@form
def helpers_awaited_inside_expressions() -> object:
    random.seed(7)
    return asyncio.run(in_expressions())


@ckpt.job
async def leaves_through_async_with() -> Any:
    log: list[Any] = []
    for i in ckpt.loop(range(2)):
        async for j in ckpt.loop(numbers(5)):
            async with noted(log, f"{i}{j}"):
                tick()
                if j == 1:
                    continue
                if j == 2:
                    break
        log.append(i)
        tick()
        try:
            async for j in ckpt.loop(numbers(5)):
                try:
                    tick()
                    if j == 1:
                        break
                finally:
                    await asyncio.sleep(0)
                    log.append("finally")
        finally:
            log.append("left")
    return log


@form
def break_out_of_async_with_and_finally() -> object:
    return asyncio.run(leaves_through_async_with())


async def leaf(own: list[int]) -> None:
    for i in ckpt.loop(range(4)):
        own.append(i)
        for _ in range(20):  # often enough for the interpreter to call coroutines in its own way
            await asyncio.sleep(0)
        tick()


async def middle(n: int) -> Any:
    own = [n]
    mine = {"own": own}
    await leaf(own)
    return mine


@ckpt.job
async def three_deep() -> Any:
    rows = []
    for n in ckpt.loop(range(2)):
        rows.append(await middle(n))
    return rows


@form
def coroutines_that_await_each_other_many_times() -> object:
    return asyncio.run(three_deep())
