"""The seams of ckpt: small structural interfaces that the layers above are written against.

Storage keys are '/'-separated strings relative to the store's root (``sim/3fa9/log/00000000000000000001.log``).
"Durable" means: survives SIGKILL and power loss once the call has returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

Buffer = bytes | bytearray | memoryview


class Storage(Protocol):
    """A place that keeps bytes under keys. Thread-safe. Raises only ``errors.StorageError`` and its children."""

    @property
    def url(self) -> str:
        """The store's address as the user may type it; never holds credentials."""

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of ``key`` from ``start``; fewer than ``length`` where it ends. MissingKeyError if absent."""

    def read_into(self, key: str, start: int, target: memoryview) -> int:
        """Fill ``target`` from ``start`` on; returns the number of bytes read (short only at the end)."""

    def size(self, key: str) -> int:
        """Length in bytes. MissingKeyError if absent."""

    def exists(self, key: str) -> bool:
        """Whether ``key`` is there now (never answered from a cache)."""

    def put(self, key: str, parts: Iterable[Buffer]) -> int:
        """Write ``key`` whole, in the order of ``parts``, replacing atomically; durable on return; bytes written.

        The parts are asked for one by one, and the memory of each stays as it is until this returns.
        """

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Create ``key`` with ``data``: True if this call created it (durable on return), False if it existed."""

    def children(self, prefix: str) -> list[str]:
        """Names directly below the folder ``prefix`` ('' is the root), sorted; [] if there is none."""

    def list(self, prefix: str) -> list[str]:
        """All keys that start with ``prefix``, at any depth, sorted. A hint only on object stores."""

    def delete(self, key: str) -> None:
        """Remove ``key``; no error if absent."""


@runtime_checkable
class SizingStorage(Storage, Protocol):
    """A storage whose listing tells how long the keys are, for less than a request each."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """The keys that ``list`` gives, in any order, with their lengths in bytes."""


@runtime_checkable
class SharingStorage(Storage, Protocol):
    """A storage that can give what a key holds a second key for less than reading and writing it."""

    def share(self, source: str, target: str) -> int:
        """``target`` has the bytes of ``source`` from here on, whole or not at all, replacing; durable on return.

        How many bytes passed through this process for that: none, unless the storage refused to do it by itself. Each goes its own way then: a later ``put`` or ``delete`` of one leaves the other. MissingKeyError.
        """


class AppendFile(Protocol):
    """A key of an appendable storage, open for appending by its one writer."""

    @property
    def length(self) -> int:
        """Bytes written so far, the head included."""

    def append(self, parts: Iterable[Buffer]) -> None:
        """Write at the end: not yet durable. After an error the file's end is where it was before, or ``broken``."""

    def sync(self) -> None:
        """Make all that was appended durable. After an error the file is ``broken``: it must not be used again."""

    @property
    def broken(self) -> bool:
        """True once an error left the durable content unknown."""

    def close(self) -> None: ...


@runtime_checkable
class AppendableStorage(Storage, Protocol):
    """A storage whose keys can grow (a file system)."""

    def create_append(self, key: str, head: Buffer) -> AppendFile | None:
        """Create ``key`` with ``head`` if absent (durable on return) and keep it open; None if it existed."""

    def make_durable(self, key: str) -> None:
        """On return all that can be read of ``key`` is durable, whoever wrote it. MissingKeyError if absent."""


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> float:
        """Unix time, seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def sleep(self, seconds: float) -> None: ...


class Lease(Protocol):
    """Who may run now. Liveness only: safety comes from the log's fence."""

    def release(self) -> None: ...


class Trigger(Protocol):
    """When a checkpoint is due. Called by the session of one run, from several threads; never blocks, never raises."""

    def iterations_left(self, iterations: int) -> float:
        """Iterations of marked loops until one is due, ``iterations`` after the attempt's start; inf if it never counts.

        <= 0: it is due by count, and taken at this very place unless the storage is busy or in trouble.
        """

    def due_in(self, iterations: int, now_s: float) -> float:
        """Seconds (monotonic clock) until a checkpoint is due; <= 0 is due now; inf leaves it to iterations."""

    def taken(self, iterations: int, now_s: float) -> None:
        """A checkpoint is taken here: the state is read. It is not durable yet, and may fail to become so."""

    def committed(self, iterations: int, now_s: float, cost_s: float) -> None:
        """The checkpoint taken at ``iterations`` is durable since ``now_s``; stall and background work cost ``cost_s``."""


class Hook(Protocol):
    """Receives events (``events.Event``); must not raise."""

    def __call__(self, name: str, details: dict[str, object]) -> None: ...
