"""Dead letters of a run, and the mark that has them executed again. Nothing is unpickled.

Guarantees, at whatever point ``retry_failed`` is interrupted: the run is as before, or marked in part; it can be repeated.
A live run is never touched: whoever marks holds the run's lease and has fenced off every earlier attempt.
"""

from __future__ import annotations

from typing import Any

from ckpt import host
from ckpt.errors import CorruptionError, OptionError
from ckpt.format.names import FIRST_SLOT, RunNames
from ckpt.format.records import Kind, Record
from ckpt.history import RETRY, History, history_of
from ckpt.holder import Holder
from ckpt.letters import Letters
from ckpt.log import LogView, LogWriter, Place, read_log
from ckpt.protocols import Clock
from ckpt.root import StoreRoot
from ckpt.store.info import DeadLetter, Retried
from ckpt.store.removing import alone


def dead_letters(root: StoreRoot, names: RunNames) -> list[DeadLetter]:
    """The failed items of the run's maps, oldest first. UntrustedError, UnknownFormatError, StorageError."""
    letters = _letters(read_log(root.storage, names, root.key))
    return [_letter(one, marked=letters.is_marked(one)) for one in letters.all()]


def _letters(view: LogView) -> Letters:
    return Letters.of(_counting(view.records))


def _counting(records: list[Record]) -> list[Record]:
    """The records since the run was last started afresh."""
    resets = (at for at, one in enumerate(records) if one.kind is Kind.STATUS and one.head.get("status") == "reset")
    return records[max(resets, default=-1) + 1 :]


def _letter(one: dict[str, Any], *, marked: bool) -> DeadLetter:
    return DeadLetter(one["step"], one["item"], one["text"], one["error"], one["attempts"], one["when"], marked)


def retry_failed(root: StoreRoot, names: RunNames, clock: Clock) -> Retried:
    """Mark the failed items: the next attempt executes them again. A finished run is reopened for that.

    RunBusyError (an attempt is alive), CorruptionError (the log is damaged), OptionError (a finished run that has no point
    left to go on from), UntrustedError, UnknownFormatError, StorageError. Durable on return.
    """
    with alone(root, names, clock):
        view = read_log(root.storage, names, root.key)
        history = history_of(view.records)
        marks = _marks(view)
        if not marks:
            return Retried(names.address, 0, False)
        _check(view, history, names)
        fence = {**Holder.this_process(clock).to_json(), RETRY: True}
        log, _ = LogWriter.take_over(Place(root.storage, names, root.key, host.entropy, clock), fence=fence, known=view)
        try:
            for head in marks:
                log.append(Kind.OPERATION, {**head, "when": clock.now()}, durable=False)
            if history.finished is not None:
                # Commit point of a reopening: the marks are in front of it, so it is never without them.
                log.append(Kind.STATUS, {"status": "reopened", "when": clock.now()}, durable=False)
            log.flush()
        finally:
            log.close()
        return Retried(names.address, sum(len(head["retry"]) for head in marks), history.finished is not None)


def _marks(view: LogView) -> list[dict[str, Any]]:
    """One head for each map with failed items."""
    found: dict[str, dict[str, Any]] = {}
    for one in _letters(view).all():
        head = {"map": one["map"], "step": one["step"], "where": "", "items": 0, "outcome": "ok", "retry": []}
        found.setdefault(one["map"], head)["retry"].append(one["item"])
    return [*found.values()]


def _check(view: LogView, history: History, names: RunNames) -> None:
    if view.damages:
        damage = view.damages[0]
        raise CorruptionError(damage.reason, path=damage.path, offset=damage.offset, fix="see `ckpt verify` and `ckpt repair`")
    usable = [one for one in history.checkpoints if one.head.get("reason") != "final"]
    if history.finished is not None and not usable and view.floor > FIRST_SLOT:
        raise OptionError(
            "the run is finished, and no checkpoint from before its end is kept to go on from",
            where=names.address,
            fix="run it afresh, or keep more checkpoints: ckpt.open(..., keep=2)",
        )
