"""Runs that have a name of their own (``run_id``, ``key="..."``): other arguments are no other run, and are refused."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import attempt, tick

import ckpt
from ckpt.errors import ArgumentsChangedError
from ckpt.store import Store


@ckpt.job(name="double")
def double(n: int, scale: int = 2, *more: Any) -> int:
    total = 0
    for _ in ckpt.loop(range(n)):
        tick()
        total += scale
    return total


@ckpt.job(name="texts", key="one")
def by_text(n: int, client: Any = None) -> int:
    return double.__wrapped__(n)


@ckpt.job(name="functions", key=lambda n, client: "one")
def by_function(n: int, client: Any = None) -> int:
    return double.__wrapped__(n)


def attempts(store: Path, address: str) -> int:
    return Store(store).open(address).summary.attempts


@pytest.mark.parametrize("dies_at", [0, 3])
def test_other_arguments_are_refused_by_name_whether_the_run_is_over_or_not(dies_at: int, scratch: Path) -> None:
    store = scratch / "store"
    attempt(double, (5,), store, dies_at, run_id="mine")
    with pytest.raises(ArgumentsChangedError) as caught:
        attempt(double, (6,), store, run_id="mine")
    for words in ["double/mine", "n=5, scale=2", "n=6, scale=2", "other values of n:", "fresh=True", "run_id", "key="]:
        assert words in str(caught.value)
    assert attempts(store, "double/mine") == 1, "nothing was taken over"
    assert attempt(double, (5,), store, run_id="mine") == 10


@pytest.mark.parametrize("words", [{"run_id": "other"}, {"run_id": "mine", "fresh": True}])
def test_another_name_or_a_fresh_run_takes_other_arguments(words: dict[str, Any], scratch: Path) -> None:
    store = scratch / "store"
    attempt(double, (5,), store, run_id="mine")
    assert attempt(double, (6,), store, **words) == 12
    assert attempt(double, (6,), store, run_id=words["run_id"]) == 12
    if "fresh" in words:
        with pytest.raises(ArgumentsChangedError):
            attempt(double, (5,), store, run_id="mine")


def test_text_as_a_key_is_a_name_too(scratch: Path) -> None:
    attempt(by_text, (5,), scratch / "store", dies_at=3)
    with pytest.raises(ArgumentsChangedError):
        attempt(by_text, (6,), scratch / "store")
    assert attempt(by_text, (5,), scratch / "store") == 10


def test_function_as_a_key_has_said_what_counts(scratch: Path) -> None:
    attempt(by_function, (5,), scratch / "store")
    assert attempt(by_function, (6,), scratch / "store") == 10


def test_argument_without_a_digest_is_not_compared_and_the_others_are(scratch: Path) -> None:
    attempt(by_text, (5, threading.Lock()), scratch / "store")
    assert attempt(by_text, (5, threading.Lock()), scratch / "store") == 10
    with pytest.raises(ArgumentsChangedError, match="other values of n:"):
        attempt(by_text, (6, threading.Lock()), scratch / "store")


def test_arguments_of_a_fresh_start_that_died_before_it_began_do_not_count(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = scratch / "store"
    attempt(double, (5,), store, dies_at=3, run_id="mine")

    def die(*words: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ckpt.session.attempt.history_of", die)
        with pytest.raises(KeyboardInterrupt):
            attempt(double, (6,), store, run_id="mine", fresh=True)
    assert attempts(store, "double/mine") == 2
    with pytest.raises(ArgumentsChangedError):
        attempt(double, (6,), store, run_id="mine")
    assert attempt(double, (5,), store, run_id="mine") == 10


@ckpt.job(name="counts", key=lambda n, client: n)
def by_what_counts(n: int, client: Any = None) -> int:
    return double.__wrapped__(n)


def test_fork_of_a_run_named_by_its_arguments_takes_no_others_and_is_not_spoilt_by_a_try(scratch: Path) -> None:
    store = scratch / "store"
    attempt(double, (5,), store, dies_at=3)
    [origin] = Store(store).addresses()
    Store(store).fork(origin, run_id="mine")
    Store(store).fork("double/mine", run_id="again")
    for name in ("mine", "again"):
        before = attempts(store, f"double/{name}")
        for other in [(6,), (5, 3), (5, 2, 1)]:
            with pytest.raises(ArgumentsChangedError, match=r"(?s)n=5, scale=2, .* fork .*fresh=True"):
                attempt(double, other, store, run_id=name)
        assert attempts(store, f"double/{name}") == before, "nothing was taken over"
        attempt(double, (5,), store, dies_at=4, run_id=name)
        with pytest.raises(ArgumentsChangedError):
            attempt(double, (6,), store, run_id=name)
        assert attempt(double, (5,), store, run_id=name) == 10
        with pytest.raises(ArgumentsChangedError):
            attempt(double, (6,), store, run_id=name)
        assert attempt(double, (6,), store, run_id=name, fresh=True) == 12
        assert attempt(double, (6,), store, run_id=name) == 12


def test_fork_takes_other_arguments_where_the_key_says_that_they_do_not_count(scratch: Path) -> None:
    store = scratch / "store"
    attempt(by_what_counts, (5, "one"), store, dies_at=3)
    [origin] = Store(store).addresses()
    Store(store).fork(origin, run_id="mine")
    with pytest.raises(ArgumentsChangedError):
        attempt(by_what_counts, (6, "one"), store, run_id="mine")
    assert attempt(by_what_counts, (5, "two"), store, run_id="mine") == 10


@ckpt.job(name="sums")
def sums(items: list[int]) -> int:
    return double.__wrapped__(len(items))


@pytest.mark.parametrize("fork", [False, True])
def test_values_that_look_the_same_are_told_apart_by_their_digests(fork: bool, scratch: Path) -> None:
    store = scratch / "store"
    attempt(sums, ([1, 2, 3],), store, dies_at=2, **({} if fork else {"run_id": "mine"}))
    if fork:
        Store(store).fork(Store(store).addresses()[0], run_id="mine")
    with pytest.raises(ArgumentsChangedError) as caught:
        attempt(sums, ([1, 2, 4],), store, run_id="mine")
    found = re.search(r"with items=<list>, .*other contents \(digests of \S.*: ([0-9a-f]{12}) then, ([0-9a-f]{12}) now\)", str(caught.value))
    assert found is not None, caught.value
    assert found[1] != found[2]
