"""Loops by key: items are identified by key, so inserted, removed and reordered items are handled right."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from ckpt import digests
from ckpt.codecs.pickling import OutOfBand
from ckpt.errors import InputChangedError, UncapturableError
from ckpt.session.asources import is_asynchronous, refuse_by_key
from ckpt.session.items import ATOMS, appended, is_immutable, short_text
from ckpt.session.sources import VIEWS, travels

_PLAIN = (list, tuple, dict, set, frozenset, str, bytes, range)


class KeyedItems:
    """Iterates items that are identified by key: each key is handed out once, whatever the order of the input.

    The keys that are done are part of the state (16 bytes each). An item that was in progress comes first again. So are
    the items, where variables may refer to them and they can change: after a resume the input as the code makes it again
    says which items there are and in which order, and those that came back are handed out in their places.
    """

    def __init__(
        self,
        iterable: Any,
        key: Callable[[Any], Any],
        where: str,
        passed: Callable[[], None],
        *,
        private: bool = False,
        in_place: bool = False,
    ) -> None:
        """``passed`` is called after each item that was done before. ``private``: nobody but the loop refers to
        ``iterable``; ``in_place``: it is the same object after a resume."""
        self.iterable = iterable
        self._key = key
        refuse_by_key(iterable, where, private=private)
        self._where = where
        self._passed = passed
        self.done = bytearray()
        self._known: set[bytes] = set()
        self._travels = not in_place and travels(iterable, where, private=private)
        self._private, self._in_place = private, in_place
        self._watch(None if private or not self._travels else _holder(iterable))

    def _watch(self, shared: Any) -> None:
        """``shared`` is what the job may make longer or shorter meanwhile."""
        self._shared, self._given_length = shared, len(shared) if hasattr(shared, "__len__") else 0

    def restore(self, done: bytes, travelled: Any = None) -> None:
        self.done = bytearray(done)
        self._known = {done[i : i + 16] for i in range(0, len(done), 16)}
        self.go_on_with(travelled)

    def saved(self) -> Any:
        """The keys that are done, for the state."""
        return OutOfBand(self.done)

    @property
    def remade(self) -> bool:
        """Whether only the code makes the iterable again."""
        if hasattr(type(self.iterable), "__next__") or is_asynchronous(self.iterable):
            return True
        return self._private and not self._travels and not self._in_place

    def travelling(self) -> Any:
        """The items, for the state; None where the code makes the very same again.

        UncapturableError if the job made the input longer or shorter: what of that the next attempt's input holds cannot
        be told.
        """
        if self._shared is not None and hasattr(self._shared, "__len__") and len(self._shared) != self._given_length:
            raise UncapturableError(
                f"the job itself made the input of a loop with key= {'longer' if len(self._shared) > self._given_length else 'shorter'}",
                where=self._where,
                fix="loop without key=, which goes on with the list as it was; or over a copy: ckpt.loop(list(...), key=...)",
            )
        if not self._travels or (self._private and not _can_change(self.iterable)):
            return None
        return [VIEWS.get(type(self.iterable)), _holder(self.iterable), self._shared]

    def go_on_with(self, travelled: Any) -> None:
        """Hand out the items that came back with the state instead of those that the code made again."""
        if travelled is None:
            return
        view, holder, shared = travelled
        items = {self.digest(item): item for item in (holder if view is None else getattr(holder, view)())}
        made_again = ((self.digest(item), item) for item in self.iterable)
        self.iterable = [items.get(digest, item) for digest, item in made_again]
        self._private = False
        self._watch(shared)

    def digest(self, item: Any) -> bytes:
        return digests.digest(self._key(item))[:16]

    def finish(self, digest: bytes) -> None:
        """The item with this key is processed."""
        self._known.add(digest)
        self.done = appended(self.done, digest)

    def remaining(self, first: bytes | None) -> Any:
        """(key digest, item) of everything not done; the item with key ``first`` before all others: an iterator, or an
        async one where the input is.

        InputChangedError if two items have the same key.
        """
        return self._remaining_async(first) if is_asynchronous(self.iterable) else self._remaining(first)

    def _remaining(self, first: bytes | None) -> Iterator[tuple[bytes, Any]]:
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

    async def _remaining_async(self, first: bytes | None) -> AsyncIterator[tuple[bytes, Any]]:
        passed: list[tuple[bytes, Any]] = []
        iterator = aiter(self.iterable)
        given: set[bytes] = set()
        if first is not None:
            async for item in iterator:
                digest = self._fresh(item, given)
                if digest == first:
                    yield digest, item
                    break
                if digest not in self._known:
                    passed.append((digest, item))
                else:
                    self._passed()
        for one in passed:
            yield one
        async for item in iterator:
            digest = self._fresh(item, given)
            if digest not in self._known:
                yield digest, item
            else:
                self._passed()

    async def use_up(self, count: int | None) -> None:
        """Take ``count`` items (None: all) from an async iterator that was made again for a loop that is over."""
        iterator = aiter(self.iterable)
        while count is None or count > 0:
            try:
                await anext(iterator)
            except StopAsyncIteration:
                return
            count = None if count is None else count - 1
            self._passed()

    def _fresh(self, item: Any, given: set[bytes]) -> bytes:
        digest = self.digest(item)
        if digest in given:
            raise InputChangedError(
                f"two items have the key {short_text(self._key(item))}", where=self._where, fix="make key= unique"
            )
        given.add(digest)
        return digest


def _holder(iterable: Any) -> Any:
    """``iterable`` itself, or the dict that it is a view of."""
    return gc.get_referents(iterable)[0] if type(iterable) in VIEWS else iterable


def _can_change(iterable: Any) -> bool:
    if type(iterable) not in _PLAIN:
        return True
    return not (set(map(type, iterable)) <= ATOMS or all(map(is_immutable, iterable)))
