"""Forms: a job whose variables reach outside of it: enclosing functions, defaults, arguments that share parts."""

from __future__ import annotations

from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
from programs.registry import form
from programs.ticks import tick

import ckpt


@form
def job_in_a_function_with_nonlocal() -> object:
    total, rows = 0, []

    @ckpt.job(name="inner")
    def job(n: int) -> int:
        nonlocal total
        for i in ckpt.loop(range(n)):
            tick()
            total += i
            rows.append(total)
        return total

    result = job(6)
    return result, total, rows


@ckpt.job
def with_default(n: int, seen: list[int] = []) -> Any:  # noqa: B006
    for i in ckpt.loop(range(n)):
        tick()
        seen.append(i)
    return len(seen)


@form
def mutable_default_of_the_job() -> object:
    return with_default(5), (with_default.__wrapped__.__defaults__ or ((),))[0]


@ckpt.job
def two_views(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any], names: list[Any], same: list[Any]) -> Any:
    for i in ckpt.loop(range(4)):
        tick()
        left += i
        right *= 1.5
        names.append(i)
        same[0].append(-i)
    return names[0] is same[0], np.shares_memory(left, right)


@form
def arguments_that_share_parts() -> object:
    base = np.arange(8.0)
    inner: list[Any] = []
    names, same = [inner], [inner]
    flags = two_views(base[:5], base[3:], names, same)
    return flags, base, inner, names, same, names[0] is same[0], same[0] is inner


class Account:
    def __init__(self) -> None:
        self.balance, self.history, self.grid = 0.0, [[0.0]], np.zeros((2, 2))
        self.owner = {"account": self}


@ckpt.job(key=lambda account, n: n)
def uses_account(account: Account, n: int) -> float:
    first = account.history[0]
    for i in ckpt.loop(range(n)):
        tick()
        account.balance += i / 3
        account.grid[i % 2] += i
        first.append(account.balance)
        account.history.append([i])
        if i == 2:
            account.extra = "made on the way"
            del account.owner
    return account.balance


@form
def attributes_added_and_removed_on_an_argument() -> object:
    account = Account()
    grid, first = account.grid, account.history[0]
    result = uses_account(account, 5)
    same = account.grid is grid, account.history[0] is first, hasattr(account, "owner")
    return result, account.balance, account.history, grid, account.extra, same


@ckpt.job
def rebinds(rows: list[int], table: dict[str, int]) -> Any:
    for i in ckpt.loop(range(5)):
        tick()
        rows.append(i)
        if i == 2:
            rows = [*rows, 100]
            table = dict(table)
        table[str(i)] = i
    return rows, table


@form
def arguments_rebound_in_the_loop() -> object:
    rows, table = [7], {"k": 1}
    result = rebinds(rows, table)
    return result, rows, table, result[0] is rows


@form
def same_job_called_three_times_in_a_row() -> object:
    rows: list[Any] = []
    for n in (3, 4, 3):
        rows.append(with_default(n, rows and [0] * n))
    return rows


def twice(number: int) -> int:
    return number * 2


@ckpt.job(recreate=("pool",))
def pools() -> Any:
    found: list[int] = []
    for i in ckpt.loop(range(3)):
        with ThreadPool(1) as pool:
            found += pool.map(twice, [i, i + 1])
        tick()
    for i in ckpt.loop(range(3)):
        with ThreadPool(1) as other:
            found += other.map(twice, [-i])
        del other
        tick()
    return found


@form
def pools_made_in_the_body() -> object:
    return pools()
