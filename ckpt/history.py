"""What the records of a run tell, sorted once: its attempts, how they ended, and what counts of its state. No I/O.

Recovery decides by it where a run goes on, and the command line shows it: both see the same run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ckpt.format.records import Kind, Record

REMOVAL = "removal"
"""Key in the head of the FENCE by which ``remove`` takes a run over: no attempt at the run."""

REPAIR = "repair"
"""Key in the head of the FENCE by which ``repair`` takes a run over: no attempt at the run either."""

FORK, RESET = "fork", "reset_to"
"""Keys in the heads of the FENCEs of ``fork`` (with the origin) and ``reset`` (with the checkpoint's number)."""

INSTEAD_OF = "instead_of"
"""Key in the heads that tell how an attempt of a fork was started: its command by itself starts the run of this address."""

IDENTIFIED_BY = "identified_by"
"""Key in the heads that tell how an attempt was started: the run id that its arguments make, if they name the run, or
the one that it is a fork of."""

AFRESH = "afresh"
"""Key in the heads of STATUS and CHECKPOINT records: the attempt that started the run afresh, if one did. Trims leave it."""

KEPT = "kept"
"""Key in the heads of CHECKPOINT records: the numbers of the checkpoints that a resume may go on from when it is committed."""

RETRY = "retry"
"""Key in the head of the FENCE by which ``retry`` takes a run over."""

UPKEEP = frozenset({REMOVAL, REPAIR, FORK, RESET, RETRY})
"""FENCEs with one of these begin no attempt at the run."""

ENDINGS = ("finished", "failed", "preempted")
"""What a STATUS record says of an attempt's end. Others say how it was started, or that it starts afresh."""


@dataclass(slots=True)
class History:
    """Records of one run by what they tell, each list in the order of the log.

    ``checkpoints`` and ``operations``: those that count, so none from before the run was last started afresh, by the STATUS
    record ``began_lsn`` of the attempt ``reset_by`` (0, 0: it never was, or that record is trimmed; ``afresh`` still knows the
    attempt that did it as one of the run). ``finished``: the STATUS record that holds the
    result of a run that is over. ``starts``: for each attempt the record that tells how it was started: its FENCE, or what
    repeats it after a trim. ``outcomes``: how attempts said that they ended.
    """

    checkpoints: list[Record] = field(default_factory=list)
    operations: list[Record] = field(default_factory=list)
    finished: Record | None = None
    began_lsn: int = 0
    reset_by: int = 0
    afresh: int = 0
    starts: list[Record] = field(default_factory=list)
    outcomes: list[Record] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether the newest attempt, or the run, has said that it is over; also if there was none."""
        if not self.starts or self.finished is not None:
            return True
        return any(record.epoch == self.starts[-1].epoch for record in self.outcomes)

    def needed(self) -> list[Record]:
        """The records whose snapshots have to be there: of a finished run its result, else (or if items failed) the kept checkpoints."""
        kept = self._kept()
        if self.finished is not None:
            # A run with failed items may be reopened.
            return [self.finished, *(kept if self.finished.head.get("letters") else ())]
        return kept

    def _kept(self) -> list[Record]:
        if not self.checkpoints:
            return []
        newest = self.checkpoints[-1].head
        if KEPT in newest:
            return [one for one in self.checkpoints if one.head["number"] in newest[KEPT]]
        return self.checkpoints[-newest.get("keep", 1) :]  # in older logs: all of the newest ones

    @property
    def last_number(self) -> int:
        """The highest number of a checkpoint; 0 if there is none. No other one is ever given it."""
        return max((int(one.head["number"]) for one in self.checkpoints), default=0)


def ending_of(record: Record) -> str:
    """How an attempt ended, by its STATUS record. What ``ckpt fork`` writes is no attempt that was asked to stop."""
    return "forked" if FORK in record.head else str(record.head["status"])


def history_of(records: Iterable[Record]) -> History:
    """Sort the records of a log, or of its newest segments. Nothing before the last "reset" counts."""
    history, starts = History(), dict[int, Record]()
    for record in records:
        if AFRESH in record.head:
            history.afresh = int(record.head[AFRESH])
        status = record.head.get("status") if record.kind is Kind.STATUS else None
        if record.kind is Kind.CHECKPOINT:
            history.checkpoints.append(record)
        elif record.kind is Kind.OPERATION:
            history.operations.append(record)
        elif status == "running" or (record.kind is Kind.FENCE and not record.head.keys() & UPKEEP):
            starts.setdefault(record.epoch, record)
        elif status == "reset":
            afresh = int(record.head.get(AFRESH, history.afresh))
            history = History(began_lsn=record.lsn, reset_by=record.epoch, afresh=afresh, outcomes=history.outcomes)
        elif status == "reopened":
            # Items that failed are to be tried again. The last state of a block is behind all of them.
            history.finished = None
            history.checkpoints = [one for one in history.checkpoints if one.head.get("reason") != "final"]
        elif status in ENDINGS:
            history.outcomes.append(record)
            history.finished = record if status == "finished" else history.finished
    history.starts = [*starts.values()]
    return history
