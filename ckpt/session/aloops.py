"""The marked loop that an ``async for`` statement pulls: the twin of ``loops`` with ``await`` where items are asked for.

It is an object and not an async generator: an async generator that a ``break`` gives up is closed by the event loop some
time later, an object in the very instruction that drops it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

from ckpt.capture.sites import LoopSite
from ckpt.format.path import OVER
from ckpt.session import current
from ckpt.session.asources import AdvancedSource
from ckpt.session.conductor import Input
from ckpt.session.node import Node

if TYPE_CHECKING:
    from ckpt.format.path import PathNode
    from ckpt.session.run import Run


class AsyncLoop:
    """What ``aiter(ckpt.loop(...))`` gives inside a job.

    Held by the ``async for`` statement and nobody else: no frame of a function that goes on below has it in a variable, so
    that a frame which is kept (by a traceback, a debugger) does not keep the loop open.
    """

    __slots__ = ("_turns",)

    def __init__(self, run: Run, site: LoopSite, name: str | None, given: Input, progress: bool | None) -> None:
        self._turns = _Turns(run, site, name, given, progress)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        return self._turns.following()

    def __del__(self) -> None:
        self._turns.given_up()


class _Turns:
    """The work of an ``AsyncLoop``."""

    __slots__ = ("_given", "_index", "_items", "_name", "_node", "_over", "_progress", "_run", "_site", "_stop")

    def __init__(self, run: Run, site: LoopSite, name: str | None, given: Input, progress: bool | None) -> None:
        self._run, self._site, self._name, self._given, self._progress = run, site, name, given, progress
        self._node: Node | None = None
        self._items: Any = None
        self._over = False
        self._index = self._stop = 0

    async def following(self) -> Any:
        """The next item, when the iteration before it has been seen to its end."""
        if self._node is None and not self._over:
            await self._enter()
        elif not self._over:
            if current.cancellation_is_due():
                await self._be_cancelled()
            self._iterated()
        if self._over or self._node is None:
            raise StopAsyncIteration
        return await self._next(self._node)

    def given_up(self) -> None:
        """The statement has dropped its iterator: at its end, or by break, return or an exception."""
        if self._run.alive:
            self._leave()

    async def _enter(self) -> None:
        run = self._run
        if run.finished and not run.track.replaying:
            self._over = True
            return
        arrival = run.track.arrive(self._site, self._name, self._given)
        node = arrival.node
        if arrival.saved is not None:
            await self._advance(node, arrival.saved)
        self._items = run.track.go_on(arrival)
        run.show(node, self._progress)
        self._over = node.status != "active"
        self._node, self._index, self._stop = node, node.index, run.stop_at(node)

    async def _advance(self, node: Node, saved: PathNode) -> None:
        """Consume what was consumed, before the state is written back; steps of the input are the loop's own."""
        over = saved.status in OVER
        count = saved.base_index if not over else saved.index if saved.status == "broken" else None
        track = self._run.track
        if isinstance(node.source, AdvancedSource):
            track.active.append(node)
            try:
                await node.source.advance(count)
            finally:
                track.active.remove(node)
        elif node.keyed is not None and over:
            await node.keyed.use_up(count)

    async def _be_cancelled(self) -> None:
        """The body has asked for the cancellation of its own task: it is raised before its iteration counts as finished,
        or a resume from there would know nothing of it."""
        try:
            await sys.modules["asyncio"].sleep(0)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        if self._node is not None and not self._over:
            self._over = True
            self._run.track.closed(self._node)

    def _iterated(self) -> None:
        """The iteration before this one has come to its end."""
        run, node = self._run, self._node
        assert node is not None
        if node.keyed is not None:
            node.keyed.finish(node.item_key)
        self._index += 1
        node.index = self._index
        if run.attention or node.children or self._index >= self._stop:
            try:
                run.track.iterated(node)
            except BaseException:
                self._over = True
                raise
            self._stop = run.stop_at(node)
            if node.again is not None:
                self._items, node.again = node.again, None

    async def _next(self, node: Node) -> Any:
        try:
            given = await anext(self._items)
        except StopAsyncIteration:
            self._over = True
            self._run.track.exhausted(node)
            raise
        except BaseException:
            self._leave()
            raise
        if node.keyed is None:
            node.item = given
        else:
            node.item_key, node.item = given
        return node.item
