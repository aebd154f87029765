"""What was promised, in plain sets and lists, and whether it is kept. Knows nothing of the code that it judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(slots=True)
class Operation:
    """Operation ``number``, the ``order``-th of attempt ``epoch``.

    ``queued``: accepted, not yet durable; ``acknowledged``: durable, and said so; ``unknown``: its append raised.
    """

    number: int
    epoch: int
    order: int
    status: str = "queued"


@dataclass(slots=True)
class Model:
    """The history of one run as its attempts saw it."""

    operations: dict[int, Operation] = field(default_factory=dict)
    by_epoch: dict[int, list[Operation]] = field(default_factory=dict)
    recovered: dict[int, frozenset[int]] = field(default_factory=dict)
    """Epoch -> the operations that this attempt found. From then on the history before it is fixed."""
    checkpoints: dict[int, int] = field(default_factory=dict)
    """Epoch -> LSN of the newest checkpoint that was acknowledged to it."""

    def begins(self, epoch: int) -> None:
        """An attempt's takeover has returned."""
        if epoch in self.by_epoch:
            raise Violation(f"two attempts have epoch {epoch}")
        self.by_epoch[epoch] = []

    def appended(self, epoch: int, number: int) -> None:
        """An attempt is about to append."""
        mine = self.by_epoch[epoch]
        operation = Operation(number, epoch, len(mine))
        mine.append(operation)
        self.operations[number] = operation

    def failed(self, number: int) -> None:
        """The append raised: the operation may be there or not."""
        self.operations[number].status = "unknown"

    def acknowledged(self, epoch: int) -> None:
        """All that this attempt queued so far is durable, it was told."""
        for operation in self.by_epoch[epoch]:
            if operation.status == "queued":
                operation.status = "acknowledged"
                self._check_not_overtaken(operation)

    def checkpointed(self, epoch: int, lsn: int) -> None:
        """A checkpoint was acknowledged, and all that was queued before it."""
        self.acknowledged(epoch)
        self.checkpoints[epoch] = lsn

    def recovers(self, epoch: int, found: Sequence[int], checkpoint_lsn: int | None) -> None:
        """An attempt goes on from ``found``, with a checkpoint at ``checkpoint_lsn`` (-1: none; None: an older one will
        do, as long as it leads to the same place)."""
        there = frozenset(found)
        if len(there) != len(found):
            raise Violation(f"attempt {epoch} found an operation twice: {list(found)}")
        for operation in self.operations.values():
            if operation.status == "acknowledged" and operation.epoch < epoch and operation.number not in there:
                raise Violation(f"attempt {epoch} lost acknowledged operation {operation.number} of {operation.epoch}")
        places = [(self.operations[n].epoch, self.operations[n].order) for n in found]
        if places != sorted(places):
            raise Violation(f"attempt {epoch} found operations in another order: {list(found)}")
        self._check_gaps(epoch, there)
        for earlier, fixed in self.recovered.items():
            before = {number for number in there if self.operations[number].epoch < earlier}
            if earlier < epoch and before != fixed:
                raise Violation(f"attempt {earlier} found {sorted(fixed)}, attempt {epoch} {sorted(before)}")
        if checkpoint_lsn is not None and any(checkpoint_lsn < lsn for earlier, lsn in self.checkpoints.items() if earlier < epoch):
            raise Violation(f"attempt {epoch} went back behind an acknowledged checkpoint")
        self.recovered[epoch] = there

    def _check_gaps(self, epoch: int, there: frozenset[int]) -> None:
        for operations in self.by_epoch.values():
            last = max((one.order for one in operations if one.number in there), default=-1)
            for one in operations[: last + 1]:
                if one.number not in there and one.status != "unknown":
                    raise Violation(f"attempt {epoch} found a gap: operation {one.number} is missing")

    def _check_not_overtaken(self, operation: Operation) -> None:
        for epoch, there in self.recovered.items():
            if epoch > operation.epoch and operation.number not in there:
                raise Violation(
                    f"attempt {operation.epoch} was told that operation {operation.number} is recorded, "
                    f"and attempt {epoch} has gone on without it"
                )
