"""What the caller can see: objects that came in from outside and are restored in place.

At the entry of a job every mutable object that is reachable from the arguments gets a number, by a walk whose order
depends only on their contents. A resumed run is called with equal arguments, so the same walk gives the same
numbers, and an object in the state is recognised wherever it turns up. Each is saved as *contents* and put back
into the object that the caller holds.
"""

from __future__ import annotations

import array
import collections
import io
import random
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from ckpt.capture.arrays import root_of
from ckpt.capture.contents import ArrayContents, Copy
from ckpt.errors import UncapturableError

Contents = Any
"""A plain, picklable value from which an object of the same type can be refilled."""


def has_state_dict(value: object) -> bool:
    kind = type(value)
    return callable(getattr(kind, "state_dict", None)) and callable(getattr(kind, "load_state_dict", None))


def _own_state(value: object) -> bool:
    """Whether the class says itself how it is pickled: then its attributes are not to be touched from outside."""
    kind = type(value)
    return (
        kind.__reduce_ex__ is not object.__reduce_ex__
        or kind.__reduce__ is not object.__reduce__
        or getattr(kind, "__getstate__", None) is not getattr(object, "__getstate__", None)
    )


def slots_of(kind: type) -> Iterator[str]:
    """The names in all ``__slots__`` of a class, as attributes are really called."""
    for base in kind.__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name in ("__dict__", "__weakref__"):
                continue
            private = name.startswith("__") and not name.endswith("__")
            yield f"_{base.__name__.lstrip('_')}{name}" if private else name


def _is_frozen(kind: type) -> bool:
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)


def kind_of(value: Any) -> str | None:
    """How ``value`` is refilled in place, or None for what is immutable or must be saved by value."""
    kind = type(value)
    if kind in _IMMUTABLE or isinstance(value, (type, io.IOBase)):
        return None
    if kind.__module__ == "builtins" and kind not in (list, dict, set, bytearray):
        return None
    if kind.__module__.startswith("numpy"):
        return _kind_in_numpy(value)
    if has_state_dict(value):
        return "state_dict"
    if isinstance(value, random.Random):
        return "random" if kind is random.Random else None
    for base, name in _CONTAINERS:
        if isinstance(value, base):
            return name
    if _is_frozen(kind) or kind.__module__ in ("threading", "_thread", "types", "weakref"):
        return None
    if _own_state(value):
        # Only where all of an object is in its __dict__ can another one's be put in its place.
        return "own_state" if type(getattr(value, "__dict__", None)) is dict and _is_plain_class(kind) else None
    return "attributes" if hasattr(value, "__dict__") or any(slots_of(kind)) else None


def _is_plain_class(kind: type) -> bool:
    """Whether instances hold nothing but their attributes: no slots, no fields of a class written in C."""
    return kind.__basicsize__ <= _PLAIN_SIZE and not any(slots_of(kind))


def _kind_in_numpy(value: Any) -> str | None:
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.ndarray):
        if not value.flags.writeable or type(value).__name__ == "memmap":
            return None
        if not value.dtype.hasobject:
            return "array"
        return "object_array" if type(value) is numpy.ndarray and value.dtype == object else None
    return "numpy_random" if isinstance(value, (numpy.random.Generator, numpy.random.RandomState)) else None


_IMMUTABLE = frozenset((int, float, str, bytes, bool, complex, frozenset, type(None), type, range))

_CONTAINERS: tuple[tuple[type, str], ...] = (
    (list, "list"),
    (dict, "dict"),
    (set, "set"),
    (collections.deque, "deque"),
    (bytearray, "bytearray"),
    (array.array, "bytearray"),
)


def _attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for name in slots_of(type(value)):
        if hasattr(value, name):
            found[name] = getattr(value, name)
    return found


def attribute_of(value: Any, name: str) -> Any:
    """An attribute that is plain data of the object itself; None for anything else (properties are not called)."""
    own = getattr(value, "__dict__", None)
    if type(own) is dict and name in own:
        return own[name]
    return getattr(value, name, None) if name in slots_of(type(value)) else None


def contents_of(value: Any, kind: str) -> Contents:
    """What ``refill`` needs to bring ``value`` back to what it is now."""
    return _CONTENTS[kind](value)


def _container(items: Any, value: Any, plain: type) -> Contents:
    return [items, _attributes(value) if type(value) is not plain else {}]


def _array_and_more(value: Any) -> Contents:
    return [ArrayContents(value.view(sys.modules["numpy"].ndarray)), dict(getattr(value, "__dict__", {}))]


def _numpy_random(value: Any) -> Contents:
    if not hasattr(value, "bit_generator"):
        return value.get_state(legacy=False)
    return [value.bit_generator.state, _spawned(value)]


def refill(value: Any, kind: str, contents: Contents) -> None:
    """Put ``contents`` back into ``value``, in place."""
    _REFILL[kind](value, contents)


def _refill_list(value: Any, contents: Contents) -> None:
    list.__setitem__(value, slice(None), contents[0])
    if type(value) is not list:
        _set_attributes(value, contents[1])


def _refill_dict(value: Any, contents: Contents) -> None:
    # The methods of the built-in base: a subclass may do more than store. OrderedDict keeps a list of its own.
    base: Any = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
    # With the same keys it is not cleared: an iterator of an unmarked loop may stand in the middle of it.
    if [*value] != [key for key, _ in contents[0]]:
        base.clear(value)
    for key, item in contents[0]:
        base.__setitem__(value, key, item)
    if type(value) is not dict:
        _set_attributes(value, contents[1])


def _refill_set(value: Any, contents: Contents) -> None:
    if value != set(contents[0]) or any(kind_of(one) is not None for one in contents[0]):
        set.clear(value)
        set.update(value, contents[0])
    if type(value) is not set:
        _set_attributes(value, contents[1])


def _refill_deque(value: Any, contents: Contents) -> None:
    if len(value) == len(contents[0]):
        for position, item in enumerate(contents[0]):
            value[position] = item
    else:
        collections.deque.clear(value)
        collections.deque.extend(value, contents[0])
    if type(value) is not collections.deque:
        _set_attributes(value, contents[1])


def _refill_array(value: Any, contents: Contents) -> None:
    numpy = sys.modules["numpy"]
    value.view(numpy.ndarray)[...] = contents[0].array
    if type(value) is not numpy.ndarray and hasattr(value, "__dict__"):
        vars(value).update(contents[1])


def _refill_object_array(value: Any, contents: Contents) -> None:
    for position, item in enumerate(contents):
        value.flat[position] = item


def _refill_own_state(value: Any, contents: Contents) -> None:
    if contents is value:  # its reduction finds it by name, as a logger's does: it is what it is
        return
    vars(value).clear()
    vars(value).update(vars(contents))


def _refill_numpy_random(value: Any, contents: Contents) -> None:
    if not hasattr(value, "bit_generator"):
        value.set_state(contents)
        return
    value.bit_generator.state, spawned = contents
    missing = spawned - _spawned(value)
    if missing > 0:
        value.bit_generator.seed_seq.spawn(missing)


def _spawned(generator: Any) -> int:
    return int(getattr(generator.bit_generator.seed_seq, "n_children_spawned", 0))


def _refill_bytes(value: Any, contents: Contents) -> None:
    if isinstance(value, bytearray):
        value[:] = contents[0]
        if type(value) is not bytearray:
            _set_attributes(value, contents[1])
        return
    del value[:]
    value.frombytes(contents[0])


def _set_attributes(value: Any, attributes: dict[str, Any]) -> None:
    own = getattr(value, "__dict__", None)
    if own is not None:
        own.clear()
    for name in slots_of(type(value)):
        if name not in attributes and hasattr(value, name):
            object.__delattr__(value, name)
    for name, item in attributes.items():
        if own is not None and not isinstance(getattr(type(value), name, None), _SLOT_TYPE):
            own[name] = item
        else:
            object.__setattr__(value, name, item)


_CONTENTS: dict[str, Callable[[Any], Contents]] = {
    "list": lambda value: _container(list(value), value, list),
    "dict": lambda value: _container(list(value.items()), value, dict),
    "set": lambda value: _container(list(value), value, set),
    "deque": lambda value: _container(list(value), value, collections.deque),
    "bytearray": lambda value: _container(bytes(value), value, type(value) if hasattr(value, "typecode") else bytearray),
    "array": _array_and_more,
    "object_array": lambda value: list(value.flat),
    "own_state": Copy,
    "state_dict": lambda value: value.state_dict(),
    "random": lambda value: value.getstate(),
    "numpy_random": _numpy_random,
    "attributes": lambda value: _attributes(value),
}

_REFILL: dict[str, Callable[[Any, Contents], None]] = {
    "list": _refill_list,
    "dict": _refill_dict,
    "set": _refill_set,
    "deque": _refill_deque,
    "bytearray": _refill_bytes,
    "array": _refill_array,
    "object_array": _refill_object_array,
    "own_state": _refill_own_state,
    "state_dict": lambda value, contents: value.load_state_dict(contents),
    "random": lambda value, contents: value.setstate(contents),
    "numpy_random": _refill_numpy_random,
    "attributes": _set_attributes,
}


class _Plain:
    pass


_PLAIN_SIZE = _Plain.__basicsize__


class _Slotted:
    __slots__ = ("slot",)


_SLOT_TYPE = type(_Slotted.slot)  # type: ignore[attr-defined]


class Visible:
    """The numbered objects of one run, kept alive for as long as the run lives."""

    def __init__(self) -> None:
        self.objects: list[tuple[Any, str]] = []
        self.types: set[type] = set()
        self._origins: list[tuple[int | None, str]] = []
        self._numbers: dict[int, int] = {}
        self._roots: dict[int, int] = {}

    def add(self, root: Any, name: str) -> None:
        """Number every refillable object that ``root`` leads to, in an order that only its contents decide."""
        pending: list[tuple[Any, int | None, str]] = [(root, None, name)]
        seen: set[int] = set()
        while pending:
            value, parent, access = pending.pop()
            if id(value) in seen or id(value) in self._numbers:
                continue
            seen.add(id(value))
            kind = kind_of(value)
            if kind is not None:
                self._number(value, kind, (parent, access))
                parent, access = self._numbers[id(value)], ""
            self._refuse_unordered(value, parent, access)
            steps = _in_closure(value) if type(value) is types.FunctionType else lead_to(value, kind)
            pending += reversed([(item, parent, access + step) for item, step in steps])

    def _refuse_unordered(self, value: Any, parent: int | None, access: str) -> None:
        """Objects that can change, in a set or as keys, have no order in which another process could number them."""
        if isinstance(value, (set, frozenset, dict)) and any(kind_of(one) is not None for one in value):
            raise UncapturableError(
                f"a {type(value).__name__} of objects that can change cannot be restored in place",
                where="argument " + ((self.name(parent) if parent is not None else "") + access),
                fix="pass a list or a dict with plain keys",
            )

    def _number(self, value: Any, kind: str, origin: tuple[int | None, str]) -> None:
        number = len(self.objects)
        self._numbers[id(value)] = number
        self.objects.append((value, kind))
        self.types.add(type(value))
        self._origins.append(origin)
        if kind == "array":
            self._roots.setdefault(id(root_of(value)), number)

    def name(self, number: int) -> str:
        """How the caller reaches the object: ``self.rows[3]``."""
        parent, access = self._origins[number]
        return access if parent is None else self.name(parent) + access

    def number(self, value: Any) -> int | None:
        return self._numbers.get(id(value))

    def root_number(self, root: Any) -> int | None:
        """The number of an array that lives in ``root``'s memory."""
        return self._roots.get(id(root))

    def contents(self) -> list[Contents]:
        return [contents_of(value, kind) for value, kind in self.objects]

    def refill(self, contents: list[Contents]) -> None:
        for (value, kind), one in zip(self.objects, contents, strict=True):
            refill(value, kind, one)


def lead_to(value: Any, kind: str | None) -> Iterator[tuple[Any, str]]:
    """What ``value`` leads to, with the text that gets there."""
    if kind in ("list", "deque") or isinstance(value, tuple):
        yield from ((item, f"[{i}]") for i, item in enumerate(value) if type(item) not in _IMMUTABLE)
    elif kind == "dict":
        # Equal dicts in another order are equal arguments: they have to be walked in the same order.
        keys = sorted(value, key=_order)
        yield from ((value[key], f"[{key!r}]") for key in keys if type(value[key]) not in _IMMUTABLE)
    if kind == "attributes" or _is_frozen(type(value)) or (kind in ("list", "dict") and type(value) not in (list, dict)):
        yield from ((item, f".{name}") for name, item in sorted(_attributes(value).items()))


def _in_closure(function: types.FunctionType) -> Iterator[tuple[Any, str]]:
    """What the cells of a function hold that was defined inside another one, and that no module has under a name."""
    if hasattr(function, "__ckpt_marker__"):
        yield from [(function.__wrapped__, "")] if hasattr(function, "__wrapped__") else []
        return
    if "<locals>" not in function.__qualname__ or any(one is function for one in function.__globals__.values()):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            continue  # not bound yet
        if type(value) not in _IMMUTABLE and type(value).__module__.partition(".")[0] != "ckpt":
            yield value, f".{name}"


def _order(key: Any) -> tuple[str, str]:
    """The same order in every process for keys whose text is; others stay where they are among their like."""
    return type(key).__qualname__, repr(key) if kind_of(key) is None and type(key) is not object else ""
