"""Keys as files below a folder: durable, atomic and exclusive on a local (or POSIX network) file system.

Guarantees: a key is there whole or not at all; of several creators of one key exactly one wins; what a call reported
as done survives SIGKILL and power loss. How: everything is written to a temporary file beside its place, made durable,
and then given its name by ``rename`` (put) or ``link`` (create if absent); at last the folder is made durable, and the
folders above it where they are new to this object. ``O_EXCL`` on the final name would leave an empty key after a crash.

On disk: ``<root>/<key>``; unfinished files are ``.tmp-<host>-<pid>-<random>`` in the same folder. No listing shows
them; ``remove_leftovers`` deletes what crashed processes left.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ckpt.errors import StorageError
from ckpt.protocols import Buffer
from ckpt.storage.direct import write_file
from ckpt.storage.files import (
    NO_MORE_LINKS,
    LocalAppendFile,
    OpenedFile,
    link_if_absent,
    read_at,
    read_errors,
    read_into,
    storage_errors,
    sync_data,
    sync_folder,
    write_all,
)
from ckpt.storage.keys import TEMPORARY, check_key, folder_key, split_prefix
from ckpt.storage.temporaries import is_leftover, new_temporary

_ATTEMPTS = 20
"""How often a folder is made again when others keep removing it as empty."""

_COPIED = 1 << 20
"""Bytes copied at once where a link is not possible."""

_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC

class LocalStorage:
    """The files below ``root`` (see ``protocols.AppendableStorage``). Does nothing until it is used.

    An object remembers which folders it has made durable, so it should not outlive the attempt that uses it.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self._prefix = os.path.join(self.root, "")
        self._durable: set[Path] = set()

    @property
    def url(self) -> str:
        return str(self.root)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with self._open(key) as (fd, size):
            wanted = max(0, size - start)
            return read_at(fd, start, wanted if length is None else min(length, wanted))

    def read_into(self, key: str, start: int, target: memoryview) -> int:
        with self._open(key) as (fd, _size):
            return read_into(fd, start, target.cast("B") if target.nbytes else target)

    def size(self, key: str) -> int:
        place = self._place(key)
        with read_errors("read", place):
            status = os.stat(place)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(place)
            return status.st_size

    def exists(self, key: str) -> bool:
        place = self._place(key)
        with storage_errors("look", place):
            try:
                return stat.S_ISREG(os.stat(place).st_mode)
            except (FileNotFoundError, NotADirectoryError):
                return False

    def put(self, key: str, parts: Iterable[Buffer]) -> int:
        path = self._path(key)
        with storage_errors("write", str(path)):
            fd, temporary = self._create_temporary(path.parent, 0o666)
            try:
                length = write_file(fd, parts)
                sync_data(fd)
                os.replace(temporary, path)  # Commit point.
            except BaseException:
                _discard(temporary)
                raise
            finally:
                os.close(fd)
            self._sync_names(path.parent)
        return length

    def share(self, source: str, target: str) -> int:
        """A hard link. Where the file cannot have one more (too many, or another user's), its bytes are copied."""
        origin, path = self._path(source), self._path(target)
        with self._open(source) as (fd, size):  # MissingKeyError, and it stays while it is copied
            try:
                with storage_errors("link", str(path)):
                    self._link(origin, path)
                return 0
            except StorageError as error:
                if not (isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_MORE_LINKS):
                    raise
                return self.put(target, (read_at(fd, start, _COPIED) for start in range(0, size, _COPIED)))

    def _link(self, origin: Path, path: Path) -> None:
        fd, temporary = self._create_temporary(path.parent, 0o666)  # makes the folder, and finds a name
        os.close(fd)
        try:
            temporary.unlink()
            os.link(origin, temporary)
            os.replace(temporary, path)  # Commit point.
        finally:
            _discard(temporary)  # a rename leaves it where the target is the same file already
        self._sync_names(path.parent)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        return self._create(key, data, 0o666)

    def create_private(self, key: str, data: Buffer) -> bool:
        """``put_if_absent`` of a file that only its owner can read and write, from its first moment on."""
        return self._create(key, data, 0o600)

    def create_append(self, key: str, head: Buffer) -> LocalAppendFile | None:
        if not self._create(key, head, 0o666):
            return None
        path = self._path(key)
        with storage_errors("open", str(path)):
            # By its final name: a network file system keeps a deleted name alive, in sight, while it is open.
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        return LocalAppendFile(fd, memoryview(head).nbytes, str(path))

    def make_durable(self, key: str) -> None:
        with self._open(key) as (fd, _size), storage_errors("make durable", self._place(key)):
            sync_data(fd)
            self._sync_names(self._path(key).parent)

    def children(self, prefix: str) -> list[str]:
        folder = self.root / folder_key(prefix)
        with storage_errors("list", str(folder)):
            return sorted(
                entry.name for entry in _entries(folder) if entry.is_file() or any(_walk(entry.path, entry.name))
            )

    def list(self, prefix: str) -> list[str]:
        folder = split_prefix(prefix)
        with storage_errors("list", str(self.root / folder)):
            return sorted(key for key in _walk(self.root / folder, folder) if key.startswith(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """The keys that ``list`` gives, in any order, with their lengths in bytes."""
        folder, found = split_prefix(prefix), dict[str, int]()
        with storage_errors("list", str(self.root / folder)):
            _collect(os.path.join(self._prefix, folder), f"{folder}/" if folder else "", found)
        return {key: size for key, size in found.items() if key.startswith(prefix)} if prefix else found

    def delete(self, key: str) -> None:
        """Remove ``key``, and the folders that this leaves empty; durable on return.

        So of keys that were deleted one after the other a power loss never brings back an earlier one alone.
        """
        path = self._path(key)
        with storage_errors("delete", str(path)):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            except PermissionError:
                if not path.is_dir():  # which macOS says so
                    raise
                return
            self._sync_what_is_left(self._prune(path.parent))

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _place(self, key: str) -> str:
        """``_path`` as text, which is what reading needs and takes a tenth of the time."""
        return f"{self._prefix}{check_key(key)}"

    def _open(self, key: str) -> OpenedFile:
        return OpenedFile(self._place(key))

    def _create(self, key: str, data: Buffer, mode: int) -> bool:
        path = self._path(key)
        with storage_errors("create", str(path)):
            if os.path.lexists(path):  # only saves work: the link decides
                return False
            fd, temporary = self._create_temporary(path.parent, mode)
            try:
                write_all(fd, (data,), 0)
                sync_data(fd)
                created = link_if_absent(fd, temporary, path)
            finally:
                os.close(fd)
                _discard(temporary)
            if created:
                self._sync_names(path.parent)
            return created

    def _create_temporary(self, folder: Path, mode: int) -> tuple[int, Path]:
        """A new empty file in ``folder``, which is made where it is missing. While the file is there, it stays."""
        path = folder / new_temporary()
        for _ in range(_ATTEMPTS):
            try:
                return os.open(path, _CREATE, mode), path
            except FileNotFoundError:  # not made yet, or removed as empty by a delete elsewhere
                self._make_folder(folder)
        return os.open(path, _CREATE, mode), path

    def _make_folder(self, folder: Path) -> None:
        self._durable.discard(folder)
        above = [made for made in (self.root, *self.root.parents) if not made.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in above:
            sync_folder(made.parent)

    def _sync_names(self, folder: Path) -> None:
        """Make the names in ``folder``, and the first time those of the folders that lead to it, durable."""
        sync_folder(folder)
        if folder in self._durable:
            return
        # Another process may have made these folders and not have synced them yet: that they exist says nothing.
        at = folder
        while at != self.root:
            at = at.parent
            sync_folder(at)
        with contextlib.suppress(PermissionError):  # a parent that we may not open was not made by a user like us
            sync_folder(self.root.parent)
        self._durable.add(folder)

    def _prune(self, folder: Path) -> Path:
        """Remove ``folder`` and those above it as long as they are empty; returns the first that stays."""
        while folder != self.root:
            self._durable.discard(folder)
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone: whoever else removes or fills it has taken over
                return folder
            folder = folder.parent
        return folder

    def _sync_what_is_left(self, folder: Path) -> None:
        """Make the removal of a name in ``folder`` durable; if somebody has removed that meanwhile, its removal."""
        while True:
            try:
                return sync_folder(folder)
            except FileNotFoundError:
                if folder == self.root:
                    return  # the whole store is gone
                folder = folder.parent


def remove_leftovers(root: Path, now_s: float) -> list[Path]:
    """Delete unfinished files of dead processes of this host, and those untouched for an hour at Unix time ``now_s``.

    Returns what was deleted. A live process's file that is removed all the same makes its write fail, never wrong.
    StorageError.
    """
    removed = []
    with storage_errors("remove leftovers", str(root)):
        for folder, _folders, names in os.walk(root, onerror=_raise):
            for name in names:
                path = Path(folder, name)
                if name.startswith(TEMPORARY) and _is_leftover(path, now_s):
                    path.unlink(missing_ok=True)
                    removed.append(path)
    return removed


def _is_leftover(path: Path, now_s: float) -> bool:
    try:
        return is_leftover(path.name, now_s - path.stat().st_mtime)
    except FileNotFoundError:
        return False


def _discard(temporary: Path) -> None:
    # Best effort: the outcome is decided already, and what stays is a leftover that the next sweep removes.
    with contextlib.suppress(OSError):
        temporary.unlink()


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What is in ``folder``, without unfinished files; nothing if it is not there."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(TEMPORARY)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _walk(folder: str | Path, key: str) -> Iterator[str]:
    """The keys of all files below ``folder``, whose own key is ``key`` ('' for the root), in any order."""
    folders: list[tuple[str | Path, str]] = [(folder, key)]
    while folders:
        at, above = folders.pop()
        for entry in _entries(at):
            name = f"{above}/{entry.name}" if above else entry.name
            if entry.is_dir():
                folders.append((entry.path, name))
            elif entry.is_file():
                yield name


def _collect(folder: str, above: str, found: dict[str, int]) -> None:
    """Put the keys of all files below ``folder``, and their lengths, into ``found``; ``above`` is in front of each."""
    for entry in _entries(folder):
        if entry.is_dir():
            _collect(entry.path, f"{above}{entry.name}/", found)
        elif entry.is_file():
            try:
                found[above + entry.name] = entry.stat().st_size
            except FileNotFoundError:  # deleted just now
                continue


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
