"""Who may run now: one attempt of a run at a time. For liveness only; safety comes from the log's fence.

Local stores: a POSIX record lock on the run's ``lock`` file. The kernel drops it with the process, however that ends,
and children never inherit it. It is also dropped when the process closes *any* descriptor of the file, so nobody but
this module may open it, and this module opens it only while this process does not hold it. The content (one line of
JSON, a ``Holder``) only tells others who holds the lock; it decides nothing.

In-process stores: the registry of this module alone. Remote stores: see ``lease_remote``.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ckpt.errors import RunBusyError
from ckpt.events import span_text
from ckpt.format.names import RunNames
from ckpt.holder import Holder, Refused
from ckpt.lease_remote import RemoteAttempt, read_holder
from ckpt.protocols import Clock, Storage
from ckpt.storage import is_in_process, local_path
from ckpt.storage.files import storage_errors

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
"""How often a waiting attempt tries again: at first often, then each second."""

_NAMING_TRIES, _NAMING_PAUSE_S = 20, 0.01
"""A holder writes its name just after it got the lock: how often, and how soon, a refused attempt looks again."""

_ATTEMPTS = 20
"""How often a lock file is opened again when it is deleted at the same moment."""

_MAX_NAME = 4096


class HeldLease(Protocol):
    """A lease that this process holds (see ``protocols.Lease``)."""

    def renew(self) -> bool:
        """Show that this process lives; call it every few seconds. False if the lease is no longer ours.

        StorageError: not known; try again.
        """

    def release(self) -> None:
        """Let others run. A second call, or one in a forked child, does nothing. StorageError."""


def acquire(
    storage: Storage, names: RunNames, *, holder: Holder, wait_s: float | None = None, clock: Clock
) -> HeldLease:
    """The lease of the run ``names``, held from now on for ``holder``, which describes this process.

    ``wait_s``: for how many seconds to try while another attempt lives; None refuses as soon as that is known (on a
    remote store whose holder ran on another machine that can take ``lease_remote.TTL_S``). RunBusyError, StorageError.
    """
    try_once = _way(storage, names, holder, clock)
    deadline_s = clock.monotonic() + (wait_s or 0.0)
    pause_s = _FIRST_PAUSE_S
    while isinstance(found := try_once(), Refused):
        left_s = deadline_s - clock.monotonic()
        if left_s <= 0 and found.certain:
            raise _busy(names, found.holder, clock.now(), wait_s)
        clock.sleep(min(pause_s, left_s) if left_s > 0 else pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return found


WAIT = "wait for it with wait=SECONDS"
"""What a fix says of a live attempt."""


def current_holder(storage: Storage, names: RunNames) -> Holder | None:
    """Who holds the run's lease now; None if nobody does. Takes nothing, so it disturbs nobody. StorageError.

    On a remote store this may be a process of another machine that has died: only time can tell.
    """
    place = _place(storage, names)
    with _guard:
        if place in _held:
            return _held[place].holder
        if local_path(storage) is not None:
            with storage_errors("look at the lock", place):
                return _read_name(place, only_if_locked=True)
    return None if is_in_process(storage) else read_holder(storage, names.lock)


class _RegisteredLease:
    """A lease in this process's registry; ``fd`` is the locked file where the store is local, else None."""

    def __init__(self, place: str, holder: Holder, fd: int | None) -> None:
        self.place, self.holder, self.fd = place, holder, fd

    def renew(self) -> bool:
        """Whether the lock is still the one that others ask for: the file may have been deleted by hand."""
        with _guard, storage_errors("look at the lock", self.place):
            return _held.get(self.place) is self and (self.fd is None or _is_at(self.fd, self.place))

    def release(self) -> None:
        with _guard, storage_errors("release the lock", self.place):
            if _held.get(self.place) is self:
                del _held[self.place]
                if self.fd is not None:
                    os.close(self.fd)  # Commit point.


_held: dict[str, _RegisteredLease] = {}
_guard = threading.Lock()


def _forget_in_child() -> None:
    """A forked child holds nothing: record locks belong to the parent, and closing these copies does not touch them."""
    global _guard
    _guard = threading.Lock()  # another thread may have held it at the moment of the fork
    for lease in _held.values():
        if lease.fd is not None:
            os.close(lease.fd)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


def _place(storage: Storage, names: RunNames) -> str:
    """What the registry knows the run by: the same for every way to write a local store's path."""
    path = local_path(storage)
    return f"{storage.url}/{names.lock}" if path is None else os.path.join(os.path.realpath(path), names.lock)


def _way(storage: Storage, names: RunNames, holder: Holder, clock: Clock) -> Callable[[], HeldLease | Refused]:
    """The way to try for a lease once, by the kind of storage."""
    if local_path(storage) is not None:
        return partial(_try_local, _place(storage, names), holder, clock)
    if is_in_process(storage):
        return partial(_try_in_process, _place(storage, names), holder)
    return RemoteAttempt(storage, names.lock, holder, clock).try_once


def _try_in_process(place: str, holder: Holder) -> HeldLease | Refused:
    with _guard:
        if place in _held:
            return Refused(_held[place].holder)
        lease = _held[place] = _RegisteredLease(place, holder, None)
        return lease


def _try_local(place: str, holder: Holder, clock: Clock) -> HeldLease | Refused:
    with _guard:
        if place in _held:  # the kernel would let the same process in again
            return Refused(_held[place].holder)
        with storage_errors("lock the run", place):
            fd = _lock(place, holder)
        if fd is not None:
            lease = _held[place] = _RegisteredLease(place, holder, fd)
            return lease
    return Refused(_name_of_holder(place, clock))


def _lock(place: str, holder: Holder) -> int | None:
    """The lock file, open, locked and with our name in it; None if another process has the lock. OSError."""
    for _ in range(_ATTEMPTS):
        try:
            fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            continue
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Commit point.
            if _is_at(fd, place):  # else it was deleted by its last holder, and others lock another file
                _write_name(fd, holder)
                return fd
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return None
            raise
        os.close(fd)
    raise OSError(errno.EBUSY, "the lock file is deleted again and again")


def _is_at(fd: int, place: str) -> bool:
    """Whether the open file is the one that has this path now. OSError."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(place))
    except FileNotFoundError:
        return False


def _write_name(fd: int, holder: Holder) -> None:
    line = (json.dumps(holder.to_json()) + "\n").encode()
    os.pwrite(fd, line, 0)  # before the cut: a reader takes the first line and never sees an empty file
    os.ftruncate(fd, len(line))


def _name_of_holder(place: str, clock: Clock) -> Holder | None:
    """Who another process's lock belongs to. A dead one's name is a stale one, about to be replaced: looks again."""
    found = None
    for _ in range(_NAMING_TRIES):
        with _guard, storage_errors("look at the lock", place):
            if place in _held:
                return _held[place].holder
            found = _read_name(place, only_if_locked=False)
        if found is not None and found.alive() is not False:
            break
        clock.sleep(_NAMING_PAUSE_S)
    return found


def _read_name(place: str, *, only_if_locked: bool) -> Holder | None:
    """The name in the lock file, or None. Under ``_guard``, while this process does not hold the lock. OSError."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if only_if_locked and not _is_locked(fd):
            return None
        return Holder.parse(os.pread(fd, _MAX_NAME, 0).partition(b"\n")[0])
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    """Whether another process has a record lock on the file, by asking (F_GETLK) and not by trying. OSError."""
    if sys.platform == "darwin":  # struct flock: start, length, pid, type, whence
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("qqihh", 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET))
        return bool(struct.unpack_from("qqihh", answer)[3] != fcntl.F_UNLCK)
    answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    return bool(struct.unpack_from("hhqqi", answer)[0] != fcntl.F_UNLCK)


def _busy(names: RunNames, holder: Holder | None, now_s: float, wait_s: float | None) -> RunBusyError:
    waited = f" (waited {wait_s:g} s)" if wait_s else ""
    if holder is None:
        what, fix = f"another process runs it{waited}", f"{WAIT}, or stop that process"
        return RunBusyError(what, host="", pid=0, since=now_s, where=names.address, fix=fix)
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.started))
    lasts = span_text(max(0.0, now_s - holder.started))
    what = f"process {holder.pid} on {holder.host} runs it, since {since} (for {lasts}){waited}"
    fix = f"{WAIT}, or stop that process (on {holder.host}: kill {holder.pid})"
    if holder.pid == os.getpid() and holder.alive():
        what = f"this process itself runs it, since {since}{waited}"
        fix = "end its first use in this program, or give the second one another run_id"
    return RunBusyError(what, host=holder.host, pid=holder.pid, since=holder.started, where=names.address, fix=fix)
