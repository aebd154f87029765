"""``ckpt.Store``: the runs of a store, for people and programs that look after them. What the CLI reads.

Guarantees: nothing stored is ever unpickled; looking writes nothing; only ``remove``, ``repair``, ``sweep``,
``fork`` and ``reset`` change anything, and never a live run. Only what verifies under the store's key is shown.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ckpt.errors import IntegrityError, OptionError, RunNotFoundError, UntrustedError
from ckpt.format.names import RunNames, is_run_id, parse_job
from ckpt.host import SystemClock
from ckpt.log import read_log
from ckpt.root import StoreRoot, job_folders
from ckpt.settings import DEFAULT_STORE, Environment
from ckpt.storage import sweep_leftovers
from ckpt.store.branching import check_reset, fork_run, reset_run, split_checkpoint
from ckpt.store.comparing import diff_checkpoints
from ckpt.store.info import (
    Attempt,
    Checkpoint,
    DeadLetter,
    Diff,
    DiffEntry,
    Entry,
    Finding,
    Fork,
    Loss,
    Outcome,
    Repair,
    Retried,
    RunInfo,
    RunSummary,
    Status,
)
from ckpt.store.keys import KeyUse, key_uses
from ckpt.store.reading import describe, entry, records_after, sizes_below, summarize
from ckpt.store.removing import alone, remove_run, sweep_run
from ckpt.store.repairing import plan_repair, repair_run
from ckpt.store.retrying import dead_letters, retry_failed
from ckpt.store.verifying import verify_run

__all__ = [
    "Attempt",
    "Checkpoint",
    "DeadLetter",
    "Diff",
    "DiffEntry",
    "Entry",
    "Finding",
    "Fork",
    "KeyUse",
    "Loss",
    "Outcome",
    "Repair",
    "Retried",
    "RunInfo",
    "RunSummary",
    "Status",
    "Store",
    "Swept",
]

SHOWN_CANDIDATES = 10


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed: keys (and unfinished files), and the bytes of the keys; the runs that it could not read."""

    keys: tuple[str, ...]
    nbytes: int
    skipped: tuple[Finding, ...]


class Store:
    """The runs at ``url`` (default: ``CKPT_STORE``, then ``.ckpt`` in the working directory). Opened at the first use.

    ``key`` (default ``CKPT_KEY``): its text, several (the first signs, all verify), or the path of a file with them.
    ``unsigned``: use a shared store without a key, and be warned each time. ``encrypt`` (default ``CKPT_ENCRYPT``): a
    store that is made is encrypted, and one that is not is refused. Jobs take a Store as their ``store``. An *address* is
    ``job/run_id``, or a unique beginning of one or of a run id, or the name of a job that has one run. A job
    ``module.function`` may be called ``function`` in it.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        key: str | os.PathLike[str] | None = None,
        unsigned: bool = False,
        encrypt: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        environment = Environment.read()
        self._given_url = os.fspath(url) if url is not None else environment.store or DEFAULT_STORE
        self._key = key if key is not None else environment.key
        self._unsigned, self._encrypt = unsigned, encrypt or environment.encrypt
        self._storage_options = storage_options
        self._opened: StoreRoot | None = None
        self._clock = SystemClock()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ckpt.Store is never pickled: it may hold keys and credentials; make it again from its address")

    @property
    def url(self) -> str:
        """Where the store is; for a local one the whole path."""
        return self._root.url

    @property
    def _root(self) -> StoreRoot:
        if self._opened is None:
            self._opened = self.open_root(create=False)
        return self._opened

    def open_root(self, *, create: bool) -> StoreRoot:
        """The store, opened anew: for jobs that have this as their ``store``."""
        return StoreRoot.open(
            self._given_url,
            key=self._key,
            unsigned=self._unsigned,
            encrypt=self._encrypt,
            create=create,
            storage_options=self._storage_options,
        )

    def _all_names(self) -> Iterator[RunNames]:
        for folder in job_folders(self._root.storage):
            job = parse_job(folder)
            for run_id in self._root.storage.children(f"{folder}/"):
                if job is not None and is_run_id(run_id):
                    yield RunNames(job, run_id)

    def addresses(self) -> builtins.list[str]:
        """The addresses of all runs, sorted; reads no log."""
        return sorted(names.address for names in self._all_names())

    def list(self) -> builtins.list[RunSummary]:
        """All runs, sorted by address. Of each only the newest segments are read and verified.

        A run that cannot be read is listed as damaged, one that this reader's keys did not sign with status "other key".
        """
        runs = (self._summary(names, sizes) for names, sizes in self._all_sizes())
        return sorted(runs, key=lambda run: run.address)

    def _all_sizes(self) -> Iterator[tuple[RunNames, dict[str, int]]]:
        """Every run with its keys and their sizes: one listing of the whole store instead of one of each run."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        for key, size in sizes_below(self._root.storage, "").items():
            folder, _, below = key.partition("/")
            run_id, slash, _ = below.partition("/")
            if slash:
                found.setdefault((folder, run_id), {})[key] = size
        for (folder, run_id), sizes in found.items():
            job = parse_job(folder)
            if job is not None and is_run_id(run_id):
                yield RunNames(job, run_id), sizes

    def _summary(self, names: RunNames, sizes: dict[str, int]) -> RunSummary:
        try:
            return summarize(self._root, names, sizes)
        except IntegrityError as error:
            status: Status = "other key" if isinstance(error, UntrustedError) else "damaged"
            return RunSummary(names.address, status, 0, 0, 0, None, error.what)

    def find(self, address: str) -> str:
        """The whole address that ``address`` stands for. RunNotFoundError with the candidates if there is not one."""
        every = [*self._all_names()]
        fitting = [
            [names for names in every if address in (names.address, names.run_id)],
            [names for names in every if names.job == address],
            [names for names in every if address in (_function(names), f"{_function(names)}/{names.run_id}")],
            [names for names in every if any(text.startswith(address) for text in _spellings(names))],
        ]
        candidates = next(filter(None, fitting), [])
        if len(candidates) == 1:
            return candidates[0].address
        if candidates:
            candidates.sort(key=lambda names: names.address)
            lines = [*self._candidate_lines(candidates[:SHOWN_CANDIDATES])]
            what = f"{len(candidates)} runs fit{_listed(lines, len(candidates))}"
            raise RunNotFoundError(what, where=address, fix="give more of it")
        addresses = sorted(names.address for names in every)
        shown = f"; there are{_listed(addresses, len(every))}" if every else "; the store has no runs"
        raise RunNotFoundError(f"no such run in {self.url}{shown}", where=address, fix="see `ckpt ls`")

    def _candidate_lines(self, candidates: builtins.list[RunNames]) -> Iterator[str]:
        """What tells runs with similar addresses apart: how they are, and what they were called with."""
        runs = [self._summary(names, sizes_below(self._root.storage, names.prefix)) for names in candidates]
        wide = max(len(run.address) for run in runs)
        for run in runs:
            yield f"{run.address:<{wide}}  {run.status:<9}  {run.arguments}".rstrip()

    def _find(self, address: str) -> RunNames:
        return RunNames.parse(self.find(address))

    def open(self, address: str, *, expect_at_least: str | None = None) -> RunInfo:
        """All about one run: attempts, checkpoints, operations since, outcome, damages. RunNotFoundError.

        UntrustedError, UnknownFormatError and StorageError where its log cannot be read; damage is listed, not raised.
        ``expect_at_least``: an earlier ``log_position``; RolledBackError if the log now ends before it.
        """
        names = self._find(address)
        view = read_log(self._root.storage, names, self._root.key)
        view.expect(expect_at_least, names)
        return describe(self._root, names, view.records, view.damages, view.torn)

    def records(self, address: str) -> builtins.list[Entry]:
        """The records of a run's log that count, oldest first. Errors as for ``open``."""
        view = read_log(self._root.storage, self._find(address), self._root.key)
        return [entry(record) for record in view.records]

    def follow(self, address: str) -> Iterator[builtins.list[Entry]]:
        """First all records, then at each step those that were added since (often none); never ends by itself."""
        names = self._find(address)
        records = read_log(self._root.storage, names, self._root.key).records
        last = -1
        while True:
            last = max((record.lsn for record in records), default=last)
            yield [entry(record) for record in records]
            records = records_after(self._root, names, last)

    def verify(self, address: str | None = None, *, expect_at_least: str | None = None) -> builtins.list[Finding]:
        """Read and verify all that a resume could need, of one run or of all; the serious findings are problems.

        ``expect_at_least``, of one run: an earlier ``log_position``; a log that ends before it is a problem.
        """
        if expect_at_least is not None and address is None:
            raise OptionError("a position is one of a run's log", fix="give the address of the run, too")
        every = [self._find(address)] if address is not None else [*self._all_names()]
        return [finding for names in every for finding in self._verify(names, expect_at_least)]

    def _verify(self, names: RunNames, expect_at_least: str | None) -> builtins.list[Finding]:
        try:
            return verify_run(self._root, names, expect_at_least)
        except IntegrityError as error:
            return [_unreadable(names, error)]

    def keys(self) -> tuple[builtins.list[KeyUse], builtins.list[Finding]]:
        """Which keys this reader has and how many runs need each; and the runs that it cannot read. StorageError."""
        return key_uses(self._root, self._all_names())

    def remove(self, address: str) -> None:
        """Remove a run for good. RunBusyError if it is alive. Interrupted, it can be repeated, or left to ``sweep``."""
        remove_run(self._root, self._find(address), self._clock)

    def check_remove(self, address: str) -> None:
        """Raise what ``remove`` would raise now; nothing is changed."""
        with alone(self._root, self._find(address), self._clock):
            pass

    def old(self, older_than_s: float) -> builtins.list[RunSummary]:
        """The runs of which nothing was heard for so many seconds, but those that run, and those that cannot be read."""
        before = self._clock.now() - older_than_s
        unsure = ("running", "other key", "damaged")
        return [one for one in self.list() if one.status not in unsure and (one.last_activity or before) < before]

    def fork(self, address: str, *, at: int | None = None, run_id: str | None = None) -> Fork:
        """Make a new run of the job that starts from a kept checkpoint (default the newest) of a run, which may be alive.

        It needs nothing of its origin any more. ``run_id``: its name (default: made of the origin's). On return it is
        durable; interrupted, there is no such run. OptionError, CorruptionError, UntrustedError, StorageError.
        """
        return fork_run(self._root, self._find(address), self._clock, number=at, run_id=run_id)

    def reset(self, address: str, *, to: int) -> int:
        """Take a run back to a kept checkpoint: what came after does not count any more. The new checkpoint's number.

        Durable on return; interrupted, it happened or it did not. RunBusyError, OptionError, CorruptionError,
        UntrustedError, StorageError.
        """
        return reset_run(self._root, self._find(address), self._clock, number=to)

    def check_reset(self, address: str, *, to: int) -> None:
        """Raise what ``reset`` would raise now; nothing is changed."""
        check_reset(self._root, self._find(address), self._clock, number=to)

    def diff(self, a: str, b: str) -> Diff:
        """What differs between two checkpoints, ``ADDRESS`` (its newest) or ``ADDRESS@NUMBER`` each: names and sizes."""
        (first, m), (second, n) = split_checkpoint(a), split_checkpoint(b)
        return diff_checkpoints(self._root, (self._find(first), m), (self._find(second), n))

    def repair(
        self, address: str, *, dry_run: bool = False, accept_loss: bool = False, start_over: bool = False
    ) -> Repair:
        """Save what can be saved of a damaged run, keep the originals aside, and say what is lost.

        ``dry_run`` only says what it would do. Giving up what was acknowledged wants ``accept_loss``, letting a run that
        had got on begin at its beginning ``start_over``; without it that is a LossError, and nothing is changed. A run
        without problems is left as it is. RunBusyError. Interrupted, it can be repeated.
        """
        names = self._find(address)
        if dry_run:
            return plan_repair(self._root, names)
        return repair_run(self._root, names, self._clock, accept_loss=accept_loss, start_over=start_over)

    def failed(self, address: str) -> builtins.list[DeadLetter]:
        """The items of the run's maps that failed, oldest first (of many, the newest thousand). Errors as for ``open``."""
        return dead_letters(self._root, self._find(address))

    def retry(self, address: str) -> Retried:
        """Mark the failed items of a run: its next attempt executes them again. Durable on return. RunBusyError.

        A finished run is reopened: the next call goes on from its newest checkpoint, with everything that was recorded
        since. OptionError if there is none.
        """
        return retry_failed(self._root, self._find(address), self._clock)

    def sweep(self) -> Swept:
        """Remove what crashes left: packs that nothing needs, unfinished files, half-removed runs. Never a live run."""
        keys = sweep_leftovers(self._root.storage, self._clock)
        nbytes, skipped = 0, []
        for names in self._all_names():
            try:
                removed = sweep_run(self._root, names, self._clock)
            except IntegrityError as error:
                skipped.append(_unreadable(names, error))
                continue
            keys += [key for key, _ in removed]
            nbytes += sum(size for _, size in removed)
        return Swept(tuple(keys), nbytes, tuple(skipped))


def _unreadable(names: RunNames, error: IntegrityError) -> Finding:
    other_key = isinstance(error, UntrustedError)
    return Finding(names.address, error.where or names.prefix, 0, error.what, True, other_key)


def _function(names: RunNames) -> str:
    """The job's name without its module."""
    return names.job.rpartition(".")[2]


def _spellings(names: RunNames) -> tuple[str, ...]:
    """What a short form of the run's address is a beginning of."""
    return names.address, names.run_id, f"{_function(names)}/{names.run_id}"


def _listed(lines: list[str], count: int) -> str:
    """The first of ``count`` lines, each on a line of its own."""
    more = f"\n  ... and {count - SHOWN_CANDIDATES} more" if count > SHOWN_CANDIDATES else ""
    return ":\n  " + "\n  ".join(lines[:SHOWN_CANDIDATES]) + more
