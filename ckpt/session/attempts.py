"""The attempts at a run so far: a short list that each checkpoint repeats, for it has to survive the trimming of the log.

An entry names the process; once the attempt is over also ``how`` it ended ("finished", "failed", "preempted", "forked", or
"crashed": without a word) and ``lived_s``, the seconds up to its last sign of life, by its own monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ckpt.failures import Observed
from ckpt.format.records import Kind, Record
from ckpt.history import History, ending_of

MAX_LISTED = 20
"""Attempts that are listed; also those from which the time between failures is estimated, so that it follows changes."""


def this_attempt(epoch: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of an attempt of which no more is known than how it began."""
    return {"attempt": epoch, "started": facts.get("started"), "host": facts.get("host"), "pid": facts.get("pid")}


def earlier_attempts(records: Iterable[Record], history: History, epoch: int) -> list[dict[str, Any]]:
    """Those before ``epoch``, oldest first, as far as the records know them: from the newest list and from the records
    themselves."""
    found: dict[int, dict[str, Any]] = {}
    lived: dict[int, float | None] = {}
    for record in records:
        for one in record.head.get("attempts", ()):
            found[one["attempt"]] = {**found.get(one["attempt"], {}), **one}
        if record.kind is Kind.CHECKPOINT:
            lived[record.epoch] = _seconds(record.head.get("ran_s"))
    spoken = {record.epoch: record for record in history.outcomes}
    for start in history.starts:
        if start.epoch == epoch:
            continue
        entry = {**this_attempt(start.epoch, start.head), **found.get(start.epoch, {})}
        found[start.epoch] = entry
        outcome = spoken.get(start.epoch)
        if outcome is not None:
            entry["how"], entry["lived_s"] = ending_of(outcome), _seconds(outcome.head.get("seconds"))
        else:
            # It was killed: at its last checkpoint it lived. Without one, not for long; but an attempt that is only told of
            # (by a repair, which tells how the run was started) did not live at all.
            nothing = 0.0 if start.kind is Kind.FENCE else None
            entry["how"], entry["lived_s"] = "crashed", lived.get(start.epoch, nothing)
    return [found[number] for number in sorted(found) if number < epoch][-(MAX_LISTED - 1) :]


def observed(attempts: Iterable[Mapping[str, Any]]) -> Observed:
    """How often the run fails: attempts that ended without a word, in all the time that attempts lived.

    One that raised is no failure in this sense: it would raise again. Attempts of which nothing is known do not count.
    """
    known = [one for one in attempts if one.get("lived_s") is not None]
    return Observed(sum(one["how"] == "crashed" for one in known), sum(one["lived_s"] for one in known))


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value >= 0 else None
