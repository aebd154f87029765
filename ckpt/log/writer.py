"""One attempt's writer: many threads append, one at a time writes and syncs for all who wait.

Guarantees:
 - ``append(durable=True)`` returns only when the record is durable and no later attempt can have missed it;
 - records are in the log in the order of their LSNs, and a record is only there if all before it are;
 - once fenced, without its log, or unsure of its own state, every later call raises the same error;
 - after any other StorageError the writer goes on working. An append that raised StorageFullError on a local storage is
   not in the log; after another StorageError it may be, or may come to be.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ckpt.errors import CkptError, IntegrityError, LogLostError, StorageError, UsageError
from ckpt.format.floor import Floor, encode_floor
from ckpt.format.names import FIRST_SLOT, RunNames
from ckpt.format.records import Kind, lsn_of, lsn_slot
from ckpt.format.segment import FRAME_OVERHEAD
from ckpt.log.tail import Entry, Place, Tail
from ckpt.log.takeover import take_over
from ckpt.log.view import LogView, NeededFrom
from ckpt.protocols import AppendableStorage, Buffer

BUFFER_LIMIT = 1 << 20
"""Bytes of records that nobody waits for that are kept before they are written and synced."""


GATHER_SHARE = 0.25
"""How long a commit waits for the threads that shared the last one, as a part of what that took: it costs each of them
this much more latency at most, and saves whole syncs."""


class LogWriter:
    """Appends to the log of one run, as the attempt ``epoch``. Thread-safe. Made by ``take_over``."""

    def __init__(self, tail: Tail, position: int) -> None:
        self._tail = tail
        self._appendable = isinstance(tail.place.storage, AppendableStorage)
        self._io = threading.Lock()  # held while writing; taken before _lock
        self._lock = threading.Lock()  # guards what is below
        self._complete = threading.Condition(self._lock)  # as many wait again as the last commit was for
        self._leading = False  # one of those who wait commits, for all
        self._waiting: dict[int, Entry] = {}  # by LSN; those too that a commit has taken
        self._waiters = self._expected = 0
        self._commit_s = 0.0
        self._pending: list[Entry] = []
        self._pending_bytes = 0
        self._position = self._acknowledged = position
        self._next_lsn = position + 1 if tail.can_append else lsn_of(tail.slot + 1, 1)
        self._dead: CkptError | None = None
        self._swept_to = FIRST_SLOT

    @classmethod
    def take_over(
        cls, place: Place, *, fence: Mapping[str, Any], known: LogView | None = None, needed_from: NeededFrom | None = None
    ) -> tuple[LogWriter, LogView]:
        """Begin a new attempt: ends every earlier one and returns all that counted until then.

        ``fence`` (plain JSON: host, pid, started, ...) becomes the head of the FENCE record, with "attempt" (the epoch)
        added. On return FENCE and SEAL are durable, and no earlier attempt can commit any more. ``known``, an earlier
        view of this log, only saves time: what has not changed since is not verified again. ``needed_from``: see ``scan_log``.
        Raises FencedError if another attempt was faster, StorageError, UntrustedError, UnknownFormatError.
        """
        tail, view, position = take_over(place, fence, known, needed_from)
        return cls(tail, position), view

    @property
    def epoch(self) -> int:
        return self._tail.epoch

    @property
    def position(self) -> int:
        """The LSN that was given out last."""
        return self._position

    @property
    def acknowledged(self) -> int:
        """The LSN up to which everything is durable and acknowledged."""
        return self._acknowledged

    @property
    def floor(self) -> int:
        """The lowest slot that counts."""
        return self._tail.floor

    @property
    def segment_bytes(self) -> int:
        """Length of the current segment, for deciding when to rotate."""
        return self._tail.end.length

    def append(
        self, kind: Kind, head: Mapping[str, Any], sections: Sequence[Buffer] = (), *, durable: bool = True
    ) -> int:
        """Add a record; returns its LSN. The sections are copied.

        ``durable=False`` only queues it, for the next durable append, flush, rotate or close, or until about 1 MiB
        waits. Raises FencedError, StorageError (see the module's docstring) and OptionError (a head that is not JSON).
        """
        payload = self._tail.place.payload(kind, head, sections)
        if self._pending_bytes >= BUFFER_LIMIT:
            self.flush()  # before the record is taken: an append that raises leaves nothing behind
        entry = Entry(0, kind, payload, durable)
        try:
            self._queue(entry)
            if durable:
                self._settle(entry)
        finally:
            if durable:
                self._leave(entry)
        if entry.error is not None:
            raise entry.error.with_traceback(None)
        return entry.lsn

    def check_current(self) -> None:
        """FencedError if a later attempt has begun; StorageError if that cannot be seen."""
        with self._io:
            self._raise_if_dead()
            self._tail.check_current()

    @contextlib.contextmanager
    def unless_overtaken(self) -> Iterator[None]:
        """For reading what the log names: what is missing because a successor has swept it is a FencedError, no damage."""
        try:
            yield
        except IntegrityError:
            with self._io:
                self._raise_if_dead()
                self._tail.check_current()
            raise

    def flush(self) -> None:
        """On return all that was appended before is durable. Raises FencedError and StorageError."""
        with self._io:
            self._commit()

    def rotate(self) -> None:
        """Flush, then go on in a new segment, so that the ones before it can be trimmed. Durable on return."""
        with self._io:
            self._commit()
            if self._appendable:
                self._commit(rotate=True)

    def trim(self, before_lsn: int) -> None:
        """Let go of records before ``before_lsn``: deletes the segments that hold nothing else (never the current one).

        The new floor is durable, in the log and in its key, before anything is deleted.
        """
        floor = min(lsn_slot(before_lsn), self._tail.slot)
        if floor > self._tail.floor:
            # Commit point of the trim. A fenced attempt does not get past it, and so deletes nothing.
            self.append(Kind.SEAL, {"sealed": [], "floor": floor, "when": self._tail.place.clock.now()})
        with self._io:
            self._raise_if_dead()
            self._tail.floor = max(self._tail.floor, floor)
            if self._swept_to < self._tail.floor:
                self._sweep(self._tail.floor)

    @property
    def next_slot(self) -> int:
        """The slot of the segment that ``rotate`` or ``rewrite`` would create now."""
        return self._tail.slot + 1

    def rewrite(self, records: Sequence[tuple[Kind, Mapping[str, Any], Sequence[Buffer]]]) -> None:
        """Make ``records`` all that the log says, in one step: it happens whole or not at all. Durable on return.

        They get the LSNs 1, 2, ... of ``next_slot``. What was there before is deleted then. FencedError, StorageError:
        it may have happened; the next attempt sees, and this writer cannot be used any more.
        """
        with self._io:
            self._commit()
            slot, tail = self.next_slot, self._tail
            entries = [
                Entry(lsn_of(slot, index), kind, tail.place.payload(kind, head, sections), durable=True)
                for index, (kind, head, sections) in enumerate(records, 1)
            ]
            tail.floor = slot
            try:
                # Commit point: one segment, created whole, holds the records and the SEAL that lifts the floor to it.
                tail.open_next(entries)
            except BaseException as error:
                self._dead = error if isinstance(error, CkptError) else _interrupted(tail.place.names, error)
                raise
            self._position = lsn_of(slot, len(entries))
            self._next_lsn = self._position + 1 if self._appendable else lsn_of(slot + 1, 1)
            self._sweep(slot)

    def close(self) -> None:
        """Flush and let go of the segment; a later append is a UsageError. Raises FencedError and StorageError."""
        with self._io:
            try:
                if self._dead is None:
                    self._commit()
            finally:
                self._tail.close()
                with self._lock:
                    self._dead = self._dead or UsageError("the log was closed", where=self._tail.place.names.address)

    def _sweep(self, floor: int) -> None:
        place = self._tail.place
        place.storage.put(place.names.floor, [encode_floor(place.key, place.names, Floor(floor, self.epoch))])
        listed = (place.names.parse_segment(text) for text in place.storage.list(place.names.log_prefix))
        # Upwards, and no further after an error: as long as a segment is there, no later one has been deleted.
        for slot in sorted(slot for slot in listed if slot is not None and slot < floor):
            place.storage.delete(place.names.segment(slot))
        self._swept_to = floor

    def _queue(self, entry: Entry) -> None:
        with self._lock:
            self._raise_if_dead()
            entry.lsn = self._position = self._next_lsn
            self._next_lsn += 1
            self._pending.append(entry)
            self._pending_bytes += len(entry.payload) + FRAME_OVERHEAD
            if entry.durable:
                self._waiters += 1
                self._waiting[entry.lsn] = entry
                entry.leads, self._leading = not self._leading, True
                if not entry.leads:
                    entry.wakes = threading.Lock()
                    entry.wakes.acquire()
                if self._waiters == self._expected:
                    self._complete.notify()

    def _settle(self, entry: Entry) -> None:
        """Wait until ``entry`` is acknowledged. One of those who wait commits for all who have queued by then."""
        if entry.wakes is not None:
            entry.wakes.acquire()  # until it is settled, or its turn to lead
        if entry.leads:
            self._gather()
            with self._io:
                if not entry.settled:
                    self._commit()
        if not entry.settled:
            # An interrupt ended the commit that had taken it, before anybody could be told.
            raise _interrupted(self._tail.place.names, KeyboardInterrupt())

    def _leave(self, entry: Entry) -> None:
        """``entry`` waits no more, by an interrupt too. If it leads, the next of those who wait does, if there is one."""
        with self._lock:
            self._waiting.pop(entry.lsn, None)
            entry.wakes = None
            if not entry.leads:
                return
            following = next((one for one in self._waiting.values() if not one.settled), None)
            self._leading = following is not None
            if following is not None:
                following.leads = True
                following.wake()

    def _gather(self) -> None:
        """Give as many threads as shared the last commit the time to queue, a part of what that took at most.

        Those whose records it settled are on their way with the next ones: without this every second commit would be for
        one record. One thread alone never waits.
        """
        with self._lock:
            if self._waiters < self._expected:
                self._complete.wait_for(lambda: self._waiters >= self._expected, GATHER_SHARE * self._commit_s)

    def _commit(self, *, rotate: bool = False) -> None:
        """Write and acknowledge all that is queued; ``rotate``: in a new segment. Holds ``_io``."""
        self._raise_if_dead()
        tail, batch = self._tail, None
        began = tail.place.clock.monotonic()
        try:
            unknown = tail.opening is not None
            tail.settle_opening()
            batch, opening = self._take(rotate)
            if opening:
                tail.open_next(batch)
            elif batch:
                tail.append(batch)
            elif tail.unconfirmed or unknown:
                tail.check_current()  # an earlier call could not see whether what it wrote counts
        except BaseException as error:
            self._failed(self._take(False)[0] if batch is None else batch, error)
            raise
        if batch:
            self._acknowledged = batch[-1].lsn
            self._commit_s = tail.place.clock.monotonic() - began
            with self._lock:
                self._expected = sum(entry.durable for entry in batch)
                for entry in batch:
                    entry.settle()

    def _take(self, rotate: bool) -> tuple[list[Entry], bool]:
        """(all that is queued, whether it opens a new segment). From here on LSNs belong to what comes after it."""
        with self._lock:
            batch, self._pending, self._pending_bytes = self._pending, [], 0
            self._waiters = 0
            opening = rotate or (bool(batch) and not self._tail.can_append)
            if opening:
                # An appendable segment goes on behind its SEAL; elsewhere the next batch gets a segment of its own.
                following = lsn_of(self._tail.slot + (1 if self._appendable else 2), 1)
                self._next_lsn = max(self._next_lsn, following)
            return batch, opening

    def _failed(self, batch: list[Entry], error: BaseException) -> None:
        """Tell those who wait, and queue again what nobody waits for, unless the log has it already."""
        with self._lock:
            if isinstance(error, LogLostError) or not isinstance(error, StorageError):
                self._dead = error if isinstance(error, CkptError) else _interrupted(self._tail.place.names, error)
            for entry in batch:
                if entry.durable:
                    entry.settle(self._dead or error)
            if self._tail.took is not batch:
                again = [entry for entry in batch if not entry.durable]
                self._pending = again + self._pending
                self._pending_bytes += sum(len(entry.payload) + FRAME_OVERHEAD for entry in again)

    def _raise_if_dead(self) -> None:
        if self._dead is not None:
            raise self._dead.with_traceback(None)


def _interrupted(names: RunNames, error: BaseException) -> StorageError:
    return StorageError(
        f"writing to the log was interrupted ({type(error).__name__}), so what is there is unknown",
        where=names.address,
        fix="run again: the next attempt reads what was written",
    )
