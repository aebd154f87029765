"""The part that cannot be pickled is named, however deep and however tangled the value is."""

from __future__ import annotations

import functools
import io
import mmap
import pickle
import queue
import socket
import sqlite3
import tempfile
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest

from ckpt.capture.explain import advice, find_uncapturable


class Box:
    def __init__(self, **parts: object) -> None:
        self.__dict__.update(parts)


class Slotted:
    __slots__ = ("left", "right", "unset")

    def __init__(self, left: object, right: object) -> None:
        self.left, self.right = left, right


@dataclass
class Settings:
    size: int
    client: Any = field(default=None)


class Refuses:
    def __getstate__(self) -> object:
        raise RuntimeError("not now")


class Trap:
    def __init__(self, part: object) -> None:
        self.part = part

    @property
    def boom(self) -> object:
        raise AssertionError("a property ran")


Pair = namedtuple("Pair", ["first", "second"])


def generator() -> Iterator[int]:
    yield 1


def pickled(value: object) -> bytes:
    return pickle.dumps(value, 5)


def found(value: object, name: str = "model") -> tuple[str, object]:
    path, culprit, error = find_uncapturable(value, name, pickled)
    assert isinstance(error, Exception)
    return path, culprit


def test_attribute_of_an_attribute_is_named() -> None:
    hook = generator()
    assert found(Box(name="n", optimizer=Box(rate=1.0, hook=hook))) == ("model.optimizer.hook", hook)


def test_items_fields_slots_and_members_are_named() -> None:
    lock = threading.Lock()
    assert found({"client": lock}, "config") == ("config['client']", lock)
    assert found([1, 2, (3, lock)], "rows") == ("rows[2][1]", lock)
    assert found(Settings(1, lock), "s") == ("s.client", lock)
    assert found(Slotted(1, [lock]), "s") == ("s.right[0]", lock)
    assert found(Pair(1, lock), "p") == ("p.second", lock)
    assert found({lock}, "s") == ("s.<member lock>", lock)
    assert found({(1, lock): 2}, "d") == ("d.<key <tuple>>[1]", lock)


def test_closure_default_partial_and_method_are_looked_into() -> None:
    lock = threading.Lock()

    def callback(x: int, extra: object = 1) -> object:
        return lock

    assert found(callback, "callback") == ("callback.<closure>.lock", lock)
    assert found(functools.partial(print, 1, key=lock), "call") == ("call.keywords['key']", lock)
    assert found(Trap(lock).__init__, "method") == ("method.<self>.part", lock)  # type: ignore[misc]


def test_object_whose_getstate_raises_is_the_culprit_itself() -> None:
    refuses = Refuses()
    path, culprit, error = find_uncapturable(Box(inner=[refuses]), "x", pickled)
    assert (path, culprit, str(error)) == ("x.inner[0]", refuses, "not now")


def test_graph_that_refers_to_itself_ends_at_the_real_culprit() -> None:
    root = Box()
    root.__dict__["kids"] = [Box(parent=root), Box(parent=root)]
    root.__dict__["sock"] = threading.Lock()
    assert found(root, "root") == ("root.sock", root.__dict__["sock"])


def test_cycle_without_a_culprit_of_its_own_names_the_root() -> None:
    ring: list[object] = [Refuses()]
    ring.append(ring)
    assert found(ring, "ring")[0] == "ring[0]"


def test_no_property_runs() -> None:
    lock = threading.Lock()
    assert found(Trap(lock), "trap") == ("trap.part", lock)


def test_work_is_bounded_in_large_containers() -> None:
    lock = threading.Lock()
    tries = 0

    def counted(value: object) -> bytes:
        nonlocal tries
        tries += 1
        return pickled(value)

    rows: list[object] = [[number] for number in range(50_000)]
    rows[43_210] = [lock]
    assert find_uncapturable(rows, "rows", counted)[0] == "rows[43210][0]"
    assert tries < 500


def test_work_is_bounded_in_deep_values() -> None:
    value: object = threading.Lock()
    for _ in range(200):
        value = [value]
    path, _, _ = find_uncapturable(value, "deep", pickled)
    assert path.startswith("deep[0][0]")


def test_value_that_can_be_pickled_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="can be pickled"):
        find_uncapturable([1], "x", pickled)


def test_advice_names_the_variable_and_the_line(tmp_path: Path) -> None:
    held = threading.Lock()
    held.acquire()
    out = (tmp_path / "out.txt").open("w")
    local = type("Local", (), {"__qualname__": "make.<locals>.Local"})
    with sqlite3.connect(":memory:") as database, socket.socket() as sock, out:
        for culprit in (database, sock):
            path, part = found(Box(client=culprit), "service")
            assert (path, part) == ("service.client", culprit)
            assert '@ckpt.job(recreate=("service",))' in advice(part, path)
        assert "ckpt.step" in advice(out, "log.file")
    database.close()
    assert "ckpt.loop" in advice(generator(), "rows")
    assert "list(rows)" in advice(map(str, [1]), "rows[0]")
    assert "release it" in advice(held, "guard")
    assert "top level" in advice(lambda: 1, "callback")
    assert "top level" in advice(local(), "x")
    assert "__getstate__" in advice(Refuses(), "x.inner")
    assert "recreate" in advice(io.BytesIO(b""), "x") or "ckpt.step" in advice(io.BytesIO(b""), "x")


class Derived(Box):
    pass


@pytest.mark.parametrize("made", [Box(), Derived(), Slotted(1, 2), Settings(1)], ids=lambda made: type(made).__name__)
def test_a_class_of_the_program_may_leave_out_what_cannot_be_saved(made: object) -> None:
    assert f"give {type(made).__name__} a __getstate__" in advice(made, "x.part")


@pytest.mark.parametrize("kind", ["memoryview", "dict", "SimpleQueue", "mmap", "Queue", "TemporaryDirectory"])
def test_nobody_is_told_to_change_a_class_that_is_not_his(kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder, mmap.mmap(-1, 16) as mapped:
        made = {
            "memoryview": memoryview(b"x"), "dict": {"a": 1}, "SimpleQueue": queue.SimpleQueue(), "mmap": mapped,
            "Queue": queue.Queue(), "TemporaryDirectory": tempfile.TemporaryDirectory(dir=folder),
        }  # fmt: skip
        told = advice(made[kind], "x.part")
    assert "__getstate__" not in told
    assert told.startswith('@ckpt.job(recreate=("x",))')
    assert "del x after use" in told


def test_pool_of_the_loops_own_body_is_advised_to_be_recreated_or_deleted() -> None:
    with ThreadPool(1) as pool:
        path, culprit = found(pool, "p")
        told = advice(culprit, path)
    assert 'recreate=("p",)' in told
    assert "in its body" in told
    assert "del p" in told
