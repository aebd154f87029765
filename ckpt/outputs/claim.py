"""Whose an output file is: the claim beside it, and for local files the lock that ends with the process.

A claim is created whole and durably, if absent, before the run writes its first byte; so of several runs one has the file.
It stays until that run is finished: a run that was killed may still be resumed, and would cut off what another one wrote.
A claim that somebody deleted is made again only where a state says where the run's part begins, and nothing lies behind it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckpt.errors import OutputBusyError, OutputChangedError, StorageError
from ckpt.protocols import Storage
from ckpt.storage import LocalStorage

SUFFIX = ".ckpt"
_TRIES = 20
"""How often a claim that vanishes while it is being opened is looked for again."""

_guard = threading.Lock()
_held: dict[str, str] = {}
"""Claims that this process has open, by path, with their owners: closing another descriptor would drop the lock."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The run that writes: its address, the id of its store, where that is (for messages), and the run that it is a fork of."""

    address: str
    store_id: str
    store_url: str
    fork_of: str = ""
    is_gone: Callable[[str], bool] = field(default=lambda address: False, compare=False)
    """Whether there is no such run in the store (any more). Only asked before a run is refused."""

    def to_json(self, **more: Any) -> bytes:
        facts = {"run": self.address, "store_id": self.store_id, "store": self.store_url, **more}
        return json.dumps(facts, sort_keys=True).encode()

    def is_of(self, claim: Mapping[str, Any]) -> bool:
        return (claim.get("run"), claim.get("store_id")) == (self.address, self.store_id)


def size_of(path: str) -> int:
    """Length of the file, 0 where there is none."""
    return os.stat(path).st_size if os.path.exists(path) else 0


class LocalClaim:
    """The claim of this run on a local file, locked until ``close`` or the end of the process."""

    def __init__(self, path: str, fd: int, start: int) -> None:
        self.start = start
        """Length of the file when the run first opened it, bytes."""
        self._path, self._fd = path, fd

    def release(self) -> None:
        """The run is finished: the file is anybody's. StorageError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self.close()

    def close(self) -> None:
        with _guard:
            if _held.pop(self._path, None) is not None:
                os.close(self._fd)


def claim_local(path: str, owner: Owner, start: int | None) -> LocalClaim | None:
    """Claim the file at the absolute ``path``, of which the run's part begins at ``start`` if no claim says so yet; with None
    only a claim that is there is taken.

    OutputBusyError (another run's, or another process has it open), OutputChangedError (the claim is damaged).
    """
    place = path + SUFFIX
    with _guard:
        if place in _held:
            raise _busy(path, f"it is open in this process already, for run {_held[place]}", _WAIT)
        for _ in range(_TRIES):
            fd = _open_locked(place, path)
            if fd is not None:
                return _take(path, fd, owner)
            if start is None:
                return None
            LocalStorage(Path(path).parent).put_if_absent(os.path.basename(place), owner.to_json(start=start))
    raise StorageError("its claim appears and vanishes", where=place, fix="see who else removes it, then run again")


def _open_locked(place: str, path: str) -> int | None:
    """The claim's file, locked for this process; None if there is none (any more)."""
    try:
        fd = os.open(place, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = os.stat(place)
        if (there.st_dev, there.st_ino) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino):
            return fd
    except FileNotFoundError:
        pass  # its run has just finished
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _busy(path, "another process that lives has it open", _WAIT) from error
        raise
    os.close(fd)
    return None


def _take(path: str, fd: int, owner: Owner) -> LocalClaim:
    place = path + SUFFIX
    try:
        found = parse(os.pread(fd, 1 << 16, 0), place)
        check_owner(found, owner, path, place, give_up=_cutting(path, place, int(found["start"])))
    except BaseException:
        os.close(fd)
        raise
    _held[place] = owner.address
    return LocalClaim(place, fd, int(found["start"]))


def claim_object(storage: Storage, key: str, owner: Owner, url: str, *, first: Mapping[str, Any]) -> dict[str, Any]:
    """What the claim ``key`` says, after it was created with ``first`` if it was absent. OutputBusyError."""
    # No nonce: a claim of this very run is this run's, whichever attempt created it.
    storage.put_if_absent(key, owner.to_json(**first))
    found = parse(storage.get(key), f"{storage.url}/{key}")
    place = f"{storage.url}/{key}"
    check_owner(found, owner, url, place, give_up=f"delete {place}: the object is as it was before that run", grows=False)
    return found


def parse(data: bytes, place: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
        if isinstance(found, dict) and isinstance(found.get("start"), int):
            return found
    except ValueError:
        pass
    what = "the claim on the output file cannot be read"
    raise OutputChangedError(what, where=place, fix="delete it and the output file, and start the run afresh")


def _cutting(path: str, place: str, start: int) -> str:
    """How what a run wrote is given up, and what was there before it is not."""
    if size_of(path) <= start:
        return f"delete {place}"
    return f"truncate -s {start} {shlex.quote(path)} (what was there before), then delete {place}"


def check_owner(claim: Mapping[str, Any], owner: Owner, path: str, place: str, *, give_up: str, grows: bool = True) -> None:
    """OutputBusyError if the claim is another run's. ``give_up``: how what that one wrote is removed; ``grows``: it is at its
    place already, and could stay."""
    if owner.is_of(claim):
        return
    run, store = str(claim.get("run")), claim.get("store")
    if claim.get("store_id") == owner.store_id and owner.is_gone(run):
        fix = f"to give up what it wrote: {give_up}" + (f"; to keep it: only delete {place}" if grows else "")
        raise _busy(path, f"it belongs to run {run} of store {store}, which is removed and had not finished it", fix)
    fix = f"finish that run, or write to another path; to give up what it wrote: {give_up}"
    if grows:
        fix += f"; to keep it, if the run is given up for good (ckpt rm {shlex.quote(run)}): only delete {place}"
    if owner.fork_of and (claim.get("run"), claim.get("store_id")) == (owner.fork_of, owner.store_id):
        fix += f'; to go on with its bytes, hand it over: in {place}, write "{owner.address}" for "{owner.fork_of}"'
    raise _busy(path, f"it belongs to run {run} of store {store}, which has not finished it", fix)


_WAIT = "wait until it is done, or end that process; one run at a time can write to a file"


def _busy(path: str, what: str, fix: str) -> OutputBusyError:
    return OutputBusyError(f"the output file is taken: {what}", where=path, fix=fix)
