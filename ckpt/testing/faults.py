"""A storage that fails, lies or kills its process at a chosen call.

A ``FaultPlan`` holds faults; each has an action, the operations and keys it waits for, and which of the matching calls
it strikes (counted from 1, over all storages of the plan). As text, faults separated by ``,``:

    ACTION[(AMOUNT)]:OPERATION[=KEYS]@FIRST[-LAST|+]

    kill-after:append@7               SIGKILL to the own process after the 7th append took effect
    full:put=*/pack/*@2-4             no space left for the 2nd to 4th put of a pack
    flip(100):get@1+                  each get returns its bytes with one bit of byte 100 flipped

ACTION      kill-before, kill-after   SIGKILL, before or after the effect
            tear                      SIGKILL after half of the bytes (append, put)
            fail, full                StorageError or StorageFullError without effect
            lose                      the effect happens, its answer is lost: StorageError
            delay(SECONDS)            the call is late
            flip(BYTE)                one bit of what is read is wrong (get, read_into)
OPERATION   a method of the storage protocols (``append`` and ``sync`` are those of an open file), or ``read``,
            ``write`` (all that changes something), ``any``
KEYS        a pattern as of a shell (``fnmatch``)

The environment variable CKPT_TEST_FAULTS holds such a text for a process that calls ``install_from_environment``, or is
started as ``python -m ckpt.testing SCRIPT [ARGUMENT...]``.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from ckpt.errors import OptionError, StorageError, StorageFullError
from ckpt.host import SystemClock
from ckpt.protocols import AppendableStorage, AppendFile, Buffer, Clock, Storage
from ckpt.storage import add_wrapper

T = TypeVar("T")

FAULTS_VARIABLE = "CKPT_TEST_FAULTS"

READS = frozenset({"get", "read_into", "size", "exists", "list", "children"})
WRITES = frozenset({"put", "put_if_absent", "create_append", "make_durable", "append", "sync", "delete"})


class Action(StrEnum):
    """What a fault does (see the module)."""

    KILL_BEFORE = "kill-before"
    KILL_AFTER = "kill-after"
    TEAR = "tear"
    FAIL = "fail"
    FULL = "full"
    LOSE = "lose"
    DELAY = "delay"
    FLIP = "flip"


_ONLY_FOR = {Action.TEAR: {"append", "put"}, Action.FLIP: {"get", "read_into"}}

_TEXT = re.compile(
    r"(?P<action>[a-z-]+)(\((?P<amount>[0-9.]+)\))?:(?P<operation>[a-z_]+)(=(?P<keys>[^@]+))?"
    r"@(?P<first>[0-9]+)((?P<on>\+)|-(?P<last>[0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Strikes the matching calls number ``first`` to ``last``. ``amount``: seconds of a delay, byte of a flip."""

    action: Action
    operation: str = "any"
    keys: str = "*"
    first: int = 1
    last: float = 1
    amount: float = 0.0

    def __post_init__(self) -> None:
        known = READS | WRITES if self.operation in ("any", "read", "write") else {self.operation}
        if not known <= READS | WRITES or not 1 <= self.first <= self.last:
            raise OptionError(f"{self} matches no call", fix=f"operations: any, read, write, {sorted(READS | WRITES)}")
        if self.action in _ONLY_FOR and self.operation not in _ONLY_FOR[self.action]:
            raise OptionError(f"{self.action} works only for {sorted(_ONLY_FOR[self.action])}", fix="name one of them")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """From the text form (see the module). OptionError."""
        match = _TEXT.fullmatch(text.strip())
        if match is None or match["action"] not in set(Action):
            raise OptionError(f"{text!r} is not a fault", fix="write ACTION[(AMOUNT)]:OPERATION[=KEYS]@FIRST[-LAST|+]")
        first = int(match["first"])
        last = float("inf") if match["on"] else int(match["last"] or first)
        keys, amount = match["keys"] or "*", float(match["amount"] or 0)
        return cls(Action(match["action"]), match["operation"], keys, first, last, amount)

    def matches(self, operation: str, key: str) -> bool:
        """Whether a call counts for this fault."""
        group = {"any": READS | WRITES, "read": READS, "write": WRITES}.get(self.operation, {self.operation})
        return operation in group and fnmatch.fnmatchcase(key, self.keys)


class FaultPlan:
    """Faults and what was called so far. One plan may serve several storages. Thread-safe."""

    def __init__(self, *faults: Fault, clock: Clock | None = None) -> None:
        self._clock, self._lock = clock or SystemClock(), threading.Lock()
        self._faults = [(fault, itertools.count(1)) for fault in faults]
        self.calls: list[tuple[str, str]] = []
        """(operation, key) of every call so far, in order."""

    @classmethod
    def parse(cls, text: str) -> FaultPlan:
        """From faults in text form, separated by ','. OptionError."""
        return cls(*(Fault.parse(part) for part in text.split(",") if part.strip()))

    def add(self, fault: Fault) -> None:
        """From now on ``fault`` too; it counts calls from here."""
        with self._lock:
            self._faults.append((fault, itertools.count(1)))

    def clear(self) -> None:
        """Forget all faults: from now on everything works."""
        with self._lock:
            self._faults.clear()

    def count(self, operation: str = "any", keys: str = "*") -> int:
        """How many calls of that kind there were."""
        kind = Fault(Action.FAIL, operation, keys)
        with self._lock:
            return sum(kind.matches(*call) for call in self.calls)

    def before(self, operation: str, key: str) -> list[Fault]:
        """Count a call, do what is due before its effect, and return the faults that strike it."""
        with self._lock:
            self.calls.append((operation, key))
            matching = [(fault, next(count)) for fault, count in self._faults if fault.matches(operation, key)]
        due = [fault for fault, number in matching if fault.first <= number <= fault.last]
        for fault in due:
            if fault.action is Action.DELAY:
                self._clock.sleep(fault.amount)
            elif fault.action is Action.KILL_BEFORE:
                kill_this_process()
            elif fault.action is Action.FAIL:
                raise StorageError(f"injected: {operation} fails", where=key, fix="this is a test")
            elif fault.action is Action.FULL:
                raise StorageFullError(f"injected: no space left for {operation}", where=key, fix="this is a test")
        return due

    def after(self, due: list[Fault], operation: str, key: str) -> None:
        """Do what is due after the effect of a call that ``before`` returned ``due`` for."""
        for fault in due:
            if fault.action is Action.KILL_AFTER:
                kill_this_process()
            if fault.action is Action.LOSE:
                raise StorageError(f"injected: the answer of {operation} is lost", where=key, fix="this is a test")


class FaultyStorage:
    """``inner`` under a plan. Appendable if ``inner`` is: then, and only then, it has what makes a storage so."""

    create_append: Callable[[str, Buffer], AppendFile | None]
    make_durable: Callable[[str], None]

    def __init__(self, inner: Storage, plan: FaultPlan) -> None:
        self.inner, self.plan = inner, plan
        if isinstance(inner, AppendableStorage):
            self.create_append, self.make_durable = self._create_append, self._make_durable

    @property
    def url(self) -> str:
        return self.inner.url

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        due = self.plan.before("get", key)
        data = bytearray(self.inner.get(key, start, length))
        self.plan.after(due, "get", key)
        return bytes(_flip(due, memoryview(data)))

    def read_into(self, key: str, start: int, target: memoryview) -> int:
        due = self.plan.before("read_into", key)
        got = self.inner.read_into(key, start, target)
        self.plan.after(due, "read_into", key)
        if got:
            _flip(due, target.cast("B")[:got])
        return got

    def size(self, key: str) -> int:
        return self._call("size", key, lambda: self.inner.size(key))

    def exists(self, key: str) -> bool:
        return self._call("exists", key, lambda: self.inner.exists(key))

    def put(self, key: str, parts: Iterable[Buffer]) -> int:
        due = self.plan.before("put", key)
        if any(fault.action is Action.TEAR for fault in due):
            parts = _half_then_kill(parts)
        length = self.inner.put(key, parts)
        self.plan.after(due, "put", key)
        return length

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        return self._call("put_if_absent", key, lambda: self.inner.put_if_absent(key, data))

    def children(self, prefix: str) -> list[str]:
        return self._call("children", prefix, lambda: self.inner.children(prefix))

    def list(self, prefix: str) -> list[str]:
        return self._call("list", prefix, lambda: self.inner.list(prefix))

    def delete(self, key: str) -> None:
        self._call("delete", key, lambda: self.inner.delete(key))

    def _create_append(self, key: str, head: Buffer) -> AppendFile | None:
        inner = self.inner
        assert isinstance(inner, AppendableStorage)
        file = self._call("create_append", key, lambda: inner.create_append(key, head))
        return None if file is None else FaultyAppendFile(file, key, self.plan)

    def _make_durable(self, key: str) -> None:
        inner = self.inner
        assert isinstance(inner, AppendableStorage)
        self._call("make_durable", key, lambda: inner.make_durable(key))

    def _call(self, operation: str, key: str, effect: Callable[[], T]) -> T:
        due = self.plan.before(operation, key)
        result = effect()
        self.plan.after(due, operation, key)
        return result


class FaultyAppendFile:
    """An open file under a plan (see ``protocols.AppendFile``)."""

    def __init__(self, inner: AppendFile, key: str, plan: FaultPlan) -> None:
        self._inner, self._key, self._plan, self._broken = inner, key, plan, False

    @property
    def length(self) -> int:
        return self._inner.length

    @property
    def broken(self) -> bool:
        return self._broken or self._inner.broken

    def append(self, parts: Iterable[Buffer]) -> None:
        self._check_usable()
        due = self._plan.before("append", self._key)
        if any(fault.action is Action.TEAR for fault in due):
            whole = b"".join(bytes(part) for part in parts)
            self._inner.append([whole[: len(whole) // 2]])
            kill_this_process()
        self._inner.append(parts)
        try:
            self._plan.after(due, "append", self._key)
        except StorageError:
            self._broken = True  # there is more in the file than the caller was told
            raise

    def sync(self) -> None:
        self._check_usable()
        try:
            due = self._plan.before("sync", self._key)
            self._inner.sync()
            self._plan.after(due, "sync", self._key)
        except StorageError:
            self._broken = True
            raise

    def close(self) -> None:
        self._inner.close()

    def _check_usable(self) -> None:
        if self._broken:
            raise StorageError("the file is broken by an earlier error", where=self._key, fix="go on in a new file")


def install_from_environment() -> FaultPlan | None:
    """Put all storages that this process resolves from now on under the plan in CKPT_TEST_FAULTS; None if not set.

    OptionError for a text that is no plan.
    """
    text = os.environ.get(FAULTS_VARIABLE)
    if not text:
        return None
    plan = FaultPlan.parse(text)
    add_wrapper(lambda storage: FaultyStorage(storage, plan))
    return plan


def kill_this_process() -> None:
    """SIGKILL to the own process: no handler, no cleanup, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)
    sys.exit("unreachable: SIGKILL cannot be survived")


def _flip(due: list[Fault], data: memoryview) -> memoryview:
    """``data`` with one bit flipped for each flip that is due."""
    for fault in due:
        if fault.action is Action.FLIP and data.nbytes:
            data[min(int(fault.amount), data.nbytes - 1)] ^= 0x10
    return data


def _half_then_kill(parts: Iterable[Buffer]) -> Iterator[Buffer]:
    whole = b"".join(bytes(part) for part in parts)
    yield whole[: len(whole) // 2]
    kill_this_process()
