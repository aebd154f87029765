"""Operation-logged mappings, sequences and counters.

Each change is an operation: noted for the log first, then applied. What cannot be done is refused before it is noted. The
objects know nothing of the log itself: ``Note`` takes an operation, or raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence
from typing import Any, Self

from ckpt.errors import UncapturableError
from ckpt.session.items import ATOMS
from ckpt.session.values import PLAIN_KEYS, Sealed, frozen, frozen_key, thawed

Operation = tuple[Any, ...]
"""(name of the object, what is done, its arguments ...)."""
Note = Callable[[Operation], None]


def unheard(operation: Operation) -> None:
    """The note of an object that belongs to no log."""


class LoggedDict(MutableMapping[Any, Any]):
    """A dict in insertion order. Values that can change are copied in and out: ``d[k].append(x)`` changes a copy."""

    kind = "dict"
    __slots__ = ("_data", "_name", "_note")

    def __init__(self, name: str, note: Note) -> None:
        self._name, self._note = name, note
        self._data: dict[Any, Any] = {}

    def __getitem__(self, key: Any) -> Any:
        value = self._data[key]
        return value.open() if type(value) is Sealed else value

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) not in PLAIN_KEYS:
            key = frozen_key(key, f"{self._name}, key")
        if type(value) not in ATOMS:
            value = frozen(value, f"{self._name}[{key!r}]")
        self._note((self._name, "set", key, value))
        self._data[key] = value

    def __delitem__(self, key: Any) -> None:
        if key not in self._data:
            raise KeyError(key)
        self._note((self._name, "del", frozen_key(key, f"{self._name}, key")))
        del self._data[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._data)

    def __reversed__(self) -> Iterator[Any]:
        yield from reversed(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __repr__(self) -> str:
        return repr(dict(self.items()))

    def clear(self) -> None:
        self._note((self._name, "clear"))
        self._data.clear()

    def popitem(self) -> tuple[Any, Any]:
        """The last item, as a dict does it."""
        key = next(reversed(self._data), _MISSING)
        if key is _MISSING:
            raise KeyError(f"{self._name} is empty")
        return key, self.pop(key)

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def apply(self, operation: Operation) -> None:
        """Do again what was done."""
        done = operation[1]
        if done == "set":
            self._data[operation[2]] = operation[3]
        elif done == "del":
            del self._data[operation[2]]
        else:
            self._data.clear()

    def contents(self) -> Any:
        """A copy that nobody changes: cheap, for the values cannot change."""
        return self._data.copy()

    def fill(self, contents: Any) -> None:
        self._data = dict(contents or {})


_MISSING: Any = object()


class LoggedList(MutableSequence[Any]):
    """A list. Values that can change are copied in and out."""

    kind = "list"
    __slots__ = ("_data", "_name", "_note")

    def __init__(self, name: str, note: Note) -> None:
        self._name, self._note = name, note
        self._data: list[Any] = []

    def __getitem__(self, index: Any) -> Any:
        found = self._data[index]
        return [thawed(one) for one in found] if isinstance(index, slice) else thawed(found)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            values = self._frozen_all(value)
            self._data[:][index] = values  # what does not fit is refused before it is logged
            self._note((self._name, "slice", (index.start, index.stop, index.step), values))
            self._data[index] = values
            return
        position = range(len(self._data))[index]
        one = frozen(value, f"{self._name}[{position}]")
        self._note((self._name, "set", position, one))
        self._data[position] = one

    def __delitem__(self, index: Any) -> None:
        if isinstance(index, slice):
            self._note((self._name, "cut", (index.start, index.stop, index.step)))
            del self._data[index]
            return
        position = range(len(self._data))[index]
        self._note((self._name, "del", position))
        del self._data[position]

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return repr(list(self))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (list, LoggedList)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def insert(self, index: int, value: Any) -> None:
        one = frozen(value, f"{self._name}.insert")
        position = range(len(self._data))[slice(index, None)].start
        self._note((self._name, "insert", position, one))
        self._data.insert(position, one)

    def append(self, value: Any) -> None:
        if type(value) not in ATOMS:
            value = frozen(value, f"{self._name}.append")
        self._note((self._name, "append", value))
        self._data.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        made = self._frozen_all(values)
        self._note((self._name, "extend", made))
        self._data.extend(made)

    def clear(self) -> None:
        self._note((self._name, "clear"))
        self._data.clear()

    def reverse(self) -> None:
        self._note((self._name, "reverse"))
        self._data.reverse()

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        """As ``list.sort``. What is logged is the sorted list."""
        self[:] = sorted(self, key=key, reverse=reverse)

    def _frozen_all(self, values: Iterable[Any]) -> list[Any]:
        return [frozen(one, f"{self._name}, item {number}") for number, one in enumerate(values)]

    def apply(self, operation: Operation) -> None:
        """Do again what was done."""
        done, data = operation[1], self._data
        if done == "append":
            data.append(operation[2])
        elif done == "extend":
            data.extend(operation[2])
        elif done == "set":
            data[operation[2]] = operation[3]
        elif done == "del":
            del data[operation[2]]
        elif done == "insert":
            data.insert(operation[2], operation[3])
        elif done == "slice":
            data[slice(*operation[2])] = operation[3]
        elif done == "cut":
            del data[slice(*operation[2])]
        elif done == "reverse":
            data.reverse()
        else:
            data.clear()

    def contents(self) -> Any:
        """A copy that nobody changes: cheap, for the values cannot change."""
        return self._data.copy()

    def fill(self, contents: Any) -> None:
        self._data = list(contents or ())


class LoggedCounter:
    """A number that is added to: ``hits.add()``, ``hits += 5``, ``hits.value``."""

    kind = "counter"
    __slots__ = ("_name", "_note", "_value")

    def __init__(self, name: str, note: Note) -> None:
        self._name, self._note = name, note
        self._value: float = 0

    @property
    def value(self) -> float:
        return self._value

    def add(self, amount: float = 1) -> float:
        """Add ``amount``; returns the new value: an int as long as only ints were added."""
        if type(amount) not in (int, float):
            what = f"a {type(amount).__qualname__} cannot be added to a counter"
            raise UncapturableError(what, where=self._name, fix="add an int or a float")
        self._note((self._name, "add", amount))
        self._value += amount
        return self._value

    def __iadd__(self, amount: float) -> Self:
        self.add(amount)
        return self

    def __int__(self) -> int:
        return int(self._value)

    def __float__(self) -> float:
        return float(self._value)

    def __repr__(self) -> str:
        return repr(self._value)

    def apply(self, operation: Operation) -> None:
        """Do again what was done."""
        self._value += operation[2]

    def contents(self) -> Any:
        return self._value

    def fill(self, contents: Any) -> None:
        self._value = contents or 0


KINDS: dict[str, type[LoggedDict | LoggedList | LoggedCounter]] = {
    one.kind: one for one in (LoggedDict, LoggedList, LoggedCounter)
}
