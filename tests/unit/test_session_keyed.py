"""Loops by key: whatever was inserted, removed or reordered, each item is processed exactly once."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.capture_support import attempt, check_resumed, tick

import ckpt
from ckpt.codecs.pickling import OutOfBand
from ckpt.errors import IdentityError, InputChangedError
from ckpt.session.keyed import KeyedItems


def keyed(items: Any, done: bytes = b"") -> KeyedItems:
    made = KeyedItems(items, lambda item: item, "here", lambda: None)
    made.restore(done)
    return made


def done_after(items: list[int], count: int) -> tuple[list[int], bytes]:
    """The items that were processed when ``count`` of them were, and what the state says of them."""
    loop, processed = keyed(items), []
    for digest, item in loop.remaining(None):
        if len(processed) == count:
            break
        processed.append(item)
        loop.finish(digest)
    saved = loop.saved()
    assert isinstance(saved, OutOfBand)
    return processed, bytes(saved.memory)


@given(st.lists(st.integers(0, 20), unique=True), st.lists(st.integers(0, 20), unique=True), st.integers(0, 20))
def test_each_key_is_handed_out_once_whatever_the_input_becomes(
    before: list[int], after: list[int], count: int
) -> None:
    processed, saved = done_after(before, count)
    rest = [item for _, item in keyed(after, saved).remaining(None)]
    assert rest == [item for item in after if item not in processed], "in the order of the new input"


@given(st.lists(st.integers(0, 20), unique=True, min_size=1), st.integers(0, 20), st.randoms(use_true_random=False))
def test_item_in_progress_comes_first_and_nothing_is_lost(items: list[int], count: int, rng: random.Random) -> None:
    processed, saved = done_after(items, count)
    left = [item for item in items if item not in processed]
    if not left:
        return
    first = rng.choice(left)
    shuffled = rng.sample(items, len(items))
    loop = keyed(shuffled, saved)
    rest = [item for _, item in loop.remaining(loop.digest(first))]
    assert rest[0] == first
    assert sorted(rest) == sorted(left)


def test_item_in_progress_that_is_gone_leaves_the_others() -> None:
    loop = keyed([3, 4, 5])
    assert [item for _, item in loop.remaining(loop.digest(99))] == [3, 4, 5]


@pytest.mark.parametrize("first", [None, 5])
def test_two_items_with_one_key_are_refused_by_the_key(first: int | None) -> None:
    loop = keyed([3, 4, 3, 5])
    with pytest.raises(InputChangedError, match="two items have the key 3") as refused:
        list(loop.remaining(None if first is None else loop.digest(first)))
    assert refused.value.where == "here"
    assert "unique" in refused.value.fix


def test_key_that_is_done_already_is_refused_too_if_it_comes_twice() -> None:
    _, saved = done_after([3, 4], 1)
    with pytest.raises(InputChangedError, match="two items have the key 3"):
        list(keyed([3, 3], saved).remaining(None))


def test_state_holds_sixteen_bytes_per_finished_key() -> None:
    assert len(done_after(list(range(10)), 7)[1]) == 7 * 16


def test_key_without_a_digest_is_refused() -> None:
    with pytest.raises(IdentityError):
        next(keyed([object()]).remaining(None))


# -- through whole jobs -------------------------------------------------------------------------------------------

INPUT: list[Any] = []


@ckpt.job(key="rows")
def imports() -> Any:
    seen = []
    for row in ckpt.loop(list(INPUT), key=lambda row: row["id"]):
        seen.append(row["id"])
        tick()
        row["id"] = None  # the key is taken when the item is handed out
    return seen


def rows(text: str) -> list[Any]:
    return [{"id": letter} for letter in text]


@pytest.mark.parametrize(
    ("now", "result"),
    [("abcdef", "abcdef"), ("XabYcdefZ", "abXYcdefZ"), ("fedcba", "abfedc"), ("dc", "abdc"), ("", "ab"), ("ba", "ab")],
)
def test_changed_input_is_processed_exactly_once(now: str, result: str, scratch: Path) -> None:
    INPUT[:] = rows("abcdef")
    attempt(imports, (), scratch / "store", dies_at=3)
    INPUT[:] = rows(now)
    assert "".join(attempt(imports, (), scratch / "store")) == result


@ckpt.job(key="nested")
def nested() -> Any:
    seen = []
    for name in ckpt.loop(list(INPUT), key=str.lower):
        for i in ckpt.loop(range(3)):
            seen.append(f"{name}{i}")
            tick()
    return seen


def test_keyed_loop_around_another_one_is_resumed_exactly(scratch: Path) -> None:
    INPUT[:] = "abc"
    check_resumed(nested, scratch / "store")


@pytest.mark.parametrize("dies_at", [5, 6])
@pytest.mark.parametrize("now", ["abcd", "Xabc", "cba", "bXca"])
def test_item_in_progress_is_finished_first_wherever_it_stands_now(now: str, dies_at: int, scratch: Path) -> None:
    INPUT[:] = "abc"
    attempt(nested, (), scratch / "store", dies_at=dies_at)
    INPUT[:] = now
    result = attempt(nested, (), scratch / "store")
    assert result[:6] == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert sorted(result) == sorted(f"{name}{i}" for name in now for i in range(3))


@pytest.mark.parametrize("dies_at", [5, 6])
def test_item_in_progress_that_is_gone_is_left_out(dies_at: int, scratch: Path) -> None:
    INPUT[:] = "abc"
    attempt(nested, (), scratch / "store", dies_at=dies_at)
    INPUT[:] = "cXa"
    result = attempt(nested, (), scratch / "store")
    assert [name for name in result if name[0] != "b"] == [f"{n}{i}" for n in "acX" for i in range(3)]


def test_an_item_is_finished_while_something_still_refers_to_the_state_before() -> None:
    loop = keyed([1, 2])
    digests = [digest for digest, _ in loop.remaining(None)]
    loop.finish(digests[0])
    held = memoryview(loop.saved().memory)
    loop.finish(digests[1])
    assert bytes(held) == digests[0], "what was saved stays what it was"
    assert bytes(loop.saved().memory) == digests[0] + digests[1]
