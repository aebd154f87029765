"""Values inside operation-logged objects: what nobody can change behind the log's back.

A value that can never change is kept as it is. Any other one is kept as the bytes of its pickle (``Sealed``): what the
program put in, and what it gets out, are copies. So a change reaches an object through its operations only, and the
value is the same before and after a resume. ``Sealed`` is part of the on-disk format.
"""

from __future__ import annotations

import math
from typing import Any

from ckpt.codecs.pickling import from_bytes, to_bytes
from ckpt.errors import UncapturableError
from ckpt.session.items import ATOMS, is_immutable

PLAIN_KEYS = ATOMS - {float, complex}
"""Types whose values are the same key in every process; of the others, NaN is not."""


class Sealed:
    """A value that can change, as its pickle. Equal to another one with the same bytes."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self) -> Any:
        """A copy of the value."""
        return from_bytes(self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and other.data == self.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __reduce__(self) -> tuple[Any, ...]:
        return Sealed, (self.data,)


def frozen(value: Any, where: str) -> Any:
    """``value`` as it is kept and logged. UncapturableError, naming ``where``, if it does not round-trip."""
    if type(value) in ATOMS:
        return value
    if type(value) is tuple and all(type(one) in ATOMS for one in value):
        return value
    data = _pickled(value, where)
    return value if is_immutable(value) else Sealed(data)


def thawed(value: Any) -> Any:
    """The value for the program: a copy where it can change."""
    return value.open() if type(value) is Sealed else value


def frozen_key(key: Any, where: str) -> Any:
    """``key`` of a mapping, as it is kept. UncapturableError for what is not the same key in another process."""
    if type(key) in PLAIN_KEYS:
        return key
    if not is_immutable(key) or _is_nan(key):
        raise UncapturableError(
            f"a {type(key).__qualname__} is no key that stays the same in every process",
            where=where,
            fix="use texts, numbers, dates, paths, enumerations, or tuples of them as keys",
        )
    _pickled(key, where)
    return key


def _is_nan(key: Any) -> bool:
    return isinstance(key, float) and math.isnan(key)


def _pickled(value: Any, where: str) -> bytes:
    try:
        data = to_bytes(value)
        copy = from_bytes(data)
        same = to_bytes(copy) == data or _is_equal(copy, value)
    except Exception as error:
        what = error.what if isinstance(error, UncapturableError) else f"{type(error).__name__}: {error}"
        raise UncapturableError(
            f"a {type(value).__qualname__} does not come back from its pickle ({what})", where=where, fix=_FIX
        ) from error
    if not same or _is_equal(copy, value) is False:
        raise UncapturableError(f"a {type(value).__qualname__} comes back from its pickle as another value", where=where, fix=_FIX)
    return data


_IDENTITY: Any = object.__eq__
_FIX = "log plain data: numbers, texts, lists, dicts"


def _is_equal(copy: Any, value: Any) -> bool | None:
    """None where the type does not say: identity, or an array of answers."""
    if type(value).__eq__ is _IDENTITY:
        return None
    answer = copy == value
    return answer if isinstance(answer, bool) else None
