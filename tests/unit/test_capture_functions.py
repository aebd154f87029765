"""Functions in a state: built again on the same code, module globals and closure, with all that they carry."""

from __future__ import annotations

import functools
import math
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import attempt, check_resumed, tick

import ckpt
from ckpt.capture import functions


def check(job: Any, scratch: Path) -> None:
    check_resumed(job, scratch / "store", look=lambda _, result: result)


@ckpt.job(key="1")
def nonlocal_job() -> Any:
    total, calls = 0, 0

    def add(i: int) -> None:
        nonlocal total, calls
        total += i
        calls += 1

    def reader() -> Callable[[], int]:
        return lambda: total

    read = reader()
    out = []
    for i in ckpt.loop(range(5)):
        add(i)
        total += 10
        tick()
        out.append((read(), total, calls))
    return out


def test_nonlocal_variables_are_tied_to_the_frame_again(scratch: Path) -> None:
    check(nonlocal_job, scratch)


def make_counter(start: int) -> tuple[Callable[[], int], Callable[[], int]]:
    count = start

    def up() -> int:
        nonlocal count
        count += 1
        return count

    return up, lambda: count


@ckpt.job(key="1")
def finished_factory() -> Any:
    (up, look), (other_up, other_look) = make_counter(0), make_counter(100)
    out = []
    for i in ckpt.loop(range(5)):
        up()
        if i % 2:
            other_up()
        tick()
        out.append((look(), other_look()))
    return out


def test_closures_of_a_factory_that_returned_keep_their_shared_variable(scratch: Path) -> None:
    check(finished_factory, scratch)


@ckpt.job(key="1")
def recursive() -> Any:
    def make() -> Callable[[int], int]:
        memo = {0: 0, 1: 1}

        def fib(n: int) -> int:
            fib.calls += 1  # type: ignore[attr-defined]
            if n not in memo:
                memo[n] = fib(n - 1) + fib(n - 2)
            return memo[n]

        fib.memo, fib.calls = memo, 0  # type: ignore[attr-defined]
        return fib

    fib: Any = make()
    out = []
    for i in ckpt.loop(range(4)):
        out.append(fib(i * 5))
        tick()
    return out, len(fib.memo), fib.calls


def test_self_recursive_closures_come_back(scratch: Path) -> None:
    check(recursive, scratch)


@ckpt.job(key="1")
def with_defaults() -> Any:
    seen: list[int] = []
    scale = lambda v, by=2, *, log=seen: (log.append(v), v * by)[1]
    made = [lambda v, at=i: v + at for i in range(3)]

    def remembers(v: int, before: list[int] = []) -> int:  # noqa: B006
        before.append(v)
        return len(before)

    out = []
    for i in ckpt.loop(range(5)):
        out.append((scale(i), made[i % 3](1), remembers(i)))
        if i == 2:
            made[0] = lambda v, at=i: v - at
        tick()
    return out, seen, len(seen), scale.__kwdefaults__["log"] is seen


def test_defaults_of_lambdas_and_nested_functions_come_back_shared(scratch: Path) -> None:
    check(with_defaults, scratch)


def counted(function: Callable[..., int]) -> Callable[..., int]:
    calls = 0

    @functools.wraps(function)
    def wrapper(*args: Any) -> int:
        nonlocal calls
        calls += 1
        return function(*args) + calls

    return wrapper


@ckpt.job(key="1")
def decorated() -> Any:
    @counted
    def area(width: int, height: int = 2) -> int:
        """Says something."""
        return width * height

    described: Any = area
    half = functools.partial(area, height=1) if False else functools.partial(math.pow, 2)
    bound = "abc".upper
    out = []
    for i in ckpt.loop(range(4)):
        out.append((area(i), half(i), bound()))
        tick()
    return (
        out,
        (area.__name__, area.__qualname__, area.__module__, area.__doc__),
        sorted(map(str, area.__annotations__.items())),
        described.__wrapped__.__name__,
    )


def test_wrapped_functions_come_back_with_all_that_they_carry(scratch: Path) -> None:
    check(decorated, scratch)


RAN: list[int] = []


@ckpt.job(key="1")
def step_in_disguise() -> None:
    @counted
    def fetch(i: int) -> int:
        RAN.append(i)
        return i

    for i in ckpt.loop(range(4)):
        ckpt.step(fetch)(i)
        tick()


def test_recorded_step_of_a_wrapped_local_function_is_not_executed_again(scratch: Path) -> None:
    RAN.clear()
    attempt(step_in_disguise, (), scratch / "store", dies_at=3)
    attempt(step_in_disguise, (), scratch / "store")
    assert RAN == [0, 1, 2, 3]


NOTED: list[int] = []
note = lambda i: NOTED.append(i)
NOTES = {"note": lambda i: NOTED.append(-i)}


@ckpt.job(key="1")
def functions_of_the_module() -> Any:
    named, unnamed, own = note, NOTES["note"], make_counter
    for i in ckpt.loop(range(4)):
        named(i)
        unnamed(i)
        tick()
    return named is note, own is make_counter, NOTED[-2:]


def test_functions_of_a_module_work_on_the_modules_own_globals(scratch: Path) -> None:
    NOTED.clear()
    check(functions_of_the_module, scratch)


@ckpt.job(key="1")
def partials() -> Any:
    log: list[Any] = []

    def record(kind: str, value: int) -> None:
        log.append((kind, value))

    loud, append = functools.partial(record, "loud"), log.append
    for i in ckpt.loop(range(4)):
        loud(i)
        append(i)
        tick()
    return log


def test_partials_and_bound_methods_work_on_the_restored_objects(scratch: Path) -> None:
    check(partials, scratch)


SAME_SOURCE = """
def outer():
    def inner():
        return 7
    return inner
"""


def test_functions_of_two_files_with_the_same_text_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name in ("twin_one", "twin_two"):
        module = types.ModuleType(name)
        exec(compile(SAME_SOURCE, f"/somewhere/{name}.py", "exec"), vars(module))  # noqa: S102 - it is the text above
        monkeypatch.setitem(sys.modules, name, module)
        made.append(module.outer())
    assert made[0].__code__ == made[1].__code__, "equal as code objects, although of two files"
    for inner in made:
        address = functions.address_of(inner, [])
        assert address is not None
        assert functions.find_code(address, [])[0] is inner.__code__
