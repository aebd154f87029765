"""Loops by key: items are identified by key, so inserted, removed and reordered items are handled right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ckpt import digests
from ckpt.codecs.pickling import OutOfBand
from ckpt.errors import InputChangedError
from ckpt.session.items import short_text


class KeyedItems:
    """Iterates items that are identified by key: each key is handed out once, whatever the order of the input.

    The keys that are done are part of the state (16 bytes each). An item that was in progress comes first again.
    """

    def __init__(
        self, iterable: Any, key: Callable[[Any], Any], where: str, passed: Callable[[], None]
    ) -> None:
        """``passed`` is called after each item that was done before."""
        self.iterable = iterable
        self._key = key
        self._where = where
        self._passed = passed
        self.done = bytearray()
        self._known: set[bytes] = set()

    def restore(self, done: bytes) -> None:
        self.done = bytearray(done)
        self._known = {done[i : i + 16] for i in range(0, len(done), 16)}

    def saved(self) -> Any:
        """The keys that are done, for the state."""
        return OutOfBand(self.done)

    def digest(self, item: Any) -> bytes:
        return digests.digest(self._key(item))[:16]

    def finish(self, digest: bytes) -> None:
        """The item with this key is processed."""
        self._known.add(digest)
        self.done += digest

    def remaining(self, first: bytes | None) -> Iterator[tuple[bytes, Any]]:
        """(key digest, item) of everything not done; the item with key ``first`` before all others.

        InputChangedError if two items have the same key.
        """
        passed: list[tuple[bytes, Any]] = []
        iterator = iter(self.iterable)
        given: set[bytes] = set()
        if first is not None:
            for item in iterator:
                digest = self._fresh(item, given)
                if digest == first:
                    yield digest, item
                    break
                if digest not in self._known:
                    passed.append((digest, item))
                else:
                    self._passed()
        yield from passed
        for item in iterator:
            digest = self._fresh(item, given)
            if digest not in self._known:
                yield digest, item
            else:
                self._passed()

    def _fresh(self, item: Any, given: set[bytes]) -> bytes:
        digest = self.digest(item)
        if digest in given:
            raise InputChangedError(
                f"two items have the key {short_text(self._key(item))}", where=self._where, fix="make key= unique"
            )
        given.add(digest)
        return digest
