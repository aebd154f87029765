"""Which item is which: 16 bytes, the same in every process, from an item's key (or the item) and its occurrence."""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterator
from typing import Any

from ckpt import digests
from ckpt.errors import IdentityError

SIZE = 16
_PAIR = struct.Struct("<QQ")
_FIRST_SLOTS = 1 << 10


class IdentitySet:
    """A set of identities in about 32 bytes each: open addressing over two arrays.

    A ``set`` of ``bytes`` takes three times as much, which counts with millions of items.
    """

    def __init__(self) -> None:
        self._low, self._high = _zeros(_FIRST_SLOTS), _zeros(_FIRST_SLOTS)
        self._mask, self._count = _FIRST_SLOTS - 1, 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, identity: bytes) -> bool:
        low, high = _PAIR.unpack(identity)
        place = self._place(low or 1, high)
        return bool(self._low[place])

    def add(self, identity: bytes) -> bool:
        """Put it in; False if it was in already."""
        low, high = _PAIR.unpack(identity)
        return self._add(low or 1, high)  # 0 marks a free slot

    def _add(self, low: int, high: int) -> bool:
        place = self._place(low, high)
        if self._low[place]:
            return False
        self._low[place], self._high[place] = low, high
        self._count += 1
        if 2 * self._count > self._mask:
            self._grow()
        return True

    def _place(self, low: int, high: int) -> int:
        lows, highs, mask = self._low, self._high, self._mask
        place = low & mask
        while (found := lows[place]) and (found != low or highs[place] != high):
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        pairs = zip(self._low, self._high, strict=True)
        slots = 2 * (self._mask + 1)
        self._low, self._high, self._mask, self._count = _zeros(slots), _zeros(slots), slots - 1, 0
        for low, high in pairs:
            if low:
                self._add(low, high)


def _zeros(slots: int) -> array[int]:
    return array("Q", bytes(8 * slots))


class Identities:
    """Names the items of one map, in their order. Equal items are told apart by their occurrence."""

    def __init__(self, key: Callable[[Any], object] | None, where: str) -> None:
        self._key, self._where = key, where
        self._seen = IdentitySet()
        self._repeats: dict[bytes, int] = {}

    def of(self, item: Any) -> bytes:
        """The identity of the next item. IdentityError if it has no digest that is the same in every process."""
        plain = self._digest(item if self._key is None else self._key(item))
        if self._seen.add(plain):
            return plain
        occurrence = self._repeats[plain] = self._repeats.get(plain, 0) + 1
        return hashlib.blake2b(plain + occurrence.to_bytes(8, "little"), digest_size=SIZE).digest()

    def _digest(self, subject: Any) -> bytes:
        kind = type(subject)
        if kind is str:  # what most items or keys are: a shortcut, ten times as fast
            return hashlib.blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=SIZE, person=b"str").digest()
        if kind is int:
            return hashlib.blake2b(b"%d" % subject, digest_size=SIZE, person=b"int").digest()
        try:
            return digests.digest(subject)[:SIZE]
        except IdentityError as error:
            what = "an item" if self._key is None else "the key of an item"
            raise IdentityError(
                f"{what} has no digest: {error.what}", where=self._where, fix="identify items: ckpt.map(fn, items, key=...)"
            ) from error


def split(joined: bytes | bytearray | memoryview) -> Iterator[bytes]:
    """The identities that were written one behind the other."""
    view = memoryview(joined)
    for start in range(0, len(view), SIZE):
        yield bytes(view[start : start + SIZE])
