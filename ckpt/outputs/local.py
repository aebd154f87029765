"""A local output file: appended to at its end, cut back on a resume."""

from __future__ import annotations

import errno
import os
import shlex
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ckpt.errors import OutputBusyError, OutputChangedError, StorageError, StorageFullError
from ckpt.outputs.claim import SUFFIX, Owner, claim_local, size_of
from ckpt.storage.files import read_at, sync_data, sync_folder, write_all

_PIECE = 1 << 20
"""Bytes read at once when what is there is verified."""


class LocalSink:
    """The file at an absolute ``path``, claimed for the run (see ``registry.Sink``)."""

    def __init__(self, path: str, owner: Owner, *, truncates: bool) -> None:
        """OutputBusyError, OutputChangedError, StorageError."""
        self.where, self._owner, self._truncates = path, owner, truncates
        self._fd = -1
        self._end = 0
        self._unsynced = self._new = True
        self._trouble: Exception | None = None
        with self._errors("open"):
            if not os.path.isdir(os.path.dirname(path)):
                raise StorageError("its folder is not there", where=path, fix=f"make {os.path.dirname(path)}")
            self._claim = claim_local(path, owner, None)
            self.start = self._claim.start if self._claim is not None else self._size_before()

    def _size_before(self) -> int:
        return 0 if self._truncates else size_of(self.where)

    def begin(self, saved: Mapping[str, Any] | None) -> None:
        with self._errors("open"):
            if self._claim is None:
                self._claim = claim_local(self.where, self._owner, self._start_of(saved))
                assert self._claim is not None
                self.start = self._claim.start

    def _start_of(self, saved: Mapping[str, Any] | None) -> int:
        """Where the run's part begins, there being no claim: this run never had the file, or it did and somebody deleted it."""
        if saved is not None:
            size = size_of(self.where)
            if size > saved["length"] or ("start" not in saved and not self._truncates):
                raise self._unclaimed(size, saved)
            return int(saved.get("start", 0))
        size = self._size_before()
        if size and self._owner.fork_of:
            raise self._unknown(size)
        if size != self.start:
            what = "the output file is taken: another run wrote to it while this one was on its way back"
            raise OutputBusyError(what, where=self.where, fix="run again, to go on behind it")
        return size

    def _unclaimed(self, size: int, saved: Mapping[str, Any]) -> OutputChangedError:
        length = saved["length"]
        fix = f"to give that up: truncate -s {length} {shlex.quote(self.where)}; then run again"
        if "start" not in saved and not self._truncates:
            fix = "put the claim back, or start the run afresh: f.options(fresh=True)(...) (of a with block: ckpt rm)"
        what = f"has {size} bytes and no claim ({self.where}{SUFFIX}), so what is behind byte {length} may be another run's"
        return self._changed(what, fix)

    def _unknown(self, size: int) -> OutputChangedError:
        """The fork's state does not name the file: all of it may be of before the origin, or part of it the origin's."""
        claim = shlex.quote(self._owner.to_json(start=size).decode())
        what = f"has {size} bytes and no claim, and how many of them are its origin's this run (a fork) does not know"
        fix = (
            f"write to another path; or make the claim: echo {claim} > {shlex.quote(self.where + SUFFIX)}, where start is the "
            f"number of bytes that stay (all: {size}; those of before the origin, to write its part again)"
        )
        return self._changed(what, fix)

    def cut(self, length: int, crc: int, more: Any) -> None:
        with self._errors("open"):
            if self._fd == -1:
                self._fd = os.open(self.where, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            size = os.fstat(self._fd).st_size
            self._verify(size, length, crc)
            if size > length:
                os.ftruncate(self._fd, length)
        self._end = length

    def _verify(self, size: int, length: int, crc: int) -> None:
        """OutputChangedError unless the first ``length`` bytes are there, and are those that the run wrote."""
        if size < length:
            raise self._changed(f"has {size} bytes, and the run goes on behind byte {length}", self._ways_out(size))
        found, at = 0, self.start
        while at < length:
            data = read_at(self._fd, at, min(_PIECE, length - at))
            found, at = zlib.crc32(data, found), at + len(data)
        if found != crc:
            raise self._changed(f"has other bytes than the run wrote (from byte {self.start} to {length})", self._ways_out(size))

    def _ways_out(self, size: int) -> str:
        """A checkpoint of before may be one whose bytes are there: after a reset to a later one, what lay behind was cut off."""
        address = shlex.quote(self._owner.address)
        afresh = f"start the run afresh, which keeps the first {self.start} bytes"
        if size < self.start:
            afresh = "delete it with its .ckpt file and start the run afresh"
        return (
            "put the file back as it was, in the folder where the run began; or go back to an older checkpoint, whose bytes are "
            f"there: ckpt reset {address} --to NUMBER (ckpt show {address} has them), which is the way after a reset to a later "
            f"one; or {afresh}: f.options(fresh=True)(...) (of a with block: ckpt rm)"
        )

    def _changed(self, what: str, fix: str) -> OutputChangedError:
        return OutputChangedError(f"the output file {what}", where=self.where, fix=fix)

    def append(self, data: bytes) -> None:
        if self._trouble is not None:
            raise self._trouble
        with self._errors("write"):
            write_all(self._fd, (data,), self._end)
            self._end += len(data)
            self._unsynced = True  # after the write: a sync in between would not have its bytes

    def saved(self) -> Any:
        return None

    def make_durable(self) -> None:
        if self._trouble is not None:
            raise self._trouble
        if not self._unsynced or self._fd == -1:
            return
        self._unsynced = False  # before: what is written from here on is for the next time
        try:
            sync_data(self._fd)
            if self._new:
                sync_folder(Path(self.where).parent)
                self._new = False
        except OSError as error:
            # What a failed fsync left on the disk is unknown, and a second one would say nothing of it.
            what = f"the output file could not be made durable ({error.strerror}), so what is on the disk is unknown"
            self._trouble = OutputChangedError(what, where=self.where, fix="run again: it goes on at its last checkpoint")
            raise self._trouble from error

    def complete(self) -> None:
        self.make_durable()

    def release(self) -> None:
        with self._errors("release"):
            if self._claim is not None:
                self._claim.release()

    def close(self) -> None:
        if self._fd != -1:
            os.close(self._fd)
            self._fd = -1
        if self._claim is not None:
            self._claim.close()

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = StorageFullError if full else StorageError
            fix = "free space there, then run again" if full else "mend what the cause says, then run again"
            trouble = kind(f"cannot {doing} the output file: {error.strerror or error}", where=self.where, fix=fix)
            if doing == "write":
                self._trouble = trouble
            raise trouble from error
