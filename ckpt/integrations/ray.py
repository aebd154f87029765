"""``ckpt.map`` on Ray: ``executor="ray"`` (the cluster of RAY_ADDRESS, or a new local one) or ``"ray://host:port"``. The only
home of ray.

Ray schedules, ckpt remembers. Ray does not try again by itself (``max_retries=0``): the map does, and counts. A head that
does not answer any more is an ExecutorLostError after some seconds; Ray alone would wait a minute, then end the process.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from concurrent.futures import Future
from typing import Any

from ckpt.errors import ExecutorLostError, OptionError
from ckpt.mapping.pools import Chunk, WorkerGone
from ckpt.mapping.work import Outcome, Work

LOOK_S = 1.0
MISSES = 4
"""Looks in a row that a head may fail to answer."""


def pool(given: Any, work: Work, workers: int | None) -> RayPool:
    """The pool for ``"ray"`` or an address. OptionError, ExecutorLostError (nobody answers)."""
    try:
        import ray
    except ImportError as error:
        raise OptionError(f"ray is not installed ({error})", fix='pip install "ckpt-jobs[ray]"') from error
    owned = not ray.is_initialized()
    if owned:
        try:
            ray.init(None if given == "ray" else given, configure_logging=False, log_to_driver=False)
        except (ConnectionError, TimeoutError, ValueError) as error:
            raise ExecutorLostError(
                f"no Ray head answers ({error})", where=str(given), fix="start it, or give the address of another one"
            ) from error
    return RayPool(ray, work, workers, owned=owned)


class RayPool:
    """Chunks as Ray tasks of one processor each."""

    can_end = True
    breaks_whole = False
    chunk_s = 0.02

    def __init__(self, ray: Any, work: Work, workers: int | None, *, owned: bool) -> None:
        self._ray, self._owned = ray, owned
        errors = ray.exceptions
        self._gone = (
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.TaskCancelledError,
        )
        self._execute = ray.remote(max_retries=0, num_cpus=1)(_execute)
        self._work = ray.put(work)
        self.in_flight = workers or int(ray.cluster_resources().get("CPU", 1))
        self.spare = self.in_flight
        self._flights: dict[Future[list[Outcome]], Any] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._lost: ExecutorLostError | None = None
        head = str(ray.get_runtime_context().gcs_address or "")
        if ":" in head:
            threading.Thread(target=self._watch, args=(head,), name="ckpt-map-ray", daemon=True).start()

    def submit(self, chunk: Chunk) -> Future[list[Outcome]]:
        if self._lost is not None:
            raise self._lost
        outer: Future[list[Outcome]] = Future()
        reference = self._execute.remote(self._work, list(chunk))
        with self._lock:
            self._flights[outer] = reference
        reference.future().add_done_callback(lambda inner: self._settle(outer, inner))
        return outer

    def _settle(self, outer: Future[list[Outcome]], inner: Future[list[Outcome]]) -> None:
        with self._lock:
            if self._flights.pop(outer, None) is None:
                return  # given up already: the head is gone
        error = inner.exception()
        if error is None:
            outer.set_result(inner.result())
        elif isinstance(error, self._gone):
            outer.set_exception(WorkerGone(type(error).__name__))
        elif isinstance(error, self._ray.exceptions.RaySystemError | ConnectionError):
            outer.set_exception(_lost_head(error))
        else:
            outer.set_exception(error)

    def end(self, future: Future[list[Outcome]]) -> None:
        reference = self._flights.get(future)
        if reference is not None:
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        self._ended.set()
        if self._lost is not None:
            return  # whoever asks a head that is gone waits for a long time
        with self._lock:
            left = [*self._flights.values()]
        for reference in left:
            self._ray.cancel(reference, force=True)
        if self._owned:
            self._ray.shutdown()

    def _watch(self, head: str) -> None:
        name, _, port = head.rpartition(":")
        misses = 0
        while not self._ended.wait(LOOK_S):
            try:
                with contextlib.closing(socket.create_connection((name, int(port)), timeout=LOOK_S)):
                    misses = 0
            except OSError as error:
                misses += 1
                if misses >= MISSES:
                    self._give_up(error)
                    return

    def _give_up(self, error: OSError) -> None:
        self._lost = _lost_head(error)
        if sys.excepthook.__module__.partition(".")[0] == "ray":
            # Ray's tells the head of an uncaught exception before it prints it: of this one it would never print a word.
            sys.excepthook = sys.__excepthook__
        with self._lock:
            left, self._flights = [*self._flights], {}
        for future in left:
            future.set_exception(self._lost)


def _lost_head(error: BaseException) -> ExecutorLostError:
    gone = ExecutorLostError(
        f"the Ray head is gone ({type(error).__name__}: {error})",
        where="ckpt.map",
        fix="run again with a new one: what was recorded is not executed again",
    )
    gone.__cause__ = error
    return gone


def _execute(work: Work, chunk: list[tuple[bytes, Any]]) -> list[Outcome]:
    """Runs on a Ray worker."""
    return work(chunk)
