"""Digests of plain Python values: what differs differs, what is equal is equal, in every process."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import functools
import json
import logging
import math
import os
import pathlib
import random
import re
import subprocess
import sys
import textwrap
import types
import uuid
import zoneinfo
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.digests import digest, digest_of_call
from ckpt.errors import IdentityError


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclass
class Config:
    name: str
    size: int = 1
    extra: object = None


@dataclass(frozen=True, slots=True)
class Slotted:
    name: str
    later: int = field(default=0, compare=False)


class SubConfig(Config):
    pass


class Pair(NamedTuple):
    a: int
    b: int


class Plain:
    def __init__(self, **parts: object) -> None:
        self.__dict__.update(parts)

    def method(self) -> int:
        return 1

    @functools.cached_property
    def heavy(self) -> int:
        return 7

    @property
    def trap(self) -> int:
        raise AssertionError("a property ran")


class Other(Plain):
    pass


class WithSlots:
    __slots__ = ("a", "b")

    def __init__(self, **parts: object) -> None:
        for name, value in parts.items():
            setattr(self, name, value)


class Own:
    def __init__(self, content: object) -> None:
        self.content = content

    def __ckpt_digest__(self) -> object:
        return self.content


class ListOf(list):  # type: ignore[type-arg]
    pass


class Name(str):
    __slots__ = ()


def function() -> None: ...


def other_function() -> None: ...


ALL_DIFFERENT: list[Any] = [
    None, True, False, 0, 1, -1, 255, 256, -256, 10**40, 1.0, 0.0, -0.0, float("inf"), float("nan"), 1j, 1 + 0j,
    complex(0.0, -0.0), complex("nan"), "", "1", "a", "ab", b"", b"1", b"a", bytearray(b"a"), memoryview(b"a"),
    (), [], {}, set(), frozenset(), (1,), [1], {1}, frozenset({1}), (1, 2), (2, 1), ((1,), 2), (1, (2,)), [[1], 2],
    [1, [2]], ["a", "b"], ["ab", ""], ["ab"], {"a": 1}, {"a": 1.0}, {"a": True}, {1: "a"}, {"a": 1, "b": 2}, {"a": 2, "b": 1},
    ..., NotImplemented, range(3), range(1, 3), slice(3), slice(0, 3), slice(0, 3, 1),
    Color.RED, Color.GREEN, Level.LOW, Flags.A, Flags.A | Flags.B,
    Config("a"), Config("b"), Config("a", 2), SubConfig("a"), Slotted("a"), Slotted("a", 1), Pair(1, 2), Pair(2, 1),
    Plain(), Plain(a=1), Plain(a=2), Plain(b=1), Other(a=1), WithSlots(), WithSlots(a=1), WithSlots(b=1),
    Own(b"x"), Own(b"y"), ListOf([1]), Name("a"), types.SimpleNamespace(a=1),
    pathlib.PurePosixPath("a"), pathlib.Path("a"), pathlib.Path("b"), pathlib.PureWindowsPath("a"),
    datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1, fold=1),
    datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.time(1), datetime.timedelta(1), datetime.timedelta(2),
    datetime.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), datetime.UTC,
    datetime.timezone(datetime.timedelta(hours=1)), zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("UTC"),
    decimal.Decimal(1), decimal.Decimal("1.0"), decimal.Decimal("nan"), fractions.Fraction(1), fractions.Fraction(1, 2),
    uuid.UUID(int=1), uuid.UUID(int=2), random.Random(1), random.Random(2), re.compile("a"), re.compile("a", re.IGNORECASE),
    collections.deque([1]), collections.deque([1], 3), collections.OrderedDict(a=1, b=2),
    collections.OrderedDict(b=2, a=1), collections.defaultdict(int, a=1), collections.defaultdict(list, a=1),
    collections.Counter("a"), array.array("i", [1]), array.array("l", [1]), types.MappingProxyType({"a": 1}),
    logging.getLogger("a"), logging.getLogger("b"), int, Plain, Other, list[int], list[str], int | str,
    function, other_function, len, os.path.join, [].append, [1].append, str.upper, Plain.method, Plain(a=1).method,
    Plain(a=2).method, functools.partial(function), functools.partial(function, 1), functools.partial(function, a=1),
]  # fmt: skip


def test_values_that_are_not_the_same_have_different_digests() -> None:
    seen: dict[bytes, object] = {}
    for value in ALL_DIFFERENT:
        key = digest(value)
        assert len(key) == 32
        assert key not in seen, (value, seen.get(key))
        seen[key] = value


def test_digest_is_the_same_when_asked_again() -> None:
    assert [digest(value) for value in ALL_DIFFERENT] == [digest(value) for value in ALL_DIFFERENT]


def test_order_of_sets_and_dicts_and_sharing_do_not_matter() -> None:
    names = [f"key{number}" for number in range(50)]
    assert digest(set(names)) == digest({*names[25:], *names[:25]})
    assert digest(dict.fromkeys(names, 1)) == digest(dict.fromkeys(reversed(names), 1))
    assert digest({(1, 2), "a", 3.0}) == digest({3.0, "a", (1, 2)})
    shared = [1, 2]
    assert digest([shared, shared]) == digest([[1, 2], [1, 2]])
    assert digest(Plain(a=1, b=2)) == digest(Plain(b=2, a=1))


def test_equal_values_of_one_type_are_equal() -> None:
    assert digest(float("nan")) == digest(-float("nan"))
    assert digest("interned") == digest("inter" + "ned".strip())
    assert digest(range(0, 3, 2)) == digest(range(0, 4, 2))
    assert digest(range(5, 5)) == digest(range(0))
    assert digest(Config("a", extra=[1])) == digest(Config("a", extra=[1]))


def test_cached_property_does_not_change_the_digest() -> None:
    value = Plain(a=1)
    before = digest(value)
    assert value.heavy == 7
    assert digest(value) == before


def test_attributes_beside_the_fields_of_a_dataclass_do_not_count_but_those_of_a_subclass_do() -> None:
    value, sub = Config("a"), SubConfig("a")
    before, sub_before = digest(value), digest(sub)
    value.memo = 1  # type: ignore[attr-defined]
    sub.memo = 1  # type: ignore[attr-defined]
    assert digest(value) == before
    assert digest(sub) != sub_before


def test_cycles_end_and_differ_by_shape() -> None:
    def ring(size: int) -> list[Any]:
        first: list[Any] = []
        last = first
        for _ in range(size - 1):
            last.append([])
            last = last[0]
        last.append(first)
        return first

    assert digest(ring(1)) == digest(ring(1))
    assert digest(ring(2)) == digest(ring(2))
    assert digest([ring(2), ring(2)]) == digest([ring(2)] * 2)
    assert digest(ring(1)) != digest([[]])
    tree = Plain(name="root")
    tree.__dict__["kids"] = [Plain(parent=tree, index=index) for index in range(3)]
    assert digest(tree) == digest(tree)


def test_set_of_values_in_one_cycle_does_not_depend_on_their_order() -> None:
    def couple() -> list[Plain]:
        left, right = Plain(name="left"), Plain(name="right")
        left.__dict__["other"], right.__dict__["other"] = right, left
        return [left, right]

    # The order of a set of instances follows their addresses: many tries give both orders.
    assert len({digest(set(couple())) for _ in range(50)}) == 1
    couples = [couple() for _ in range(50)]
    assert len({digest({right, left}) for left, right in couples}) == 1


def test_graph_in_which_all_know_all_through_sets_is_refused_and_not_walked_for_ever() -> None:
    nodes = [Plain(index=index) for index in range(14)]
    for node in nodes:
        node.__dict__["all"] = set(nodes)
    with pytest.raises(IdentityError, match="too many cycles"):
        digest(nodes)


def test_shared_parts_are_walked_once() -> None:
    value: list[Any] = [1]
    for _ in range(60):
        value = [value, value]
    digest(value)


def test_deeply_nested_value_is_an_error_and_no_crash() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(IdentityError, match="nested too deeply"):
        digest(value, "deep")


def make_local() -> Any:
    def local() -> None: ...

    return local


NO_DIGEST: list[tuple[Any, str]] = [
    (lambda: 1, "lambda"),
    (make_local(), "local"),
    ((item for item in ()), "generator"),
    (iter([1]), "list_iterator"),
    (object(), "object"),
    (sys, "module"),
    (random.SystemRandom(), "randomness"),
    (Own("text"), "not bytes"),
    (functools.partial(lambda: 1), "lambda"),
    (sys._getframe(), "frame"),
    (type("Holder", (), {"__slots__": ()})().__init__.__call__, "method-wrapper"),
]


@pytest.mark.parametrize(("value", "what"), NO_DIGEST)
def test_value_without_a_stable_digest_is_refused_with_the_way_out(value: object, what: str) -> None:
    with pytest.raises(IdentityError) as refused:
        digest({"config": value})
    assert what in str(refused.value)
    assert "key=" in refused.value.fix


def test_error_names_the_path_to_the_culprit() -> None:
    import socket
    import threading

    with socket.socket() as sock, open(os.devnull) as file:
        cases = [
            (Plain(client=Plain(sock=sock)), "config.client.sock"),
            (Config("a", extra=[1, {"file": file}]), "config.extra[1]['file']"),
            (WithSlots(a=threading.Lock()), "config.a"),
            (Pair(1, lambda: 1), "config.b"),  # type: ignore[arg-type]
            ({threading.Lock()}, "config.<member>"),
            (threading.Event(), "config._cond._lock"),
        ]
        for value, where in cases:
            with pytest.raises(IdentityError) as refused:
                digest(value, "config")
            assert refused.value.where.startswith(where)


def test_function_that_its_name_does_not_lead_to_is_refused() -> None:
    @functools.wraps(function)
    def stand_in() -> None: ...

    with pytest.raises(IdentityError):
        digest(stand_in)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.frozensets(st.text()),
    max_leaves=12,
)


def canonical(value: object) -> object:
    """A plain-Python model of what digests tell apart."""
    if isinstance(value, dict):
        return ("dict", frozenset((key, canonical(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(canonical(item) for item in value))
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else value.hex())
    return (type(value).__name__, value)


@given(values, values)
def test_digests_are_equal_exactly_when_values_are(left: object, right: object) -> None:
    assert (digest(left) == digest(right)) == (canonical(left) == canonical(right))


@given(st.lists(values).map(tuple), st.dictionaries(st.text(), values))
def test_arguments_of_a_call_have_one_digest_whatever_way_it_is_made(args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    assert digest_of_call(args, kwargs) == digest((args, kwargs))


SCRIPT = """
import enum, json, sys
from dataclasses import dataclass
from pathlib import Path
from ckpt.digests import digest, module_name, qualified_name
class Kind(enum.Enum):
    A = 1
@dataclass
class Options:
    kinds: set
    where: Path
    names: dict
class Thing:
    pass
def helper(): ...
def answers():
    names = [f"name{n}" for n in range(20)]
    options = Options({Kind.A, *names}, Path("a/b"), {k: {k, 1.5, None} for k in names})
    return [digest(v).hex() for v in (set(names), options, Thing, Thing(), helper, Kind.A, {options.where: options})]
if __name__ == "__main__":
    print(json.dumps(answers()))
"""


def test_digests_are_the_same_in_every_process_and_whether_run_or_imported(tmp_path: Path) -> None:
    (tmp_path / "job_script.py").write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    root = Path(__file__).resolve().parents[2]
    commands = [["job_script.py"], ["-m", "job_script"], ["-c", "import json, job_script; print(json.dumps(job_script.answers()))"]]
    results = []
    for number, command in enumerate(commands * 2):
        path = os.pathsep.join([str(root), str(tmp_path)])
        environment = os.environ | {"PYTHONHASHSEED": str(number + 1), "PYTHONPATH": path}
        words = [sys.executable, *command]
        results.append(json.loads(subprocess.check_output(words, cwd=tmp_path, env=environment, text=True)))
    assert all(result == results[0] for result in results)


def test_names_of_a_subclass_of_str_do_not_change_what_a_call_digests_to():
    class Name(str):
        __slots__ = ()

    kwargs = {Name("a"): 1}
    assert digest_of_call((), kwargs) == digest(((), kwargs))
