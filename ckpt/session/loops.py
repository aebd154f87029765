"""The marked loop itself: the generator that a ``for`` statement pulls (``async for``: ``aloops``).

Its fast lane is a few bytecodes per item: hand the item out, count, look whether anybody wants attention.
"""

from __future__ import annotations

import functools
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


@functools.cache
def _references_of_a_temporary() -> int:
    """What ``sys.getrefcount`` says of an argument that was passed on once and that nobody else holds.

    Measured with calls of the same shape as ``ckpt.loop(...)``. A count above it means that somebody else may hold the
    iterable; the state is then larger than it may have to be, never smaller.
    """

    class Probe:
        def __init__(self, iterable: Any) -> None:
            self.count = sys.getrefcount(iterable)

    def passing_on(iterable: Any) -> int:
        return Probe(iterable).count

    return passing_on([])


class MarkedLoop:
    """What ``ckpt.loop(...)`` gives inside a job. Has a length if its iterable has one."""

    __slots__ = ("_iterable", "_key", "_name", "_private", "_progress", "_run", "_site")

    def __init__(
        self, run: Run, iterable: Any, site: LoopSite, name: str | None, key: Any, progress: bool | None
    ) -> None:
        self._private = sys.getrefcount(iterable) <= _references_of_a_temporary()
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
        return self._keyed() if self._key is not None else self._indexed()

    def __aiter__(self) -> AsyncIterator[Any]:
        if not self._run.alive:
            iterator: AsyncIterator[Any] = aiter(self._iterable)
            return iterator
        if not hasattr(type(self._iterable), "__aiter__"):
            raise wrong_statement(self._iterable, "for")
        given = Input(self._iterable, self._key, self._private, awaited=True)
        return AsyncLoop(self._run, self._site, self._name, given, self._progress)

    def _indexed(self) -> Iterator[Any]:
        run = self._run
        if run.finished and not run.track.replaying:
            return
        track, attention = run.track, run.attention
        node, items = track.enter(self._site, self._name, Input(self._iterable, None, self._private))
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

    def _keyed(self) -> Iterator[Any]:
        run = self._run
        if run.finished and not run.track.replaying:
            return
        track, attention = run.track, run.attention
        node, items = track.enter(self._site, self._name, Input(self._iterable, self._key, self._private))
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
