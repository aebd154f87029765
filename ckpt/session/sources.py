"""What a marked loop iterates, seen as something that can start again at a position.

A source gives an iterator from any position on, and says what of it has to be part of the state. Sequences start by
index, files by their position, iterables with ``state_dict`` by it, everything else by consuming again what was
consumed.
"""

from __future__ import annotations

import collections.abc
import gc
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from ckpt.capture.sharing import are_apart, is_alone
from ckpt.errors import InputChangedError, UnsupportedCodeError
from ckpt.session.asources import async_source_of, is_asynchronous
from ckpt.session.items import ATOMS
from ckpt.session.mapjournal import map_source


class Source(Protocol):
    """The input of one entry of a marked loop."""

    iterable: Any
    begins: str
    """When to start relative to the state: "first" (consuming has effects of its own), "loaded" (needs what was saved,
    and starting may draw random numbers), or "written" (iterates what came back with the state)."""
    remade: bool
    """Whether the object itself is left to the code that is run again, and is not part of the state."""

    private: bool
    """Whether nobody but the loop refers to it, and it is a sequence."""
    unshared: bool
    """Whether its items, too, are as they were made until they are handed out: no variable leads to one, and no other item."""

    @property
    def moved(self) -> bool:
        """Whether its items may have left their places since it was given: the job made it longer or shorter."""

    @property
    def length(self) -> int | None:
        """Number of items if known."""

    def saved(self) -> Any:
        """What goes into the state, in the same pickle graph as the variables; None for nothing."""

    def start(self, index: int, saved: Any) -> Any:
        """An iterator (async where the input is) from item ``index`` on; ``saved`` is what came back (None: nothing)."""

    def item(self, index: int) -> tuple[bool, Any]:
        """(True, item ``index``) if it can be looked at without consuming anything."""


class IndexedSource:
    """A list, tuple, range, text, array or other sequence.

    The sequence travels with the state, so that its items are the very objects that the variables refer to, and items
    appended while the loop runs are there: unless nobody else can reach it and its items cannot change.
    """

    begins = "written"
    remade = False

    def __init__(self, iterable: Any, *, private: bool) -> None:
        self.iterable, self.private = iterable, private
        self._given_length = len(iterable)
        self.travels = not (private and _items_are_immutable(iterable))
        self.unshared = private and (not self.travels or (type(iterable) in (list, tuple) and are_apart(iterable)))

    @property
    def length(self) -> int | None:
        return len(self.iterable)

    @property
    def moved(self) -> bool:
        return len(self.iterable) != self._given_length

    def saved(self) -> Any:
        return self.iterable if self.travels else None

    def start(self, index: int, saved: Any) -> Iterator[Any]:
        if saved is not None:
            self.iterable = saved
        iterable = self.iterable
        iterator: Any
        if index == 0:
            iterator = iter(iterable)
        elif type(iterable) in (list, tuple, str):
            # The sequence's own iterator: it sees items that are appended while the loop runs.
            iterator = iter(iterable)
            iterator.__setstate__(index)
        elif type(iterable) is range or _is_array(iterable):
            iterator = iter(iterable[index:])
        else:
            iterator = _by_index(iterable, index)
        return cast(Iterator[Any], iterator)

    def item(self, index: int) -> tuple[bool, Any]:
        return (True, self.iterable[index]) if 0 <= index < len(self.iterable) else (False, None)


def _items_are_immutable(iterable: Any) -> bool:
    if type(iterable) in (range, str, bytes):
        return True
    if _is_array(iterable):
        return not iterable.dtype.hasobject and is_alone(iterable)
    return type(iterable) in (list, tuple) and set(map(type, iterable)) <= ATOMS


def _by_index(sequence: Any, index: int) -> Iterator[Any]:
    try:
        while True:
            yield sequence[index]
            index += 1
    except IndexError:
        return


class TravellingSource:
    """An iterable that travels with the state, and is consumed again from its beginning: a dict, its views, an object."""

    begins = "written"
    remade = False
    private = unshared = False
    moved = False

    def __init__(self, iterable: Any, passed: Callable[[], None]) -> None:
        self.iterable, self._passed = iterable, passed

    @property
    def length(self) -> int | None:
        return len(self.iterable) if hasattr(self.iterable, "__len__") else None

    def saved(self) -> Any:
        view = VIEWS.get(type(self.iterable))
        return [view, gc.get_referents(self.iterable)[0]] if view is not None else [None, self.iterable]

    def start(self, index: int, saved: Any) -> Iterator[Any]:
        if saved is not None:
            view, iterable = saved
            self.iterable = iterable if view is None else getattr(iterable, view)()
        iterator: Iterator[Any] = iter(self.iterable)
        _skip(iterator, index, self._passed)
        return iterator

    def item(self, index: int) -> tuple[bool, Any]:
        return (False, None)


_EMPTY: dict[str, None] = {}
VIEWS = {type(_EMPTY.keys()): "keys", type(_EMPTY.values()): "values", type(_EMPTY.items()): "items"}


class IteratorSource:
    """An iterator that knows its position and can be saved with it: ``enumerate(xs)``, ``zip(a, b)``, ``iter(xs)``."""

    begins = "written"
    remade = False
    private = unshared = False
    moved = False

    def __init__(self, iterable: Any, passed: Callable[[], None]) -> None:
        self.iterable, self._passed = iterable, passed

    @property
    def length(self) -> int | None:
        return None

    def saved(self) -> Any:
        return self.iterable

    def start(self, index: int, saved: Any) -> Iterator[Any]:
        if saved is None:
            _skip(self.iterable, index, self._passed)
        else:
            self.iterable = saved
        return cast(Iterator[Any], iter(self.iterable))

    def item(self, index: int) -> tuple[bool, Any]:
        return (False, None)


def _iterates_by_index(iterable: Any) -> bool:
    """Whether iterating gives item 0, 1, 2 ...: a sequence whose class has no way of its own."""
    if not isinstance(iterable, collections.abc.Sequence):
        return False
    owner = next(base for base in type(iterable).__mro__ if "__iter__" in base.__dict__)
    return owner.__module__ in ("builtins", "collections", "collections.abc", "_collections_abc", "array")


def can_travel(source: Source | None) -> bool:
    """See to it that the iterable itself is part of the state; False if that cannot be."""
    if isinstance(source, IndexedSource):
        source.travels = True
    return source is not None and source.begins == "written"


def _saves_itself(iterator: Any) -> bool:
    """Whether ``iterator`` is made of built-in iterators over things that are no iterators."""
    if type(iterator) not in _SAVED_ITERATORS:
        return False
    inner = iterator.__reduce__()[1]
    return all(_saves_itself(one) for one in inner if hasattr(type(one), "__next__"))


_SAVED_ITERATORS = {
    enumerate,
    zip,
    map,
    filter,
    reversed,
    type(iter([])),
    type(iter(())),
    type(iter(range(0))),
    type(iter("")),
    type(iter("\u03b1")),
    type(iter(b"")),
    type(reversed([])),
    type(iter(_EMPTY.keys())),
    type(iter(_EMPTY.values())),
    type(iter(_EMPTY.items())),
}


class ConsumedSource:
    """A generator or other iterator that only the code can make again: starts by consuming what was consumed."""

    begins = "first"
    remade = True
    private = unshared = False
    moved = False

    def __init__(self, iterable: Any, passed: Callable[[], None]) -> None:
        self.iterable, self._passed = iterable, passed
        self._last: tuple[bool, Any] = (False, None)
        self.fetching = False
        """Whether the input is being asked for an item: steps called then belong to it, not to an iteration."""
        self.fetched = 0

    def _fetch(self, iterator: Iterator[Any]) -> Iterator[Any]:
        while True:
            self.fetching = True
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.fetching = False
                self.fetched += 1
            yield item

    @property
    def length(self) -> int | None:
        return len(self.iterable) if hasattr(self.iterable, "__len__") else None

    def saved(self) -> Any:
        return None

    def start(self, index: int, saved: Any) -> Iterator[Any]:
        iterator = self._fetch(iter(self.iterable))
        self._last = (index > 0, _skip(iterator, index, self._passed))
        return iterator

    def item(self, index: int) -> tuple[bool, Any]:
        return self._last


def _skip(iterator: Iterator[Any], count: int, passed: Callable[[], None]) -> Any:
    """Consume ``count`` items, with a call of ``passed`` after each; the last of them. InputChangedError if there are fewer."""
    missing = item = object()
    for position in range(count):
        item = next(iterator, missing)
        if item is missing:
            raise InputChangedError(
                f"the input has {position} items now, and {count} were consumed before the resume point",
                fix="give the same input, use key= to identify items, or start afresh: fresh=True (of a with block: ckpt rm)",
            )
        passed()
    return item


class StatefulSource:
    """An iterable with ``state_dict`` and ``load_state_dict``: its own state says where it is."""

    begins = "loaded"
    remade = True
    private = unshared = False
    moved = False

    def __init__(self, iterable: Any) -> None:
        self.iterable = iterable

    @property
    def length(self) -> int | None:
        return len(self.iterable) if hasattr(self.iterable, "__len__") else None

    def saved(self) -> Any:
        return self.iterable.state_dict()

    def start(self, index: int, saved: Any) -> Iterator[Any]:
        if saved is not None:
            self.iterable.load_state_dict(saved)
        return cast(Iterator[Any], iter(self.iterable))

    def item(self, index: int) -> tuple[bool, Any]:
        return (False, None)


class FileSource:
    """A file open for reading, line by line. Read with ``readline``, so that its position is known at any time."""

    begins = "loaded"
    remade = False
    private = unshared = False
    moved = False

    def __init__(self, iterable: Any) -> None:
        self.iterable = iterable

    @property
    def length(self) -> int | None:
        return None

    def saved(self) -> Any:
        return self.iterable.tell()

    def start(self, index: int, saved: Any) -> Iterator[Any]:
        if saved is not None:
            self.iterable.seek(saved)
        return iter(self.iterable.readline, "" if isinstance(self.iterable, io.TextIOBase) else b"")

    def item(self, index: int) -> tuple[bool, Any]:
        return (False, None)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def source_of(iterable: Any, where: str, *, private: bool, passed: Callable[[], None]) -> Source:
    """The source for ``iterable``; ``private``: nobody but the loop refers to it; ``passed`` is called after each item
    that is consumed again.

    UnsupportedCodeError for sets, whose order changes from process to process.
    """
    if is_asynchronous(iterable):
        return async_source_of(iterable, private=private, passed=passed)
    if isinstance(iterable, (set, frozenset)):
        raise UnsupportedCodeError(
            "a set has another order in every process", where=where, fix="ckpt.loop(sorted(...))"
        )
    mapped = map_source(iterable)
    if mapped is not None:
        return mapped
    if hasattr(iterable, "state_dict") and hasattr(iterable, "load_state_dict"):
        return StatefulSource(iterable)
    if isinstance(iterable, (io.TextIOWrapper, io.BufferedReader)) and iterable.seekable():
        return FileSource(iterable)
    if (_is_array(iterable) and iterable.ndim > 0) or _iterates_by_index(iterable):
        return IndexedSource(iterable, private=private)
    if hasattr(type(iterable), "__next__"):
        return IteratorSource(iterable, passed) if _saves_itself(iterable) else ConsumedSource(iterable, passed)
    if private and type(iterable) not in VIEWS:
        return ConsumedSource(iterable, passed)
    return TravellingSource(iterable, passed)


def travels(iterable: Any, where: str, *, private: bool) -> bool:
    """Whether ``iterable`` can be part of a state, and be iterated again from its beginning."""
    if isinstance(iterable, (set, frozenset)):
        return True
    if is_asynchronous(iterable):
        return False
    return source_of(iterable, where, private=private, passed=lambda: None).begins == "written" and not hasattr(type(iterable), "__next__")
