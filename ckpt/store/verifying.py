"""Reading everything that a resume could need, to find out now whether it verifies. Unpickles and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt.errors import CorruptionError, IntegrityError, MissingKeyError, UnknownFormatError, UntrustedError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind, Record, lsn_slot, lsn_text
from ckpt.history import history_of
from ckpt.log import LogView, read_log
from ckpt.recovery import find_resume_point, result_record
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef, read_snapshot
from ckpt.store.info import Finding
from ckpt.store.reading import damage_findings, stored_keys, torn_findings


def verify_run(root: StoreRoot, names: RunNames, expect_at_least: str | None = None) -> list[Finding]:
    """Problems first, then notes. UntrustedError, UnknownFormatError, RolledBackError (of the log), StorageError."""
    view = read_log(root.storage, names, root.key)
    view.expect(expect_at_least, names)
    problems = damage_findings(names, view.damages)
    wanted: set[str] = set()
    seen: set[bytes] = set()
    must = {record.lsn for record in history_of(view.records).needed()}
    for record in view.records:
        for ref, problem in _references(names, record):
            if problem is not None:
                problems.append(problem)
            elif ref is not None:
                wanted |= ref.packs
                # A checkpoint that retention has let go of may still be in the log, without its packs.
                encoded = ref.encode()
                if record.lsn in must and encoded not in seen:
                    seen.add(encoded)
                    problems += _verify_snapshot(root, names, ref, record)
    problems += _dead_end(names, view)
    unique = {(problem.path, problem.offset, problem.what): problem for problem in problems}
    ways = [_way_on(root, names, view)] if unique else []
    return [*unique.values(), *ways, *_notes(root, names, view, wanted)]


def _way_on(root: StoreRoot, names: RunNames, view: LogView) -> Finding:
    """What the next start of a run with problems would do, as a note."""
    history = history_of(view.records)
    try:
        if result_record(view, history, names) is not None:
            what = "all the same the recorded result is returned"
        else:
            point = find_resume_point(
                view, history, names, lambda ref: [*read_snapshot(ref, root.storage, names, root.key)], tell=lambda _: None
            )
            at = f"at checkpoint {point.head['number']} ({point.head['where']})" if point is not None else "at its beginning"
            what = f"all the same the run can go on {at}"
    except (IntegrityError, MissingKeyError):
        what = f"the run cannot go on as it is: `ckpt repair {names.address} --dry-run` says what a repair would save"
    return Finding(names.address, names.log_prefix, 0, what, False)


def _dead_end(names: RunNames, view: LogView) -> list[Finding]:
    """A log that is whole as far as it goes and still leads nowhere: its newest segment lost records without a trace.

    Recovery itself is asked, for all snapshots taken as good: whether they are is looked at one by one.
    """
    history = history_of(view.records)
    if view.damages or history.finished is not None:
        return []
    try:
        find_resume_point(view, history, names, lambda _: [()], tell=lambda _: None)
    except CorruptionError as error:
        what = f"{error.what}: nothing to resume from is left"
        return [_problem(names, names.segment(view.next_slot - 1), 0, what)]
    return []


def references(record: Record) -> tuple[memoryview | bytes, ...]:
    """The sections of a record that are snapshot references, in their encoded form."""
    if record.kind is Kind.CHECKPOINT:
        return record.sections  # one for each state on the path, and the retained results
    if record.kind is Kind.STATUS and record.head.get("status") == "finished":
        return record.sections[:1]
    return ()


def _references(names: RunNames, record: Record) -> Iterator[tuple[SnapshotRef | None, Finding | None]]:
    for section in references(record):
        try:
            yield SnapshotRef.decode(section), None
        except (CorruptionError, UnknownFormatError) as error:
            path = names.segment(lsn_slot(record.lsn))
            yield None, _problem(names, path, 0, f"record {lsn_text(record.lsn)}: {error.what}")


def _verify_snapshot(root: StoreRoot, names: RunNames, ref: SnapshotRef, record: Record) -> list[Finding]:
    try:
        read_snapshot(ref, root.storage, names, root.key)
    except CorruptionError as error:
        return [_problem(names, error.path, error.offset, f"{error.what} (needed by record {lsn_text(record.lsn)})")]
    except UntrustedError as error:
        what = f"{error.what} (needed by record {lsn_text(record.lsn)})"
        return [Finding(names.address, error.where, 0, what, serious=True, other_key=True)]
    return []


def _notes(root: StoreRoot, names: RunNames, view: LogView, wanted: set[str]) -> list[Finding]:
    orphans = [
        Finding(names.address, key, 0, f"{size} bytes in a pack that nothing needs", False)
        for key, size in stored_keys(root, names).sizes.items()
        if names.parse_pack(key) is not None and key not in wanted
    ]
    return torn_findings(names, view.torn) + orphans


def _problem(names: RunNames, path: str, offset: int, what: str) -> Finding:
    return Finding(names.address, path, offset, what, True)
