"""Frames: which belong to the job, what their variables hold, and how they are set back while they run."""

from __future__ import annotations

import contextlib
import functools
import gc
import heapq
import json
import site
import sys
import threading
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import attempt, check_resumed, plain, tick

import ckpt
from ckpt.capture import frames, slots
from ckpt.errors import ReplayDivergedError, UnsupportedCodeError


def here() -> types.FrameType:
    return sys._getframe(1)


class Value:
    """Something whose end can be watched."""


# -- writing variables ------------------------------------------------------------------------------------------


def some_variables(saved: tuple[dict[str, Any], list[str]] | None, argument: Any = "given") -> Any:
    plain_one, in_a_cell, argument_in_a_cell = 1, 2, argument
    if saved is None:
        later = 3

    def closure() -> Any:
        nonlocal in_a_cell
        in_a_cell += 1
        return in_a_cell, argument_in_a_cell

    if saved is None:
        del plain_one
        variables = frames.read_variables(here())
    else:
        variables = saved
        frames.write_variables(here(), *saved)
    return lambda: (closure(), in_a_cell, plain_one), variables, later


def test_variables_are_read_with_the_names_of_unbound_ones() -> None:
    _, (values, unbound), _ = some_variables(None)
    assert values["in_a_cell"] == 2
    assert values["later"] == 3
    assert values["argument"] == "given"
    assert unbound == ["variables", "plain_one"]


def test_written_variables_reach_locals_cells_and_closures() -> None:
    written = {"in_a_cell": 10, "plain_one": 20, "later": 30, "argument_in_a_cell": 40}
    look, _, later = some_variables((written, []))
    assert later == 30
    assert look() == ((11, 40), 11, 20)


def deleted_again(kind: str) -> Any:
    plain_one, in_a_cell, argument = Value(), Value(), Value()
    gone = [weakref.ref(one) for one in (plain_one, in_a_cell, argument)]

    def closure() -> Any:
        return in_a_cell

    if kind == "never":
        del plain_one, in_a_cell, argument
    frames.write_variables(here(), {}, ["plain_one", "in_a_cell", "argument"])
    gc.collect()
    assert [one() for one in gone] == [None, None, None]
    with pytest.raises(NameError):
        closure()
    if kind == "cell":
        return in_a_cell
    in_a_cell = argument = 5
    assert closure() == 5
    return argument if kind == "bound again" else plain_one


@pytest.mark.parametrize("kind", ["plain", "cell"])
def test_variable_is_unbound_and_its_value_let_go_of(kind: str) -> None:
    for _ in range(5):  # a reference too many or too few shows up sooner or later
        with pytest.raises(UnboundLocalError):
            deleted_again(kind)


def test_unbound_variable_can_be_bound_again() -> None:
    assert deleted_again("bound again") == 5


def test_reference_counts_stay_even_however_often_variables_are_written() -> None:
    value, other = Value(), Value()

    def job() -> Any:
        variable, in_a_cell = value, value
        use = lambda: in_a_cell
        for one in [other, value] * 100:
            frames.write_variables(here(), {"variable": one, "in_a_cell": one}, [])
            assert use() is variable is in_a_cell
        frames.write_variables(here(), {}, ["variable", "in_a_cell"])

    before = sys.getrefcount(value), sys.getrefcount(other)
    job()
    gc.collect()
    assert (sys.getrefcount(value), sys.getrefcount(other)) == before


def test_reading_variables_keeps_nothing_alive() -> None:
    def job() -> Any:
        variable = Value()
        gone = weakref.ref(variable)
        frames.read_variables(here())
        del variable
        return gone()

    assert job() is None


def test_variable_that_the_code_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(ReplayDivergedError, match="has no variable 'renamed'") as refused:
        frames.write_variables(here(), {"renamed": 1}, [])
    assert "fresh=True" in refused.value.fix


def test_slots_are_in_the_order_of_the_interpreter() -> None:
    def outer(argument: Any, used: Any, *rest: Any, **named: Any) -> Any:
        local = shared = 1
        frame = here()

        def inner() -> Any:
            deeper = 1
            return lambda: (used, shared, frame, deeper)

        names = slots.slot_names(frame.f_code)
        cells = dict(zip(names, map(functools.partial(slots.cell_of, frame), names), strict=True))
        return inner, cells, list(map(functools.partial(slots.cell_name, frame), inner.__closure__ or ())), local

    inner, cells, names, _ = outer(1, 2)
    assert names == list(inner.__code__.co_freevars)
    assert {name for name, cell in cells.items() if cell is not None} == {"used", "shared", "frame"}
    assert cells["used"].cell_contents == 2


def test_variable_that_holds_a_cell_is_not_the_variable_in_it() -> None:
    def outer() -> Any:
        frame, holds = here(), None
        shared = 1

        def inner() -> Any:
            return shared

        (holds,) = inner.__closure__ or ()
        return slots.cell_name(frame, holds), slots.cell_of(frame, "holds")

    assert outer() == ("shared", None)


# -- through whole jobs -----------------------------------------------------------------------------------------


@ckpt.job(key="1")
def deletes(n: int) -> Any:
    scratch: Any
    seen = []
    for i in ckpt.loop(range(n)):
        if i % 2:
            with contextlib.suppress(NameError):
                del scratch  # noqa: F821
        if i % 3 == 0:
            scratch = [i]
        tick()
        try:
            seen.append(scratch[0])
        except UnboundLocalError:
            seen.append(None)
    return seen


def test_deleted_variable_is_unbound_after_a_resume(scratch: Path) -> None:
    check_resumed(deletes, scratch / "store", lambda: (7,))


@ckpt.job(key="1")
def deletes_cells(n: int) -> Any:
    cached: Any = None

    def look() -> Any:
        try:
            return cached
        except NameError:
            return "unbound"

    seen = []
    for i in ckpt.loop(range(n)):
        if i == 2:
            del cached
        if i == 4:
            cached = i
        tick()
        seen.append(look())
    return seen


def test_deleted_variable_of_a_closure_is_unbound_after_a_resume(scratch: Path) -> None:
    check_resumed(deletes_cells, scratch / "store", lambda: (6,))


def helper(rows: list[Any], add: Callable[[int], None]) -> int:
    mine = 0
    for i in ckpt.loop(range(3)):
        mine += i
        add(mine)
        tick()
    rows.append(mine)
    return mine


@ckpt.job(key="1")
def two_frames() -> Any:
    rows: list[Any] = []
    total = 0

    def add(value: int) -> None:
        nonlocal total
        total += value
        rows.append(total)

    for _ in ckpt.loop(range(2)):
        total += helper(rows, add)
    return rows, total


def test_variables_of_all_frames_down_to_the_loop_come_back(scratch: Path) -> None:
    check_resumed(two_frames, scratch / "store")


# -- which frames -----------------------------------------------------------------------------------------------


def marked(value: Any) -> Any:
    for _ in ckpt.loop(range(3)):
        tick()
    return value


class Marking:
    """Calls a marked loop from where a library asks."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __lt__(self, other: Marking) -> bool:
        marked(0)
        return self.value < other.value


CALLBACKS: dict[str, Callable[[], Any]] = {
    "default": lambda: json.dumps([object()], default=lambda one: marked("x"), indent=1),
    "object_hook": lambda: json.load(types.SimpleNamespace(read=lambda: marked("{}"))),
    "partialmethod": lambda: list(heapq.merge([3, 4], [1], key=marked)),
}


@ckpt.job(key=lambda name: name)
def called_back(name: str) -> Any:
    return CALLBACKS[name]()


@pytest.mark.parametrize("name", CALLBACKS)
def test_loop_called_back_by_a_library_is_refused_before_its_first_item(name: str, scratch: Path) -> None:
    with pytest.raises(UnsupportedCodeError, match="is called back from") as refused:
        attempt(called_back, (name,), scratch / "store", dies_at=1)
    assert "mark a loop of your own around that call" in refused.value.fix
    assert refused.value.where


@functools.lru_cache
def cached(n: int) -> int:
    return sum(marked(i) for i in range(n))


@contextlib.contextmanager
def noting(rows: list[str]) -> Any:
    rows.append("in")
    yield
    rows.append("out")


@ckpt.job(key="1")
def passed_on() -> Any:
    rows: list[str] = []

    with noting(rows), contextlib.ExitStack() as stack:
        stack.callback(rows.append, "closed")
        got = cached(2), functools.reduce(lambda a, b: a + marked(b), [1, 2]), sorted([3, 1], key=marked)
        del stack
    return got, rows


def test_frames_that_only_pass_a_call_on_are_no_obstacle(scratch: Path) -> None:
    assert attempt(passed_on, (), scratch / "store") == plain(passed_on)


@ckpt.job(key="1")
def in_a_thread() -> Any:
    loop = ckpt.loop(range(3))
    found: list[Any] = []

    def run() -> None:
        try:
            found.extend(loop)
        except UnsupportedCodeError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return [f"{one}" for one in found]


def test_loop_that_another_thread_advances_is_refused(scratch: Path) -> None:
    (said,) = attempt(in_a_thread, (), scratch / "store")
    assert "outside the call of its job" in said
    assert "in the same thread" in said


def test_modules_of_the_user_are_the_users_wherever_they_are_installed() -> None:
    code = json.dumps.__code__
    assert frames._role(code.co_filename, "") == "library"
    assert frames._role(code.co_filename, frames.home_of(code.co_filename)) == "user"
    assert frames._role(json.JSONEncoder.encode.__code__.co_filename, frames.home_of(code.co_filename)) == "user"
    assert frames._role(heapq.merge.__code__.co_filename, frames.home_of(code.co_filename)) == "library"
    assert frames._role(frames.user_frame.__code__.co_filename, "") == "passed over"
    assert frames._role(contextlib.ExitStack.close.__code__.co_filename, "") == "passed over"
    assert frames._role(here().f_code.co_filename, "") == "user"


def test_exception_that_drops_a_loop_is_told_from_a_break() -> None:
    said: list[bool] = []

    class Watched:
        def __iter__(self) -> Any:
            try:
                yield 1
            except GeneratorExit:
                frame = sys._getframe(1)
                said.append(frames.left_by_exception(frame))
                raise

    def leave(way: str) -> None:
        for _ in Watched():
            if way == "break":
                break
            if way == "return":
                return
            if way == "raise":
                raise KeyError

    for way in ("break", "return", "raise"):
        with contextlib.suppress(KeyError):
            leave(way)
    assert said == [False, False, True]


def test_packages_of_the_user_and_of_a_distribution_are_library_code(monkeypatch: pytest.MonkeyPatch) -> None:
    debian = "/usr/lib/python3/dist-packages"
    monkeypatch.setattr("sys.path", [*sys.path, debian])
    frames._library_folders.cache_clear()
    try:
        for folder in (site.getusersitepackages(), debian):
            code = compile("0", f"{folder}/some_package/module.py", "exec")
            assert frames._role(code.co_filename, "") == "library"
    finally:
        frames._library_folders.cache_clear()
