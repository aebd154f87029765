"""Recognising a loop's input: marks of items, what is said of another one, and which inputs have a mark."""

from __future__ import annotations

import datetime
import decimal
import enum
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pytest
from unit.capture_support import attempt, tick

import ckpt
from ckpt.errors import InputChangedError
from ckpt.session.items import base_mark, check_base, check_item, item_mark, short_text
from ckpt.session.sources import IndexedSource, IteratorSource, Source


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    rows: Any


class Opaque:
    pass


CONSTANT = [
    1, "a", b"a", 2.5, 1j, True, None, (1, ("a",)), frozenset([1]), Colour.RED, PurePosixPath("a/b"),
    datetime.date(2024, 1, 1), decimal.Decimal("1.50"), Point(1, 2),
]  # fmt: skip


@pytest.mark.parametrize("item", CONSTANT, ids=repr)
def test_last_consumed_item_that_cannot_change_is_the_mark(item: object) -> None:
    mark = base_mark(None, 3, item)
    assert mark == item_mark(item, -1)
    assert mark is not None
    check_item(item, mark, 2, "here")
    with pytest.raises(InputChangedError, match="item 2 was"):
        check_item("another", mark, 2, "here")


@pytest.mark.parametrize("item", [[1], {}, ([],), Point(1, []), np.zeros(2), Opaque(), bytearray(b"a")], ids=short_text)
def test_item_that_the_job_may_have_changed_is_no_mark(item: object) -> None:
    assert base_mark(None, 3, item) is None


def test_next_item_of_a_private_list_is_the_mark_where_the_last_one_is_none() -> None:
    private, shared = [IndexedSource([[1], [2], [3]], private=private) for private in (True, False)]
    assert base_mark(private, 1, [1]) == item_mark([2], 0)
    assert base_mark(shared, 1, [1]) is None, "somebody else may have changed it"
    assert base_mark(private, 3, [3]) is None, "there is no next one"
    assert base_mark(private, 0, None) == item_mark([1], 0)


def test_next_item_that_can_change_is_no_mark_where_something_else_leads_to_it() -> None:
    row: list[Any] = [2]
    pair: list[Any] = [1, row]
    for items in ([[1], row], [[1], [row]], [pair, (1, row)], [[1], {"row": row}], [[1], Point(1, row)]):
        assert base_mark(IndexedSource(items, private=True), 1, [1]) is None
    twice = [3]
    given = [[1], twice, twice]
    del twice
    assert base_mark(IndexedSource(given, private=True), 1, [1]) is None
    assert base_mark(IndexedSource([row, (2,)], private=True), 1, [1]) == item_mark((2,), 0), "it cannot change"
    many = [[n] for n in range(5000)]
    assert base_mark(IndexedSource(many, private=True), 1, [1]) is None, "too many to look at each time"


def test_next_item_is_no_mark_once_it_was_shared() -> None:
    row: list[Any] = [2]
    given = IndexedSource([[1], row], private=True)
    row.append(3)
    del row
    assert base_mark(given, 1, [1]) is None


def test_item_without_a_digest_has_no_mark_and_is_not_checked() -> None:
    assert item_mark(object(), 0) is None
    check_item(object(), item_mark(1, 0), 0, "here")
    check_item(1, None, 0, "here")


def test_marks_tell_equal_looking_items_apart() -> None:
    kinds = [1, 1.0, True, "1", b"1", 0.0, -0.0, (1,), frozenset([1]), None, ""]
    assert len({item_mark(item, 0)[0] for item in kinds}) == len(kinds)  # type: ignore[index]


def source(items: list[Any], *, private: bool = True) -> Source:
    return IndexedSource(items, private=private)


def test_input_made_again_is_checked_at_the_place_of_its_mark() -> None:
    before, after = item_mark("b", -1), item_mark("c", 0)
    for mark in (before, after, None):
        check_base(source(["a", "b", "c"]), 2, mark, "here")
    for mark in (before, after):
        with pytest.raises(InputChangedError) as refused:
            check_base(source(["new", "a", "b", "c"]), 2, mark, "here")
        assert refused.value.where == "here"
        assert "key=" in refused.value.fix
    with pytest.raises(InputChangedError, match="item 1 was 'b' when the checkpoint was taken, and is 'a' now"):
        check_base(source(["new", "a", "b", "c"]), 2, before, "here")


def test_input_that_became_too_short_is_told_by_its_length() -> None:
    with pytest.raises(InputChangedError, match="the input has 1 items now"):
        check_base(source(["a"]), 2, item_mark("b", -1), "here")


def test_input_that_cannot_be_looked_at_is_not_checked() -> None:
    check_base(IteratorSource(iter(["x"]), lambda: None), 2, item_mark("b", -1), "here")


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("a\n", r"'a\n'"),
        (PurePosixPath("a/b"), "a/b"),
        (("a", 1), "('a', 1)"),
        ((1, 2, 3, 4, 5), "<tuple>"),
        (Opaque(), "<Opaque>"),
        ([1], "<list>"),
        (1.5, "1.5"),
    ],
    ids=short_text,
)
def test_short_text_says_which_item_it_is(item: object, text: str) -> None:
    assert short_text(item) == text


@pytest.mark.parametrize("item", ["x" * 1000, b"x" * 1000, 10**200, ("x" * 50,) * 4, Path("x" * 100)], ids=short_text)
def test_short_text_is_short(item: object) -> None:
    assert len(short_text(item)) <= 60


# -- through whole jobs -------------------------------------------------------------------------------------------

ITEMS: list[Any] = []


def fresh_list() -> list[Any]:
    return [*ITEMS]


def generated() -> Iterator[Any]:
    yield from ITEMS


@ckpt.job(key=lambda make: make.__name__)
def works(make: Callable[[], Any]) -> Any:
    done = []
    for item in ckpt.loop(make()):
        done.append(item)
        tick()
    return done


WAYS = [fresh_list, generated]


def resumed_with(make: Callable[[], Any], now: list[Any], folder: Path) -> Any:
    """The result of a run over a, b, c, d, e that died in its third item and went on over ``now``."""
    ITEMS[:] = "abcde"
    attempt(works, (make,), folder, dies_at=3)
    ITEMS[:] = now
    return attempt(works, (make,), folder)


@pytest.mark.parametrize("make", WAYS)
@pytest.mark.parametrize("now", ["Xbcde", "abXde", "abc", "abcdef"])
def test_same_last_item_goes_on(make: Callable[[], Any], now: str, scratch: Path) -> None:
    result = resumed_with(make, [*now], scratch / "store")
    assert result == [*"ab", *now[2:]]


@pytest.mark.parametrize("make", WAYS)
@pytest.mark.parametrize("now", ["Xabcde", "bcde", "aXcde"])
def test_other_last_item_is_refused_with_both_items(make: Callable[[], Any], now: str, scratch: Path) -> None:
    with pytest.raises(InputChangedError, match=f"item 1 was 'b' when the checkpoint was taken, and is '{now[1]}' now"):
        resumed_with(make, [*now], scratch / "store")


@pytest.mark.parametrize("make", WAYS)
def test_too_short_input_is_refused(make: Callable[[], Any], scratch: Path) -> None:
    with pytest.raises(InputChangedError, match="has 1 items now"):
        resumed_with(make, ["a"], scratch / "store")


def test_refused_run_goes_on_with_the_old_input_given_back(scratch: Path) -> None:
    with pytest.raises(InputChangedError):
        resumed_with(fresh_list, [*"Xabcde"], scratch / "store")
    ITEMS[:] = "abcde"
    assert attempt(works, (fresh_list,), scratch / "store") == [*"abcde"]


def fresh_rows() -> list[Any]:
    return [{"name": one, "at": [one]} for one in ITEMS]


def test_next_item_of_fresh_rows_that_is_another_one_is_refused(scratch: Path) -> None:
    with pytest.raises(InputChangedError, match="item 2 was <dict>"):
        resumed_with(fresh_rows, [*"abXde"], scratch / "store")


@ckpt.job(key="nested")
def nested() -> Any:
    done = []
    for item in ckpt.loop(fresh_list()):
        for letter in ckpt.loop("xy"):
            done.append(f"{item}{letter}")
            tick()
    return done


def test_item_in_progress_is_recognised_too(scratch: Path) -> None:
    ITEMS[:] = "abc"
    attempt(nested, (), scratch / "store", dies_at=4)
    ITEMS[:] = "aBc"
    with pytest.raises(InputChangedError, match="item 1 was 'b'"):
        attempt(nested, (), scratch / "store")
    ITEMS[:] = "abX"
    assert attempt(nested, (), scratch / "store") == ["ax", "ay", "bx", "by", "Xx", "Xy"]
