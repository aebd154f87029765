"""From the records of a log to the point at which the run goes on.

The newest checkpoint whose snapshots verify, together with the results of the operations recorded since its state was
read. An older checkpoint stands in for a damaged one if everything recorded since is there: it leads to the same
place, with more to execute again. Where something that was acknowledged cannot be read, CorruptionError: never a guess.
Unpickles nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckpt import events
from ckpt.errors import CorruptionError, IntegrityError, MissingKeyError
from ckpt.format.names import FIRST_SLOT, RunNames
from ckpt.format.path import PathNode, path_from_json
from ckpt.format.records import Record, lsn_of, lsn_slot, lsn_text
from ckpt.history import KEPT, History
from ckpt.letters import Letters
from ckpt.log import Damage, LogView
from ckpt.snapshot import SnapshotRef

LOGGED = "logged"
"""The head entry of operations of logged objects, and of checkpoints of a run that has some."""

VOID = "void"
"""The head entry of a checkpoint that a run was taken back to: what was recorded behind the first LSN, up to the last."""

RESTS_TO = "rests_to"
"""The head entry of a checkpoint that was written anew, in front of what it rests on: the LSN up to which that goes."""

ReadSnapshot = Callable[[SnapshotRef], list[Any]]


@dataclass(frozen=True, slots=True)
class MapRecord:
    """One record of a map: results of items (``sections``: an index, and their data), or a mark to execute some again."""

    lsn: int
    head: dict[str, Any]
    sections: tuple[bytes, ...]


@dataclass(slots=True)
class ResumePoint:
    """Where the run goes on: a checkpoint (``head`` and the verified ``parts`` of each of its snapshots) and what came after.

    ``results`` are the parts of the retained results; ``operations`` the (identity, encoded result) pairs recorded
    since, in order; ``maps`` the records of maps that a re-execution may ask for. ``logged`` are the records of operations
    of logged objects since the image that the checkpoint names; the run goes on where they are at ``position`` (None: it
    has no such objects). ``path`` is that of a position that was recorded since, if there is one.
    """

    lsn: int
    head: dict[str, Any]
    path: list[PathNode]
    refs: list[SnapshotRef]
    parts: list[list[Any]]
    results: list[Any]
    operations: list[tuple[bytes, bytes]] = field(default_factory=list)
    logged: list[Record] = field(default_factory=list)
    position: int | None = None
    maps: list[MapRecord] = field(default_factory=list)


def result_record(view: LogView, history: History, names: RunNames) -> Record | None:
    """The STATUS record that holds the result; None if the run is not over.

    CorruptionError where something behind it is lost: perhaps that the run was started afresh.
    """
    if history.finished is not None:
        _refuse_damage_after(view.damages, history.finished.lsn, names)
    return history.finished


def find_resume_point(
    view: LogView, history: History, names: RunNames, read: ReadSnapshot, *, tell: Callable[[str], None] = events.say
) -> ResumePoint | None:  # fmt: skip
    """The resume point, or None for a run that has to begin at its beginning (with all operations that are ``counting``).

    CorruptionError when what is damaged or missing cannot be made up for. ``tell`` hears of checkpoints that are passed over.
    """
    problem: IntegrityError | MissingKeyError | None = None
    operations = counting(history)
    for record in to_try(history, operations):
        covers = int(record.head["covers"])
        needed = needed_from(record.head)
        _refuse_damage_after(view.damages, needed, names)
        if lsn_slot(needed) < view.floor:
            break  # what was recorded behind it was trimmed away, when newer checkpoints were kept
        try:
            point = open_checkpoint(record, read)
        except (IntegrityError, MissingKeyError) as error:
            tell(f"checkpoint {record.head.get('number')} cannot be used, trying the one before it: {error}")
            problem = problem or error
            continue
        if problem is not None:
            _refuse_lost_positions(point, operations, problem)
        point.operations = _results_since(operations, covers)
        _go_on_from_positions(point, operations)
        point.maps = maps_since(operations, int(record.head.get("maps_since", covers)))
        return point
    _refuse_damage_after(view.damages, history.began_lsn, names)
    if view.floor > FIRST_SLOT and not history.began_lsn:
        raise CorruptionError(
            "no checkpoint of the run can be used, and its beginning was trimmed away",
            path=names.log_prefix,
            fix="see `ckpt verify`; restore the store from a copy, or start afresh: f.options(fresh=True)(...)",
        ) from problem
    return None


def needs_left_out(view: LogView, resume: ResumePoint | None) -> bool:
    """Whether the run goes on where it needs operations that ``view`` leaves out: it has to be looked for in the whole log."""
    return view.left_out_to > (-1 if resume is None else needed_from(resume.head))


def results_since_start(history: History) -> list[tuple[bytes, bytes]]:
    return _results_since(counting(history), -1)


def needed_from(head: Mapping[str, Any]) -> int:
    """The LSN behind which a resume from the checkpoint with this head needs the log."""
    covers = int(head["covers"])
    logged = int(head[LOGGED]["after"]) if LOGGED in head else covers
    return min(covers, logged, int(head.get("maps_since", covers)))


def rests_to(head: Mapping[str, Any]) -> int:
    """The LSN up to which a checkpoint knows of operations: those behind came later."""
    return int(head[VOID][0]) if VOID in head else max(int(head["covers"]), int(head.get(RESTS_TO, -1)))


def moved(head: Mapping[str, Any], lsn: int, operations: list[Record]) -> dict[str, Any]:
    """The head of a checkpoint that is written anew right behind ``lsn``, and right behind it the ``operations`` that count."""
    found = {name: value for name, value in head.items() if name not in (VOID, KEPT, "ran_s")} | {"covers": lsn}
    found[RESTS_TO] = lsn + 1 + sum(one.lsn <= rests_to(head) for one in operations)
    if LOGGED in head:
        found[LOGGED] = {**head[LOGGED], "after": lsn}
    if "maps_since" in head:
        found["maps_since"] = lsn
    return found


def counting(history: History, at: int | None = None) -> list[Record]:
    """The operations that count for what is at LSN ``at`` (None: the end of the log): none that the run was taken back over."""
    void = _void(history, at)
    return [one for one in history.operations if not _within(one, void)]


def _void(history: History, at: int | None = None) -> list[tuple[int, int]]:
    """What the run was taken back over on its way to ``at``: each as (LSN behind which, LSN up to which).

    A checkpoint that it was taken back to says so once, and later ones build upon it. What it leads to is older, and
    whether the run was taken back before that decides by itself: so a reset can be undone by another one.
    """
    found = []
    for record in reversed(history.checkpoints):
        if VOID in record.head and (at is None or record.lsn <= at):
            at, last = record.head[VOID]
            found.append((at, last))
    return found


def _within(record: Record, ranges: list[tuple[int, int]]) -> bool:
    return any(first < record.lsn <= last for first, last in ranges)


def is_needed(operation: Record, head: Mapping[str, Any]) -> bool:
    """Whether a resume from the checkpoint with this head needs the record of an operation, one of those that count."""
    behind = int(head["covers"])
    if LOGGED in operation.head:
        behind = min(behind, int(head[LOGGED]["after"])) if LOGGED in head else behind
    elif "map" in operation.head:
        behind = min(behind, int(head.get("maps_since", behind)))
    return operation.lsn > behind


def _go_on_from_positions(point: ResumePoint, operations: list[Record]) -> None:
    """Operations of logged objects, and the newest position of the run that was recorded with them."""
    point.logged = [one for one in operations if LOGGED in one.head and is_needed(one, point.head)]
    if LOGGED in point.head:
        point.position = int(point.head[LOGGED]["position"])
    for one in reversed(point.logged):
        if one.lsn > point.lsn and one.head.get("checkpoint") == point.head["number"]:
            point.path = _path(one.head, f"operations {lsn_text(one.lsn)}")
            point.position = _end(one)
            return


def _end(operation: Record) -> int:
    """How many operations there are with those of this record."""
    return int(operation.head[LOGGED]["from"]) + int(operation.head[LOGGED]["count"])


def _checkpoints_counting(history: History) -> list[Record]:
    """The checkpoints that the run was not taken back over, newest first."""
    void = _void(history)
    return [one for one in reversed(history.checkpoints) if not _within(one, void)]


def to_let_go_of(history: History, resume_lsn: int, keep: int) -> list[tuple[Record, bool]]:
    """The checkpoints that are kept as an attempt begins, and whether a resume may go on from each.

    In the order in which they are let go of. What the run goes on from is the last one: positions rest on it as long as
    the next checkpoint is in flight, whatever was stored behind it and does not count.
    """
    count = {one.lsn for one in to_try(history, counting(history)) if one.lsn <= resume_lsn}
    there = {one.lsn for one in history.needed() + history.checkpoints[-keep:]} | {resume_lsn}
    found = [one for one in history.checkpoints if one.lsn in there]
    return [(one, one.lsn in count) for one in sorted(found, key=lambda one: (one.lsn in count, one.lsn))]


def to_try(history: History, operations: list[Record]) -> list[Record]:
    """The checkpoints that count, newest first.

    One that was in flight while positions went on, by the one before it, is behind them: it is left out.
    """
    checkpoints = _checkpoints_counting(history)
    newest = next((one for one in reversed(operations) if "checkpoint" in one.head), None)
    named = 0 if newest is None else int(newest.head["checkpoint"])
    for place, record in enumerate(checkpoints):
        if newest is None or _end(newest) <= int(record.head.get(LOGGED, {}).get("position", 0)):
            break
        if int(record.head["number"]) == named:
            return checkpoints[place:]
    return checkpoints


def names_later_checkpoint(operation: Record, head: Mapping[str, Any]) -> bool:
    """Whether a record says where the run was, by a checkpoint that is newer than the one with this head."""
    return int(operation.head.get("checkpoint", 0)) > int(head["number"])


def _refuse_lost_positions(point: ResumePoint, operations: list[Record], problem: IntegrityError | MissingKeyError) -> None:
    """Where a run recorded its position it was told that nothing will be executed again: no older checkpoint does."""
    for one in operations:
        if names_later_checkpoint(one, point.head):
            raise CorruptionError(
                f"the run got to {one.head.get('where')} ({lsn_text(one.lsn)}), which rests on a checkpoint that cannot be "
                f"used: {problem.what}",
                path=getattr(problem, "path", "") or problem.where,
                fix="restore the store from a copy, or give that up: ckpt repair --accept-loss",
            ) from problem


def _results_since(operations: list[Record], lsn: int) -> list[tuple[bytes, bytes]]:
    steps = (one for one in operations if one.lsn > lsn and "id" in one.head and LOGGED not in one.head)
    return [(bytes.fromhex(one.head["id"]), bytes(one.sections[0])) for one in steps]


def maps_since(operations: list[Record], lsn: int) -> list[MapRecord]:
    """The records of maps behind ``lsn``. Copies: a view of a section would keep its whole segment in memory."""
    found = (one for one in operations if one.lsn > lsn and "map" in one.head)
    return [MapRecord(one.lsn, one.head, tuple(map(bytes, one.sections))) for one in found]


def letters_of(history: History, resume: ResumePoint | None) -> Letters:
    """The dead letters that a run which goes on from there knows of."""
    first = [one for one in history.checkpoints if resume is not None and one.lsn == resume.lsn]
    return Letters.of(first + counting(history))


def _refuse_damage_after(damages: list[Damage], lsn: int, names: RunNames) -> None:
    """Damage at or before ``lsn`` is made up for by the checkpoint that covers it; later damage may hide operations."""
    for damage in damages:
        slot = names.parse_segment(damage.path)
        last = damage.lsn if damage.lsn is not None else lsn_of(slot or 0, 0xFFFFFFFF)
        if last > lsn:
            raise CorruptionError(
                f"{damage.reason}; what was recorded there is lost, and no checkpoint covers it "
                f"(the newest usable one covers up to {lsn_text(lsn)})",
                path=damage.path,
                offset=damage.offset,
                fix="see `ckpt verify`; restore the store from a copy, or start afresh: f.options(fresh=True)(...)",
            )


def open_checkpoint(record: Record, read: ReadSnapshot) -> ResumePoint:
    """The checkpoint of ``record`` with all its parts, verified. IntegrityError, MissingKeyError."""
    head = record.head
    where = f"checkpoint {head.get('number')} ({lsn_text(record.lsn)})"
    path = _path(head, where)
    refs = [SnapshotRef.decode(section) for section in record.sections]
    parts = [read(ref) for ref in refs]
    return ResumePoint(record.lsn, head, path, refs[:-1], parts[:-1], parts[-1])


def _path(head: Mapping[str, Any], where: str) -> list[PathNode]:
    try:
        return path_from_json(head["path"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptionError(f"a path that makes no sense: {error}", path=where) from error
