"""Items on their way: given to a pool, tried again, timed out, paced, and recorded in batches when they are finished.

One thread (``ckpt-map``) executes, another (``ckpt-map-record``) records, so that results are recorded as they come, whatever the
job does meanwhile, and workers never wait for the storage. All that finished while a batch was being made durable is
the next batch: one fsync for many. Guarantees:
 - what ``take`` gives was recorded before, in the order in which it is given;
 - an item is finished once: with a result, or with its last error;
 - what has begun and is not recorded is at most twice as much as the pool executes at a time;
 - what is in hand is bounded by what was ``put`` and not taken.
"""

from __future__ import annotations

import heapq
import itertools
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from ckpt.errors import ExecutorLostError, ItemTimeoutError, WorkerLostError
from ckpt.mapping.options import MapOptions
from ckpt.mapping.pace import Backoff, Pace
from ckpt.mapping.pools import Pool, WorkerGone
from ckpt.mapping.work import OK, RAISED, Outcome, encode_error, text_of
from ckpt.protocols import Clock

MAX_LOST = 3
"""Workers that one item may lose before it is held to be the cause."""
MAX_CHUNK, CHUNK_BYTES = 256, 64 << 10
"""Items that take microseconds travel together: so many that a chunk takes ``Pool.chunk_s``, at most this many, and with
results of about so many bytes: what is in hand is a multiple of that."""
_FOLLOW = 0.2  # weight of a new measurement


@dataclass(slots=True, eq=False)
class Item:
    """One item on its way. ``tries`` began; ``lost`` of them lost their worker; ``alone``: nothing may share its fate."""

    identity: bytes
    value: Any
    tries: int = 0
    lost: int = 0
    alone: bool = False
    began_s: float = math.nan


@dataclass(slots=True)
class Done:
    """A finished item: ``data`` is the pickled result or exception, ``lsn`` where it is recorded."""

    item: Item
    kind: int
    data: bytes
    attempts: int
    text: str = ""
    seconds: float = 0.0
    lsn: int = -1


@dataclass(slots=True, eq=False)
class _Flight:
    """A chunk that is being executed."""

    items: list[Item]
    future: Future[list[Outcome]] | None = None
    timed_out: bool = False


@dataclass(slots=True)
class _Flow:
    """What is where. Only the engine's thread touches it."""

    waiting: deque[Item] = field(default_factory=deque)
    flights: set[_Flight] = field(default_factory=set)
    timers: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    finished: list[Done] = field(default_factory=list)
    each_s: float = math.nan
    each_bytes: float = 0.0


class Engine:
    """Executes items on ``pool``. ``settle(batch)`` makes finished items durable and sets their ``lsn``."""

    def __init__(
        self,
        pool: Pool,
        options: MapOptions,
        clock: Clock,
        seed: bytes,
        settle: Callable[[Sequence[Done]], None],
    ) -> None:
        self._pool, self._options, self._clock, self._settle = pool, options, clock, settle
        self._pace, self._backoff = Pace(options.interval_s), Backoff(options.backoff, seed)
        self._timeout_s, self._paced = options.timeout_s, options.interval_s > 0
        # The clock of a timeout starts when the pool is given the item: it must not have to wait there.
        self._room = pool.in_flight + (pool.spare if options.timeout is None else 0)
        self._inbox: queue.SimpleQueue[list[Item] | _Flight | None] = queue.SimpleQueue()
        self._flow, self._numbers = _Flow(), itertools.count()
        self._wake_s = math.inf
        self._outlet: deque[Done] = deque()
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._stopping = self._closing = self._ended = False
        self._finished = self._recorded = 0
        self.chunk = 1
        """How many items travel together now: those who feed the engine keep so many more ready."""
        self.told: Callable[[], None] = lambda: None
        """Called by a thread of the engine when there is something to ``take``."""
        self._records: queue.SimpleQueue[list[Done] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._work, "ckpt-map"), (self._record, "ckpt-map-record"))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def width(self) -> int:
        """Items that can be executed at a time."""
        return self._pool.in_flight * self.chunk

    def put(self, items: list[Item]) -> None:
        """Execute these, too."""
        self._inbox.put(items)

    def take(self, timeout_s: float) -> list[Done]:
        """What has been finished and recorded since; waits that long for the first. Raises what ended the engine."""
        with self._changed:
            if not self._outlet and self._failure is None:
                self._changed.wait(timeout_s)
            taken = list(self._outlet)
            self._outlet.clear()
        if not taken and self._failure is not None:
            raise self._failure
        return taken

    def close(self, grace_s: float) -> None:
        """Begin nothing more; what is being executed may take ``grace_s`` to be recorded, and is then ended."""
        self._stopping = True
        self._inbox.put(None)
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._ended, grace_s)
        finally:
            self._closing = True
            self._inbox.put(None)
            for thread in self._threads:
                thread.join()
            self._pool.close()

    # -- the engine's thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._over():
                self._hear()
                self._begin_all()
                if self._flow.finished:
                    self._finished += len(self._flow.finished)
                    self._records.put(self._flow.finished)
                    self._flow.finished = []
        except BaseException as error:  # noqa: BLE001 - raised where the results are taken
            self._fail(error)
        finally:
            self._records.put(None)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
        self.told()

    def _over(self) -> bool:
        flow = self._flow
        return self._closing or self._failure is not None or (self._stopping and not flow.flights)

    def _hear(self) -> None:
        """Wait for news or for the next timer, and take in all that there is."""
        event: list[Item] | _Flight | None
        timers, now = self._flow.timers, self._clock.monotonic()
        due_s = min(timers[0][0] if timers else math.inf, self._wake_s)
        try:
            if due_s == math.inf:
                event = self._inbox.get()
            else:
                event = self._inbox.get(timeout=min(max(due_s - now, 0.0), 3600.0))
            while True:
                if isinstance(event, _Flight):
                    self._landed(event)
                elif event is not None:
                    self._flow.waiting.extend(event)
                event = self._inbox.get_nowait()
        except queue.Empty:
            pass
        self._wake_s, now = math.inf, self._clock.monotonic()
        while timers and timers[0][0] <= now:
            heapq.heappop(timers)[2]()

    def _at(self, when_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._flow.timers, (when_s, next(self._numbers), call))

    def _begin_all(self) -> None:
        flow = self._flow
        while flow.waiting and self._in_hand() < self._room and not self._stopping:
            if self._must_wait():
                return
            flight = _Flight(self._next_chunk())
            now = self._clock.monotonic()
            for item in flight.items:
                item.tries += 1
                if item.tries == 1:
                    item.began_s = now
            self._pace.began(now)
            future = self._pool.submit([(item.identity, item.value) for item in flight.items])
            flight.future = future
            flow.flights.add(flight)
            if self._timeout_s is not None:
                self._at(now + self._timeout_s, lambda flight=flight: self._time_out(flight))  # type: ignore[misc]
            future.add_done_callback(lambda _, flight=flight: self._inbox.put(flight))  # type: ignore[misc]

    def _in_hand(self) -> float:
        """Chunks that are being executed, or are not recorded yet: what a kill repeats."""
        unrecorded = len(self._flow.finished) + self._finished - self._recorded
        return len(self._flow.flights) + unrecorded / self.chunk

    def _must_wait(self) -> bool:
        if self._paced:
            wait_s = self._pace.wait_s(self._clock.monotonic())
            if wait_s > 0:
                self._wake_s = self._clock.monotonic() + wait_s
                return True
        if not self._pool.breaks_whole or not self._flow.flights:
            return False
        # An executor that breaks as a whole: suspects are tried one by one, so that no other item shares the blame.
        return self._flow.waiting[0].alone or any(flight.items[0].alone for flight in self._flow.flights)

    def _next_chunk(self) -> list[Item]:
        waiting = self._flow.waiting
        if self._timeout_s is not None or self._paced or waiting[0].alone:
            return [waiting.popleft()]
        free = max(1, int(self._room - self._in_hand()))
        count = min(self.chunk, -(-len(waiting) // free))
        items = [waiting.popleft()]
        while len(items) < count and waiting and not waiting[0].alone:
            items.append(waiting.popleft())
        return items

    def _time_out(self, flight: _Flight) -> None:
        if flight in self._flow.flights and flight.future is not None and not flight.future.done():
            flight.timed_out = True
            self._pool.end(flight.future)

    def _landed(self, flight: _Flight) -> None:
        self._flow.flights.discard(flight)
        assert flight.future is not None
        try:
            outcomes = flight.future.result()
        except WorkerGone as error:
            self._worker_gone(flight, error)
        except (ExecutorLostError, CancelledError):
            if not self._closing:
                raise
        except Exception as error:  # noqa: BLE001 - the chunk could not be sent or answered: it is the items' fault
            self._not_sent(flight, error)
        else:
            self._measure(outcomes)
            for item, (kind, data, text, retryable, seconds) in zip(flight.items, outcomes, strict=True):
                if kind == OK:
                    self._flow.finished.append(Done(item, OK, data, item.tries, seconds=seconds))
                else:
                    self._raised(Done(item, RAISED, data, item.tries, text, seconds), retryable)

    def _measure(self, outcomes: list[Outcome]) -> None:
        each_s = sum(outcome[4] for outcome in outcomes) / len(outcomes)
        flow = self._flow
        flow.each_s = each_s if math.isnan(flow.each_s) else flow.each_s + _FOLLOW * (each_s - flow.each_s)
        each_bytes = sum(len(outcome[1]) for outcome in outcomes) / len(outcomes)
        flow.each_bytes += _FOLLOW * (each_bytes - flow.each_bytes) if flow.each_bytes else each_bytes
        fitting = min(self._pool.chunk_s / max(flow.each_s, 1e-7), CHUNK_BYTES / max(flow.each_bytes, 1.0))
        self.chunk = max(1, min(int(fitting), 2 * self.chunk, MAX_CHUNK))

    def _raised(self, done: Done, retryable: bool) -> None:
        item, now = done.item, self._clock.monotonic()
        if retryable and item.tries <= self._options.retries:
            again_s = now + self._backoff.pause_s(item.tries)
            if again_s - item.began_s <= self._options.retry_for_s:
                self._at(again_s, lambda: self._flow.waiting.append(item))
                return
        self._flow.finished.append(done)

    def _worker_gone(self, flight: _Flight, error: WorkerGone) -> None:
        [item, *others] = flight.items
        if flight.timed_out:
            what = f"the item took longer than {self._timeout_s:g} s, and was ended"
            problem = ItemTimeoutError(what, where="ckpt.map", fix="give it more time, or see what it waits for")
            done = Done(item, RAISED, encode_error(problem), item.tries, text_of(problem), self._timeout_s or 0.0)
            self._raised(done, isinstance(problem, self._options.retry_on))
            return
        if others or (self._pool.breaks_whole and not item.alone):
            # Whose fault it was is not known: each of them is tried again by itself.
            for one in reversed(flight.items):
                one.alone = True
                one.tries -= 1
                self._flow.waiting.appendleft(one)
            return
        item.lost += 1
        item.alone = True
        if item.lost < MAX_LOST:
            self._flow.waiting.appendleft(item)
            return
        what = f"the worker died {item.lost} times while it executed the item ({error})"
        lost = WorkerLostError(what, where="ckpt.map", fix="see whether the item needs more memory than there is")
        self._flow.finished.append(Done(item, RAISED, encode_error(lost), item.tries, text_of(lost)))

    def _not_sent(self, flight: _Flight, error: Exception) -> None:
        if len(flight.items) > 1:
            for one in reversed(flight.items):
                one.alone = True
                one.tries -= 1
                self._flow.waiting.appendleft(one)
            return
        [item] = flight.items
        self._flow.finished.append(Done(item, RAISED, encode_error(error), item.tries, text_of(error)))

    # -- the thread that records ----------------------------------------------------------------------------

    def _record(self) -> None:
        """Until the engine's thread has ended, and all that it finished is recorded."""
        try:
            over = False
            while not over:
                batch = []
                waiting = [self._records.get(), *(self._records.get() for _ in range(self._records.qsize()))]
                for finished in waiting:
                    batch += finished or []
                    over = over or finished is None
                if batch:
                    self._settle(batch)  # Commit point of these items; handed out after it.
                    self._recorded += len(batch)
                    self._inbox.put(None)
                    with self._changed:
                        self._outlet.extend(batch)
                        self._changed.notify_all()
                    self.told()
        except BaseException as error:  # noqa: BLE001 - raised where the results are taken
            self._fail(error)
            self._inbox.put(None)
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
