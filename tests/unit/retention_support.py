"""A run whose checkpoints a test takes by hand, on a storage that notes every call and fails where it is told to."""

from __future__ import annotations

from dataclasses import dataclass, field

from unit.log_doubles import KEY, NAMES, take_over
from unit.snapshot_doubles import fresh_storage, noise

from ckpt.format.records import Kind
from ckpt.history import history_of
from ckpt.log import LogWriter, read_log
from ckpt.protocols import Storage
from ckpt.retention import Retention
from ckpt.snapshot import SnapshotRef, SnapshotWriter, read_snapshot
from ckpt.staging import Stager
from ckpt.testing import FaultPlan, FaultyStorage

RUNNING = {"status": "running", "command": ["python", "job.py"]}


@dataclass
class Kit:
    """One attempt."""

    storage: Storage
    plan: FaultPlan
    log: LogWriter
    snapshots: SnapshotWriter
    retention: Retention
    taken: list[tuple[SnapshotRef, list[bytes]]] = field(default_factory=list)

    @classmethod
    def begin(cls, storage: Storage | None = None, keep: int = 2) -> Kit:
        """The first attempt on a storage of its own, or the next one on ``storage``."""
        plan = FaultPlan()
        faulty = FaultyStorage(storage or fresh_storage(), plan)
        log, _ = take_over(faulty)
        snapshots = SnapshotWriter(faulty, NAMES, KEY, log.epoch, inline_limit=0)
        return cls(faulty, plan, log, snapshots, Retention(faulty, NAMES, log, snapshots, keep=keep, running=RUNNING))

    def save(self, *contents: bytes) -> SnapshotRef:
        # A skeleton of its own: nothing but equal contents ties two checkpoints together.
        staged = Stager().stage(b"".join(one[:32] for one in contents), contents)
        try:
            return self.snapshots.write(staged)
        finally:
            staged.release()

    def operation(self, n: int) -> int:
        return self.log.append(Kind.OPERATION, {"n": n}, [b"result"])

    def commit(self, *contents: bytes, late_operation: int | None = None) -> tuple[int, int, frozenset[str]]:
        """Append a checkpoint of ``contents``: (lsn, covers, packs), as ``Retention.committed`` wants them."""
        covers = self.log.position
        ref = self.save(*contents)
        if late_operation is not None:
            self.operation(late_operation)  # a step that is recorded while the checkpoint is written
        number = len(self.taken) + 1
        lsn = self.log.append(Kind.CHECKPOINT, {"number": number, "covers": covers}, [ref.encode()])
        self.taken.append((ref, [bytes(one) for one in contents]))
        return lsn, covers, ref.packs

    def checkpoint(self, *contents: bytes, late_operation: int | None = None) -> None:
        """Commit one and let go of what is old."""
        self.retention.committed(*self.commit(*contents, late_operation=late_operation))

    def packs(self) -> set[str]:
        return set(self.storage.list(NAMES.pack_prefix))

    def check_readable(self, newest: int) -> None:
        """The ``newest`` checkpoints are in the log, which has no gap, and lead to their contents."""
        view = read_log(self.storage, NAMES, KEY)
        assert not view.damages
        assert history_of(view.records).starts, "nothing in the log tells how the run is started again"
        numbers = [record.head["number"] for record in view.records if record.kind == Kind.CHECKPOINT]
        wanted = list(range(len(self.taken) - newest + 1, len(self.taken) + 1))
        assert numbers[-newest:] == wanted
        for ref, contents in self.taken[-newest:]:
            parts = read_snapshot(ref, self.storage, NAMES, KEY)
            assert [bytes(part) for part in parts[1:]] == contents


def big(seed: int) -> bytes:
    """Contents that need a pack of their own."""
    return noise(seed, 40_000)
