"""From log records to what the CLI shows. Reads as little as it can; decodes heads only, never a pickled section."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ckpt.errors import IntegrityError, MissingKeyError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind, Record, lsn_slot, lsn_text
from ckpt.format.segment import Choose, Damage, ParsedSegment, TornTail, newest_only, parse_segment
from ckpt.history import FORK, INSTEAD_OF, History, ending_of, history_of
from ckpt.lease import current_holder
from ckpt.letters import MOVED
from ckpt.protocols import SizingStorage, Storage
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef
from ckpt.storage import is_in_process, local_path
from ckpt.store.info import Attempt, Checkpoint, Entry, Finding, Outcome, RunInfo, RunSummary, Status


@dataclass(frozen=True, slots=True)
class Stored:
    """The keys of one run with their sizes in bytes; the slots of its segments in order."""

    sizes: dict[str, int]
    slots: list[int]

    @property
    def nbytes(self) -> int:
        return sum(self.sizes.values())


def sizes_below(storage: Storage, prefix: str) -> dict[str, int]:
    """The keys that start with ``prefix``, with their lengths in bytes. Keys that vanish meanwhile do not count."""
    if isinstance(storage, SizingStorage):
        return storage.sizes(prefix)
    sizes = {}
    for key in storage.list(prefix):
        try:
            sizes[key] = storage.size(key)
        except MissingKeyError:
            continue
    return sizes


def stored_keys(root: StoreRoot, names: RunNames, sizes: dict[str, int] | None = None) -> Stored:
    """What the run occupies; ``sizes``: what it had just now."""
    if sizes is None:
        sizes = dict(sorted(sizes_below(root.storage, names.prefix).items()))
    slots = sorted(slot for key in sizes if (slot := names.parse_segment(key)) is not None)
    return Stored(sizes, slots)


def summarize(root: StoreRoot, names: RunNames, sizes: dict[str, int]) -> RunSummary:
    """One run's line in a list, from its newest segments: back to the newest checkpoint and FENCE, no further.

    ``sizes`` are those of all keys of the run. Only what was read is verified. UntrustedError, UnknownFormatError,
    StorageError.
    """
    stored = stored_keys(root, names, sizes)
    records: list[Record] = []
    history, damaged, floor = History(), False, 0
    for slot in reversed(stored.slots):
        parsed = read_segment(root, names, slot, newest_only) if slot >= floor else None
        if parsed is None:
            continue
        # What a trim has cut off does not count, even if it died before it deleted anything.
        floor = max(floor, max(map(_floor, parsed.records), default=0))
        records = [*parsed.records, *records] if records else parsed.records
        damaged = damaged or bool(parsed.damages)
        history = history_of(records)
        if history.starts and history.checkpoints:
            break
    status = "damaged" if damaged else _run_status(history, _alive_now(root, names, history))
    return _summary(names, stored, records, history, status)


def _floor(record: Record) -> int:
    """The lowest slot that counts, as a SEAL says it; 0 for other records."""
    floor = record.head.get("floor", 0) if record.kind is Kind.SEAL else 0
    return floor if isinstance(floor, int) else 0


def _alive_now(root: StoreRoot, names: RunNames, history: History) -> bool | None:
    """As ``is_alive``, without looking where the newest attempt has said that it ended."""
    return False if history.ended else is_alive(root, names)


def read_segment(root: StoreRoot, names: RunNames, slot: int, choose: Choose | None = None) -> ParsedSegment | None:
    """The verified segment of ``slot``, ``choose`` as for ``parse_segment``; None if it is not there (any more)."""
    try:
        data = root.storage.get(names.segment(slot))
    except MissingKeyError:
        return None
    return parse_segment(data, root.key, names, slot, choose=choose)


def is_alive(root: StoreRoot, names: RunNames) -> bool | None:
    """Whether an attempt of the run is alive; None where a remote store names one that cannot be seen from here."""
    holder = current_holder(root.storage, names)
    if holder is None:
        return False
    kernel_knows = local_path(root.storage) is not None or is_in_process(root.storage)
    return True if kernel_knows else holder.alive()


def _summary(names: RunNames, stored: Stored, records: list[Record], history: History, status: Status) -> RunSummary:
    starts, checkpoints = history.starts, history.checkpoints
    moments = [moment for record in records if (moment := _moment(record)) is not None]
    return RunSummary(
        address=names.address,
        status=status,
        attempts=starts[-1].epoch if starts else max((record.epoch for record in records), default=0),
        checkpoints=checkpoints[-1].head["number"] if checkpoints else 0,
        nbytes=stored.nbytes,
        last_activity=max(moments, default=None),
        position="done" if status == "finished" else _reached(history),
        arguments=str(starts[-1].head.get("arguments", "")) if starts else "",
    )


def _run_status(history: History, alive: bool | None) -> Status:
    if history.finished is not None:
        return "finished"
    if not history.starts or history.starts[-1].epoch < history.reset_by:
        # A removal has begun after the last attempt; or its beginning was trimmed away when the run was finished.
        last = history.outcomes[-1] if history.outcomes else None
        was_finished = last is not None and last.head["status"] == "finished" and last.epoch >= history.reset_by
        return "reopened" if was_finished else "empty"
    return _attempt_status(history.starts[-1], history, alive=alive)


def _attempt_status(start: Record, history: History, *, alive: bool | None) -> Status:
    spoken: Status | None = None
    for record in history.outcomes:
        if record.epoch == start.epoch:
            spoken = record.head["status"]
    if FORK in start.head:
        return "forked"
    if spoken == "finished" and history.finished is None and start is history.starts[-1]:
        return "reopened"
    # What cannot be seen counts as running as long as nobody has taken the run over.
    return spoken or ("crashed" if alive is False else "running")


def _moment(record: Record) -> float | None:
    moment = record.head.get("when", record.head.get("started"))
    return float(moment) if isinstance(moment, int | float) else None


def _newest_position(history: History) -> Mapping[str, Any]:
    """The head of the record from which a resume goes on: the newest checkpoint, or a position recorded since."""
    newest = history.checkpoints[-1]
    since = (one for one in reversed(history.operations) if one.lsn > newest.lsn and "path" in one.head)
    return next(since, newest).head


def _reached(history: History) -> str:
    """How far the run is saved. Where no loop says that, what is recorded does: a bare map has nothing else."""
    if not history.checkpoints:
        return ""
    position = _position(_newest_position(history))
    items = _recorded_since(history).get("items", 0)
    return f"{position}, {items:,} item{'s' * (items != 1)} recorded" if position == "start" and items else position


def _recorded_since(history: History) -> dict[str, int]:
    """How many steps, items of maps and operations of logged objects are recorded behind the newest checkpoint."""
    behind = history.checkpoints[-1].lsn if history.checkpoints else -1
    found: dict[str, int] = {}
    for record in history.operations:
        kind = "operations" if "logged" in record.head else "items" if "items" in record.head else "steps"
        if record.lsn > behind and (count := _count(record)):
            found[kind] = found.get(kind, 0) + count
    return found


def _position(head: Mapping[str, Any]) -> str:
    return str(head.get("where", ""))


def describe(
    root: StoreRoot, names: RunNames, records: list[Record], damages: list[Damage], torn: list[TornTail]
) -> RunInfo:
    """All about one run, from its verified records."""
    history = history_of(records)
    checkpoints, starts = history.checkpoints, history.starts
    recorded = _recorded_since(history)
    only_result = history.finished is not None and bool(history.finished.sections)
    last = history.finished or (history.outcomes[-1] if history.outcomes else None)
    if last is not None and last.head["status"] == "finished" and last is not history.finished:
        last = None  # `ckpt retry` has opened the run again
    settled = last is not None and (last is history.finished or bool(starts and starts[-1].epoch == last.epoch))
    alive = _alive_now(root, names, history)
    status = "damaged" if damages else _run_status(history, alive)
    stored = stored_keys(root, names)
    summary = _summary(names, stored, records, history, status)
    return RunInfo(
        summary=summary,
        arguments=summary.arguments,
        alive=alive,
        attempts=(
            *_early_attempts(records, history),
            *(_attempt(start, records, history, alive=alive if start is starts[-1] else False) for start in starts),
        ),
        checkpoints=tuple(_checkpoint(record, stored.sizes, ended=only_result) for record in checkpoints),
        operations=sum(recorded.values()),
        recorded=recorded,
        log_position=lsn_text(records[-1].lsn) if records else "",
        outcome=_outcome(last) if last is not None and settled else None,
        damages=tuple(damage_findings(names, damages)),
        torn=tuple(torn_findings(names, torn)),
        every=str(starts[-1].head.get("every", "")) if starts else "",
        wait_s=checkpoints[-1].head.get("wait_s") if checkpoints else None,
        forked_from=next((str(start.head[FORK]) for start in starts if FORK in start.head), ""),
    )


def _count(record: Record) -> int:
    """The operations that a record holds."""
    if "logged" in record.head:
        return int(record.head["logged"]["count"])
    return 0 if MOVED in record.head else int(record.head.get("items", 1))


def damage_findings(names: RunNames, damages: Iterable[Damage]) -> list[Finding]:
    """What of a log does not verify, as problems."""
    return [Finding(names.address, damage.path, damage.offset, damage.reason, True) for damage in damages]


def torn_findings(names: RunNames, torn: Iterable[TornTail]) -> list[Finding]:
    """Ends of segments that were never acknowledged, as notes."""
    return [
        Finding(names.address, tail.path, tail.offset, f"{tail.length} bytes of a torn write that never counted", False)
        for tail in torn
    ]


def _early_attempts(records: list[Record], history: History) -> list[Attempt]:
    """Attempts whose records a trim cut off, from the list that checkpoints repeat."""
    known = {start.epoch for start in history.starts}
    spoken: dict[int, Any] = {record.epoch: ending_of(record) for record in history.outcomes}
    found: dict[int, Attempt] = {}
    for record in records:
        for one in record.head.get("attempts", ()):
            number = one["attempt"]
            if number not in known:
                how, lived_s = spoken.get(number, one.get("how", "ended")), one.get("lived_s")
                ended = None if lived_s is None else one["started"] + lived_s
                found[number] = Attempt(number, how, one["host"], one["pid"], one["started"], ended, (), "", "", "")
    return [found[number] for number in sorted(found)]


def _attempt(start: Record, records: list[Record], history: History, *, alive: bool | None) -> Attempt:
    head = start.head
    moments = [m for record in records if record.epoch == start.epoch and (m := _moment(record)) is not None]
    return Attempt(
        number=start.epoch,
        status=_attempt_status(start, history, alive=alive),
        host=head["host"],
        pid=head["pid"],
        started=head["started"],
        ended=max(moments, default=head["started"]),
        command=tuple(head["command"]),
        cwd=head["cwd"],
        python=head["python"],
        ckpt=head["ckpt"],
        instead_of=str(head.get(INSTEAD_OF, "")),
    )


def has_its_packs(record: Record, sizes: Mapping[str, int]) -> bool:
    """Whether the packs that the record of a checkpoint names are among the keys of the run: it can be gone back to."""
    try:
        return all(pack in sizes for section in record.sections for pack in SnapshotRef.decode(section).packs)
    except IntegrityError:
        return False


def _checkpoint(record: Record, sizes: Mapping[str, int], *, ended: bool) -> Checkpoint:
    """``ended``: the job is over, and nothing but its result is kept."""
    head = record.head
    return Checkpoint(
        number=head["number"],
        attempt=record.epoch,
        lsn=lsn_text(record.lsn),
        when=head["when"],
        reason=head["reason"],
        position=_position(head),
        stall_s=head["stall_s"],
        persist_s=head["persist_s"],
        interval_s=head["interval_s"],
        nbytes=head["nbytes"],
        stored_nbytes=head["stored_nbytes"],
        captured=dict(head.get("captured", {})),
        remade=tuple(head.get("remade", ())),
        kept=not ended and has_its_packs(record, sizes),
        logged={name: (kind, size) for name, (kind, size) in head.get("logged", {}).get("objects", {}).items()},
    )


def _outcome(record: Record) -> Outcome:
    head = record.head
    return Outcome(
        status="forked" if FORK in head else head["status"],
        when=head["when"],
        seconds=head["seconds"],
        stall_s=head["stall_s"],
        cost_s=head["cost_s"],
        error=None if FORK in head else head.get("error"),
        result_type=head.get("result_type"),
        result_bytes=head.get("result_bytes"),
    )


def entry(record: Record) -> Entry:
    """A record as it can be shown."""
    nbytes = sum(memoryview(section).nbytes for section in record.sections)
    return Entry(lsn_text(record.lsn), record.epoch, record.kind.name.lower(), nbytes, record.head)


def records_after(root: StoreRoot, names: RunNames, lsn: int) -> list[Record]:
    """The records behind ``lsn`` as they stand now, from the segments that can hold them: for following a live run.

    What a SEAL written later will declare void is still in there: this is for watching, not for recovery.
    """
    found: list[Record] = []
    for slot in stored_keys(root, names).slots:
        if slot >= lsn_slot(lsn) and (parsed := read_segment(root, names, slot)) is not None:
            found += [record for record in parsed.records if record.lsn > lsn]
    return found
