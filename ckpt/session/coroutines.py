"""The parts of a run that ``await``: the call of an async job, its async steps, and the work that threads do for them.

An async step's function runs in the caller's task; its record is appended and made durable by a thread, so that the event
loop goes on meanwhile, and many records that wait at once are made durable together. Guarantees: a step whose function
was cancelled is not recorded; one that returned is recorded, or its caller gets an exception, and a cancellation that
comes while the record is being written is passed on only when it is known what became of it.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from ckpt import events
from ckpt.asynchrony import in_thread
from ckpt.capture.randomness import RandomState, random_marks, read_random_state, write_random_state
from ckpt.session import current
from ckpt.session.attempt import Attempt, Finished, open_attempt
from ckpt.session.operations import OK, RAISED, Operation, Operations, StepSpec, replayed
from ckpt.session.plan import Plan

if TYPE_CHECKING:
    from ckpt.session.run import Run

APPENDERS = 16
"""Records that are written at the same time at most: each waits in a thread of its own, and one sync serves them all."""

T = TypeVar("T")


async def call(run: Run, function: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Call the job's coroutine function. Its frame is the one right above this one: that is how the track finds it."""
    run.track.set_root(sys._getframe())
    return await function(*args, **kwargs)


async def opened(plan: Plan) -> Attempt | Finished:
    """``open_attempt`` in a thread. If the caller is cancelled meanwhile, the attempt is ended again."""
    found: list[Attempt | Finished] = []
    try:
        await in_thread(lambda: found.append(open_attempt(plan)))
    except BaseException as error:
        if found and isinstance(found[0], Attempt):
            found[0].close(error)
        raise
    return found[0]


class AsyncOperations:
    """Executes and records the async steps of one run."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._appenders: ThreadPoolExecutor | None = None
        self._said = self._closed = False

    def call(self, spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """A coroutine for the step's result. Which operation it is, is settled now, not when it is awaited: in the order
        of the calls, whatever the order in which tasks get their turn."""
        operation = self._operations.begin(spec, args, kwargs)
        return self._result(operation)

    async def _result(self, operation: Operation) -> Any:
        if operation.data is not None:
            return replayed(operation.data)
        watched = _Watched(counts=current.in_order())
        outcome, value = await self._execute(operation, watched)
        done = self._operations.encode(operation, outcome, value, self._drew(operation, watched))
        if self._closed:  # a task that has outlived its run: the log says so
            self._operations.record(operation, done)
        if self._appenders is None:
            self._appenders = ThreadPoolExecutor(APPENDERS, "ckpt-appender")
        await in_thread(lambda: self._operations.record(operation, done), self._appenders)
        return done.hand_out()

    async def _execute(self, operation: Operation, watched: _Watched) -> tuple[bytes, Any]:
        outer = current.begin_try(operation.identity)
        try:
            return OK, await self._try(operation, watched)
        except Exception as error:
            if not operation.spec.record_errors:
                raise
            return RAISED, error
        finally:
            current.end_try(outer)

    async def _try(self, operation: Operation, watched: _Watched) -> Any:
        spec = operation.spec
        for attempt in range(spec.retries):
            try:
                return await watched.run(spec.function(*operation.args, **operation.kwargs))
            except spec.retry_on as error:
                if isinstance(error, asyncio.CancelledError):
                    raise  # not a failure of the step, whatever retry_on says
                await asyncio.sleep(self._operations.pause_s(spec, attempt))
                current.begin_try(operation.identity)
        return await watched.run(spec.function(*operation.args, **operation.kwargs))

    def _drew(self, operation: Operation, watched: _Watched) -> RandomState | None:
        """The generators as the step leaves them, if it moved them on."""
        if watched.moved and not watched.counts and not self._said:
            self._said = True
            events.say(
                f"step {operation.name} draws from the process-wide generators of random numbers, in a task of its own: "
                "what such steps draw does not move the generators on, and may be equal; "
                "give the step a generator of its own (random.Random(seed))"
            )
        return read_random_state() if watched.moved and watched.counts else None

    def close(self) -> None:
        """End the threads; what is being written is finished first."""
        self._closed = True
        if self._appenders is not None:
            self._appenders.shutdown(wait=True)


class _Watched:
    """Runs the coroutine of a step, and looks at each of its turns whether it moves the generators of random numbers on.

    What it draws ``counts`` in the job's own task. In another one it is put back: the order in which tasks get their turns
    is an accident that no replay has again.
    """

    def __init__(self, *, counts: bool) -> None:
        self.counts = counts
        self.moved = False

    def run(self, given: Awaitable[Any]) -> _Turns:
        return _Turns(self, given)

    def turn(self, go_on: Callable[[], Any]) -> Any:
        before = random_marks()
        state = None if self.counts else read_random_state()
        try:
            return go_on()
        finally:
            if random_marks() != before:
                self.moved = True
                if state is not None:
                    write_random_state(state)


class _Turns:
    """``await``s what it was given, through ``_Watched.turn``."""

    def __init__(self, watched: _Watched, given: Awaitable[Any]) -> None:
        self._watched, self._given = watched, given

    def __await__(self) -> Generator[Any, Any, Any]:
        inner: Any = self._given.__await__()
        go_on: Callable[[], Any] = functools.partial(next, inner)
        while True:
            try:
                asked = self._watched.turn(go_on)
            except StopIteration as end:
                return end.value
            try:
                answer = yield asked
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:  # noqa: BLE001 - thrown into the step, in its next turn
                go_on = functools.partial(inner.throw, error)
            else:
                go_on = functools.partial(inner.send, answer)
