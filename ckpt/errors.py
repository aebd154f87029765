"""Every error that ckpt raises, grouped by what the caller should do about it.

    CkptError
    ├── UsageError                  change the program
    │   ├── OptionError             an option, address or URL that does not make sense
    │   ├── UnsupportedCodeError    code that cannot be resumed exactly; refused at decoration or first entry
    │   ├── UncapturableError       a value that cannot be saved; names the variable
    │   ├── IdentityError           an argument or item without a stable digest
    │   └── MeasureError            a program that `ckpt bench` cannot measure
    ├── RunError                    decide what should happen to this run
    │   ├── RunNotFoundError        no such run, or an address that fits several
    │   ├── RunBusyError            another attempt of the run is alive
    │   ├── FencedError             a later attempt took the run over; this one must stop
    │   ├── ArgumentsChangedError   the run was started with other arguments
    │   ├── CodeChangedError        the job's code is not the code that was checkpointed
    │   ├── InputChangedError       a loop's input is not the input that was consumed
    │   ├── ReplayDivergedError     the re-run code did not reach the recorded resume point
    │   ├── OutputBusyError         an output file belongs to another run, or another process has it open
    │   ├── OutputChangedError      an output file is not what the run left
    │   └── LossError               a repair would give up what was acknowledged
    ├── ExecutorError               mend what executes items, then run again: what is recorded stays
    │   ├── ExecutorLostError       the pool, scheduler or head that executes items is gone
    │   ├── WorkerLostError         an item's worker died, each time that it was tried
    │   ├── ItemTimeoutError        an item took longer than its timeout, and was ended
    │   └── ItemError               an item's exception that could not be brought back, as text
    ├── StorageError                mend or wait for the storage, then run again
    │   ├── MissingKeyError         a key that should be there is not
    │   │   └── LogLostError        the log was deleted while an attempt was writing it
    │   ├── StorageFullError        no space left
    │   ├── MemoryFullError         no memory left for the copy of the state that is to be stored
    │   └── UnsupportedStorageError the storage lacks an operation that safety depends on
    └── IntegrityError              do not trust what is stored
        ├── CorruptionError         bytes that do not verify; has path and offset
        ├── UntrustedError          signed by nobody, or by a key that the reader does not have
        ├── RolledBackError         a log that ends before a position that the caller has seen
        └── UnknownFormatError      written by a newer ckpt

    Preempted(SystemExit)           not an error: the run was asked to stop, is saved, and wants to be run again

Nothing here does I/O. Every error says what happened, where, and how to go on.
"""

from __future__ import annotations

EX_TEMPFAIL = 75
"""Exit status of a preempted process (sysexits.h): "run me again"."""


class CkptError(Exception):
    """Base of all errors. ``what`` happened, ``where`` (a variable, line, path or address), and the ``fix``."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  fix: {self.fix}" if self.fix else text

    def while_going_on(self) -> str:
        """The message where the job goes on and tries again by itself: nobody has to start it again."""
        return str(self).replace(", then run again", "; the job tries again by itself")


class UsageError(CkptError):
    """The program that uses ckpt has to change."""


class OptionError(UsageError):
    """An option, address or URL that does not make sense."""


class UnsupportedCodeError(UsageError):
    """Code that cannot be resumed exactly."""


class UncapturableError(UsageError):
    """A value that cannot be saved faithfully. ``where`` names the variable (``model.optimizer.hook``)."""


class IdentityError(UsageError):
    """An argument or item that has no digest which is the same in every process."""


class MeasureError(UsageError):
    """A program that cannot be measured: it fails by itself, or takes no checkpoint."""


class RunError(CkptError):
    """The state of a run asks for a decision."""


class RunNotFoundError(RunError):
    """No run has this address, or several do."""


class RunBusyError(RunError):
    """Another attempt of the same run is alive.

    ``host`` and ``pid`` name its process, ``since`` is its start in seconds since the epoch (Unix time).
    """

    def __init__(self, what: str, *, host: str, pid: int, since: float, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.host, self.pid, self.since = host, pid, since


class FencedError(RunError):
    """A later attempt took this run over. ``successor`` describes it. Nothing more can be committed from here."""

    def __init__(self, what: str, *, successor: str = "", where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.successor = successor


class ArgumentsChangedError(RunError):
    """The run, which has its name from ``run_id`` or ``key``, was started with other arguments. Nothing was changed."""


class CodeChangedError(RunError):
    """The job's code differs from the code that was checkpointed. ``changed`` lists the functions."""

    def __init__(self, what: str, *, changed: tuple[str, ...] = (), where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.changed = changed


class InputChangedError(RunError):
    """A marked loop's input differs from what was consumed before the resume point."""


class ReplayDivergedError(RunError):
    """The code that was run again on the way to the resume point took another way than the first time."""


class LossError(RunError):
    """A repair would give up something that was acknowledged. ``losses`` says what, a line each."""

    def __init__(self, what: str, *, losses: tuple[str, ...] = (), where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.losses = losses

    def __str__(self) -> str:
        return "\n".join([f"{self.where}: {self.what}", *(f"  lost: {loss}" for loss in self.losses), f"  fix: {self.fix}"])


class OutputBusyError(RunError):
    """An output file belongs to another run that is not finished, or another process has it open. ``where`` is its path."""


class OutputChangedError(RunError):
    """An output file is not what the run left, or may not be: bytes are missing or others. ``where`` is its path."""


class ExecutorError(CkptError):
    """Items could not be executed. What was recorded stays recorded."""


class ExecutorLostError(ExecutorError):
    """The pool, scheduler or head that executes the items is gone."""


class WorkerLostError(ExecutorError):
    """The process that executed an item died, each time that the item was tried."""


class ItemTimeoutError(ExecutorError, TimeoutError):
    """An item took longer than its ``timeout``. Its process, or its coroutine, was ended."""


class ItemError(ExecutorError):
    """The exception of an item, which cannot be pickled: its type and message as text."""


class StorageError(CkptError):
    """The storage failed. What was durable stays durable; run again when it works."""


class MissingKeyError(StorageError):
    """A key that should be in the storage is not there. ``where`` is the key."""


class LogLostError(MissingKeyError):
    """The log that this attempt writes was deleted under it, and by no later attempt. Nothing can be committed any more."""


class StorageFullError(StorageError):
    """No space (or quota) left in the storage."""


class MemoryFullError(StorageError):
    """No memory left to copy the job's state into. The state is untouched; earlier checkpoints are as they were."""


class UnsupportedStorageError(StorageError):
    """The storage lacks an operation that safety depends on."""


class IntegrityError(CkptError):
    """What is stored must not be used."""


class CorruptionError(IntegrityError):
    """Bytes that do not verify. ``path`` is the key in the store, ``offset`` the byte position there."""

    def __init__(self, what: str, *, path: str, offset: int = 0, fix: str = "") -> None:
        super().__init__(what, where=f"{path} at byte {offset}", fix=fix)
        self.path, self.offset = path, offset


class UntrustedError(IntegrityError):
    """Signed by nobody, or with a key that this reader does not have."""


class RolledBackError(IntegrityError):
    """The log ends at ``end``, before ``expected``: a position that the caller has seen before (``expect_at_least``)."""

    def __init__(self, what: str, *, end: str, expected: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.end, self.expected = end, expected


class UnknownFormatError(IntegrityError):
    """Written in a format that this version of ckpt does not know."""


class Preempted(SystemExit):
    """The run was asked to stop: its state is durable. Ends the process with status 75 unless caught."""

    def __init__(self, reason: str) -> None:
        super().__init__(EX_TEMPFAIL)
        self.reason = reason

    def __str__(self) -> str:
        return f"preempted by {self.reason}; the run is saved: start it again to go on"
