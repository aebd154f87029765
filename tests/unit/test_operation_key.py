"""``ckpt.operation_key()``: no two operations of a run share one, and an operation has the same in every attempt."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ckpt

SEEN: list[str] = []


class Dies(Exception):
    """The job stops here; it can be resumed."""


def key(x: int) -> str:
    SEEN.append(ckpt.operation_key())
    return ckpt.operation_key()


def other(x: int) -> str:
    return ckpt.operation_key()


async def awaited(x: int) -> str:
    return ckpt.operation_key()


def maps(x: int) -> list[str]:
    """A step, or the function of a map, that maps: what is inside has keys made from its own."""
    return [ckpt.operation_key(), *ckpt.map(key, [x]), *ckpt.map(key, [x]), *ckpt.map(other, [x])]


@ckpt.job(key="distinct", name="distinct")
def distinct() -> list[str]:
    keys = [*ckpt.map(key, [1]), *ckpt.map(key, [1]), *ckpt.map(other, [1]), *ckpt.map(key, [1, 1]), ckpt.step(key)(1)]
    for _ in ckpt.loop(range(2)):
        keys += ckpt.map(key, [1])
        for _ in ckpt.loop(range(2), name="inner"):
            keys += ckpt.map(key, [1])
    keys += [*ckpt.step(maps)(1), *ckpt.step(maps)(2)]
    for found in ckpt.map(maps, [1, 2]):
        keys += found
    keys += ckpt.map(awaited, [1])
    return keys


def test_no_two_operations_of_a_run_share_a_key(tmp_path: Path) -> None:
    keys = distinct.options(store=tmp_path / "one")()
    assert len(keys) == 6 + 6 + 8 + 8 + 1
    assert len(set(keys)) == len(keys)
    assert distinct.options(store=tmp_path / "two")() == keys, "they are of the run's address and of the operation"
    assert not set(keys) & set(distinct.options(store=tmp_path / "one", run_id="another")())


@ckpt.job(key="dying", name="dying", every="1it")
def dying(file: str) -> list[str]:
    keys = [*ckpt.map(key, [1])]
    for i in ckpt.loop(range(3)):
        if i == 1 and not Path(file).exists():
            Path(file).touch()
            SEEN.clear()
            list(ckpt.map(fails, [1]))
        keys += [*ckpt.map(fails, [1]), *ckpt.step(tried_twice, retries=1, backoff=0.0)(i)]
    return keys


def fails(x: int) -> str:
    SEEN.append(ckpt.operation_key())
    if len(SEEN) == 1:
        raise Dies
    return ckpt.operation_key()


TRIES: dict[int, list[str]] = {}


def tried_twice(i: int) -> list[str]:
    found = [*ckpt.map(other, [i]), *ckpt.map(other, [i])]
    if TRIES.setdefault(i, found) is found:
        raise ValueError("once more")
    assert TRIES[i] == found
    return found


def test_an_operation_has_the_same_key_in_every_attempt_and_at_every_retry(tmp_path: Path) -> None:
    TRIES.clear()
    run = dying.options(store=tmp_path / "one")
    with pytest.raises(Dies):
        run(str(tmp_path / "died"))
    failed = SEEN[0]
    keys = run(str(tmp_path / "died"))
    assert failed == SEEN[1]
    assert failed in keys, "the item that failed before has its key at the second attempt"
    assert len(set(keys)) == len(keys) == 10


def nested(x: int) -> list[str]:
    return [ckpt.operation_key(), *ckpt.map(other, [x], max_workers=1), *ckpt.map(other, [x], max_workers=1)]


async def nested_async(x: int) -> list[str]:
    return [ckpt.operation_key(), *[key async for key in ckpt.map(other, [x])], *[key async for key in ckpt.map(other, [x])]]


@ckpt.job(key="executors", name="executors")
def on(executor: str) -> list[str]:
    made = ThreadPoolExecutor if executor == "made" else executor
    return [key for _ in range(2) for keys in ckpt.map(nested, [1, 2], executor=made, max_workers=1) for key in keys]


def test_keys_are_the_same_on_every_executor_also_of_maps_inside_items(tmp_path: Path) -> None:
    found = [on.options(store=tmp_path / name, run_id="same")(name) for name in ("threads", "processes", "made")]
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 12


@ckpt.job(key="coroutines", name="coroutines")
async def of_coroutines() -> list[str]:
    found = [await ckpt.step(awaited)(1), await ckpt.step(awaited)(1)]
    for _ in range(2):
        found += [key async for keys in ckpt.map(nested_async, [1, 2]) for key in keys]
    return found


def test_keys_of_coroutines_are_their_own_and_the_same_again(tmp_path: Path) -> None:
    first, second = (asyncio.run(of_coroutines.options(store=tmp_path / name)()) for name in "ab")
    assert first == second
    assert len(set(first)) == len(first) == 14


@ckpt.job(key="fresh", name="fresh", every="1it")
def started(file: str) -> list[str]:
    keys = [ckpt.step(key)(1), *ckpt.map(key, [1])]
    for i in ckpt.loop(range(40)):
        keys.append(ckpt.step(key)(i))
        if i in (1, 30) and not Path(f"{file}-{i}").exists():
            Path(f"{file}-{i}").touch()
            raise Dies
    return keys


def test_a_run_that_is_started_afresh_has_new_keys_which_no_later_attempt_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckpt.retention.ROTATE_BYTES", 0)  # the record of the fresh start is trimmed soon
    run, file = started.options(store=tmp_path / "one"), str(tmp_path / "died")

    def to_the_end(first: Any) -> list[str]:
        SEEN.clear()
        for call in (first, run):
            with pytest.raises(Dies):
                call(file)
        keys: list[str] = run(file)
        assert set(SEEN) == set(keys), "a step that was executed again had its key again"
        for i in (1, 30):
            Path(f"{file}-{i}").unlink()
        return keys

    first = to_the_end(run)
    second = to_the_end(run.options(fresh=True))
    third = to_the_end(run.options(fresh=True))
    assert len({*first, *second, *third}) == 3 * 42
    assert ckpt.Store(tmp_path / "one").verify() == []


def test_a_run_that_is_reset_has_the_same_keys_again(tmp_path: Path) -> None:
    file = str(tmp_path / "died")
    Path(f"{file}-1").touch()
    with pytest.raises(Dies):
        started.options(store=tmp_path / "one", keep=50)(file)
    store = ckpt.Store(tmp_path / "one")
    store.reset("fresh", to=store.open("fresh").checkpoints[1].number)
    before = set(SEEN)
    SEEN.clear()
    started.options(store=tmp_path / "one")(file)
    assert SEEN[0] in before
