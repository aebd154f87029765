"""Another way from an old checkpoint: ``fork`` makes a new run that starts there, ``reset`` takes the run itself back.

Guarantees: nothing stored is unpickled. A fork shares the packs of the checkpoint: each has a second key, in the fork's own
folder (a hard link, a copy in the service), so either run lets go of its own ones, and a fork needs nothing of its origin. Their
headers and the manifests are verified, their chunks are not read. A fork that is interrupted is no run (it is listed as
empty, a second fork or ``sweep`` removes it). A reset happened or it did not. Neither touches a live run: whoever resets holds its lease and has fenced off every earlier attempt.

On disk. Fork: FENCE(fork) of the new run; its packs; one segment, created whole, with STATUS(reset), STATUS(running),
the CHECKPOINT and how it came about: the commit point. Reset: FENCE(reset); one CHECKPOINT record that names the old
snapshots and covers all that was recorded until now: the commit point. Nothing is rewritten or deleted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ckpt import host
from ckpt.errors import CorruptionError, MissingKeyError, OptionError
from ckpt.format.names import RunNames, pack_origin
from ckpt.format.records import Kind, Record, lsn_of, lsn_slot
from ckpt.history import FORK, INSTEAD_OF, KEPT, RESET, History, history_of
from ckpt.holder import Holder
from ckpt.log import LogView, LogWriter, Place, read_log
from ckpt.protocols import Buffer, Clock
from ckpt.recovery import VOID, counting, is_needed, moved, needed_from, open_checkpoint, rests_to
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef, check_snapshot, read_snapshot
from ckpt.snapshot.reference import Inline
from ckpt.store.copying import share_key
from ckpt.store.info import Fork
from ckpt.store.reading import has_its_packs, stored_keys
from ckpt.store.removing import alone, sweep_run
from ckpt.store.repairing import start_of

FORK_TRIES = 100
"""Names that a fork without a name of its own tries."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A checkpoint's record, and the log that it is in, which was sorted once."""

    view: LogView
    history: History
    record: Record


def checkpoint_of(root: StoreRoot, names: RunNames, number: int | None) -> Origin:
    """Checkpoint ``number`` (None: the newest) in its log. OptionError where it is not kept."""
    view = read_log(root.storage, names, root.key)
    history = history_of(view.records)
    if history.finished is not None and history.finished.sections:
        what = "the run is finished, so only its result is kept"
        raise OptionError(what, where=names.address, fix="take a run that is not finished, or start this one afresh")
    sizes = stored_keys(root, names).sizes
    kept = [one for one in history.checkpoints if has_its_packs(one, sizes)]
    # The newest is taken even if its packs are gone: that is damage, and said to be so.
    found = [one for one in kept if one.head["number"] == number] if number is not None else history.checkpoints
    if found:
        return Origin(view, history, found[-1])
    there = ", ".join(str(one.head["number"]) for one in kept) or "none"
    what = f"checkpoint {number} is not kept" if number is not None else "the run has no checkpoint"
    raise OptionError(f"{what} (kept: {there})", where=names.address, fix="choose one of these; keep more with keep=")


def fork_run(root: StoreRoot, names: RunNames, clock: Clock, *, number: int | None, run_id: str | None) -> Fork:
    """Make a new run of the same job that goes on at a checkpoint of ``names``, which may be alive.

    OptionError (no such checkpoint; a run ``run_id`` is there), CorruptionError (it does not verify, or a live run has just
    let go of it), UntrustedError, StorageError.
    """
    origin = checkpoint_of(root, names, number)
    view, record = origin.view, origin.record
    _check_kept(view, record, names)
    number = int(record.head["number"])
    ancestors = _ancestors(record)
    if run_id in ancestors:
        what = f"packs of this checkpoint were made by a run {run_id}, and keep its name"
        raise OptionError(what, where=names.address, fix="give the fork another name: --as")
    new = RunNames(names.job, run_id) if run_id else _free_name(root, names, number, ancestors)
    sweep_run(root, new, clock)  # what an interrupted fork has left there
    with alone(root, new, clock):
        if stored_keys(root, new).slots:
            raise OptionError("there is such a run already", where=new.address, fix="give the fork another name: --as")
        fence = {**Holder.this_process(clock).to_json(), FORK: f"{names.address}@{number}"}
        log, _ = LogWriter.take_over(Place(root.storage, new, root.key, host.entropy, clock), fence=fence)
        try:
            sections, stored = _shared(root, names, new, record)
            facts = _facts(view, names, new, clock, number=number) | Holder.this_process(clock).to_json()
            rests_on = [
                one for one in counting(origin.history, record.lsn)
                if is_needed(one, record.head) and one.lsn <= rests_to(record.head)
            ]  # fmt: skip
            head = moved(record.head, lsn_of(log.next_slot, 2), rests_on)
            operations = [(one.kind, one.head, one.sections) for one in rests_on]
            log.rewrite(_fork_records(head, facts, sections, operations, clock.now()))  # Commit point.
        finally:
            log.close()
    is_block, resumable = not record.head.get("code"), bool(facts["command"])
    return Fork(new.address, names.address, number, int(record.head["nbytes"]), stored, is_block, resumable)


def _free_name(root: StoreRoot, names: RunNames, number: int, taken: set[str]) -> RunNames:
    for n in range(1, FORK_TRIES + 1):
        new = RunNames(names.job, f"{names.run_id}-at-{number}" + (f"-{n}" if n > 1 else ""))
        if new.run_id not in taken and not stored_keys(root, new).slots:
            return new
    raise OptionError("the run has many forks at this checkpoint", where=names.address, fix="give a name: --as RUN_ID")


def _shared(root: StoreRoot, names: RunNames, new: RunNames, record: Record) -> tuple[list[Buffer], int]:
    """The record's references, with the packs under keys of the new run; how many bytes passed through here for that."""
    refs = [SnapshotRef.decode(section) for section in record.sections]
    packs = {pack: new.shared_pack(pack) for ref in refs for pack in sorted(ref.packs)}
    copied = 0
    try:
        for ref in refs:
            check_snapshot(ref, root.storage, names, root.key)
        for pack, shared in packs.items():
            copied += share_key(root.storage, pack, shared)
    except MissingKeyError as error:
        fix = "fork again: a live run may just have let go of this checkpoint; else see `ckpt verify`"
        raise CorruptionError("the pack is missing", path=error.where, offset=0, fix=fix) from error
    return [_moved(ref, packs).encode() for ref in refs], copied


def _moved(ref: SnapshotRef, packs: dict[str, str]) -> SnapshotRef:
    """The reference to the same snapshot in packs with other keys: the manifest knows them by number."""
    if isinstance(ref.body, Inline):
        return ref
    return replace(ref, stored_nbytes=0, body=replace(ref.body, packs=tuple(packs[pack] for pack in ref.body.packs)))


def _ancestors(record: Record) -> set[str]:
    """The ids of the runs, besides the record's own, that packs of the checkpoint were made by."""
    packs = [pack for section in record.sections for pack in SnapshotRef.decode(section).packs]
    return {pack_origin(pack) for pack in packs if "@" in pack.rpartition("/")[2]}


def _facts(view: LogView, names: RunNames, new: RunNames, clock: Clock, *, number: int) -> dict[str, Any]:
    """What the log of a fork says of its beginning. The origin's command starts the origin: ``instead_of`` says so."""
    known = start_of(names, clock, view)
    instead_of = known.get(INSTEAD_OF) or names.address
    return {**known, "run_id": new.run_id, INSTEAD_OF: instead_of, FORK: f"{names.address}@{number}"}


def _fork_records(
    head: dict[str, Any], facts: dict[str, Any], sections: list[Buffer], operations: list[Any], now_s: float
) -> list[Any]:
    """All that the log of a fork says: written as an attempt writes it that starts afresh and gets so far."""
    ended = {
        **facts, "status": "preempted", "when": now_s, "error": None, "attempts": [],
        "seconds": 0.0, "checkpoints": 0, "stall_s": 0.0, "cost_s": 0.0,
    }  # fmt: skip
    return [
        (Kind.STATUS, {"status": "reset", "when": now_s, FORK: facts[FORK]}, []),
        (Kind.STATUS, {**facts, "status": "running"}, []),
        (Kind.CHECKPOINT, head, sections),
        *operations,
        (Kind.STATUS, ended, []),
    ]


def check_reset(root: StoreRoot, names: RunNames, clock: Clock, *, number: int) -> None:
    """Change nothing, and raise what ``reset_run`` would raise now."""
    with alone(root, names, clock):
        _to_go_back_to(root, names, number)


def reset_run(root: StoreRoot, names: RunNames, clock: Clock, *, number: int) -> int:
    """Take the run back to checkpoint ``number``; the number of the checkpoint that says so.

    Steps recorded since are executed again. RunBusyError (alive), OptionError (no such checkpoint, or finished),
    CorruptionError (the log or the checkpoint does not verify), UntrustedError, StorageError.
    """
    with alone(root, names, clock):
        origin = _to_go_back_to(root, names, number)
        fence = {**Holder.this_process(clock).to_json(), RESET: number}
        log, _ = LogWriter.take_over(Place(root.storage, names, root.key, host.entropy, clock), fence=fence)
        try:
            # Behind the FENCE nothing changes any more: an attempt may have gone on, or ended, in front of it.
            origin = _to_go_back_to(root, names, number)
            record, following = origin.record, origin.history.last_number + 1
            kept = [int(one.head["number"]) for one in origin.history.needed() if one.lsn <= rests_to(record.head)]
            head = {
                **record.head, "number": following, KEPT: [*kept, following], "covers": log.position, "reason": "reset", RESET: number,
                VOID: [rests_to(record.head), log.position], "stall_s": 0.0, "persist_s": 0.0, "interval_s": 0.0, "stored_nbytes": 0,
            }  # fmt: skip
            # Commit point: the newest checkpoint is the old one, and it covers all that was recorded since.
            log.append(Kind.CHECKPOINT, head, [bytes(section) for section in record.sections])
        finally:
            log.close()
    return following


def _to_go_back_to(root: StoreRoot, names: RunNames, number: int) -> Origin:
    """Checkpoint ``number``, if the run can be taken back to it."""
    origin = checkpoint_of(root, names, number)
    view, record = origin.view, origin.record
    _check_whole(view, names)
    if origin.history.finished is not None:
        raise OptionError("the run is finished", where=names.address, fix="fork it: ckpt fork")
    _check_kept(view, record, names)
    open_checkpoint(record, lambda ref: read_snapshot(ref, root.storage, names, root.key))
    return origin


def _check_kept(view: LogView, record: Record, names: RunNames) -> None:
    """Whether the log still has what the checkpoint rests on besides its snapshots (logged objects, maps)."""
    needed = needed_from({**record.head, "covers": view.records[-1].lsn})
    if needed >= 0 and lsn_slot(needed) < view.floor:
        what = f"what checkpoint {record.head['number']} needs is not kept"
        raise OptionError(what, where=names.address, fix="choose a newer one")
    if needed < int(record.head["covers"]):
        _check_whole(view, names)


def _check_whole(view: LogView, names: RunNames) -> None:
    """A new checkpoint would make up for damage, and what was lost there would be given up without a word."""
    for damage in view.damages:
        fix = "see `ckpt verify`, and mend it first: ckpt repair"
        raise CorruptionError(f"{damage.reason}; nothing was changed", path=damage.path, offset=damage.offset, fix=fix)


def split_checkpoint(text: str) -> tuple[str, int | None]:
    """``ADDRESS@NUMBER`` as (address, number); the number is None where none is given."""
    address, at, number = text.rpartition("@")
    return (address, int(number)) if at and number.isdecimal() else (text, None)

