"""The marked loop itself: the generator that a ``for`` statement pulls (``async for``: ``aloops``).

Its fast lane is a few bytecodes per item: hand the item out, count, look whether anybody wants attention.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from ckpt.capture.sites import LoopSite
from ckpt.errors import CkptError, Preempted
from ckpt.session.aloops import AsyncLoop
from ckpt.session.asources import is_asynchronous
from ckpt.session.conductor import Input
from ckpt.session.refusals import wrong_statement

if TYPE_CHECKING:
    from ckpt.session.run import Run


class MarkedLoop:
    """What ``ckpt.loop(...)`` gives inside a job. Has a length if its iterable has one."""

    __slots__ = ("_iterable", "_key", "_name", "_progress", "_run", "_site")

    def __init__(
        self, run: Run, iterable: Any, site: LoopSite, name: str | None, key: Any, progress: bool | None
    ) -> None:
        self._run, self._iterable, self._site = run, iterable, site
        self._name, self._key, self._progress = name, key, progress

    def __len__(self) -> int:
        return len(self._iterable)

    def __length_hint__(self) -> int:
        return len(self._iterable) if hasattr(self._iterable, "__len__") else NotImplemented

    def __iter__(self) -> Iterator[Any]:
        if not self._run.alive:
            return iter(self._iterable)
        if is_asynchronous(self._iterable):
            raise wrong_statement(self._iterable, "async for")
        private = self._is_private()
        return self._keyed(private) if self._key is not None else self._indexed(private)

    def __aiter__(self) -> AsyncIterator[Any]:
        if not self._run.alive:
            iterator: AsyncIterator[Any] = aiter(self._iterable)
            return iterator
        if not hasattr(type(self._iterable), "__aiter__"):
            raise wrong_statement(self._iterable, "for")
        given = Input(self._iterable, self._key, self._is_private(), awaited=True)
        return AsyncLoop(self._run, self._site, self._name, given, self._progress)

    def _is_private(self) -> bool:
        """Whether nobody else holds the iterable. Asked where the loop begins and not where it is given: until the call of
        ``ckpt.loop`` is over, a call with ``*args`` or ``**options`` holds its arguments a second time."""
        return sys.getrefcount(self._iterable) <= _REFERENCES

    def _indexed(self, private: bool) -> Iterator[Any]:
        run = self._run
        if run.finished and not run.track.replaying:
            return
        track, attention = run.track, run.attention
        node, items = track.enter(self._site, self._name, Input(self._iterable, None, private))
        run.show(node, self._progress)
        if node.status != "active":
            return
        index, children, stop = node.index, node.children, run.stop_at(node)
        try:
            while True:
                for item in items:
                    node.item = item
                    yield item
                    index += 1
                    node.index = index
                    if attention or children or index >= stop:
                        track.iterated(node)
                        stop = run.stop_at(node)
                        if node.again is not None:
                            break
                else:
                    break
                items, node.again = node.again, None
        except GeneratorExit:
            track.closed(node)
            raise
        except (CkptError, Preempted):
            raise  # of ours: the job ends with it
        except BaseException:
            track.closed(node, raised=True)
            raise
        track.exhausted(node)

    def _keyed(self, private: bool) -> Iterator[Any]:
        run = self._run
        if run.finished and not run.track.replaying:
            return
        track, attention = run.track, run.attention
        node, items = track.enter(self._site, self._name, Input(self._iterable, self._key, private))
        run.show(node, self._progress)
        if node.status != "active":
            return
        keyed, children, stop = node.keyed, node.children, run.stop_at(node)
        assert keyed is not None
        try:
            while True:
                for digest, item in items:
                    node.item, node.item_key = item, digest
                    yield item
                    keyed.finish(digest)
                    node.index += 1
                    if attention or children or node.index >= stop:
                        track.iterated(node)
                        stop = run.stop_at(node)
                        if node.again is not None:
                            break
                else:
                    break
                items, node.again = node.again, None
        except GeneratorExit:
            track.closed(node)
            raise
        except (CkptError, Preempted):
            raise  # of ours: the job ends with it
        except BaseException:
            track.closed(node, raised=True)
            raise
        track.exhausted(node)


class _Slot:
    __slots__ = ("given",)

    def __init__(self) -> None:
        self.given: Any = []

    def references(self) -> int:
        return sys.getrefcount(self.given)


_REFERENCES = _Slot().references()
"""What ``sys.getrefcount`` says of an object that one slot refers to and nobody else. A count above it means that somebody
else may hold the iterable; the state is then larger than it may have to be, never smaller."""
