"""Logged dicts, lists and counters are dicts, lists and numbers, and their operations make them again."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt.session.containers import LoggedCounter, LoggedDict, LoggedList

changes = st.lists(
    st.tuples(
        st.sampled_from(["append", "insert", "set", "del", "pop", "extend", "slice", "cut", "reverse", "clear", "sort", "remove"]),
        st.integers(-6, 6),
        st.integers(0, 9),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=200)
@given(changes)
def test_logged_list_is_a_list_and_its_operations_make_it_again(steps: list[tuple[str, int, int]]) -> None:
    noted: list[Any] = []
    logged, plain = LoggedList("rows", noted.append), list[int]()
    for step in steps:
        outcomes = [change_list(one, *step) for one in (logged, plain)]
        assert outcomes[0] == outcomes[1], step
        assert list(logged) == plain, step
    again = LoggedList("rows", noted.append)
    for operation in noted:
        again.apply(operation)
    assert list(again) == plain


def change_list(target: Any, what: str, index: int, value: int) -> object:
    try:
        if what == "set":
            target[index] = value
        elif what == "del":
            del target[index]
        elif what == "slice":
            target[index : index + 3] = [value] * 2
        elif what == "cut":
            del target[::2]
        elif what == "insert":
            target.insert(index, value)
        elif what == "extend":
            target += [value, index]
        elif what == "pop":
            return target.pop(index)
        elif what in ("append", "remove"):
            getattr(target, what)(value)
        else:
            getattr(target, what)()
    except (IndexError, ValueError) as error:
        return type(error)
    return None


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["set", "del", "pop", "popitem", "setdefault", "update", "clear"]), st.integers(0, 5)), max_size=30))
def test_logged_dict_is_a_dict_and_its_operations_make_it_again(steps: list[tuple[str, int]]) -> None:
    noted: list[Any] = []
    logged, plain = LoggedDict("seen", noted.append), dict[int, int]()
    for number, (what, key) in enumerate(steps):
        outcomes = [change_dict(one, what, key, number) for one in (logged, plain)]
        assert outcomes[0] == outcomes[1], what
        assert list(logged.items()) == list(plain.items()), "the order is that of a dict, too"
    again = LoggedDict("seen", noted.append)
    for operation in noted:
        again.apply(operation)
    assert list(again.items()) == list(plain.items())


def change_dict(target: Any, what: str, key: int, value: int) -> object:
    try:
        if what == "set":
            target[key] = value
        elif what == "del":
            del target[key]
        elif what == "setdefault":
            return target.setdefault(key, value)
        elif what == "update":
            target |= {key: value, key + 1: value}
        elif what == "pop":
            return target.pop(key, None)
        else:
            return getattr(target, what)()
    except KeyError:
        return KeyError
    return None


def test_counter_of_ints_stays_an_int() -> None:
    hits = LoggedCounter("hits", lambda _: None)
    hits += 2
    assert hits.add(3) == int(hits) == 5
    assert isinstance(hits.value, int)
    assert float(hits) == 5.0
