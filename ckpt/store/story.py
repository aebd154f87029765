"""What the records of a run tell, sorted once: its attempts, how they ended, and what counts of its state. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ckpt.format.records import Kind, Record

REMOVAL = "removal"
"""Key in the head of the FENCE by which ``remove`` takes a run over: no attempt at the run."""

REPAIR = "repair"
"""Key in the head of the FENCE by which ``repair`` takes a run over: no attempt at the run either."""

FORK, RESET = "fork", "reset_to"
"""Keys in the heads of the FENCEs of ``fork`` (with the origin) and ``reset`` (with the checkpoint's number)."""

INSTEAD_OF = "instead_of"
"""Key in the heads that tell how an attempt of a fork was started: its command by itself starts the run of this address."""

RETRY = "retry"
"""Key in the head of the FENCE by which ``retry`` takes a run over."""

UPKEEP = frozenset({REMOVAL, REPAIR, FORK, RESET, RETRY})
"""FENCEs with one of these begin no attempt at the run."""

ENDINGS = ("finished", "failed", "preempted")
"""What a STATUS record says of an attempt's end. Others say how it was started, or that it starts afresh."""


@dataclass(frozen=True, slots=True)
class Story:
    """Records of one run by what they tell, each list in the order of the log.

    ``starts``: for each attempt the record that tells how it was started: its FENCE, or what repeats it after a trim.
    ``outcomes``: how attempts said that they ended. ``checkpoints`` and ``operations``: those that count, so none from
    before the run was last started afresh, which the attempt ``reset_by`` did (0: none). ``finish`` holds the result.
    """

    starts: list[Record]
    outcomes: list[Record]
    checkpoints: list[Record]
    operations: list[Record]
    finish: Record | None
    reset_by: int

    @property
    def ended(self) -> bool:
        """Whether the newest attempt, or the run, has said that it is over; also if there was none."""
        if not self.starts or self.finish is not None:
            return True
        return any(record.epoch == self.starts[-1].epoch for record in self.outcomes)

    def needed(self) -> list[Record]:
        """The records whose snapshots have to be there: of a finished run its result, else (or if items failed) the kept checkpoints."""
        kept = self.checkpoints[-self.checkpoints[-1].head.get("keep", 1) :] if self.checkpoints else []
        if self.finish is not None:
            # A run with failed items may be reopened.
            return [self.finish, *(kept if self.finish.head.get("letters") else ())]
        return kept


def story_of(records: Iterable[Record]) -> Story:
    """Sort the records of a log, or of its newest segments."""
    starts: dict[int, Record] = {}
    outcomes: list[Record] = []
    checkpoints: list[Record] = []
    operations: list[Record] = []
    finish, reset_by = None, 0
    for record in records:
        status = record.head.get("status") if record.kind is Kind.STATUS else None
        if record.kind is Kind.CHECKPOINT:
            checkpoints.append(record)
        elif record.kind is Kind.OPERATION:
            operations.append(record)
        elif status == "running" or (record.kind is Kind.FENCE and not record.head.keys() & UPKEEP):
            starts.setdefault(record.epoch, record)
        elif status == "reset":
            checkpoints, operations, finish, reset_by = [], [], None, record.epoch
        elif status == "reopened":
            finish = None
        elif status in ENDINGS:
            outcomes.append(record)
            finish = record if status == "finished" else finish
    return Story([*starts.values()], outcomes, checkpoints, operations, finish, reset_by)
