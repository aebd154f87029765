"""What a step's identity says of the callable, and which calls are refused because nothing tells them apart."""

from __future__ import annotations

import functools
import threading

import pytest

from ckpt.errors import IdentityError
from ckpt.session.callee import Calls, callee_of, note_call


def double(number: int) -> int:
    return 2 * number


class Client:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def fetch(self) -> int:
        return id(self)


def identity(function: object) -> str:
    return callee_of(function, None, keyed=False).identity  # type: ignore[arg-type]


def test_partials_are_told_apart_by_what_they_bind() -> None:
    assert identity(functools.partial(double, 1)) == identity(functools.partial(double, 1))
    assert identity(functools.partial(double, 1)) != identity(functools.partial(double, 2))
    assert identity(functools.partial(double, 1)) != identity(double)


def test_functions_of_a_loop_are_told_apart_by_their_defaults() -> None:
    first, second = (lambda i=i: i for i in range(2))
    assert identity(first) != identity(second)


def test_functions_of_two_modules_with_one_name_are_two() -> None:
    other = type(double)(double.__code__, {}, "double")
    other.__module__ = "elsewhere"
    assert identity(other) != identity(double)


def test_partial_of_something_without_a_digest_wants_a_key() -> None:
    bound = functools.partial(double, threading.Lock())
    with pytest.raises(IdentityError, match=r"ckpt.step\(fn, key=...\)"):
        identity(bound)
    assert callee_of(bound, None, keyed=True).carrier is None


def test_methods_of_two_objects_are_told_apart_by_their_order_or_refused() -> None:
    first, second = (callee_of(Client().fetch, None, keyed=False) for _ in range(2))
    in_order = Calls()
    assert [note_call(in_order, one, in_order=True) for one in (first, second, first)] == [0, 1, 2]
    for order in ((True, False), (False, True), (False, False)):
        calls = Calls()
        note_call(calls, first, in_order=order[0])
        with pytest.raises(IdentityError, match="different objects and in different threads"):
            note_call(calls, second, in_order=order[1])


def test_equal_calls_of_one_object_may_come_from_any_thread() -> None:
    one, calls = callee_of(Client().fetch, None, keyed=False), Calls()
    assert [note_call(calls, one, in_order=False) for _ in range(3)] == [0, 1, 2]
