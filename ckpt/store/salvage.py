"""What a repair can save of a run, and what it has to give up. Only decides: reads snapshots, writes and unpickles nothing.

Saved is the newest thing that verifies (the recorded result, or a checkpoint), and of the operations recorded since
those in front of the first damage: a state that the run really had at one moment. What lies behind damage is given up even
where it verifies: it may rest on what is lost. Every record given up is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ckpt.errors import CorruptionError, IntegrityError, MissingKeyError
from ckpt.format.names import FIRST_SLOT, RunNames
from ckpt.format.records import Kind, Record, lsn_of, lsn_slot, lsn_text
from ckpt.format.segment import Damage, kind_at
from ckpt.history import History, history_of
from ckpt.log import LogView
from ckpt.recovery import (
    LOGGED,
    ReadSnapshot,
    counting,
    is_needed,
    needed_from,
    open_checkpoint,
    to_try,
)
from ckpt.snapshot import SnapshotRef
from ckpt.store.info import Loss, operations_text

_BEFORE_ALL = -1


@dataclass(frozen=True, slots=True)
class Hole:
    """Damage of the log: what it hides is behind LSN ``after``, and at most at ``last``."""

    damage: Damage
    after: int
    last: int


@dataclass(slots=True)
class Salvage:
    """What is saved: ``record`` (the STATUS with the result, or a CHECKPOINT; None: the run's beginning) and the
    ``operations`` recorded since. ``fresh``: the run would have to begin at its beginning although it had got on."""

    record: Record | None
    operations: list[Record]
    fresh: bool
    losses: list[Loss] = field(default_factory=list)

    @property
    def needs(self) -> Literal["", "accept-loss", "start-over"]:
        """The consent that it wants."""
        if self.fresh:
            return "start-over"
        return "accept-loss" if any(loss.acknowledged for loss in self.losses) else ""

    @property
    def text(self) -> str:
        """Where the run goes on, for people."""
        count = len(self.operations)
        since = f" and {count} operation{'s' * (count != 1)} recorded since" if count else ""
        if self.record is None:
            return f"its beginning{since}"
        if self.record.kind is Kind.STATUS:
            return "its recorded result"
        return f"{_checkpoint_text(self.record)}{since}"


def salvage(view: LogView, names: RunNames, read: ReadSnapshot) -> Salvage:
    """What can be saved of the run whose log says ``view``; ``read`` verifies a snapshot. StorageError."""
    return _Salvager(view, names, read).run()


@dataclass
class _Salvager:
    view: LogView
    names: RunNames
    read: ReadSnapshot
    losses: list[Loss] = field(default_factory=list)

    @cached_property
    def history(self) -> History:
        return history_of(self.view.records)

    @cached_property
    def holes(self) -> list[Hole]:
        """What is missing of the log, by the same rule as in ``recovery``. The floor's key hides no record."""
        return [self._hole(damage) for damage in self.view.damages if damage.path != self.names.floor]

    def run(self) -> Salvage:
        for record in self._candidates():
            if self._verifies(record):
                return self._resume_at(record)
        return self._begin()

    def _candidates(self) -> list[Record]:
        """The result and the checkpoints, what to try first in front."""
        history = self.history
        checkpoints = [one for one in to_try(history, counting(history)) if lsn_slot(needed_from(one.head)) >= self.view.floor]
        if history.finished is None:
            return checkpoints
        every = [history.finished, *checkpoints]
        # Where something behind the result is lost, the run may have been started afresh there: then the newest counts.
        lost_since = any(hole.last > history.finished.lsn for hole in self.holes)
        return sorted(every, key=lambda record: -record.lsn) if lost_since else every

    def _verifies(self, record: Record) -> bool:
        """Whether all that ``record`` names is there and right; if not, that is a loss."""
        try:
            if record.kind is Kind.CHECKPOINT:
                self._check_history(record)
                open_checkpoint(record, self.read)
            else:
                self.read(SnapshotRef.decode(record.sections[0]))
        except (IntegrityError, MissingKeyError) as error:
            path = getattr(error, "path", "") or self.names.segment(lsn_slot(record.lsn))
            result = record.kind is Kind.STATUS
            named = f"the recorded result ({lsn_text(record.lsn)})" if result else _checkpoint_text(record)
            self._lose(path, getattr(error, "offset", 0), f"{named} cannot be used: {error.what}", acknowledged=result)
            return False
        return True

    def _check_history(self, record: Record) -> None:
        """CorruptionError if operations of logged objects that the checkpoint builds upon are lost."""
        for hole in self.holes:
            if LOGGED in record.head and hole.last > needed_from(record.head) and hole.after < record.lsn:
                raise CorruptionError("operations that it builds upon are lost", path=hole.damage.path, offset=hole.damage.offset)

    def _resume_at(self, record: Record) -> Salvage:
        if record.kind is Kind.STATUS:
            operations = self._operations(record.lsn, keep=False)
        else:
            operations = self._operations(needed_from(record.head), keep=True, checkpoint=record)
        return Salvage(record, operations, False, self.losses)

    def _begin(self) -> Salvage:
        """No result and no checkpoint can be used."""
        history = self.history
        trimmed = self.view.floor > FIRST_SLOT and not history.began_lsn
        if trimmed:
            what = "no checkpoint can be used, and what was recorded before the first of them is not kept"
            self._lose(self.names.log_prefix, 0, what, acknowledged=True)
        operations = self._operations(history.began_lsn or _BEFORE_ALL, keep=not trimmed)
        got_on = trimmed or bool(history.checkpoints) or history.finished is not None
        return Salvage(None, operations, got_on, self.losses)

    def _operations(self, since: int, *, keep: bool, checkpoint: Record | None = None) -> list[Record]:
        """Those behind LSN ``since`` that are kept; the others, and what damage hides, become losses.

        Operations of logged objects are one history: behind one that is lost, none is kept.
        """
        cut = min((hole.after for hole in self.holes if hole.last > since), default=None)
        for hole in self.holes:
            self._lose_hole(hole, made_up_for=hole.last <= since)
        kept, broken = [], False
        for record in counting(self.history):
            if record.lsn <= since or (checkpoint is not None and not is_needed(record, checkpoint.head)):
                continue
            logged = LOGGED in record.head
            broken = broken or (logged and checkpoint is not None and _names_another(record, checkpoint))
            if keep and (cut is None or record.lsn <= cut) and not (logged and broken):
                kept.append(record)
            else:
                self._lose_operation(record)
        return kept

    def _hole(self, damage: Damage) -> Hole:
        slot = self.names.parse_segment(damage.path) or 0
        if damage.lsn is not None:
            return Hole(damage, damage.lsn - 1, damage.lsn)
        before = (one.lsn for number, read in self.view.segments.items() if number <= slot for one in read.parsed.records)
        return Hole(damage, max(before, default=_BEFORE_ALL), lsn_of(slot, 0xFFFFFFFF))

    def _lose_hole(self, hole: Hole, *, made_up_for: bool) -> None:
        damage = hole.damage
        if damage.lsn is not None:
            read = self.view.segments.get(self.names.parse_segment(damage.path) or 0)
            kind = kind_at(read.data, damage.offset) if read is not None else None
            hidden = f"the {kind.name if kind else 'unreadable'} record {lsn_text(damage.lsn)}"
        else:
            later = [record.lsn for record in self.view.records if record.lsn > hole.after]
            begin = f"behind {lsn_text(hole.after)}" if hole.after >= 0 else "from the beginning on"
            end = f"before {lsn_text(min(later))}" if later else "up to the end"
            hidden = f"whatever was recorded {begin} {end}"
        tail = "; a newer checkpoint or result makes up for it" if made_up_for else ""
        self._lose(damage.path, damage.offset, f"{hidden} ({damage.reason}){tail}", acknowledged=not made_up_for)

    def _lose_operation(self, record: Record) -> None:
        head = record.head
        where = f" at {head['where']}" if head.get("where") else ""
        if LOGGED in head:
            what = f"{operations_text(head)}{where} ({lsn_text(record.lsn)}): executed again if the program does the same again"
        else:
            what = f"the operation {head.get('step', '?')}{where} ({lsn_text(record.lsn)}): it will be executed again"
        self._lose(self._path_of(record), 0, what, acknowledged=True)

    def _path_of(self, record: Record) -> str:
        for slot, read in self.view.segments.items():
            if record in read.parsed.records:
                return self.names.segment(slot)
        return self.names.segment(lsn_slot(record.lsn))

    def _lose(self, path: str, offset: int, what: str, *, acknowledged: bool) -> None:
        self.losses.append(Loss(path, offset, what, acknowledged))


def _names_another(operation: Record, checkpoint: Record) -> bool:
    """Whether it is a position behind ``checkpoint`` that rests on another one."""
    number = checkpoint.head["number"]
    return operation.lsn > checkpoint.lsn and operation.head.get("checkpoint", number) != number


def packs_of(record: Record | None) -> frozenset[str]:
    """The packs that a saved ``record`` (see ``Salvage``) needs."""
    return frozenset().union(*(SnapshotRef.decode(section).packs for section in sections_of(record)))


def sections_of(record: Record | None) -> Iterator[memoryview | bytes]:
    """The references of a saved record."""
    if record is not None:
        yield from record.sections if record.kind is Kind.CHECKPOINT else record.sections[:1]


def _checkpoint_text(record: Record) -> str:
    where = f" at {record.head['where']}" if record.head.get("where") else ""
    return f"checkpoint {record.head.get('number')} ({lsn_text(record.lsn)}){where}"
