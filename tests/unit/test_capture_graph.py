"""What a state saves by value, by place or by reference: shared objects, classes, locks, files, generators."""

from __future__ import annotations

import collections
import contextlib
import csv
import enum
import gzip
import itertools
import logging
import math
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import check_resumed, or_refused, plain, refusal, through_a_state, tick

import ckpt

LOG = logging.getLogger("ckpt.tests.graph")


class Box:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def result_only(_: Any, result: Any) -> Any:
    return result


def check(job: Any, scratch: Path, *arguments: Any) -> None:
    check_resumed(job, scratch / "store", lambda: arguments, result_only)


def test_shared_objects_stay_shared_and_cycles_closed() -> None:
    inner: list[Any] = [1]
    inner.append(inner)
    box = Box(inner=inner)
    box.me = box
    again = through_a_state(
        {"a": inner, "b": (inner, box), "keys": {inner[0]: box}, "words": [sys.intern("x y"), "x y"]}
    )
    assert again["a"] is again["b"][0]
    assert again["a"][1] is again["a"]
    assert again["b"][1].me is again["b"][1] is again["keys"][1]
    assert again["b"][1].inner is again["a"]


@ckpt.job(key="1")
def shares() -> Any:
    row: list[Any] = [0]
    table, pairs = {"row": row}, [(row,), (row,)]
    row.append(pairs)
    best = None
    for i in ckpt.loop(range(4)):
        table["row"].append(i)
        best = row if i == 1 else best
        tick()
    return row[2:], pairs[0][0] is row, row[1] is pairs, best is table["row"]


def test_shared_objects_stay_shared_between_variables(scratch: Path) -> None:
    check(shares, scratch)


# -- classes ------------------------------------------------------------------------------------------------------


@ckpt.job(key="1")
def local_class() -> Any:
    class Level(enum.IntEnum):
        LOW = 1

    @dataclass
    class Row:
        level: Level
        values: list[int]

    rows = [Row(Level.LOW, [])]
    for i in ckpt.loop(range(4)):
        rows.append(Row(Level.LOW, [i]))
        tick()
    return [row.values for row in rows], all(type(row) is Row for row in rows), rows[0].level is Level.LOW


def test_class_that_the_job_makes_again_is_its_class_again(scratch: Path) -> None:
    check(local_class, scratch)


def make_class() -> Any:
    class Hidden:
        pass

    return Hidden


@ckpt.job(key="1")
def hidden_class() -> None:
    things = {"thing": [make_class()()]}
    for _ in ckpt.loop(range(4)):
        tick()
    del things


def test_object_of_a_class_that_no_variable_names_is_refused_by_name(scratch: Path) -> None:
    error = refusal(hidden_class, scratch / "store")
    assert "variable things['thing'][0]" in error.where
    assert "make_class.<locals>.Hidden" in error.what
    assert "top of its module" in error.fix


# -- what is looked up or made again ------------------------------------------------------------------------------


@ckpt.job(key="1")
def references() -> Any:
    module, logger, child = math, LOG, logging.getLogger("ckpt.tests.graph.child")
    out, err, kind, none = sys.stdout, sys.stderr, collections.OrderedDict, type(None)
    same = []
    for _ in ckpt.loop(range(4)):
        tick()
        same.append((module is math, logger is LOG, child.parent is LOG, out is sys.stdout, err is sys.stderr))
        same.append((kind is collections.OrderedDict, none is type(None)))
    return same


def test_modules_loggers_streams_and_classes_are_the_same_ones_again(scratch: Path) -> None:
    check(references, scratch)


@ckpt.job(key="1")
def locks() -> Any:
    lock, again, box = threading.Lock(), threading.RLock(), Box()
    box.lock, box.event, box.items = lock, threading.Event(), queue.Queue[int]()
    out = []
    for i in ckpt.loop(range(4)):
        with lock, again:
            box.items.put(i)
        if i == 1:
            box.event.set()
        tick()
        out.append((box.lock is lock, lock.locked(), box.event.is_set(), box.items.qsize()))
    return out


def test_free_locks_are_made_again_and_what_uses_them_comes_back(scratch: Path) -> None:
    check(locks, scratch)


@ckpt.job(key="1")
def held(kind: str) -> None:
    guards = [threading.Lock() if kind == "Lock" else threading.RLock()]
    guards[0].acquire()
    for _ in ckpt.loop(range(4)):
        tick()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_held_lock_is_refused_by_name(kind: str, scratch: Path) -> None:
    error = refusal(held, scratch / "store", kind)
    assert "variable guards[0]" in error.where
    assert "release it" in error.fix


# -- generators and iterators -------------------------------------------------------------------------------------


@ckpt.job(key="1")
def generators(running: bool) -> Any:
    numbers = (i for i in range(3))
    done: Any = list(numbers)
    if running:
        numbers = (i for i in range(3))
        next(numbers)
    for _ in ckpt.loop(range(4)):
        tick()
    return done, next(numbers, "over")


def test_finished_generator_stays_finished(scratch: Path) -> None:
    check(generators, scratch, False)


def test_generator_in_mid_work_is_refused_by_name(scratch: Path) -> None:
    error = refusal(generators, scratch / "store", True)
    assert "variable numbers" in error.where
    assert "ckpt.loop" in error.fix


@ckpt.job(key="1")
def iterators() -> Any:
    items = [1, 2, 3, 4, 5]
    over, pairs, counter = iter(items), zip(items, "abcde", strict=False), itertools.count(7)
    squares, table = map(abs, items), {"a": 1, "b": 2, "c": 3, "d": 4}
    keys = iter(table)
    out = []
    for i in ckpt.loop(range(4)):
        items[4] += i
        out.append((next(over), next(pairs), next(counter), next(squares), next(keys)))
        tick()
    return out, next(over)


@pytest.mark.filterwarnings("ignore:.*itertools:DeprecationWarning")
def test_iterators_go_on_where_they_were(scratch: Path) -> None:
    check(iterators, scratch)


# -- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(scratch: Path) -> Path:
    path = scratch / "lines.csv"
    path.write_bytes(b"".join(b'%d,"x\r\ny\xc3\xa4"\r\n' % i for i in range(20)))
    return path


OPENERS: dict[str, Callable[[Any], Any]] = {
    "text": open,
    "text, line ends as they are": lambda path: open(path, newline=""),  # noqa: SIM115
    "binary": lambda path: open(path, "rb"),  # noqa: SIM115
    "raw": lambda path: open(path, "rb", buffering=0),  # noqa: SIM115
    "latin": lambda path: open(path, encoding="latin-1"),  # noqa: SIM115
    "zipped": lambda path: gzip.open(f"{path}.gz", "rt", newline=""),  # noqa: SIM115
    "zipped, binary": lambda path: gzip.open(f"{path}.gz"),  # noqa: SIM115
}


@ckpt.job(key="1")
def reads(path: str, way: str, deep: bool) -> Any:
    file = OPENERS[way](path)
    box, out = Box(file=file), []
    if deep:
        del file
    for _ in ckpt.loop(range(4)):
        out.append(box.file.readline())
        tick()
    box.file.close()
    return out


@pytest.mark.parametrize("deep", [False, True], ids=["in a variable", "in an object"])
@pytest.mark.parametrize("way", OPENERS)
def test_file_open_for_reading_is_at_its_position_again_or_refused(
    way: str, deep: bool, lines: Path, scratch: Path
) -> None:
    with gzip.open(f"{lines}.gz", "wb") as zipped:
        zipped.write(lines.read_bytes())
    with or_refused("variable box.file") if deep else contextlib.nullcontext():
        check(reads, scratch, str(lines), way, deep)


@ckpt.job(key="1")
def parses(path: str) -> Any:
    out = []
    with open(path, newline="", encoding="utf-8") as file:
        for line in ckpt.loop(file):
            out.append(next(csv.reader([line])))
            tick()
    return out, file.closed


def test_file_that_is_looped_over_in_a_with_statement_goes_on(lines: Path, scratch: Path) -> None:
    check(parses, scratch, str(lines))


@ckpt.job(key="1")
def opens(path: str, mode: str) -> None:
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(open(path, mode))
        for _ in ckpt.loop(range(4)):
            tick()
        del out


@pytest.mark.parametrize("mode", ["w", "a", "r+", "wb", "r+b", "x"])
def test_file_open_for_writing_is_refused_by_name(mode: str, lines: Path, scratch: Path) -> None:
    path = str(lines) + ("x" if mode == "x" else "")
    error = refusal(opens, scratch / "store", path, mode)
    assert "out" in error.where or "stack" in error.where
    assert "ckpt.step" in error.fix


@ckpt.job(key="1")
def closed(path: str) -> Any:
    with open(path) as file:
        first = file.readline()
    for _ in ckpt.loop(range(4)):
        tick()
    return first, file.closed


def test_closed_file_stays_closed(lines: Path, scratch: Path) -> None:
    check(closed, scratch, str(lines))


def test_text_and_bytes_in_memory_are_values() -> None:
    import io

    text, raw = io.StringIO("a\nb\n"), io.BytesIO(b"abc")
    text.readline()
    raw.seek(1)
    again_text, again_raw = through_a_state((text, raw))
    assert again_text.readline() == "b\n"
    assert again_raw.read() == b"bc"


def words() -> Iterator[str]:
    yield from "abc"


def test_running_code_is_refused_with_the_fix() -> None:
    async def later() -> None: ...

    async def items() -> AsyncIterator[str]:
        yield "a"

    waiting, walking = later(), words()
    for one, said in ((waiting, "not come to its end"), (walking, "its work"), (items(), "async generator in the middle")):
        with pytest.raises(ckpt.errors.UncapturableError, match=said) as caught:
            through_a_state([one])
        assert caught.value.fix
    waiting.close()
    assert plain(Box(__wrapped__=lambda: list(walking))) == ["a", "b", "c"]
