"""The lease of a run in a remote store: an object that its holder keeps changing.

Nobody compares clocks of two machines: an observer takes a holder for dead when *it* has seen the object unchanged for
``TTL_S`` by its own clock. A holder on the observer's own machine is looked up there instead, and decided at once.

There is no compare-and-swap here, so two attempts that take over from a dead one at the same moment may both believe
that they hold the lease, until one renews. That costs an attempt, not a result: the log's fence lets only one commit.

Stored under the run's ``lock`` key: JSON, a ``Holder`` with ``token`` (names this lease) and ``count`` (renewals).
"""

from __future__ import annotations

import json
import os

from ckpt import host
from ckpt.errors import MissingKeyError
from ckpt.holder import Holder, Refused
from ckpt.protocols import Clock, Storage

TTL_S = 15.0
"""A lease that was not renewed for so long may be taken over."""


class RemoteLease:
    """A lease that this process holds by renewing it (see ``lease.HeldLease``)."""

    def __init__(self, storage: Storage, key: str, holder: Holder) -> None:
        self._storage, self._key, self._holder, self._pid = storage, key, holder, os.getpid()
        self._token, self._count = host.entropy(16).hex(), 0

    def content(self) -> bytes:
        """What the object holds while this lease is held and renewed as often as it was."""
        fields = {**self._holder.to_json(), "token": self._token, "count": self._count}
        return (json.dumps(fields) + "\n").encode()

    def renew(self) -> bool:
        """Show that this process lives. False if the lease is no longer ours. StorageError: not known; try again."""
        if not self.is_ours():
            return False
        self._count += 1
        self._storage.put(self._key, (self.content(),))
        return True

    def release(self) -> None:
        """Let others run at once. A second call, or one in a forked child, does nothing. StorageError."""
        if self.is_ours():
            self._storage.delete(self._key)

    def is_ours(self) -> bool:
        """Whether the object names this lease. StorageError."""
        if self._pid != os.getpid():
            return False
        try:
            fields = json.loads(self._storage.get(self._key))
        except (MissingKeyError, ValueError, RecursionError):
            return False
        return isinstance(fields, dict) and fields.get("token") == self._token


class RemoteAttempt:
    """One attempt's tries to get the lease: remembers what it saw, and since when by its own clock."""

    def __init__(self, storage: Storage, key: str, holder: Holder, clock: Clock) -> None:
        self._storage, self._key, self._clock = storage, key, clock
        self._lease = RemoteLease(storage, key, holder)
        self._seen: bytes | None = None
        self._seen_since_s = 0.0
        self._renewed = False

    def try_once(self) -> RemoteLease | Refused:
        """The lease, or who has it. StorageError."""
        if self._storage.put_if_absent(self._key, self._lease.content()):  # Commit point.
            return self._lease
        try:
            found = self._storage.get(self._key)
        except MissingKeyError:  # released just now
            return Refused(None, certain=False)
        holder = Holder.parse(found)
        alive = holder.alive() if holder else None
        if alive or (alive is None and not self._silent(found)):
            return Refused(holder, certain=bool(alive) or self._renewed)
        self._storage.put(self._key, (self._lease.content(),))
        return self._lease if self._lease.is_ours() else Refused(None, certain=False)

    def _silent(self, found: bytes) -> bool:
        """Whether the object has been as ``found`` for as long as a live holder never leaves it."""
        now_s = self._clock.monotonic()
        if found != self._seen:
            self._renewed = self._seen is not None
            self._seen, self._seen_since_s = found, now_s
        return now_s - self._seen_since_s >= TTL_S


def read_holder(storage: Storage, key: str) -> Holder | None:
    """Who the object names, unless that process is known to be dead; None if nobody. StorageError."""
    try:
        holder = Holder.parse(storage.get(key))
    except MissingKeyError:
        return None
    return None if holder is None or holder.alive() is False else holder
