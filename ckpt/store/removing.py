"""Removing runs, and what crashes left behind. Guarantees that hold at whatever point a removal is interrupted:

* a half-removed run never looks like an older state of itself: it is whole, or it has nothing to resume from;
* it can be removed again, and ``sweep`` finishes it;
* a live run is never touched: whoever removes holds the run's lease and has fenced off every earlier attempt.

The order on disk: FENCE(removal); STATUS(reset), the commit point: nothing older counts from here on; floor raised to
the FENCE; old segments; packs; the floor's key; the segments from the FENCE on; all other keys; the lock last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ckpt import host
from ckpt.errors import RunBusyError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind, lsn_of
from ckpt.history import FORK, REMOVAL, history_of
from ckpt.holder import Holder
from ckpt.lease import WAIT, acquire
from ckpt.log import LogView, LogWriter, Place, read_log
from ckpt.protocols import Clock
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef
from ckpt.store.reading import Stored, stored_keys
from ckpt.store.verifying import references


@contextlib.contextmanager
def alone(root: StoreRoot, names: RunNames, clock: Clock) -> Iterator[None]:
    """Hold the run's lease. RunBusyError if an attempt is alive."""
    try:
        held = acquire(root.storage, names, holder=Holder.this_process(clock), wait_s=None, clock=clock)
    except RunBusyError as error:
        error.fix = error.fix.replace(WAIT, "wait until it has ended")  # nothing here has an option to wait
        raise
    try:
        yield
    finally:
        held.release()


def remove_run(root: StoreRoot, names: RunNames, clock: Clock) -> Stored:
    """Remove the run; returns what was removed. RunBusyError, UntrustedError, UnknownFormatError, StorageError."""
    with alone(root, names, clock):
        return _remove(root, names, clock)


def _remove(root: StoreRoot, names: RunNames, clock: Clock) -> Stored:
    stored = stored_keys(root, names)
    fence = _fence_off(root, names, clock) if stored.slots else 0
    slots = stored_keys(root, names).slots
    packs = [key for key in stored.sizes if names.parse_pack(key) is not None]
    first = [names.segment(slot) for slot in slots if slot < fence]
    # The floor is named in the last segment too, so a log without the floor's key is still understood; downwards,
    # because the FENCE has to outlive what only makes sense behind it.
    last = [names.floor] + [names.segment(slot) for slot in reversed(slots) if slot >= fence]
    others = [key for key in stored.sizes if key not in {*packs, *first, *last, names.lock}]
    for key in [*first, *packs, *last, *others, names.lock]:
        root.storage.delete(key)
    return stored


def _fence_off(root: StoreRoot, names: RunNames, clock: Clock) -> int:
    """Take the log over and cut off all that was in it; the slot of the FENCE."""
    fence = {**Holder.this_process(clock).to_json(), REMOVAL: True}
    writer, view = LogWriter.take_over(Place(root.storage, names, root.key, host.entropy, clock), fence=fence)
    try:
        writer.append(Kind.STATUS, {"status": "reset"})  # Commit point: nothing older counts from here on.
        writer.trim(lsn_of(view.next_slot, 0))
    finally:
        writer.close()
    return view.next_slot


def sweep_run(root: StoreRoot, names: RunNames, clock: Clock) -> list[tuple[str, int]]:
    """Finish a removal, or remove packs that no record needs: (key, bytes) of what went. Live runs are left alone."""
    try:
        with alone(root, names, clock):
            stored = stored_keys(root, names)
            view = read_log(root.storage, names, root.key)
            if _half_removed(view, stored):
                return sorted(_remove(root, names, clock).sizes.items())
            if view.damages:
                # What the lost records needed is unknown, so nothing here is known to be an orphan.
                return []
            return _sweep_orphans(root, names, view, stored)
    except RunBusyError:
        return []


def _half_removed(view: LogView, stored: Stored) -> bool:
    fences = [record for record in view.records if record.kind is Kind.FENCE]
    if not fences:
        return not stored.slots
    # The segment of a fork that was made lifts the floor over its FENCE.
    return bool(fences[-1].head.keys() & {REMOVAL, FORK})


def _sweep_orphans(root: StoreRoot, names: RunNames, view: LogView, stored: Stored) -> list[tuple[str, int]]:
    wanted: set[str] = set()
    must = history_of(view.records).needed()
    # Of a finished run only the result is wanted; of others whatever a record names, to be on the safe side.
    for record in must if must and must[0].kind is Kind.STATUS else view.records:
        for section in references(record):
            wanted |= SnapshotRef.decode(section).packs
    removed = []
    for key, size in stored.sizes.items():
        if names.parse_pack(key) is not None and key not in wanted:
            root.storage.delete(key)
            removed.append((key, size))
    return removed
