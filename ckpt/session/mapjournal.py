"""Where the results of one ``ckpt.map`` are recorded, and which of them a resume may still ask for.

Results are not kept in memory: they are in the log from the moment that they are recorded. A checkpoint lets go of the
log only up to the first record that a re-execution needs (``first_needed``): all of the map's, or, where a marked loop
goes through the results (``MapSource``), those that had not been handed out at the loop's last kept state.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckpt.codecs.pickling import OutOfBand
from ckpt.errors import CorruptionError
from ckpt.format.records import Kind
from ckpt.history import History
from ckpt.letters import MOVED
from ckpt.mapping.engine import Done
from ckpt.mapping.identity import SIZE, IdentitySet, split
from ckpt.mapping.results import GRACE_S, Results
from ckpt.mapping.work import RAISED
from ckpt.recovery import MapRecord, ResumePoint, counting, maps_since
from ckpt.session import current
from ckpt.session.items import appended, short_text

if TYPE_CHECKING:
    from ckpt.session.run import Run
    from ckpt.session.services import Services

_ENTRY = struct.Struct("<16sBxxxII")
"""An item of a record: its identity, OK or RAISED, attempts, length of its data."""

Recovered = dict[bytes, tuple[int, bytes, int, int]]


@dataclass(slots=True)
class Found:
    """What earlier attempts recorded of one map: its records behind the resume point, oldest first."""

    records: Sequence[MapRecord] = ()

    @property
    def first_lsn(self) -> int:
        return self.records[0].lsn

    @property
    def items(self) -> int:
        """How many items they tell of."""
        return len({entry[0] for one in self.records if one.sections for entry in _ENTRY.iter_unpack(one.sections[0])})

    @property
    def has_results(self) -> bool:
        """Whether they tell of an item that did not fail."""
        heads = (_ENTRY.iter_unpack(one.sections[0]) for one in self.records if one.sections)
        return any(entry[1] != RAISED for entries in heads for entry in entries)

    def results(self, *, with_failed: bool, with_marks: bool) -> tuple[Recovered, set[bytes]]:
        """(the last result of each item, items that are to be executed again). CorruptionError.

        Without ``with_marks`` what is marked to be tried again is left as it was.
        """
        found: Recovered = {}
        again: set[bytes] = set()
        for record in self.records:
            marked = [bytes.fromhex(one) for one in record.head.get("retry", ())] if with_marks else []
            again.update(marked)
            for identity in marked:
                if identity in found and found[identity][0] == RAISED:
                    del found[identity]
            for identity, kind, attempts, data in _entries(record):
                if MOVED in record.head and identity in found:
                    continue  # a copy that was not needed
                found.pop(identity, None)  # the order is that of the last time
                if kind != RAISED or with_failed:
                    found[identity] = (kind, data, attempts, record.lsn)
        return found, again


def _entries(record: MapRecord) -> Iterator[tuple[bytes, int, int, bytes]]:
    if not record.sections:
        return
    index, data = record.sections
    if len(index) % _ENTRY.size:
        raise CorruptionError("the index of a map's results makes no sense", path=str(record.head.get("step")))
    at = 0
    for identity, kind, attempts, length in _ENTRY.iter_unpack(index):
        yield identity, kind, attempts, data[at : at + length]
        at += length
    if at != len(data):
        raise CorruptionError("the index of a map's results does not fit them", path=str(record.head.get("step")))


@dataclass(slots=True)
class Naming:
    """How a map is known: its identity, and what people see of it."""

    identity: bytes
    step: str
    where: str


@dataclass(slots=True)
class _Unreleased:
    """LSNs of records with results that were not handed out, and how many of each. Guarded by ``lock``."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: dict[int, int] = field(default_factory=dict)
    writing_from: int | None = None


class MapJournal:
    """The journal of one map of a run (see ``mapping.results.Journal``)."""

    grace_s = GRACE_S

    def __init__(self, run: Run, services: Services, naming: Naming, found: Found, *, with_failed: bool) -> None:
        """``with_failed``: that an item failed is its result, and comes back; otherwise it is executed again."""
        self.address, self.identity = run.key_address, naming.identity
        self._run, self._services, self._naming, self._found = run, services, naming, found
        self._log, self._letters, self._unreleased = services.log, services.letters, _Unreleased()
        self._durable, self._with_failed = services.options.sync_interval_s == 0, with_failed
        self._needed: float = found.first_lsn if found.records else self._log.position + 1
        self._again: set[bytes] = set()
        self._done = bytearray()
        self._known = IdentitySet()
        self.tracks_done = False
        self.nbytes = sum(len(section) for record in found.records for section in record.sections)
        """What its records hold."""

    def moved_to(self, lsn: int) -> None:
        """All its records are behind this LSN, too. Only of a map that is over."""
        self._needed = lsn

    @property
    def first_needed(self) -> float:
        """The LSN of the first record that a resume may ask for; inf for none."""
        return self._needed

    def recovered(self) -> Recovered:
        results, self._again = self._found.results(with_failed=self._with_failed, with_marks=not self._passed_by())
        self._found = Found()
        for _, _, _, lsn in results.values():
            self._unreleased.counts[lsn] = self._unreleased.counts.get(lsn, 0) + 1
        if self._again and self._done:
            kept = [identity for identity in split(self._done) if identity not in self._again]
            self._done = bytearray(b"".join(kept))
            self._remember()
        return results

    def _passed_by(self) -> bool:
        """Whether what is made of the results is overwritten when the resume point is reached."""
        return self._run.track.replaying and self._run.track.captures_locals and not self.tracks_done

    def is_done(self, identity: bytes) -> bool:
        return bool(self._known) and identity in self._known

    def record(self, batch: Iterable[Done]) -> None:
        """One OPERATION record for the batch. Raises what the log raises."""
        batch = list(batch)
        now = self._services.clock.now()
        letters = [self._letter(done, now) for done in batch if done.kind == RAISED]
        good = (done.item.identity for done in batch if done.kind != RAISED)
        mended = self._letters.mended(self._naming.identity, good)
        data = b"".join(done.data for done in batch)
        index = b"".join(_ENTRY.pack(d.item.identity, d.kind, d.attempts, len(d.data)) for d in batch)
        head: dict[str, Any] = {
            "map": self._naming.identity.hex(),
            "step": self._naming.step,
            "where": self._naming.where,
            "items": len(batch),
            "seconds": round(sum(done.seconds for done in batch), 6),
            "outcome": "error" if letters else "ok",
            "bytes": len(data),
        }
        head |= {"failed": letters} if letters else {}
        head |= {"mended": mended} if mended else {}
        self._letters.note(head)  # before the append: a checkpoint that covers the record tells of them
        with self._unreleased.lock:
            self._unreleased.writing_from = self._log.position + 1
        lsn = self._log.append(Kind.OPERATION, head, [index, data], durable=self._durable)
        with self._unreleased.lock:
            self._unreleased.counts[lsn] = len(batch)
            self._unreleased.writing_from = None
        self.nbytes += len(index) + len(data)
        for done in batch:
            done.lsn = lsn
        self._run.operations.recorded += len(batch)
        self._run.operations.failed_items += 0 if self._with_failed else len(letters)

    def _letter(self, done: Done, now: float) -> dict[str, Any]:
        return {
            "map": self._naming.identity.hex(),
            "step": self._naming.step,
            "item": done.item.identity.hex(),
            "text": short_text(done.item.value),
            "error": done.text,
            "attempts": done.attempts,
            "when": now,
        }

    def handed_out(self, done: Done) -> None:
        if self.tracks_done:
            self._done = appended(self._done, done.item.identity)
        with self._unreleased.lock:
            counts = self._unreleased.counts
            counts[done.lsn] -= 1
            if not counts[done.lsn]:
                del counts[done.lsn]

    def waiting(self) -> bool:
        return current.run_of_thread() is self._run and self._run.alive and self._run.asked_to_stop()

    def stop(self) -> None:
        self._run.stopping.end()

    # -- a marked loop goes through the results -------------------------------------------------------------

    def saved(self, *, exhausted: bool) -> Any:
        """Which items were handed out, for a state that is being kept: what lies before is not needed any more."""
        if self._found.records:  # nothing was handed out in this attempt yet: all that was recovered is needed
            return OutOfBand(self._done)
        with self._unreleased.lock:
            pending = [*self._unreleased.counts][:1]
            if self._unreleased.writing_from is not None:
                pending.append(self._unreleased.writing_from)
        self._needed = math.inf if exhausted else min(pending, default=self._log.position + 1)
        return OutOfBand(self._done)

    def restore(self, saved: Any) -> None:
        """Go on behind the items that were handed out."""
        self.tracks_done = True
        self._done = bytearray() if saved is None else bytearray(saved)
        self._remember()

    def _remember(self) -> None:
        self._known = IdentitySet()
        for identity in split(self._done):
            self._known.add(identity)


class MapSource:
    """The results of a map as the input of a marked loop: which items were handed out is part of the loop's state."""

    begins = "loaded"
    remade = True
    private = unshared = False
    moved = False

    def __init__(self, results: Results, journal: MapJournal) -> None:
        self.iterable, self._journal = results, journal
        self.awaited = False
        """Whether an ``async for`` goes through them."""

    @property
    def length(self) -> int | None:
        return self.iterable.length

    def saved(self) -> Any:
        return self._journal.saved(exhausted=self.iterable.over)

    def start(self, index: int, saved: Any) -> Any:
        self._journal.restore(saved)
        return aiter(self.iterable) if self.awaited else iter(self.iterable)

    def item(self, index: int) -> tuple[bool, Any]:
        return (False, None)


def map_source(iterable: object) -> MapSource | None:
    """The source for the results of a map of a run; None for anything else."""
    if isinstance(iterable, Results) and isinstance(iterable.journal, MapJournal):
        return MapSource(iterable, iterable.journal)
    return None


def by_map(history: History, resume: ResumePoint | None) -> Mapping[bytes, Found]:
    """The records of each map that a re-execution from the resume point (None: the beginning) may ask for."""
    found: dict[bytes, list[MapRecord]] = {}
    for record in resume.maps if resume is not None else maps_since(counting(history), -1):
        found.setdefault(bytes.fromhex(record.head["map"]), []).append(record)
    return {identity: Found(batch) for identity, batch in found.items()}


assert SIZE == 16, "the index of a record has room for this"
