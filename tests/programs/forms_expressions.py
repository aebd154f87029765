"""Forms: helpers with a marked loop are called in expressions over objects that they change."""

from __future__ import annotations

from typing import Any

from programs.registry import form
from programs.ticks import tick

import ckpt


def push(row: list[int]) -> int:
    for i in ckpt.loop(range(2)):
        tick()
        row.append(i)
    return len(row)


def pushed(row: list[int]) -> list[int]:
    push(row)
    return row


class Shelf:
    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    @property
    def pushed(self) -> int:
        return sum([push(row) for row in self.rows])


@ckpt.job
def over_the_list_itself(rows: list[list[int]]) -> Any:
    numbers = [push(row) for row in rows]
    by_place = {place: push(row) for place, row in enumerate(rows)}
    total = sum(push(row) for row in rows)
    mapped = list(map(push, sorted(rows)))
    again = [pushed(row) for row in rows[1:]]
    again[0].append(9)
    return numbers, by_place, total, mapped, again


@form
def helpers_change_rows_of_the_caller_in_one_line() -> object:
    rows = [[1], [2], [3]]
    return over_the_list_itself(rows), rows


@ckpt.job
def over_own_lists() -> Any:
    rows = [[1], [2]]
    numbers = [push(row) for row in rows]
    first, second = [5], [6]
    both = [*numbers, first, push(second), pushed(first)]
    both[-1].append(7)
    shelf = Shelf([first, second])
    text = f"{push(first)} {shelf.pushed}"
    fresh = [[place, push(rows[0])] for place in range(3)]
    return rows, numbers, both, first, second, text, fresh


@form
def helpers_change_own_rows_in_one_line() -> object:
    return over_own_lists()


def tree(depth: int) -> Any:
    return [depth, [tree(depth - 1), tree(depth - 1)] if depth else []]


def weigh(node: Any) -> int:
    for i in ckpt.loop(range(2)):
        if not node[1]:
            tick()
        node[0] += i
    left, right = node[1] or (None, None)
    return node[0] + (weigh(left) + weigh(right) if left is not None else 0)


@ckpt.job
def weighs() -> Any:
    root = tree(2)
    weight = weigh(root)
    return root, weight


@form
def recursion_in_an_expression_over_a_tree() -> object:
    return weighs()
