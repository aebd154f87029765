"""The results of a map for an ``async for``: the twin of ``Results.__iter__`` that awaits where that one waits.

It is an object and not an async generator: when a ``break`` drops it, what is still being executed is cancelled in that very
instruction (see ``session.aloops``). Guarantees: the event loop goes on, for nothing here blocks it but the reading of items
and the first look for an executor; when an exception (a cancellation, too) leaves ``__anext__``, no item is being
executed any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from ckpt.asynchrony import in_thread
from ckpt.mapping.engine import Done
from ckpt.mapping.results import LOOK_S, SKIPPED, Results

BREATH_S = 0.005
"""After so long without an ``await`` that gave others a turn, one is put in: recorded results come back without waiting."""


class AsyncResults:
    """What ``aiter(ckpt.map(...))`` gives. Held by the ``async for`` statement and nobody else."""

    __slots__ = ("_turns",)

    def __init__(self, results: Results) -> None:
        self._turns = _Turns(results)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        return self._turns.following()

    def __del__(self) -> None:
        self._turns.given_up()


class _Turns:
    """The work of an ``AsyncResults``."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._in_turn: Iterator[Done | None] = results.in_turn(self._loop, self._tell)
        self._breath_s = self._loop.time()

    def given_up(self) -> None:
        """The statement has dropped its iterator: at its end, or by break, return or an exception."""
        self._in_turn = iter(())
        self._results.close()

    async def following(self) -> Any:
        """The next result."""
        results = self._results
        try:
            await self._breathe()
            for done in self._in_turn:
                if done is None:
                    await self._wait()
                elif (result := results.handed_out(done)) is not SKIPPED:
                    return result
        except (asyncio.CancelledError, KeyboardInterrupt):
            await self._close(0.0)
            raise
        except GeneratorExit:  # no await is possible any more
            results.close()
            raise
        except BaseException:
            await self._close(results.journal.grace_s)
            raise
        await self._close(0.0)
        raise StopAsyncIteration

    async def _wait(self) -> None:
        """Until there is something to hand out. Preempted if the run was asked to stop meanwhile."""
        journal = self._results.journal
        while True:
            self._news.clear()
            found = self._results.look(0.0)
            if journal.waiting():
                await self._close(journal.grace_s)
                journal.stop()
            if found:
                return
            timer = self._loop.call_later(LOOK_S, self._news.set)
            try:
                await self._news.wait()
            finally:
                timer.cancel()
            self._breath_s = self._loop.time()

    async def _breathe(self) -> None:
        if self._loop.time() - self._breath_s > BREATH_S:
            await asyncio.sleep(0)
            self._breath_s = self._loop.time()

    async def _close(self, grace_s: float) -> None:
        """In a thread: the coroutines that are to be finished or cancelled need the event loop."""
        self._in_turn = iter(())
        if self._results.executing:
            await in_thread(lambda: self._results.close(grace_s))

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:
            pass  # the event loop is closed, and with it who waits
