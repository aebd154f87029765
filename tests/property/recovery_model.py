"""What a run is, for the tests of recovery: records in a row, what counts of them, and what damage may do to that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from hypothesis import strategies as st
from unit.log_doubles import NAMES, SimObjects

from ckpt.format.names import FIRST_SLOT
from ckpt.format.records import lsn_of, lsn_slot
from ckpt.snapshot import SnapshotRef

Parts = list[bytes]


@dataclass
class Entry:
    """One record; ``lsn`` is 0 as long as nobody knows whether the log has it. On its own: the run starts afresh."""

    lsn: int = 0


@dataclass
class Operation(Entry):
    """``result``: (identity, encoded result)."""

    result: tuple[bytes, bytes] = (b"", b"")


@dataclass
class Checkpoint(Entry):
    """``states`` are the parts of each snapshot, the last one being the retained results."""

    covers: int = 0
    states: list[Parts] = field(default_factory=list)
    refs: list[SnapshotRef] = field(default_factory=list)

    @property
    def packs(self) -> set[str]:
        return {pack for ref in self.refs for pack in ref.packs}


@dataclass
class Finish(Checkpoint):
    """The end of the run; its one state is the result."""


@dataclass
class Truth:
    """What counts of the run: all since its last reset (at ``reset``, 0 if there was none) that was not trimmed."""

    checkpoints: list[Checkpoint]
    operations: list[Operation]
    finish: Finish | None
    reset: int
    floor: int

    def since(self, lsn: int) -> list[tuple[bytes, bytes]]:
        """The results recorded behind ``lsn``."""
        return [operation.result for operation in self.operations if operation.lsn > lsn]

    @property
    def from_its_start(self) -> bool:
        """Whether the log holds all that happened since the run began."""
        return self.floor == FIRST_SLOT or self.reset > 0


def truth_of(entries: Iterable[Entry], floor: int, below: int | None = None) -> Truth:
    """What counts of ``entries`` in a log from slot ``floor`` on, up to the LSN ``below``."""
    truth = Truth([], [], None, 0, floor)
    for entry in entries:
        if entry.lsn < lsn_of(floor, 0) or (below is not None and entry.lsn >= below):
            continue
        if isinstance(entry, Finish):
            truth.finish = entry
        elif isinstance(entry, Checkpoint):
            truth.checkpoints.append(entry)
        elif isinstance(entry, Operation):
            truth.operations.append(entry)
        else:
            truth = Truth([], [], None, entry.lsn, floor)
    return truth


Expected = Checkpoint | Literal["start", "error", "sound"]
"""The resume point that there must be: a checkpoint, the beginning, an error; "sound": a right one or an error."""


@dataclass(frozen=True)
class Damage:
    """One key that is gone, or (``bit`` not None) has one bit flipped."""

    key: str
    bit: int | None

    def apply(self, storage: SimObjects) -> None:
        if self.bit is None:
            del storage.files[self.key]
        else:
            storage.files[self.key].data[self.bit // 8] ^= 1 << self.bit % 8

    def expected(self, truth: Truth, newest_slot: int, stored: set[str]) -> Expected:
        """What recovery must make of it, as exactly as it can be said without knowing which byte means what.

        ``stored`` are the keys that were there before.
        """
        slot = NAMES.parse_segment(self.key)
        if slot is None:
            return self._without_pack(truth, stored)
        if slot == newest_slot:
            return "sound"
        newest = truth.checkpoints[-1] if truth.checkpoints else None
        known = newest.covers if newest is not None else truth.reset
        if slot < lsn_slot(known):
            return newest if newest is not None else "start"  # only what is known otherwise is lost
        return "error" if slot > lsn_slot(known) or self.bit is None else "sound"

    def _without_pack(self, truth: Truth, stored: set[str]) -> Expected:
        whole = [checkpoint for checkpoint in truth.checkpoints if checkpoint.packs <= stored - {self.key}]
        if self.bit is not None and whole[-1:] != truth.checkpoints[-1:]:
            return "sound"  # not every bit of a pack is needed
        if not whole:
            return "start" if truth.from_its_start else "error"
        return whole[-1] if lsn_slot(whole[-1].covers) >= truth.floor else "error"


def damages(storage: SimObjects) -> st.SearchStrategy[Damage]:
    """Any damage to one key."""
    keys = sorted(storage.files)
    segments = [key for key in keys if NAMES.parse_segment(key) is not None]
    others = [key for key in keys if key not in segments]

    def of(key: str) -> st.SearchStrategy[Damage]:
        flips = st.integers(0, 8 * len(storage.files[key].data) - 1)
        return st.builds(Damage, st.just(key), st.one_of(st.none(), flips))

    groups = [st.sampled_from(group) for group in (segments, others) if group]
    return st.one_of(groups).flatmap(of)


def lost_from(gone: set[str], newest_slot: int) -> int | None:
    """Where the log ends when its newest segments are gone: nothing in it can tell that they ever were."""
    slot = newest_slot
    while NAMES.segment(slot) in gone:
        slot -= 1
    return None if slot == newest_slot else lsn_of(slot + 1, 0)
