"""Where items are executed: the seam between the engine and threads, processes and clusters.

A pool executes chunks of items and knows how much it can take. What a pool cannot do it says (``can_end``,
``breaks_whole``), and the engine acts by that.
"""

from __future__ import annotations

import importlib
import inspect
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Protocol

from ckpt.errors import ExecutorLostError, OptionError
from ckpt.mapping.options import MapOptions
from ckpt.mapping.work import Outcome, Work
from ckpt.settings import is_coroutine_function

Chunk = Sequence[tuple[bytes, Any]]

REBUILDS = 100
"""How often in a row a broken executor is made again before the map gives up: a machine without memory, say."""

COROUTINES = 32
"""Coroutines at a time, unless ``max_workers`` says otherwise."""
CHUNK_S = 0.002


class WorkerGone(Exception):
    """Set on a future: the process that executed its chunk died. ``args``: what is known of its end."""


class Pool(Protocol):
    """Executes chunks. Used by the engine's thread only, except for ``close``."""

    in_flight: int
    """Chunks that it executes at a time."""
    spare: int
    """Chunks more that are put in front of it, so that no worker waits for the engine."""
    can_end: bool
    """Whether ``end`` really ends a chunk."""
    breaks_whole: bool
    """Whether the death of one worker fails the chunks of all: then nobody knows whose fault it was."""

    chunk_s: float
    """Seconds of work that are worth one message; what a kill repeats at most, per worker, of many tiny items."""

    def submit(self, chunk: Chunk) -> Future[list[Outcome]]:
        """Begin to execute ``chunk``. ExecutorLostError. The future may have WorkerGone or ExecutorLostError."""

    def end(self, future: Future[list[Outcome]]) -> None:
        """Kill what executes this chunk; its future then has WorkerGone."""

    def close(self) -> None:
        """End all that can be ended, and wait for it; what a thread executes goes on, and is not waited for."""


class ExecutorPool:
    """Any ``concurrent.futures.Executor``. One that a function makes is made again when it broke."""

    can_end = False
    chunk_s = CHUNK_S

    def __init__(
        self,
        make: Executor | Callable[[], Executor],
        work: Work,
        workers: int | None,
        worker_gone: tuple[type[BaseException], ...] = (),
    ) -> None:
        """``worker_gone``: by which exceptions the executor says that the process of one task died."""
        self._worker_gone = worker_gone
        self._make = None if isinstance(make, Executor) else make
        self._executor = make if isinstance(make, Executor) else make()
        self._work, self._rebuilds = work, 0
        self.breaks_whole = not isinstance(self._executor, ThreadPoolExecutor)
        self.in_flight = workers or getattr(self._executor, "_max_workers", None) or os.cpu_count() or 1
        self.spare = self.in_flight

    def submit(self, chunk: Chunk) -> Future[list[Outcome]]:
        try:
            return self._translated(self._executor.submit(self._work, chunk))
        except BrokenExecutor as error:
            self._replace(error)
        except RuntimeError as error:  # it was shut down, which says so with this type
            raise lost(self._executor, error) from error
        return self._translated(self._executor.submit(self._work, chunk))

    def _replace(self, error: BrokenExecutor) -> None:
        self._rebuilds += 1
        if self._make is None or self._rebuilds > REBUILDS:
            raise lost(self._executor, error) from error
        _shut_down(self._executor)
        self._executor = self._make()

    def _translated(self, inner: Future[list[Outcome]]) -> Future[list[Outcome]]:
        """A future of our own: with WorkerGone for a broken executor that can be made again."""
        outer: Future[list[Outcome]] = Future()
        executor, remake = self._executor, self._make is not None

        def settle(done: Future[list[Outcome]]) -> None:
            if done.cancelled():
                outer.set_exception(lost(executor, None))
                return
            error = done.exception()
            if isinstance(error, BrokenExecutor):
                outer.set_exception(WorkerGone(str(error)) if remake else lost(executor, error))
            elif isinstance(error, self._worker_gone):
                outer.set_exception(WorkerGone(str(error)))
            elif error is not None:
                outer.set_exception(error)
            else:
                self._rebuilds = 0
                outer.set_result(done.result())

        inner.add_done_callback(settle)
        return outer

    def end(self, future: Future[list[Outcome]]) -> None:
        raise AssertionError("nothing here can be ended")

    def close(self) -> None:
        if self._make is not None:
            _shut_down(self._executor)


def _shut_down(executor: Executor) -> None:
    """Let go of it at once; what waits in it is not executed any more."""
    known = inspect.signature(executor.shutdown).parameters
    # loky's knows no ``cancel_futures``: that is what ending its workers comes to.
    more = {name: True for name in ("cancel_futures", "kill_workers") if name in known}
    executor.shutdown(wait=False, **(more or {"cancel_futures": True}))


def lost(executor: object, error: BaseException | None) -> ExecutorLostError:
    """The error for an executor that executes nothing any more."""
    kind = type(executor).__name__
    gone = ExecutorLostError(
        f"the {kind} that executes the items is gone ({error or 'it cancelled them'})",
        where="ckpt.map",
        fix='run again with a new one; to have it made again by itself, give a function that makes it, or "processes"',
    )
    gone.__cause__ = error
    return gone


class DaemonThreads(Executor):
    """Threads that keep no process alive: an item that never returns must not hold up the end of the program."""

    def __init__(self, count: int) -> None:
        self._count, self._threads = count, list[threading.Thread]()
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []
        self._changed = threading.Condition()
        self._idle, self._ended = 0, False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._changed:
            self._waiting.append((future, lambda: fn(*args, **kwargs)))
            if not self._idle and len(self._threads) < self._count:
                thread = threading.Thread(target=self._serve, name="ckpt-map-worker", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
        return future

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._waiting and not self._ended:
                    self._changed.wait()
                self._idle -= 1
                if not self._waiting:
                    return
                future, call = self._waiting.pop(0)
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                future.set_exception(error)
            else:
                future.set_result(result)
            del future, call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._changed:
            self._ended = True
            if cancel_futures:
                for future, _ in self._waiting:
                    future.cancel()
                self._waiting.clear()
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Tasks:
    """Where coroutines become tasks: with this context, in this event loop (None: one of the pool's own)."""

    context: Context
    loop: Any = None


def pool_of(options: MapOptions, work: Work, tasks: Tasks) -> Pool:
    """The pool that the options ask for. OptionError for one that there is not, or that cannot end what takes too long."""
    given = options.executor
    pool: Pool
    if is_coroutine_function(work.function):
        from ckpt.mapping.coroutines import CoroutinePool

        pool = CoroutinePool(work, options.max_workers or COROUTINES, tasks.context, tasks.loop)
    elif given is None or given == "threads":
        pool = ExecutorPool(lambda: DaemonThreads(_threads(options.max_workers)), work, _threads(options.max_workers))
        pool.breaks_whole = False
    elif given == "processes":
        from ckpt.mapping.workers import ProcessPool

        pool = ProcessPool(work, options.max_workers or os.cpu_count() or 1)
    elif isinstance(given, str) or engine_of(given) is not None:
        pool = _engine(given, work, options.max_workers)
    elif isinstance(given, Executor) or callable(given):
        pool = ExecutorPool(given, work, options.max_workers)
    else:
        raise OptionError(f"executor={given!r} executes nothing", fix=_CHOICES)
    if options.timeout is not None and not pool.can_end:
        pool.close()
        raise OptionError(
            "timeout= cannot end an item that runs in a thread or on this executor",
            where="ckpt.map",
            fix='use executor="processes", or give the function a timeout of its own',
        )
    return pool


_CHOICES = 'give "threads", "processes", "dask://host:port", "ray" or a concurrent.futures.Executor'


def _threads(given: int | None) -> int:
    return given or min(32, (os.cpu_count() or 1) + 4)


_ENGINES = {"dask": "dask", "distributed": "dask", "ray": "ray"}


def engine_of(given: object) -> str | None:
    """The integration that an executor belongs to, by its address or the package of its class; None for others."""
    address = given.partition("://")[0] if isinstance(given, str) else type(given).__module__.partition(".")[0]
    return _ENGINES.get(address)


def _engine(given: Any, work: Work, workers: int | None) -> Pool:
    name = engine_of(given)
    if name is None:
        raise OptionError(f"executor={given!r} is unknown", fix=_CHOICES)
    # By name: what is optional is above the layers that everybody needs.
    module = importlib.import_module(f"ckpt.integrations.{name}")
    pool: Pool = module.pool(given, work, workers)
    return pool
