"""What the caller can see is refilled in place, kind by kind, and found again by a number that only contents decide."""

from __future__ import annotations

import array
import collections
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from programs.bits import exact
from unit.capture_support import attempt, check_resumed, or_refused, refilled, through_a_state, tick, visible

import ckpt
from ckpt.capture.visible import Visible, kind_of


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("__private", "kept", "late")

    def __init__(self) -> None:
        self.kept, self.__private = [1], 1

    def change(self) -> None:
        self.__private += 1
        self.late = self.__private

    def look(self) -> Any:
        return self.kept, self.__private, getattr(self, "late", None)


class Both(Slotted):
    """Slots of its base, and a dictionary of its own."""

    def look(self) -> Any:
        return *super().look(), dict(sorted(self.__dict__.items()))


class Rows(list[Any]):
    pass


class SlottedRows(list[Any]):
    __slots__ = ("unit",)


class Table(dict[str, Any]):
    pass


class Bag(set[Any]):
    pass


class Recent(collections.deque[Any]):
    pass


class Bytes(bytearray):
    pass


class Model:
    """Knows its state itself; its attributes are nobody's business."""

    def __init__(self) -> None:
        self.weights, self.hook = [0.0], lambda: None

    def state_dict(self) -> dict[str, Any]:
        return {"weights": list(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights[:] = state["weights"]


def assign(**attributes: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for name, one in attributes.items():
            setattr(value, name, one)

    return change


def change_both(value: Both) -> None:
    value.change()
    value.extra = [2]


Case = tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]
LAYOUTS: dict[str, Callable[[], Any]] = {
    "c": lambda: np.arange(6.0).reshape(2, 3),
    "fortran": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": lambda: np.arange(24.0).reshape(4, 6)[::2, 1::2],
    "backwards": lambda: np.arange(6.0)[::-1],
    "permuted": lambda: np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),
    "owned and permuted": lambda: np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2).copy(order="K"),
    "empty": lambda: np.empty((0, 3)),
    "over a bytearray": lambda: np.frombuffer(bytearray(range(64)), np.int16),
    "big": lambda: np.arange(5000.0),
    "big endian": lambda: np.arange(6, dtype=">i4"),
    "flags": lambda: np.array([True, False, False]),
    "texts": lambda: np.array(["a", "bcd"]),
    "moments": lambda: np.array(["2024-01-01", "NaT"], dtype="datetime64[s]"),
    "records": lambda: np.array([(1, 0.5), (2, -0.0)], dtype=np.dtype([("key", "i1"), ("value", "f8")], align=True)),
}
OF_ARRAYS: dict[str, Case] = {
    f"array, {name}": (
        make,
        lambda a: np.copyto(a, np.roll(a, 1)),
        lambda a: (a.tolist() if a.dtype.names else a, a.strides),
    )
    for name, make in LAYOUTS.items()
}
KINDS: dict[str, Case] = {
    "list": (lambda: [3, 1], lambda v: v.extend([v, 4][1:]), list),
    "list subclass": (lambda: Rows([1]), lambda v: (v.append(2), assign(unit="m")(v)), lambda v: (list(v), vars(v))),
    "list with slots": (lambda: SlottedRows([1]), lambda v: (v.append(2), assign(unit="m")(v)), lambda v: [*v, getattr(v, "unit", None)]),
    "dict": (lambda: {"a": 1, "b": 2}, lambda v: (v.pop("a"), v.update(c=3, a=4)), dict),
    "dict subclass": (lambda: Table(a=1), lambda v: (v.update(b=2), assign(unit="m")(v)), lambda v: (dict(v), vars(v))),
    "ordered dict": (
        lambda: collections.OrderedDict(a=1, b=2, c=3),
        lambda v: (v.move_to_end("a"), v.update(d=4), v.popitem(last=False)),
        lambda v: (list(v), list(reversed(v)), dict(v), v.popitem(last=False), v.popitem(), list(v)),
    ),
    "default dict": (lambda: collections.defaultdict(list), lambda v: v["a"].append(1), lambda v: (dict(v), v["new"])),
    "counter": (lambda: collections.Counter("aab"), lambda v: v.update("bbb"), lambda v: (dict(v), v["none"])),
    "set": (lambda: {1, 2}, lambda v: (v.discard(1), v.add(3)), set),
    "set subclass": (lambda: Bag([1]), lambda v: (v.add(2), assign(unit="m")(v)), lambda v: (set(v), vars(v))),
    "deque": (lambda: collections.deque([1, 2, 3], 3), lambda v: v.append(4), lambda v: (list(v), v.maxlen)),
    "deque subclass": (lambda: Recent([1]), lambda v: (v.append(2), assign(unit="m")(v)), lambda v: (list(v), vars(v))),
    "bytearray": (lambda: bytearray(b"ab"), lambda v: v.extend(b"cd"), bytes),
    "bytearray subclass": (lambda: Bytes(b"a"), lambda v: (v.extend(b"b"), assign(unit="m")(v)), lambda v: vars(v)),
    "array.array": (lambda: array.array("d", [1.0]), lambda v: v.append(0.1), lambda v: v.tobytes()),
    "state_dict": (Model, lambda v: v.weights.append(0.1), lambda v: v.weights),
    "random": (lambda: random.Random(1), lambda v: (v.random(), v.gauss(0, 1)), lambda v: [v.gauss(0, 1), v.random()]),
    "generator": (lambda: np.random.default_rng(1), lambda v: v.standard_normal(3), lambda v: v.random(3)),
    "generator, half a word drawn": (
        lambda: np.random.default_rng(1),
        lambda v: v.integers(9, size=3, dtype=np.uint32),
        lambda v: v.integers(1 << 30, size=3, dtype=np.uint32),
    ),
    "generator that spawned": (
        lambda: np.random.default_rng(1),
        lambda v: (v.spawn(2), v.random()),
        lambda v: [v.random(), v.spawn(1)[0].random()],
    ),
    "generator, mersenne": (
        lambda: np.random.Generator(np.random.MT19937(1)),
        lambda v: v.random(700),
        lambda v: v.random(3),
    ),
    "generator, philox": (lambda: np.random.Generator(np.random.Philox(1)), lambda v: v.random(3), lambda v: v.random(3)),
    "random state": (
        lambda: np.random.RandomState(1),
        lambda v: (v.rand(3), v.randn()),
        lambda v: (v.randn(3), v.rand(2)),
    ),
    "attributes": (lambda: Plain(a=[1], b=2), lambda v: (v.a.append(2), assign(c=3)(v), delattr(v, "b")), vars),
    "slots": (Slotted, lambda v: (v.kept.append(2), v.change()), Slotted.look),
    "slots and attributes": (Both, change_both, Both.look),
    "array, no dimension": (lambda: np.array(2.5), lambda v: np.add(v, 1, out=v), np.copy),
    **OF_ARRAYS,
}  # fmt: skip


@pytest.mark.parametrize("case", KINDS.values(), ids=KINDS)
def test_changed_object_is_refilled_in_place(case: Case) -> None:
    make, change, look = case
    untouched = exact(look(make()))
    changed, fresh = refilled(make, change)
    wanted = exact(look(changed))
    assert exact(look(fresh)) == wanted
    assert untouched != wanted or changed.size == 0, "the change has to be seen"


def test_slot_that_was_unset_is_unset_again() -> None:
    changed, fresh = Slotted(), Slotted()
    fresh.late = 1
    visible(it=fresh).refill(visible(it=changed).contents())
    assert not hasattr(fresh, "late")


def test_parts_that_the_caller_also_holds_stay_those_parts() -> None:
    changed, fresh = [{"rows": [[1], Plain(x=[1])]} for _ in range(2)]
    inner = fresh["rows"], fresh["rows"][0], fresh["rows"][1], fresh["rows"][1].x
    saved, loaded = visible(it=changed), visible(it=fresh)
    changed["rows"].reverse()
    changed["rows"][0].x.append(2)
    changed["last"] = changed["rows"][0].x
    loaded.refill(through_a_state(saved.contents(), saved, loaded))
    rows, plain = fresh["rows"], fresh["rows"][0]
    assert (rows, rows[1], plain, plain.x) == inner
    assert rows is inner[0]
    assert plain is inner[2]
    assert fresh["last"] is inner[3]
    assert inner[3] == [1, 2]


def test_view_in_a_caller_s_array_writes_through_to_what_lies_below() -> None:
    base = np.zeros((4, 6))
    changed, fresh = np.zeros((4, 6))[1::2, ::3], base[1::2, ::3]
    saved, loaded = visible(it=changed), visible(it=fresh)
    changed += 1
    loaded.refill(through_a_state(saved.contents(), saved, loaded))
    assert base.sum() == 4
    assert base[1, 3] == 1


def test_objects_of_the_caller_that_refer_to_each_other_are_refilled() -> None:
    def make() -> Plain:
        parent = Plain(name="parent", children=[])
        parent.children += [Plain(parent=parent), Plain(parent=parent)]
        return parent

    _, fresh = refilled(make, lambda parent: parent.children.reverse() or assign(name="changed")(parent))
    assert fresh.name == "changed"
    assert all(child.parent is fresh for child in fresh.children)


SAME = [
    ({"b": [1], "a": [2]}, {"a": [2], "b": [1]}),
    ({2: [1], 1: [2]}, {1: [2], 2: [1]}),
    ({("x", 1): [1], None: [2]}, {None: [2], ("x", 1): [1]}),
    ([{"b": {"y": [1]}, "a": [2]}], [{"a": [2], "b": {"y": [1]}}]),
    (Plain(b=[1], a=[2]), Plain(a=[2], b=[1])),
    (Table(b=[1], a=[2]), Table(a=[2], b=[1])),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=["texts", "numbers", "mixed", "nested", "attributes", "subclass"])
def test_numbers_do_not_depend_on_the_order_of_equal_dicts(one: Any, other: Any) -> None:
    seen = [[(found.name(n), value) for n, (value, _) in enumerate(found.objects)] for found in
            (visible(it=one), visible(it=other))]  # fmt: skip
    lists = [[(name, value) for name, value in numbered if type(value) is list] for numbered in seen]
    assert len(lists[0]) >= 2
    assert lists[0] == lists[1]


def test_object_that_is_reached_twice_has_one_number() -> None:
    inner: list[int] = []
    found = visible(a=[inner, inner], b=inner)
    assert [value for value, _ in found.objects if value is inner] == [inner]
    number = found.number(inner)
    assert number is not None
    assert found.name(number) == "a[0]"
    assert found.number([]) is None


def test_names_say_how_the_caller_reaches_an_object() -> None:
    shelf = Plain(rows=[({"k": [1]},)])
    found = visible(self=shelf)
    assert [found.name(number) for number in range(len(found.objects))] == [
        "self", "self.rows", "self.rows[0][0]", "self.rows[0][0]['k']",
    ]  # fmt: skip


def test_properties_and_getattr_of_the_caller_s_objects_are_not_run() -> None:
    class Trap:
        def __init__(self) -> None:
            self.rows = [1]

        @property
        def boom(self) -> Any:
            raise AssertionError("a property ran")

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"__getattr__({name}) ran") if not name.startswith("__") else AttributeError(name)

    assert len(visible(it=Trap()).objects) == 2


@pytest.mark.parametrize(
    "value",
    [1, "a", b"a", None, (1, 2), frozenset([1]), range(3), int, Path("a"), np.float64(1.0), np.dtype("f8"), np.random],
    ids=repr,
)
def test_what_cannot_change_has_no_number(value: object) -> None:
    assert kind_of(value) is None
    assert Visible().number(value) is None


class Pair(NamedTuple):
    rows: list[int]
    name: str


@dataclass(frozen=True)
class Frozen:
    rows: list[int]
    name: str


@ckpt.job(key="rows")
def fills(holder: Any) -> int:
    for i in ckpt.loop(range(4)):
        holder.rows.append(i)
        tick()
    return len(holder.rows)


@pytest.mark.parametrize(
    "kind", [Pair, Frozen, lambda rows, name: Plain(rows=rows, name=name)], ids=["tuple", "frozen", "plain"]
)
def test_list_behind_what_cannot_change_is_the_callers_list(kind: Any, scratch: Path) -> None:
    check_resumed(fills, scratch / "store", lambda: (kind([7], "x"),), lambda given, n: (given[0].rows, n))


@dataclass(eq=False)
class Cell:
    value: int = 0


@ckpt.job(key="cells")
def counts(cells: Any) -> int:
    for i in ckpt.loop(range(4)):
        for cell in cells:
            cell.value += i
        tick()
    return sum(cell.value for cell in cells)


@pytest.mark.parametrize("kind", [set, frozenset, list, dict.fromkeys], ids=["set", "frozenset", "list", "keys"])
def test_object_in_a_callers_set_is_the_callers_object_or_it_is_refused(kind: Any, scratch: Path) -> None:
    with or_refused("cells"):
        attempt(counts, (kind([Cell()]),), scratch / "store", dies_at=3)
        cell = Cell()
        assert attempt(counts, (kind([cell]),), scratch / "store") == 6
        assert cell.value == 6


@ckpt.job(key="swapped")
def appends(rows: dict[int, list[int]]) -> None:
    for i in ckpt.loop(range(4)):
        rows[1].append(i)
        tick()


def test_equal_dict_in_another_order_gets_its_own_contents_back(scratch: Path) -> None:
    attempt(appends, ({1: [1], 2: [2]},), scratch / "store", dies_at=3)
    again = {2: [2], 1: [1]}
    attempt(appends, (again,), scratch / "store")
    assert again == {1: [1, 0, 1, 2, 3], 2: [2]}
