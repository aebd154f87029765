"""What a local store does with file descriptors: write all, read all, make durable, and name the error.

Every write and sync releases the GIL while the kernel works. Nothing here knows about keys.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ckpt.errors import MissingKeyError, StorageError, StorageFullError, UnsupportedStorageError
from ckpt.protocols import Buffer

_COPY_BELOW = 64 * 1024
"""Parts smaller than this are gathered by copying: cheaper than a system call each."""
_GATHER = 1024 * 1024
"""Gathered bytes that are written out at once."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV})

NO_MORE_LINKS = frozenset({errno.EMLINK, errno.EPERM, errno.EACCES}) | _NO_LINKS
"""Why a file may not get one more name: it has too many, or is another user's (``fs.protected_hardlinks``)."""


def translate(error: OSError, doing: str, where: str) -> StorageError:
    """The error of ckpt that tells what ``error`` means for a store."""
    what = f"cannot {doing}: {error.strerror or error}"
    if error.errno in _FULL:
        return StorageFullError(what, where=where, fix="free space or raise the quota there, then run again")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return StorageError(what, where=where, fix="set CKPT_STORE to a folder that you can write to, or give this user the right to")
    if error.errno in (errno.ENOTDIR, errno.ENOENT) and doing in ("create", "write") and not os.path.isdir(os.path.dirname(where)):
        # Folders are made where they are missing, so it is the address that is wrong.
        there = next(path for path in Path(where).parents if os.path.exists(path))
        reason = f"in {there} no folder can be made" if there.is_dir() else f"{there} is a file, and has to be a folder"
        fix = "set CKPT_STORE (or store=) to a folder that is there, or that can be made"
        return StorageError(f"cannot {doing}: {reason} ({error.strerror})", where=where, fix=fix)
    return StorageError(what, where=where, fix="mend the file system (see the cause above), then run again")


class storage_errors:
    """Turns every OSError of the block into a StorageError that says what failed and where.

    A class: as a generator it would cost a durable append another tenth.
    """

    __slots__ = ("_doing", "_where")

    def __init__(self, doing: str, where: str) -> None:
        self._doing, self._where = doing, where

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise translate(error, self._doing, self._where) from error


class read_errors:
    """Like ``storage_errors``; what is not there is a MissingKeyError."""

    __slots__ = ("_doing", "_where")

    def __init__(self, doing: str, where: str) -> None:
        self._doing, self._where = doing, where

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)):
            raise MissingKeyError("is not there", where=self._where, fix="check the address of the store and the run") from error
        if isinstance(error, OSError):
            raise translate(error, self._doing, self._where) from error


class OpenedFile:
    """A file open for reading inside the block, which gets its descriptor and length; errors as ``read_errors``."""

    __slots__ = ("_errors", "_fd", "_where")

    def __init__(self, where: str) -> None:
        self._where, self._fd, self._errors = where, -1, read_errors("read", where)

    def __enter__(self) -> tuple[int, int]:
        with self._errors:
            fd = os.open(self._where, os.O_RDONLY | os.O_CLOEXEC)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise IsADirectoryError(self._where)
            except BaseException:
                os.close(fd)
                raise
        self._fd = fd
        return fd, status.st_size

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        with self._errors:
            os.close(self._fd)
        self._errors.__exit__(_kind, error, _trace)


def write_all(fd: int, parts: Iterable[Buffer], offset: int) -> int:
    """Write ``parts`` in order from ``offset`` on and return the number of bytes; not durable. OSError.

    A part is written or copied before the next one is asked for, so a generator may use its memory again.
    """
    at, gathered = offset, bytearray()
    for part in parts:
        view = memoryview(part)
        if view.nbytes == 0:
            continue
        if view.nbytes < _COPY_BELOW:
            gathered += view
            if len(gathered) < _GATHER:
                continue
            at = _write_views(fd, [memoryview(gathered)], at)
        else:
            head = [memoryview(gathered)] if gathered else []
            at = _write_views(fd, [*head, view.cast("B")], at)
        gathered = bytearray()
    if gathered:
        at = _write_views(fd, [memoryview(gathered)], at)
    return at - offset


def _write_views(fd: int, views: list[memoryview], at: int) -> int:
    """Write non-empty ``views`` at ``at``, however often the kernel takes only a part; returns the new end."""
    while views:
        written = os.pwritev(fd, views, at)
        if written == 0:
            raise OSError(errno.EIO, "the file system took no bytes")
        at += written
        while views and written >= views[0].nbytes:
            written -= views.pop(0).nbytes
        if views:
            views[0] = views[0][written:]
    return at


def read_at(fd: int, start: int, length: int) -> bytes:
    """Up to ``length`` bytes from ``start``; fewer only at the end of the file. OSError."""
    data = os.pread(fd, length, start)
    if len(data) == length or not data:
        return data
    pieces, got = [data], len(data)
    while got < length and (data := os.pread(fd, length - got, start + got)):
        pieces.append(data)
        got += len(data)
    return b"".join(pieces)


def read_into(fd: int, start: int, target: memoryview) -> int:
    """Fill ``target`` from ``start`` on; the number of bytes, short only at the end of the file. OSError."""
    got = 0
    while got < target.nbytes and (more := os.preadv(fd, [target[got:]], start + got)):
        got += more
    return got


def sync_data(fd: int) -> None:
    """Make a file's content and length durable. OSError: then its durable content is unknown."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync leaves the data in the disk's cache
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable. OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def link_if_absent(fd: int, temporary: Path, final: Path) -> bool:
    """Give the file open as ``fd`` its final name, if nothing has it: whether it has it now. OSError.

    A network file system may do the link and lose the answer; the number of links of our own file tells the truth.
    """
    try:
        os.link(temporary, final)  # Commit point.
    except OSError as error:
        if os.fstat(fd).st_nlink > 1:
            return True
        if isinstance(error, FileExistsError):
            return False
        if error.errno in _NO_LINKS:
            raise UnsupportedStorageError(
                f"this file system has no hard links, without which a file cannot be created exclusively: {error}",
                where=str(final),
                fix="put the store on a file system that has them (ext4, xfs, btrfs, zfs, apfs, nfs)",
            ) from error
        raise
    return True


class LocalAppendFile:
    """A file open for appending by its one writer (see ``protocols.AppendFile``). Owns ``fd``.

    Appending and syncing may happen in different threads at once; two appends may not.
    """

    def __init__(self, fd: int, length: int, where: str) -> None:
        self._fd, self._length, self._where, self._broken = fd, length, where, False

    @property
    def length(self) -> int:
        """Bytes written so far, the head included; a failed append does not count."""
        return self._length

    @property
    def broken(self) -> bool:
        """True once an error left the durable content unknown."""
        return self._broken

    def append(self, parts: Iterable[Buffer]) -> None:
        """Write at the end; not yet durable. After an error the end is where it was, or the file is broken.

        StorageFullError, StorageError.
        """
        self._check_usable()
        try:
            with storage_errors("append", self._where):
                self._length += write_all(self._fd, parts, self._length)
        except BaseException:  # an interrupt too: half an append must not stay behind a later, shorter one
            self._cut_back()
            raise

    def sync(self) -> None:
        """Make all that was appended durable. After an error the file is broken and must not be used again."""
        self._check_usable()
        try:
            with storage_errors("make durable", self._where):
                sync_data(self._fd)
        except StorageError:
            # The kernel may drop the dirty pages and report success next time: never sync this file again.
            self._broken = True
            raise

    def close(self) -> None:
        """Give the file back; a second call does nothing. StorageError."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with storage_errors("close", self._where):
                os.close(fd)

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._length)
        except OSError:
            # Reported by the error that is on its way; the flag keeps everyone off the unknown end.
            self._broken = True

    def _check_usable(self) -> None:
        if self._fd < 0 or self._broken:
            state = "closed" if self._fd < 0 else "broken by an earlier error"
            raise StorageError(f"the file is {state}", where=self._where, fix="go on in a new file")
