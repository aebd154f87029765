"""The walk over a value that feeds its canonical form to BLAKE2b: type tags, length prefixes, sorted keys.

Every container has a digest of its own, which its parent includes; so equal parts are digested once, and sets and
dicts are put into order by the digests of their members. A cycle is a reference back to a value whose digest is not
finished, told by how many values ago it was begun: that number does not depend on where the walk came from.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ckpt.errors import IdentityError

KEY_FIX = "give key=... that names this argument's content, or define __ckpt_digest__() -> bytes on its class"
_NAN = float("nan")
IMMUTABLE = frozenset((type(None), bool, int, float, complex, str, bytes))
"""Types whose values hold no others and never change: digested as they are, handed out as they are."""

_REPEATS = 200_000
"""Values inside cycles that may be walked again before the graph counts as too entangled (sets in large cycles)."""


class Hash(Protocol):
    def update(self, data: Any, /) -> None: ...


Handler = Callable[["Walk", Hash, Any], None]


def digest(value: object, name: str = "") -> bytes:
    """32 bytes that depend on the content of ``value`` only, and are the same in every process.

    Arrays and frames count by content; functions and classes by qualified name; generators of random numbers by
    state; other instances by class name and attributes, or by what ``__ckpt_digest__()`` returns. ``name`` is what
    errors call the value (an argument's name).

    Raises ``IdentityError`` whose ``where`` is the path to the part without a stable digest (``config.client.sock``).
    """
    walk = Walk(name)
    hasher = hashlib.blake2b(digest_size=32)
    try:
        walk.feed(hasher, value)
    except RecursionError as error:
        raise IdentityError("is nested too deeply to be digested", where=name or "the value", fix=KEY_FIX) from error
    return hasher.digest()


def digest_of_call(args: tuple[object, ...], kwargs: dict[str, object]) -> bytes:
    """``digest((args, kwargs))``, in a third of the time where all arguments are numbers, texts and the like."""
    if not is_plain_call(args, kwargs):
        return digest((args, kwargs))
    of_args, of_kwargs = _begun(b"tuple:%d;" % len(args)), _begun(b"dict:%d;" % len(kwargs))
    for value in args:
        _LEAVES[type(value)](of_args, value)
    if kwargs:
        for key_digest, value in sorted([(_of_leaf(key), value) for key, value in kwargs.items()], key=lambda pair: pair[0]):
            of_kwargs.update(key_digest)
            _LEAVES[type(value)](of_kwargs, value)
    whole = _begun(b"tuple:2;@%b@%b" % (of_args.digest(), of_kwargs.digest()))
    return bytes(_begun(b"@" + whole.digest()).digest())


def is_plain_call(args: tuple[object, ...], kwargs: dict[str, object]) -> bool:
    """Whether all arguments are values that cannot change and hold no others. Names may be of a subclass of str: then not."""
    return all(type(value) in IMMUTABLE for value in args) and all(
        type(name) is str and type(value) in IMMUTABLE for name, value in kwargs.items()
    )


def _of_leaf(value: object) -> bytes:
    hasher = _begun(b"")
    _LEAVES[type(value)](hasher, value)
    return bytes(hasher.digest())


def _begun(data: bytes) -> Any:
    return hashlib.blake2b(data, digest_size=32)


def module_name(name: str) -> str:
    """``name`` as a module is called in identities: the stem of the script's file for ``__main__``."""
    if name not in ("__main__", "__mp_main__"):
        return name
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return _stem(file) if file else "__main__"


@functools.cache
def _stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]


def qualified_name(value: Any) -> str:
    """Module and qualified name of a class or function; the same whether its script was run or imported."""
    return f"{module_name(value.__module__)}.{value.__qualname__}"


class Walk:
    """One digest being computed."""

    def __init__(self, name: str) -> None:
        self._path: list[tuple[str, object]] = [("{}", name)] if name else []
        self._done: dict[int, tuple[bytes, object]] = {}  # finished values; kept alive so that ids stay theirs
        self._done_cycles: list[int] = []  # those of _done that held a cycle, in order
        self._begun: dict[int, int] = {}  # values that a reference back can mean, numbered as they were begun
        self._lowest: float = float("inf")  # the earliest number that was referred back to
        self._cyclic = False  # whether any reference back was met
        self._kept: dict[int, object] = {}  # values inside unfinished cycles, kept alive for their ids
        self._repeats = 0
        self._handlers: dict[type, Handler] = {}

    def feed(self, hasher: Hash, value: object, form: str = "", key: object = None) -> None:
        """Add ``value`` to ``hasher``. ``form`` and ``key`` are its step on the path, e.g. ".{}", "sock"."""
        leaf = _LEAVES.get(type(value))
        if leaf is not None:
            leaf(hasher, value)
            return
        self._path.append((form, key))
        hasher.update(self._node(value))
        self._path.pop()

    def alone(self, value: object, form: str = "", key: object = None) -> bytes:
        """The digest of a member of an unordered container: does not depend on which members came before it."""
        begun, cycles, cyclic = len(self._begun), len(self._done_cycles), self._cyclic
        hasher = hashlib.blake2b(digest_size=32)
        self.feed(hasher, value, form, key)
        self._forget(begun)
        for identity in self._done_cycles[cycles:]:
            del self._done[identity]
        del self._done_cycles[cycles:]
        self._cyclic = self._cyclic or cyclic
        return hasher.digest()

    def pairs(self, hasher: Hash, items: Iterable[tuple[object, object]]) -> None:
        """Add the items of a mapping, in an order that depends on their keys only."""
        keyed = [(self.alone(key, "[key {}]", _Text(key)), key, value) for key, value in items]
        keyed.sort(key=lambda entry: entry[0])
        for key_digest, key, value in keyed:
            hasher.update(key_digest)
            self.feed(hasher, value, "[{}]", _Text(key))

    def attributes(self, hasher: Hash, found: dict[str, object]) -> None:
        """Add named attributes, by name."""
        tag(hasher, "attributes", len(found))
        for name in sorted(found):
            text(hasher, name)
            self.feed(hasher, found[name], ".{}", name)

    def refuse(self, value: object, why: str = "") -> IdentityError:
        """The error that says that ``value``, at the current place, has no digest."""
        kind = qualified_name(type(value)).removeprefix("builtins.")
        where = "".join(form.format(key) for form, key in self._path).lstrip(".") or "the value"
        return IdentityError(why or f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} has no digest that is the same in every process", where=where,
                             fix=KEY_FIX)

    def _node(self, value: object) -> bytes:
        identity = id(value)
        finished = self._done.get(identity)
        if finished is not None:
            return b"@" + finished[0]
        number = self._begun.get(identity)
        if number is not None:
            self._lowest = min(self._lowest, number)
            self._cyclic = True
            return b"^%d;" % (len(self._begun) - number)
        if identity in self._kept:
            self._repeats += 1
            if self._repeats > _REPEATS:
                raise self.refuse(value, "is part of a graph with too many cycles to be digested")
        mine = len(self._begun)
        self._begun[identity] = mine
        outer, self._lowest = (self._lowest, self._cyclic), float("inf")
        self._cyclic = False
        hasher = hashlib.blake2b(digest_size=32)
        self._describe(hasher, value)
        result = hasher.digest()
        if self._lowest >= mine:  # refers to nothing outside itself: the same wherever it is met
            self._forget(mine)
            self._done[identity] = (result, value)
            if self._cyclic:
                self._done_cycles.append(identity)
            self._lowest = outer[0]
        else:
            self._kept[identity] = value
            self._lowest = min(self._lowest, outer[0])
        self._cyclic = self._cyclic or outer[1]
        return b"@" + result

    def _forget(self, begun: int) -> None:
        while len(self._begun) > begun:
            self._begun.popitem()

    def _describe(self, hasher: Hash, value: object) -> None:
        kind = type(value)
        handler = self._handlers.get(kind)
        if handler is None:
            from ckpt.digests.kinds import handler_for

            handler = self._handlers[kind] = handler_for(kind)
        handler(self, hasher, value)


class _Text:
    """A key as it is shown on a path; made only when an error is."""

    def __init__(self, key: object) -> None:
        self._key = key

    def __format__(self, spec: str) -> str:
        if isinstance(self._key, str | int | float | bytes | bool | None):
            return repr(self._key)
        return f"<{type(self._key).__qualname__}>"


def tag(hasher: Hash, name: str, *numbers: int) -> None:
    """Add the type tag of what follows and its lengths."""
    hasher.update(f"{name}:{','.join(map(str, numbers))};".encode())


def text(hasher: Hash, value: str) -> None:
    """Add a text, with its length."""
    data = value.encode("utf-8", "surrogatepass")
    hasher.update(b"s%d:" % len(data))
    hasher.update(data)


def binary(hasher: Hash, name: str, data: Any, length: int) -> None:
    """Add ``length`` bytes, without copying them."""
    tag(hasher, name, length)
    hasher.update(data)


def number(hasher: Hash, value: float) -> None:
    """Add a float: all nans are one, both zeros are two."""
    hasher.update(b"f" + struct.pack("<d", _NAN if math.isnan(value) else value))


def _integer(hasher: Hash, value: int) -> None:
    length = (value.bit_length() + 8) // 8
    hasher.update(b"i%d:" % length + value.to_bytes(length, "little", signed=True))


def _complex(hasher: Hash, value: complex) -> None:
    hasher.update(b"c")
    number(hasher, value.real)
    number(hasher, value.imag)


_LEAVES: dict[type, Callable[[Hash, Any], None]] = {
    type(None): lambda hasher, value: hasher.update(b"N;"),
    bool: lambda hasher, value: hasher.update(b"T;" if value else b"F;"),
    type(...): lambda hasher, value: hasher.update(b"...;"),
    type(NotImplemented): lambda hasher, value: hasher.update(b"NotImplemented;"),
    int: _integer,
    float: number,
    complex: _complex,
    str: text,
    bytes: lambda hasher, value: binary(hasher, "b", value, len(value)),
    bytearray: lambda hasher, value: binary(hasher, "bytearray", value, len(value)),
}

LEAF_BASES: dict[type, Callable[[Any], object]] = {
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytearray.__getitem__(value, slice(None)),
}
"""What turns an instance of a subclass of a leaf type into the plain value, past what the subclass overrides."""
