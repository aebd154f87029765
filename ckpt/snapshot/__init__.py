"""Snapshots: the image of a staged state as content-addressed chunks in packs, and back.

``SnapshotWriter.write`` turns a staged state into a ``SnapshotRef``, which a CHECKPOINT record then names;
``read_snapshot`` turns the reference into the parts again. A snapshot is durable before its reference exists, and
nothing is returned from storage that does not verify under the run's key. docs/format.md has the bytes.
"""

from ckpt.snapshot.reader import check_snapshot, read_snapshot
from ckpt.snapshot.reference import SnapshotRef
from ckpt.snapshot.writer import SnapshotWriter

__all__ = ["SnapshotRef", "SnapshotWriter", "check_snapshot", "read_snapshot"]
