"""Worker processes: one item each at a time, so that it is known whose worker died, and one item can be ended.

Each process has a thread here that feeds it and waits for it. A process that died is replaced when there is work again.
No orphans: the kernel kills a worker when the thread that started it ends (Linux), so also with this process; elsewhere,
and for workers of workers, it looks every second whether its parent is still there.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.util
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from ckpt import host
from ckpt.codecs.pickling import from_bytes, to_bytes
from ckpt.mapping.pools import CHUNK_S, Chunk, WorkerGone
from ckpt.mapping.work import Outcome, Work

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LOOK_S = 1.0
_END_S = 2.0
"""How long an idle worker may take to end by itself before it is killed."""

_starting = threading.Lock()
"""One start at a time: a process forked meanwhile would inherit the other end of a pipe, and keep it open."""


class ProcessPool:
    """``multiprocessing`` processes, started as the program's start method says, when they are needed."""

    can_end = True
    breaks_whole = False
    chunk_s = CHUNK_S

    def __init__(self, work: Work, workers: int) -> None:
        self.in_flight = self.spare = workers
        self._context = multiprocessing.get_context()
        self._work = work
        self._jobs: queue.SimpleQueue[tuple[Future[list[Outcome]], Chunk] | None] = queue.SimpleQueue()
        self._workers = [_Worker(self._start, self._jobs) for _ in range(workers)]
        self._executing: dict[Future[list[Outcome]], _Worker] = {}
        for worker in self._workers:
            worker.executing = self._executing
        self._outstanding: set[Future[list[Outcome]]] = set()
        self._begun = 0
        # Before multiprocessing waits for its children at the end of the program.
        self._at_exit = multiprocessing.util.Finalize(self, _kill_all, (self._workers,), exitpriority=100)

    def submit(self, chunk: Chunk) -> Future[list[Outcome]]:
        future: Future[list[Outcome]] = Future()
        self._outstanding.add(future)
        future.add_done_callback(self._outstanding.discard)
        asleep = next((worker for worker in self._workers if worker.thread is None), None)
        if asleep is not None and len(self._outstanding) > self._begun:
            self._begun += 1
            asleep.begin()
        self._jobs.put((future, chunk))
        return future

    def end(self, future: Future[list[Outcome]]) -> None:
        worker = self._executing.get(future)
        if worker is not None:
            worker.kill()

    def close(self) -> None:
        for worker in self._workers:
            worker.closing = True
            self._jobs.put(None)
            if not worker.idle:
                worker.kill()
        for worker in self._workers:
            if worker.thread is not None:
                worker.thread.join()
        self._at_exit.cancel()

    def _start(self) -> tuple[Connection, BaseProcess]:
        forks = self._context.get_start_method() == "fork"
        # A forked worker has the function already; another one gets it as bytes, so that lambdas and closures can go.
        work = self._work if forks else to_bytes(self._work)
        with _starting:
            ours, theirs = self._context.Pipe()
            process: Any = self._context.Process(
                target=_serve, args=(theirs, os.getpid(), work), name="ckpt-map-worker"
            )
            process.start()
            theirs.close()
        return ours, process


def _kill_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.closing = True
        worker.kill()


class _Worker:
    """One process, now and then a new one, and the thread that feeds it."""

    def __init__(
        self, start: Callable[[], tuple[Connection, BaseProcess]], jobs: queue.SimpleQueue[Any]
    ) -> None:
        self._start, self._jobs = start, jobs
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self.executing: dict[Future[list[Outcome]], _Worker] = {}
        self.thread: threading.Thread | None = None
        self.idle = True
        self.closing = False

    def begin(self) -> None:
        self.thread = threading.Thread(target=self._feed, name="ckpt-map-feeder", daemon=True)
        self.thread.start()

    def kill(self) -> None:
        process = self._process
        if process is not None:
            process.kill()

    def _feed(self) -> None:
        while (job := self._jobs.get()) is not None and not self.closing:
            future, chunk = job
            self.idle = False
            self.executing[future] = self
            outcomes, problem = self._tried(chunk)
            del self.executing[future]
            self.idle = True
            if problem is not None:
                future.set_exception(problem)
            else:
                future.set_result(outcomes)
            del job, future, chunk, outcomes, problem  # items are not kept while this waits for the next
        self._end()

    def _tried(self, chunk: Chunk) -> tuple[list[Outcome], Exception | None]:
        try:
            return self._execute(chunk), None
        except Exception as error:  # noqa: BLE001 - it belongs to the chunk: the engine knows what to do
            self._let_go()
            return [], error

    def _execute(self, chunk: Chunk) -> list[Outcome]:
        data = to_bytes(list(chunk))
        if self._connection is None or self._process is None or not self._process.is_alive():
            self._let_go()
            self._connection, self._process = self._start()
        connection, process = self._connection, self._process
        if self.closing:
            raise WorkerGone("the map ends")
        try:
            connection.send_bytes(data)
            # Both: a pipe whose other end somebody else holds as well would never say that the process is gone.
            if connection not in wait([connection, process.sentinel]):
                raise EOFError
            outcomes: list[Outcome] = from_bytes(connection.recv_bytes())
        except (EOFError, OSError) as error:
            process.join(_END_S)
            raise WorkerGone(f"exit status {process.exitcode}") from error
        return outcomes

    def _let_go(self) -> None:
        connection, process = self._connection, self._process
        self._connection = self._process = None
        if connection is not None:
            connection.close()
        if process is not None:
            process.kill()
            process.join()

    def _end(self) -> None:
        if self._connection is not None and self._process is not None:
            try:
                self._connection.send_bytes(b"")
                self._process.join(_END_S)
            except OSError:
                pass  # it is gone already
        self._let_go()


def _serve(connection: Connection, parent: int, given: Work | bytes) -> None:
    """A worker's life: take a chunk, execute it, give the outcomes back, until the pipe closes."""
    _end_with(parent)
    # Ctrl-C reaches all processes of a terminal, and a scheduler's SIGTERM often does, too. Whether items are to be
    # finished is for the main process to say. Functions, not SIG_IGN, which programs that an item starts would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: None)
    work: Work = from_bytes(given) if isinstance(given, bytes) else given
    while True:
        try:
            data = connection.recv_bytes()
        except EOFError:
            return
        if not data:
            return
        connection.send_bytes(pickle.dumps(work(from_bytes(data)), protocol=5))


def _end_with(parent: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), name="ckpt-map-watch", daemon=True).start()


def _watch(parent: int) -> None:
    clock = host.SystemClock()
    while os.getppid() == parent:
        clock.sleep(_LOOK_S)
    os._exit(1)
