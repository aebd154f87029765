"""What a store knows about its runs, as plain values: what the CLI shows and ``--json`` prints. No I/O.

All times are Unix times in seconds, all spans seconds, all sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["running", "finished", "failed", "preempted", "crashed", "damaged", "other key", "empty", "ended", "forked", "reopened"]
"""``crashed``: an attempt ended without a word and is not alive. ``damaged``: the log does not verify.
``other key``: it cannot be verified, because it was signed with a key that this reader does not have.
``forked``: ``ckpt fork`` has made it, and no attempt at it was begun; of an attempt: it is the one that ``ckpt fork`` stands for.
``reopened``: it was finished, and ``ckpt retry`` has opened it again. ``empty``: no attempt is recorded; what a removal that was interrupted leaves, or a start that was. ``ended``: an early
attempt of which the log no longer says how it ended."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One process's try at the run; ``number`` is its epoch. ``ended`` is its last recorded sign of life.

    Of attempts that began before the log was last trimmed only number, host, pid, start and end are known. ``command`` by itself
    starts the run ``instead_of``, if that is not empty: a fork is started by its origin's command.
    """

    number: int
    status: Status
    host: str
    pid: int
    started: float
    ended: float | None
    command: tuple[str, ...]
    cwd: str
    python: str
    ckpt: str
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item of a map that failed. ``item`` is its identity (hexadecimal), ``text`` a short text of it; ``marked``: the next
    attempt executes it again, if it gets to its map."""

    step: str
    item: str
    text: str
    error: str
    attempts: int
    when: float
    marked: bool


@dataclass(frozen=True, slots=True)
class Retried:
    """How many failed items are marked, to be executed by the next attempt; ``reopened``: the run was finished before."""

    address: str
    items: int
    reopened: bool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed checkpoint. The job stood still for ``stall_s``; ``persist_s`` of work went on beside it.

    ``interval_s`` is the time since the checkpoint before (or the attempt's start), ``nbytes`` the size of the state
    and ``stored_nbytes`` what had to be written for it. ``captured`` maps ``frame.variable`` to its size in bytes, ``logged`` the name of
    an operation-logged object to its class and number of entries.
    ``kept``: its state is still there, so that a fork or a reset can go back to it.
    """

    number: int
    attempt: int
    lsn: str
    when: float
    reason: str
    position: str
    stall_s: float
    persist_s: float
    interval_s: float
    nbytes: int
    stored_nbytes: int
    captured: dict[str, int]
    remade: tuple[str, ...]
    kept: bool
    logged: dict[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the run's last STATUS record says. ``error`` is None unless it failed; sizes are those of the result.

    Of the ``seconds`` of its attempt the job stood still for checkpoints for ``stall_s``; all that they cost, the work
    beside the job included, is ``cost_s``.
    """

    status: Status
    when: float
    seconds: float
    stall_s: float
    cost_s: float
    error: str | None
    result_type: str | None
    result_bytes: int | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of ``ckpt ls``. ``attempts`` and ``checkpoints`` count from the run's beginning.

    ``position`` is that of the newest checkpoint, and "done" for a finished run.
    """

    address: str
    status: Status
    attempts: int
    checkpoints: int
    nbytes: int
    last_activity: float | None
    position: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """All that is known about one run. ``checkpoints`` are those that the log still holds.

    ``alive`` is None where it cannot be known from here: the newest attempt runs, or ran, on another host.
    ``operations`` counts the recorded operations behind the newest checkpoint, ``recorded`` those of each kind ("steps", "items" of
    maps, "operations" of logged objects). ``log_position`` is where the log ends
    ("42.7", "" if it is empty): kept in another place, it can be expected at least (see docs/guarantees.md). ``every`` is the
    trigger of the newest attempt ("" if it did not say), ``wait_s`` the time between checkpoints that it had come to at the newest one.
    """

    summary: RunSummary
    arguments: str
    alive: bool | None
    attempts: tuple[Attempt, ...]
    checkpoints: tuple[Checkpoint, ...]
    operations: int
    log_position: str
    outcome: Outcome | None
    damages: tuple[Finding, ...]
    torn: tuple[Finding, ...]
    forked_from: str = ""
    every: str = ""
    wait_s: float | None = None
    recorded: dict[str, int] = field(default_factory=dict)

    @property
    def newest(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None


@dataclass(frozen=True, slots=True)
class Loss:
    """What a repair gives up: in ``path`` at byte ``offset``. ``acknowledged``: it was said to be recorded, or may have been."""

    path: str
    offset: int
    what: str
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair found, saves and gives up. ``done``: it has happened; else ``needs`` names the consent that it wants
    ("", "accept-loss", "start-over").

    ``resumes`` tells where the run goes on: at its result, at a checkpoint, or at its beginning. The originals of all
    ``aside`` keys are kept below ``kept_in``.
    """

    address: str
    done: bool
    needs: str
    resumes: str
    found: tuple[Finding, ...]
    losses: tuple[Loss, ...]
    kept_in: str
    aside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fork:
    """A run ``address`` that was made of checkpoint ``checkpoint`` of ``origin``. ``nbytes`` is the size of its states,
    ``stored_nbytes`` what had to be written for them. ``is_block``: it is a ``ckpt.open`` block, and no job; ``resumable``:
    the origin's command is known, so that ``ckpt resume`` can start the fork."""

    address: str
    origin: str
    checkpoint: int
    nbytes: int
    stored_nbytes: int
    is_block: bool
    resumable: bool


@dataclass(frozen=True, slots=True)
class DiffEntry:
    """An entry that differs: "added", "removed", "resized", "changed", or "unknown" (of equal size, or small: not compared).

    ``a`` and ``b`` are its sizes, None for what is no buffer, and where it is not (of "added" ``a``, of "removed" ``b``).
    """

    name: str
    change: str
    a: int | None
    b: int | None


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between the checkpoints ``a`` and ``b`` (``job/run_id@number``), and the bytes that they share."""

    a: str
    b: str
    position_a: str
    position_b: str
    entries: tuple[DiffEntry, ...]
    shared_nbytes: int
    only_a_nbytes: int
    only_b_nbytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a run's log, as far as it can be shown without unpickling. ``nbytes`` is that of its sections."""

    lsn: str
    attempt: int
    kind: str
    nbytes: int
    head: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What ``verify`` found in ``path`` at byte ``offset``. A note (not ``serious``) needs no one to act.

    ``other_key``: the bytes were not looked at further, for they were signed with a key that this reader does not have.
    """

    address: str
    path: str
    offset: int
    what: str
    serious: bool
    other_key: bool = False


def operations_text(head: dict[str, Any]) -> str:
    """What a record of operations of logged objects holds: ``3 operations on rows, seen``."""
    logged = head["logged"]
    count = logged.get("count", 0)
    on = ", ".join(sorted(logged.get("objects", {})))
    return f"{count} operation{'s' * (count != 1)}{' on ' * bool(on)}{on}"
