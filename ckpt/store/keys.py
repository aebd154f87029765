"""Which keys the runs of a store were signed with: what tells whether an old key may go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ckpt.errors import IntegrityError
from ckpt.format.names import RunNames
from ckpt.log import read_log
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef
from ckpt.store.info import Finding
from ckpt.store.verifying import references


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key that this reader has: its ``id``, whether it ``signs`` what is written, and how many ``runs`` need it."""

    id: str
    signs: bool
    runs: int


def key_uses(root: StoreRoot, every: Iterable[RunNames]) -> tuple[list[KeyUse], list[Finding]]:
    """Each key of the reader in its order, and a problem for each run that cannot be read. StorageError."""
    counts: Counter[str] = Counter()
    problems: list[Finding] = []
    for names in every:
        try:
            counts.update(_needed(root, names))
        except IntegrityError as error:
            problems.append(Finding(names.address, error.where or names.prefix, 0, error.what, True))
    return [KeyUse(key.id, key is root.key, counts[key.id]) for key in root.key.all], problems


def _needed(root: StoreRoot, names: RunNames) -> set[str]:
    """The ids of the keys of all segments of a run, and of all snapshots that its records name."""
    view = read_log(root.storage, names, root.key)
    ids = {read.parsed.header.key.id for read in view.segments.values() if read.parsed.header is not None}
    for record in view.records:
        ids |= {SnapshotRef.decode(section).key_id for section in references(record)}
    return ids
