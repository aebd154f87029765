"""Forms: the body changes items that are still to come, by a variable that leads to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from programs.registry import form
from programs.ticks import tick

import ckpt


class Holder:
    def __init__(self, rows: list[int]) -> None:
        self.rows = rows


def triple(a: Any, b: Any, c: Any) -> list[Any]:
    return [a, b, c]


@ckpt.job
def lists_to_come() -> Any:
    a, b, c, seen = [1], [2], [3], []
    for row in ckpt.loop([a, b, c]):
        b.append(7)
        tick()
        c.append(len(row))
        seen.append([row is a, row is b, row is c, *row])
        tick()
    return seen, a, b, c


@form
def items_to_come_changed_in_a_list() -> object:
    return lists_to_come()


@ckpt.job
def lists_given_by_a_function() -> Any:
    a, b, c, seen = [1], [2], [3], []
    for row in ckpt.loop(triple(a, b, c)):
        b.append(7)
        tick()
        c.append(len(row))
        seen.append([row is a, row is b, row is c, *row])
    return seen, a, b, c


@form
def items_to_come_changed_in_a_list_of_a_function() -> object:
    return lists_given_by_a_function()


@ckpt.job
def tuples_to_come() -> Any:
    a, b, c, seen = [1], [2], [3], []
    for first, second in ckpt.loop(((a, b), (b, c), (c, a))):
        c.append(7)
        tick()
        second.append(len(first))
        seen.append([first is a, second is c, *first])
    return seen, a, b, c


@form
def items_to_come_changed_in_a_tuple_of_pairs() -> object:
    return tuples_to_come()


@ckpt.job
def dicts_to_come() -> Any:
    a, b, c, seen = {"n": 1}, {"n": 2}, {3, 4}, []
    for one in ckpt.loop([a, b, c]):
        b["n"] += 1
        c.add(b["n"])
        tick()
        seen.append([one is a, one is b, one is c, len(one)])
    return seen, a, b, sorted(c)


@form
def items_to_come_changed_in_dicts_and_sets() -> object:
    return dicts_to_come()


@ckpt.job
def arrays_to_come() -> Any:
    a, b, c, seen = np.zeros(2), np.ones(3), np.ones(1), []
    for one in ckpt.loop([a, b, c]):
        b += 1
        c *= 3
        tick()
        one -= 0.5
        seen.append([one is a, one is b, one is c, float(one.sum())])
    return seen, a, b, c


@form
def items_to_come_changed_in_arrays() -> object:
    return arrays_to_come()


@ckpt.job
def objects_to_come() -> Any:
    rows = [1]
    a, b, seen = Holder(rows), Holder([]), []
    for one in ckpt.loop([a, b, Holder(rows)]):
        rows.append(len(seen))
        tick()
        b.rows.append(9)
        seen.append([one is a, one is b, one.rows is rows, *one.rows])
    return seen, rows, b.rows


@form
def items_to_come_changed_in_objects() -> object:
    return objects_to_come()


@ckpt.job
def listed_twice() -> Any:
    seen: list[Any] = []
    row = [0]
    for one in ckpt.loop([row, row, [5], row]):
        one.append(len(seen))
        tick()
        seen.append([one is row, *one])
    tick()
    return seen, row


@form
def item_that_is_listed_twice_is_changed() -> object:
    return listed_twice()


@ckpt.job
def let_go_of() -> Any:
    b, seen = [2], []
    for row in ckpt.loop([[1], b, [3]]):
        if b is not None:
            b.append(7)
            b = None
        tick()
        seen.append([*row])
    return seen


@form
def item_to_come_changed_and_let_go_of() -> object:
    return let_go_of()


@ckpt.job
def linked() -> Any:
    rows = [[1], [2], [3]]
    seen = []
    for row, following in ckpt.loop([*zip(rows, [*rows[1:], [4]], strict=True)]):
        rows = None
        following.append(len(row))
        tick()
        seen.append([*row])
    return seen


@form
def item_to_come_changed_by_the_one_before_it() -> object:
    return linked()


@ckpt.job
def array_of_objects() -> Any:
    a, b, c, seen = [1], [2], [3], []
    for row in ckpt.loop(np.array([a, b, c, None], dtype=object)[:3]):
        row.append(len(seen))
        tick()
        b.append(7)
        seen.append([row is a, row is b, row is c, *row])
    return seen, a, b, c


@form
def items_of_an_array_of_objects_changed_by_the_body() -> object:
    return array_of_objects()


@ckpt.job
def part_of_an_array() -> Any:
    table, seen = np.zeros(5), []
    for one in ckpt.loop(table[1:]):
        table += 1
        tick()
        seen.append(float(one))
    return seen, table


@form
def part_of_an_array_that_the_body_changes() -> object:
    return part_of_an_array()
