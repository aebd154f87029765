"""What the interpreter holds besides variables, and how such objects are found and restored in place."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from unit.capture_support import check_resumed, refusal, tick

import ckpt
from ckpt.capture.held import paths_in, resolve


def paths(text: str) -> set[Any]:
    return set(paths_in(ast.parse(text, mode="eval").body))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("log", {("log",)}),
        ("log.append(spread(values, 2))", {("log",), ("log", ("attribute", "append")), ("spread",), ("values",)}),
        ("self.rows[0]", {("self",), ("self", ("attribute", "rows")), ("self", ("attribute", "rows"), ("item", 0))}),
        ("table['k'][i]", {("table",), ("table", ("item", "k")), ("i",), ("table", ("item", "k"), ("item of", "i"))}),
        ("table[i + 1]", {("table",), ("i",)}),
        ("make().rows", {("make",)}),
        ("[a, *b, {c: d}]", {("a",), ("b",), ("c",), ("d",)}),
        ("f'{a!r:>{width}}' if b else c", {("a",), ("width",), ("b",), ("c",)}),
        ("max(rows, key=lambda row: row[hidden])", {("max",), ("rows",)}),
        ("1 + len('x')", {("len",)}),
    ],
)
def test_every_name_attribute_and_item_of_a_statement_is_a_path(text: str, found: set[Any]) -> None:
    assert paths(text) == found


class Thing:
    slot_like: Any = "of the class"

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    @property
    def boom(self) -> Any:
        raise AssertionError("a property ran")

    def __getitem__(self, item: Any) -> Any:
        raise AssertionError("__getitem__ ran")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("__getattr__ ran")


RESOLVED: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "name": ("thing", lambda v: v["thing"]),
    "attribute": ("thing.rows", lambda v: v["thing"].rows),
    "item": ("thing.rows[1]", lambda v: v["thing"].rows[1]),
    "item of a variable": ("thing.rows[i]", lambda v: v["thing"].rows[1]),
    "item of a dict": ("table['k']", lambda v: v["table"]["k"]),
    "unbound": ("gone", lambda v: None),
    "unbound index": ("thing.rows[gone]", lambda v: None),
    "beyond the end": ("thing.rows[7]", lambda v: None),
    "no such key": ("table['other']", lambda v: None),
    "key that has no hash": ("table[rows]", lambda v: None),
    "property": ("thing.boom", lambda v: None),
    "attribute of the class": ("thing.slot_like", lambda v: None),
    "no such attribute": ("thing.none", lambda v: None),
    "own way to give items": ("thing['k']", lambda v: None),
    "below nothing": ("gone.rows[0].more", lambda v: None),
}


@pytest.mark.parametrize("name", RESOLVED)
def test_path_is_followed_without_running_the_users_code(name: str) -> None:
    text, wanted = RESOLVED[name]
    variables = {"thing": Thing(rows=[[1], [2]]), "table": {"k": [3]}, "i": 1, "rows": []}
    (path,) = (path for path in paths(text) if len(path) == max(map(len, paths(text))))
    assert resolve(path, variables) is wanted(variables)


# -- through whole jobs -------------------------------------------------------------------------------------------


def note_all(base: int, log: list[Any]) -> int:
    total = base
    for i in ckpt.loop(range(3)):
        total += i
        log.append((base, i))
        tick()
    return total


class Box:
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows


class Meter:
    def __init__(self) -> None:
        self.sums = [0]
        self.open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False
        self.sums.append(-1)

    def add(self, value: int) -> Meter:
        self.sums.append(value)
        return self


def check(job: Any, scratch: Path) -> None:
    check_resumed(job, scratch / "store")


@ckpt.job(key="1")
def with_statement() -> Any:
    meter, seen = Meter(), []
    with meter as inner, Meter() as nameless:
        for i in ckpt.loop(range(3)):
            inner.add(i)
            nameless.add(note_all(i, seen))
            tick()
    return meter.sums, meter.open, nameless.sums, nameless.open, inner is meter, seen


def test_object_of_a_with_statement_is_the_one_that_is_exited(scratch: Path) -> None:
    check(with_statement, scratch)


@contextlib.contextmanager
def scope(log: list[Any], name: str) -> Iterator[None]:
    log.append(f"in {name}")
    yield
    log.append(f"out {name}")


@ckpt.job(key="1")
def with_generator() -> Any:
    log: list[Any] = []
    with scope(log, "outer"):
        for i in ckpt.loop(range(2)):
            with scope(log, f"inner {i}"):
                note_all(i, log)
            tick()
    return log


def test_list_that_a_context_manager_holds_is_the_variables_list(scratch: Path) -> None:
    check(with_generator, scratch)


@ckpt.job(key="1")
def unmarked_for() -> Any:
    rows: list[Any] = [[0], [1], [2]]
    table: dict[str, list[Any]] = {"a": [], "b": []}
    for row in rows:
        for i in ckpt.loop(range(2)):
            row.append(i)
            if len(rows) < 5:
                rows.append([10 * i])
            tick()
    for key in list(table):
        table[key].append(note_all(len(key), table[key]))
    for row, name in zip(rows, "vwxyz", strict=True):
        for i in ckpt.loop(range(2)):
            row.append(f"{name}{i}")
            tick()
    return rows, table


def test_list_under_an_unmarked_for_goes_on_with_what_the_loop_added(scratch: Path) -> None:
    check(unmarked_for, scratch)


@ckpt.job(key="1")
def operands() -> Any:
    log: list[Any] = []
    added: list[Any] = []
    table: dict[str, Any] = {"list": [], "sum": [0]}
    thing, grid = Box([[], []]), np.zeros((2, 3))
    for i in ckpt.loop(range(2)):
        added.append(note_all(i, added))
        table["list"].append((len(log), note_all(i, log), len(log)))
        thing.rows[i].append(note_all(i, thing.rows[i]))
        table["sum"][0] += note_all(i, table["sum"])
        grid[i] += note_all(i, log)
        log += [note_all(i, log), *log[:1]]
        tick()
    return log, added, table, thing.rows, grid


def test_operands_of_a_half_evaluated_statement_are_the_variables_objects(scratch: Path) -> None:
    check(operands, scratch)


@ckpt.job(key="1")
def chained() -> Any:
    meter: Any = Meter()
    log: list[Any] = []
    first = meter.add(note_all(1, log)).add(note_all(2, log)).sums
    late = lambda m: m.add(note_all(3, m.sums))
    later = late(meter)
    return log, first, first is meter.sums, later is meter


def test_result_of_a_call_in_the_middle_of_a_chain_is_the_variables_object(scratch: Path) -> None:
    check(chained, scratch)


@ckpt.job(key="1")
def walks_a_copy() -> Any:
    rows = [[1], [2], [3]]
    for row in sorted(rows):
        for i in ckpt.loop(range(2)):
            row.append(i)
            tick()
    return rows


@ckpt.job(key="1")
def walks_a_tuple() -> Any:
    rows = ([1], [2])
    for row in rows:
        for i in ckpt.loop(range(2)):
            row.append(i)
            tick()
    return rows


@ckpt.job(key="1")
def walks_sorted_values() -> Any:
    table = {"a": {"n": 0}, "b": {"n": 1}}
    for _, value in sorted(table.items()):
        for i in ckpt.loop(range(2)):
            value["n"] += i
            tick()
    return table


@ckpt.job(key="1")
def walks_an_iterator() -> Any:
    rows = iter(range(9))
    seen = []
    for row in rows:
        for _ in ckpt.loop(range(2)):
            seen.append((row, next(rows)))
            tick()
    return seen


@ckpt.job(key="1")
def walks_what_a_function_found() -> Any:
    rows = [[1], [2]]
    find = lambda given: [one for one in given if one]
    for row in find(rows):
        for i in ckpt.loop(range(2)):
            row.append(i)
            tick()
    return rows


@ckpt.job(key="1")
def rebinds_what_it_walks() -> Any:
    rows, seen = [1, 2, 3], []
    for row in rows:
        for _ in ckpt.loop(range(2)):
            rows = [9, 9, 9, 9]
            seen.append(row)
            tick()
    return rows, seen


WALKED = (rebinds_what_it_walks, walks_a_copy, walks_a_tuple, walks_sorted_values, walks_an_iterator, walks_what_a_function_found)


@pytest.mark.parametrize("job", WALKED, ids=lambda job: job.__wrapped__.__name__)
def test_unmarked_for_over_objects_that_would_come_back_as_others_is_refused_by_name(job: Any, scratch: Path) -> None:
    error = refusal(job, scratch / "store")
    assert "variable table" in error.where or "variable rows" in error.where
    assert "ckpt.loop(" in error.fix


@ckpt.job(key="1")
def marked_as_the_fix_says() -> Any:
    rows: list[Any] = [[1], [2], [3]]
    table = {"a": {"n": 0}, "b": {"n": 1}}
    numbers = iter(range(9))
    for row in ckpt.loop(sorted(rows)):
        for i in ckpt.loop(range(2)):
            row.append(i)
            tick()
    for _, value in ckpt.loop(sorted(table.items())):
        for i in ckpt.loop(range(2)):
            value["n"] += i
            tick()
    for number in ckpt.loop(numbers):
        for _ in ckpt.loop(range(2)):
            rows.append((number, next(numbers)))
            tick()
    return rows, table


def test_fix_of_that_refusal_is_exact(scratch: Path) -> None:
    check(marked_as_the_fix_says, scratch)


@ckpt.job(key="1")
def walks_by_place() -> Any:
    rows: list[Any] = [[1], [2]]
    table: dict[str, Any] = {"b": [0], "a": [1]}
    for n in range(len(rows)):
        for i in ckpt.loop(range(2)):
            rows[n].append(i)
            tick()
    for key in sorted(table):
        for i in ckpt.loop(range(2)):
            table[key].append(i)
            tick()
    for n, (row, (_, value)) in enumerate(zip(rows, table.items(), strict=True)):
        for i in ckpt.loop(range(2)):
            row.append(value[-1] + n + i)
            tick()
    for text in (*"xy", "z"):
        for i in ckpt.loop(range(2)):
            rows.append(text * i)
            tick()
    return rows, table


def test_unmarked_for_by_place_key_or_over_the_container_itself_is_exact(scratch: Path) -> None:
    check(walks_by_place, scratch)
