"""Where async functions are executed: coroutines side by side in one event loop.

The loop is the caller's where results are taken by ``async for``: sessions, locks and queues that the function uses belong
to it. Elsewhere it is the pool's own, in a thread of its own. Guarantees:
 - at most ``in_flight`` coroutines at a time, each in a task whose context belongs to no run;
 - one that is ended is cancelled, and does not count any more, whatever it gives;
 - after ``close`` none goes on, unless it catches its cancellation. In the thread of the caller's loop, which cannot wait
   for itself, ``close`` cancels them, and they end in the next turn of the loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from contextvars import Context
from typing import Any

from ckpt import events
from ckpt.asynchrony import running_loop
from ckpt.codecs.pickling import to_bytes
from ckpt.errors import ExecutorLostError, ItemError
from ckpt.mapping.pools import CHUNK_S, Chunk, WorkerGone
from ckpt.mapping.work import OK, Outcome, Work, text_of, timer

END_S = 5.0
"""How long a coroutine that was cancelled may take to clean up before it is not waited for any more."""


class CoroutinePool:
    """Tasks in one event loop. Its own state is touched in the thread of that loop only."""

    can_end = True
    breaks_whole = False
    chunk_s = CHUNK_S

    def __init__(self, work: Work, count: int, context: Context, loop: Any = None) -> None:
        """``loop``: the caller's, which is running; None: one of its own."""
        self._work, self._context = work, context
        self._own = _LoopThread() if loop is None else None
        self._loop: asyncio.AbstractEventLoop = loop if self._own is None else self._own.loop
        self.in_flight = self.spare = count
        self._waiting: deque[tuple[Future[list[Outcome]], Chunk]] = deque()
        self._tasks: dict[Future[list[Outcome]], asyncio.Task[Any]] = {}
        self._ending: set[Future[list[Outcome]]] = set()
        self._closing = False
        self._all_ended = threading.Event()

    def submit(self, chunk: Chunk) -> Future[list[Outcome]]:
        future: Future[list[Outcome]] = Future()
        try:
            self._loop.call_soon_threadsafe(self._add, future, chunk)
        except RuntimeError as error:
            raise ExecutorLostError(
                "the event loop that executes the items is closed",
                where="ckpt.map", fix="take all results inside the event loop in which the first was taken",
            ) from error  # fmt: skip
        return future

    def end(self, future: Future[list[Outcome]]) -> None:
        self._loop.call_soon_threadsafe(self._cancel, future)

    def close(self) -> None:
        if running_loop() is self._loop or not self._loop.is_running():
            self._cancel_all()
            return
        try:
            self._loop.call_soon_threadsafe(self._cancel_all)
        except RuntimeError:  # it was closed just now: nothing is executed there any more
            return
        if not self._all_ended.wait(END_S):
            events.say(f"ckpt.map: {len(self._tasks)} coroutines were cancelled, and go on all the same")
        if self._own is not None:
            self._own.stop()

    # -- in the thread of the loop --------------------------------------------------------------------------

    def _add(self, future: Future[list[Outcome]], chunk: Chunk) -> None:
        self._waiting.append((future, chunk))
        self._begin()

    def _begin(self) -> None:
        while self._waiting and len(self._tasks) < self.in_flight and not self._closing:
            future, chunk = self._waiting.popleft()
            # A task takes a copy of the context that it is made in.
            task = self._context.run(self._loop.create_task, self._execute(chunk))
            self._tasks[future] = task
            task.add_done_callback(lambda task, future=future: self._ended(future, task))  # type: ignore[misc]

    async def _execute(self, chunk: Chunk) -> list[Outcome] | BaseException:
        try:
            return [await _outcome(self._work, identity, item) for identity, item in chunk]
        except BaseException as error:  # noqa: BLE001 - for the engine; raised in a task it could end the event loop
            return error

    def _ended(self, future: Future[list[Outcome]], task: asyncio.Task[Any]) -> None:
        del self._tasks[future]
        result = asyncio.CancelledError() if task.cancelled() else task.result()
        if future in self._ending or isinstance(result, asyncio.CancelledError):
            self._ending.discard(future)
            future.set_exception(WorkerGone("its task was cancelled"))
        elif isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
        self._begin()
        if self._closing and not self._tasks:
            self._all_ended.set()

    def _cancel(self, future: Future[list[Outcome]]) -> None:
        task = self._tasks.get(future)
        if task is not None:
            self._ending.add(future)
            task.cancel()

    def _cancel_all(self) -> None:
        self._closing = True
        for future, _ in self._waiting:
            future.set_exception(WorkerGone("the map ends"))
        self._waiting.clear()
        for future in list(self._tasks):
            self._cancel(future)
        if not self._tasks:
            self._all_ended.set()


async def _outcome(work: Work, identity: bytes, item: Any) -> Outcome:
    began = timer()
    work.begin(identity)
    try:
        return OK, to_bytes(await work.function(item)), "", False, timer() - began
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # What the item awaited was cancelled. Raised where the results are taken, it would look like a cancellation there.
        return work.failure(ItemError(f"what the item awaited was cancelled ({text_of(error)})"), began)
    except Exception as error:  # noqa: BLE001 - it is what the item gave: the map decides what becomes of it
        return work.failure(error, began)
    finally:
        work.end()


class _LoopThread:
    """An event loop that runs in a thread of its own until it is stopped."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="ckpt-map-loop", daemon=True)
        started = threading.Event()
        self.loop.call_soon(started.set)
        self._thread.start()
        started.wait()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self._tidy()
        finally:
            self.loop.close()

    def _tidy(self) -> None:
        """End the tasks that items have made and left."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=END_S))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    def stop(self) -> None:
        """Stop it, and wait: not for ever, a coroutine may hold it up with work that does not await."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(2 * END_S)
