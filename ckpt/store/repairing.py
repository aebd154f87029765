"""Repair of a damaged run: what verifies becomes the whole log, the originals are kept aside, the losses are named.

Guarantees, at whatever point a repair is interrupted: the run is as damaged as before, or repaired; never an older or
emptier state of itself without a word; no original byte is ever lost; it can be started again. A live run is never
touched: whoever repairs holds its lease and has fenced off every earlier attempt. Nothing is unpickled.

The order on disk: a copy of the floor's key; FENCE(repair); copies of all that goes, and ``report.json``, below ``damaged/<slot>/``; one segment with
all that is saved, whose SEAL lifts the floor to it: the commit point; the floor's key; deletion of what was copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ckpt import host
from ckpt._version import __version__
from ckpt.errors import LossError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind, lsn_of
from ckpt.history import REPAIR, history_of
from ckpt.holder import Holder
from ckpt.log import LogView, LogWriter, Place, read_log
from ckpt.protocols import Buffer, Clock
from ckpt.recovery import moved
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef, read_snapshot
from ckpt.store.copying import copy_key
from ckpt.store.info import Finding, Repair
from ckpt.store.reading import stored_keys
from ckpt.store.removing import alone
from ckpt.store.salvage import Salvage, packs_of, salvage
from ckpt.store.verifying import verify_run

REPORT = "report.json"

Saved = tuple[Kind, Mapping[str, Any], "tuple[Buffer, ...]"]


def plan_repair(root: StoreRoot, names: RunNames) -> Repair:
    """What a repair would do. Takes no lease and writes nothing. UntrustedError, UnknownFormatError, StorageError."""
    found = _problems(root, names)
    if not found:
        return _whole(names)
    view = read_log(root.storage, names, root.key)
    saved = salvage(view, names, _reader(root, names))
    return _report(root, names, found, saved, view)


def repair_run(root: StoreRoot, names: RunNames, clock: Clock, *, accept_loss: bool, start_over: bool) -> Repair:
    """Repair the run; one without problems is left as it is.

    RunBusyError (an attempt is alive), LossError (it wants a consent that was not given; nothing was changed),
    UntrustedError, UnknownFormatError, StorageError.
    """
    with alone(root, names, clock):
        planned = plan_repair(root, names)
        if planned.found:
            _check_consent(planned, accept_loss=accept_loss, start_over=start_over)
            return _repair(root, names, clock, planned)
        return planned


def _repair(root: StoreRoot, names: RunNames, clock: Clock, planned: Repair) -> Repair:
    if names.floor in planned.aside:
        copy_key(root.storage, names.floor, f"{planned.kept_in}floor")  # first: a takeover mends it
    fence = {**Holder.this_process(clock).to_json(), REPAIR: True}
    log, view = LogWriter.take_over(Place(root.storage, names, root.key, host.entropy, clock), fence=fence)
    try:
        # Behind the FENCE nothing changes any more: what is decided now is what the plan said, or less is lost.
        saved = salvage(view, names, _reader(root, names))
        report = _report(root, names, planned.found, saved, view)
        if report.needs not in ("", planned.needs):
            fix = "look at it with `ckpt repair --dry-run`, and repair again"
            raise LossError("the run changed meanwhile", losses=_texts(report), where=names.address, fix=fix)
        report = replace(report, done=True, kept_in=planned.kept_in)
        _keep_aside(root, names, report)
        log.rewrite(_records(names, clock, view, saved, report, log.next_slot))  # Commit point.
        needed = packs_of(saved.record)
        for key in report.aside:
            if names.parse_pack(key) is not None and key not in needed:
                root.storage.delete(key)
        return report
    finally:
        log.close()


def _records(
    names: RunNames, clock: Clock, view: LogView, saved: Salvage, report: Repair, slot: int
) -> list[Saved]:
    """All that the log says after the repair, written as an attempt writes it that starts afresh and gets so far."""
    reset = {"status": "reset", "when": clock.now(), "kept_in": report.kept_in, "lost": list(_texts(report))}
    records: list[Saved] = [(Kind.STATUS, reset, ()), (Kind.STATUS, start_of(names, clock, view), ())]
    if saved.record is not None:
        head = dict(saved.record.head)
        if saved.record.kind is Kind.CHECKPOINT:
            head = moved(head, lsn_of(slot, len(records)), saved.operations)
        records.append((saved.record.kind, head, saved.record.sections))
    return records + [(record.kind, record.head, record.sections) for record in saved.operations]


def start_of(names: RunNames, clock: Clock, view: LogView) -> dict[str, Any]:
    """How the run was started last: with this it can be started again."""
    starts = history_of(view.records).starts
    if starts:
        return {**starts[-1].head, "status": "running"}
    unknown = {"command": [], "cwd": "", "python": "", "arguments": "", "code": {}, "ckpt": __version__}
    facts = {**Holder.this_process(clock).to_json(), "job": names.job, "run_id": names.run_id}
    return {**facts, **unknown, "status": "running"}


def _keep_aside(root: StoreRoot, names: RunNames, report: Repair) -> None:
    """Durable copies of what the repair will delete, as it is."""
    for key in report.aside:
        if key != names.floor:
            copy_key(root.storage, key, f"{report.kept_in}{key.removeprefix(names.prefix)}")
    if root.key.encrypts:
        return  # the report names steps and places; in the log, which is encrypted, it is all the same
    text = json.dumps(asdict(report), indent=2) + "\n"
    root.storage.put(f"{report.kept_in}{REPORT}", [text.encode()])


def _report(root: StoreRoot, names: RunNames, found: tuple[Finding, ...], saved: Salvage, view: LogView) -> Repair:
    needed = packs_of(saved.record)
    damaged = {one.path for one in found} | {one.path for one in saved.losses}  # a pack may be so only where nothing of it is needed
    keys = stored_keys(root, names).sizes
    slots = {key: names.parse_segment(key) for key in keys}
    aside = [
        key
        for key, slot in slots.items()
        if (slot is not None and slot < view.next_slot)
        or (names.parse_pack(key) is not None and (key not in needed or key in damaged))
        or key == names.floor
    ]
    return Repair(
        address=names.address,
        done=False,
        needs=saved.needs,
        resumes=saved.text,
        found=found,
        losses=tuple(saved.losses),
        kept_in=names.damaged(view.next_slot),
        aside=tuple(sorted(aside)),
    )


def _check_consent(planned: Repair, *, accept_loss: bool, start_over: bool) -> None:
    given = {"": True, "accept-loss": accept_loss or start_over, "start-over": start_over}
    if not given[planned.needs]:
        begins = "let the run begin at its beginning" if planned.needs == "start-over" else "give up what was recorded"
        what = f"a repair would {begins}; nothing was changed (it would go on at {planned.resumes})"
        fix = f"restore the store from a copy, or say so: ckpt repair --{planned.needs} {planned.address}"
        raise LossError(what, losses=_texts(planned), where=planned.address, fix=fix)


def _texts(report: Repair) -> tuple[str, ...]:
    return tuple(f"{loss.path} at byte {loss.offset}: {loss.what}" for loss in report.losses)


def _problems(root: StoreRoot, names: RunNames) -> tuple[Finding, ...]:
    return tuple(finding for finding in verify_run(root, names) if finding.serious)


def _whole(names: RunNames) -> Repair:
    return Repair(names.address, False, "", "where it is", (), (), "", ())


def _reader(root: StoreRoot, names: RunNames) -> Any:
    def read(ref: SnapshotRef) -> list[Any]:
        return read_snapshot(ref, root.storage, names, root.key)

    return read
