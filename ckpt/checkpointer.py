"""From staged states to a committed checkpoint, beside the job.

One background thread writes the states of a request to packs, then appends the CHECKPOINT record that names them: the
commit point. At most one request is in flight. A storage that fails costs a checkpoint, not the job: it is said once,
and the next trigger tries again; being fenced or damaged ends the attempt at its next safe point.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ckpt import events, host
from ckpt.errors import CkptError, LogLostError, MemoryFullError, StorageError
from ckpt.format.records import Kind
from ckpt.log import LogWriter
from ckpt.protocols import Clock
from ckpt.snapshot import SnapshotRef, SnapshotWriter
from ckpt.staging import StagedState


@contextmanager
def memory_checked(what: str = "no memory left for a copy of the job's state") -> Iterator[None]:
    """A block that reads, copies or writes a state: MemoryFullError, with ``what``, where it runs out of memory."""
    try:
        yield
    except MemoryError as error:
        raise MemoryFullError(
            f"{what} ({error or 'MemoryError'})",
            fix="give the job more memory, about as much again as its variables take, or keep less in them",
        ) from error


@dataclass(slots=True, eq=False)
class Kept:
    """A state that a checkpoint can name: staged in memory until it is written, then known by its reference.

    ``make``: what stages it when it is first written, in the checkpointer's thread.
    """

    staged: StagedState | None
    ref: SnapshotRef | None
    nbytes: int
    make: Callable[[], StagedState] | None = None


@dataclass(slots=True)
class Request:
    """A checkpoint to be made durable.

    ``head`` is the CHECKPOINT record's head; writing adds the fields that only it can tell. ``states`` are named by
    number in its path; ``results`` holds the recorded step results that re-execution can still ask for;
    ``iterations`` is where it was taken, as the trigger counts; ``prepare()`` makes durable what the states refer to
    outside of the store (output files).
    """

    head: dict[str, Any]
    states: Sequence[Kept]
    results: Kept
    stall_s: float
    iterations: int = 0
    prepare: Callable[[], None] = lambda: None
    done: threading.Event = field(default_factory=threading.Event)
    error: CkptError | None = None


class Checkpointer:
    """Owns the background thread of one attempt."""

    def __init__(
        self,
        log: LogWriter,
        snapshots: SnapshotWriter,
        clock: Clock,
        committed: Callable[[Request, int, frozenset[str], float], None],
        failed: Callable[[CkptError], None],
    ) -> None:
        """``committed(request, lsn, packs, cost_s)`` and ``failed(error)`` are called in the background thread.

        ``failed`` is also told of an error that ``committed`` raised: the checkpoint is durable then, and stays so.
        """
        self._log, self._snapshots, self._clock = log, snapshots, clock
        self._committed, self._failed = committed, failed
        self._condition = threading.Condition()
        self._request: Request | None = None
        self._closing = False
        self._in_trouble = False
        self._thread = threading.Thread(target=self._work, name="ckpt-checkpointer", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        return self._request is not None

    def submit(self, request: Request) -> None:
        """Hand a request over. Waits for the one before it: callers that must not wait ask ``busy`` first."""
        with self._condition:
            while self._request is not None:
                self._condition.wait()
            self._request = request
            self._condition.notify_all()

    def wait_idle(self) -> None:
        """Wait until nothing is in flight."""
        with self._condition:
            while self._request is not None:
                self._condition.wait()

    def close(self) -> None:
        """Finish what is in flight and end the thread."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._condition:
                while self._request is None and not self._closing:
                    self._condition.wait()
                request = self._request
            if request is None:
                return
            try:
                self._serve(request)
            except Exception as error:  # noqa: BLE001 - telling failed, too: whoever waits must be told, and the thread go on
                request.error = request.error or _defect("the checkpointer failed", error)
            finally:
                with self._condition:
                    self._request = None
                    self._condition.notify_all()
                request.done.set()

    def _serve(self, request: Request) -> None:
        number = request.head["number"]
        try:
            with memory_checked("no memory left to write the copy of the job's state"):
                lsn, packs, cost_s = self._commit(request)
        except StorageError as error:
            self._give_up(request, error)
            if not self._in_trouble and not isinstance(error, LogLostError):
                self._in_trouble = True
                events.say(f"checkpoint {number} could not be stored, the job goes on: {error.while_going_on()}")
            return
        except CkptError as error:
            self._give_up(request, error)
            return
        except Exception as error:  # noqa: BLE001 - a defect here must end the run at its next safe point, not hang it
            self._give_up(request, _defect("the checkpointer failed", error))
            return
        try:
            self._committed(request, lsn, packs, cost_s)
        except CkptError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - a trigger's or a hook's: it takes nothing back that is durable
            self._failed(_defect(f"checkpoint {number} is stored, but what followed failed", error))
        if self._in_trouble:
            self._in_trouble = False
            events.say(f"checkpoint {number} is stored again")

    def _give_up(self, request: Request, error: CkptError) -> None:
        request.error = error
        self._failed(error)

    def _commit(self, request: Request) -> tuple[int, frozenset[str], float]:
        """Make the request durable: (LSN of its record, the packs that it names, seconds that it cost)."""
        # Queued results of steps come first: they would be written without a checkpoint too, so they are no cost of it.
        self._log.flush()
        began, began_cpu = self._clock.monotonic(), host.thread_cpu_s()
        self._snapshots.take_cpu_s()  # of snapshots that belong to no checkpoint
        request.prepare()
        written = sum(self._write(state) for state in (*request.states, request.results))
        refs = [state.ref for state in (*request.states, request.results) if state.ref is not None]
        request.head["stored_nbytes"] = written
        request.head["persist_s"] = round(self._clock.monotonic() - began, 6)
        workers_s = self._snapshots.take_cpu_s()
        request.head["cost_s"] = round(request.stall_s + host.thread_cpu_s() - began_cpu + workers_s, 6)
        # Commit point: the packs are durable, and this record makes them a checkpoint.
        lsn = self._log.append(Kind.CHECKPOINT, request.head, [ref.encode() for ref in refs], durable=True)
        packs = frozenset[str]().union(*(ref.packs for ref in refs))
        return lsn, packs, request.stall_s + host.thread_cpu_s() - began_cpu + workers_s

    def _write(self, state: Kept) -> int:
        """Make ``state`` durable if it is not yet; the bytes that this took in the storage."""
        if state.ref is not None:
            return 0
        if state.staged is None and state.make is not None:
            state.staged, state.make = state.make(), None
            state.nbytes = state.staged.nbytes
        assert state.staged is not None
        state.ref = self._snapshots.write(state.staged)
        state.staged.release()
        state.staged = None
        return state.ref.stored_nbytes


def _defect(what: str, error: Exception) -> CkptError:
    """``error``, which nobody foresaw, as an error that ends the run."""
    defect = CkptError(f"{what}: {type(error).__name__}: {error}")
    defect.__cause__ = error
    return defect
