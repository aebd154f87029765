"""What a marked ``async for`` iterates, seen as something that can start again at a position.

The twin of ``sources`` for asynchronous iterables. Items are asked for with ``await``, so what was consumed is consumed
again in two places: an input that only the code can make again is *advanced* before the state is written back
(``AdvancedSource``); one that travels with the state, or knows its own position, is started lazily behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from ckpt.capture.visible import has_state_dict
from ckpt.errors import InputChangedError, UnsupportedCodeError


def is_asynchronous(iterable: Any) -> bool:
    """Whether it can only be used by ``async for``."""
    return hasattr(type(iterable), "__aiter__") and not hasattr(type(iterable), "__iter__")


def async_source_of(iterable: Any, *, private: bool, passed: Callable[[], None]) -> AdvancedSource | LazySource:
    """The source for an asynchronous iterable; the arguments are those of ``sources.source_of``."""
    if has_state_dict(iterable):
        return LazySource(iterable, passed, stateful=True)
    if private or hasattr(type(iterable), "__anext__"):
        return AdvancedSource(iterable, passed)
    return LazySource(iterable, passed, stateful=False)


def refuse_by_key(iterable: Any, where: str, *, private: bool) -> None:
    """UnsupportedCodeError for an asynchronous object with a state of its own under ``key=``."""
    if is_asynchronous(iterable) and not private and not hasattr(type(iterable), "__anext__"):
        raise UnsupportedCodeError(
            f"a loop with key= over a {type(iterable).__qualname__} that others refer to, too",
            where=where,
            fix="loop over an async generator, or make the object in the call: async for x in ckpt.loop(Items(...), key=...)",
        )


class _Fetching:
    """An async iterator's items, one by one; knows whether one is being asked for just now, and how many were."""

    __slots__ = ("fetched", "fetching", "last")

    def __init__(self) -> None:
        self.fetching, self.fetched = False, 0
        self.last: tuple[bool, Any] = (False, None)

    async def items(self, iterator: AsyncIterator[Any]) -> AsyncIterator[Any]:
        while True:
            self.fetching = True
            try:
                item = await anext(iterator)
            except StopAsyncIteration:
                return
            finally:
                self.fetching = False
                self.fetched += 1
            yield item

    async def skip(self, iterator: AsyncIterator[Any], count: int | None, passed: Callable[[], None]) -> None:
        """Consume ``count`` items (None: all). InputChangedError if there are fewer."""
        position = 0
        while count is None or position < count:
            try:
                self.last = (True, await anext(iterator))
            except StopAsyncIteration:
                if count is None:
                    return
                raise InputChangedError(
                    f"the input has {position} items now, and {count} were consumed before the resume point",
                    fix="give the same input, use key= to identify items, or start afresh: fresh=True (of a with block: ckpt rm)",
                ) from None
            position += 1
            passed()


class AdvancedSource:
    """An async generator or other async iterator that only the code can make again."""

    begins = "first"
    remade = True
    private = unshared = False
    moved = False
    length = None

    def __init__(self, iterable: Any, passed: Callable[[], None]) -> None:
        self.iterable, self._passed = iterable, passed
        self._fetching = _Fetching()
        self._items: AsyncIterator[Any] | None = None

    @property
    def fetching(self) -> bool:
        """Whether the input is being asked for an item: steps called then belong to it, not to an iteration."""
        return self._fetching.fetching

    @property
    def fetched(self) -> int:
        return self._fetching.fetched

    async def advance(self, count: int | None) -> None:
        """Consume what was consumed before: ``count`` items, or all. InputChangedError if there are fewer."""
        self._items = self._fetching.items(aiter(self.iterable))
        await self._fetching.skip(self._items, count, self._passed)

    def saved(self) -> Any:
        return None

    def start(self, index: int, saved: Any) -> AsyncIterator[Any]:
        """The items behind those that ``advance`` has consumed: ``index`` of them."""
        if self._items is None:
            self._items = self._fetching.items(aiter(self.iterable))
        return self._items

    def item(self, index: int) -> tuple[bool, Any]:
        return self._fetching.last


class LazySource:
    """An async iterable that travels with the state and is consumed again, or whose ``state_dict`` says where it is."""

    private = unshared = False
    moved = False
    length = None

    def __init__(self, iterable: Any, passed: Callable[[], None], *, stateful: bool) -> None:
        self.iterable, self._passed, self._stateful = iterable, passed, stateful
        self.begins = "loaded" if stateful else "written"
        self.remade = stateful

    def saved(self) -> Any:
        return self.iterable.state_dict() if self._stateful else self.iterable

    def start(self, index: int, saved: Any) -> AsyncIterator[Any]:
        if saved is not None and self._stateful:
            self.iterable.load_state_dict(saved)
            return cast(AsyncIterator[Any], aiter(self.iterable))
        if saved is not None:
            self.iterable = saved
        return self._behind(index)

    async def _behind(self, index: int) -> AsyncIterator[Any]:
        iterator = aiter(self.iterable)
        await _Fetching().skip(iterator, index, self._passed)
        async for item in iterator:
            yield item

    def item(self, index: int) -> tuple[bool, Any]:
        return (False, None)
