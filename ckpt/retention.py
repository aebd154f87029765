"""What to keep: the newest checkpoints, the log from the oldest of them on, and the packs that they name.

Works behind the checkpointer, in its thread. Order makes it safe to die anywhere: a checkpoint is durable before an
older one goes; the log's floor is raised before its segments are deleted; a pack goes after no kept checkpoint names
it, and after the snapshot writer has forgotten its chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ckpt.format.names import RunNames
from ckpt.format.records import Kind, lsn_slot
from ckpt.log import LogWriter
from ckpt.protocols import Storage
from ckpt.snapshot import SnapshotWriter

ROTATE_BYTES = 256 << 10
"""A segment this long is closed at a checkpoint, so that the log before it can go. What a resume has to read is so
bounded by what is recorded between some checkpoints; reading this much takes about ten milliseconds."""


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint that stays: its record, the LSN behind which a resume from it needs the log, and the packs that it draws on.

    ``number`` is 0 where no resume goes on from it as things are: the run was taken back over it, or it was passed over.
    """

    lsn: int
    needed_from: int
    packs: frozenset[str]
    number: int = 0


class Retention:
    """Keeps the ``keep`` newest checkpoints of one run."""

    def __init__(
        self, storage: Storage, names: RunNames, log: LogWriter, snapshots: SnapshotWriter, *, keep: int,
        running: Mapping[str, Any],
    ) -> None:
        """``running`` is repeated in time: how to start the run again must survive trimming."""
        self._storage, self._names, self._log, self._snapshots = storage, names, log, snapshots
        self._keep, self._running = keep, running
        self._told_in = -1
        self._kept: deque[KeptCheckpoint] = deque()

    def recovered(self, kept: list[KeptCheckpoint]) -> None:
        """The checkpoints that were there when the attempt began: what is let go of first in front, what the run goes on
        from at the end."""
        self._kept.extend(kept)

    def numbers_with(self, number: int) -> list[int]:
        """The checkpoints that a resume may go on from once ``number`` is committed."""
        there = [one.number for one in self._kept][max(0, len(self._kept) + 1 - self._keep) :]
        return [*filter(None, there), number]

    def committed(self, lsn: int, needed_from: int, packs: frozenset[str], number: int = 0) -> None:
        """A checkpoint is durable: let go of what only older ones need. StorageError leaves too much, never too little."""
        self._kept.append(KeptCheckpoint(lsn, needed_from, packs, number))
        dropped: set[str] = set()
        while len(self._kept) > self._keep:
            dropped |= self._kept.popleft().packs
        if self._log.segment_bytes > ROTATE_BYTES:
            self._log.rotate()
            self._tell()
        # Of all, not of the oldest: one that the run was taken back to by `ckpt reset` needs more than older ones.
        before = min(min(one.needed_from, one.lsn) for one in self._kept)
        if lsn_slot(before) > max(self._told_in, self._log.floor):
            self._tell()  # durable with the SEAL of the trim that would take away what told it before
        self._log.trim(before)
        self.delete_packs(dropped)

    def _tell(self) -> None:
        self._told_in = lsn_slot(self._log.append(Kind.STATUS, self._running, durable=False))

    def delete_packs(self, packs: set[str]) -> None:
        """Delete those of ``packs`` that no kept checkpoint names."""
        gone = packs - {pack for one in self._kept for pack in one.packs}
        if not gone:
            return
        self._snapshots.forget(gone)
        for pack in sorted(gone):
            self._storage.delete(pack)

    def sweep_orphans(self) -> None:
        """Delete packs that earlier attempts wrote and no kept checkpoint names. Only after taking the run over."""
        epoch = self._log.epoch
        orphans: set[str] = set()
        for key in self._storage.list(self._names.pack_prefix):
            parsed = self._names.parse_pack(key)
            if parsed is not None and parsed[0] < epoch:
                orphans.add(key)
        self.delete_packs(orphans)

    def finished(self, lsn: int, packs: frozenset[str]) -> None:
        """The run is over: only its result stays."""
        dropped: set[str] = set()
        while self._kept:
            dropped |= self._kept.popleft().packs
        self._kept.append(KeptCheckpoint(lsn, lsn, packs))
        self._log.trim(lsn)
        self.delete_packs(dropped)
