"""Keys as files on an SFTP server: ``sftp://user@host:port/path`` (``/~/path`` is below the user's home).

Guarantees, like a local store's: a key is there whole or not at all; of several creators of one key exactly one wins;
what a call reported as done survives a power loss of the server. How: everything is written to a new temporary file
beside its place and made durable (``fsync@openssh.com``), then given its name by ``posix-rename@openssh.com`` (put) or
by ``hardlink@openssh.com`` (create if absent), and the folder is made durable. A server that has not all three is
refused. See PROTOCOL in OpenSSH's source for the extensions.

A lost answer is no lost write: the request is made again, and what is there then tells the truth. Requests that were
given up may still reach the server; their temporary file is deleted first, so they can do no harm.

On disk: ``<path>/<key>``; unfinished files are ``.tmp-<host>-<pid>-<random>`` in the same folder, in no listing.
"""

from __future__ import annotations

import itertools
import posixpath
import random
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from ckpt.errors import CkptError, MissingKeyError, OptionError, StorageFullError
from ckpt.host import SystemClock
from ckpt.host import entropy as host_entropy
from ckpt.protocols import Buffer, Clock
from ckpt.storage import retrying
from ckpt.storage.keys import check_key, folder_key, split_prefix
from ckpt.storage.retrying import Retrying, RetryPolicy
from ckpt.storage.secrets import Redactor
from ckpt.storage.temporaries import new_temporary
from ckpt.storage.uploading import PIECE, pieces_of

try:
    import asyncssh

    from ckpt.storage import sftp_files
    from ckpt.storage.sftp_connection import SftpConnection, Work, checked_options, is_lost, translate
except ImportError as missing:
    raise OptionError(
        "sftp:// needs a package that is missing", where="sftp://", fix='pip install "ckpt-jobs[sftp]"'
    ) from missing

T = TypeVar("T")


class SftpStorage:
    """The files below ``url`` (see ``protocols.Storage``). ``options``: see ``sftp_connection.OPTIONS``. OptionError."""

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None = None,
        *,
        clock: Clock | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        host, self._root, said, self._shown = _parsed(url)
        self._connection = SftpConnection(host, checked_options({**said, **(options or {})}, self._shown))
        randomness = random.Random(host_entropy(16))
        self._redact = Redactor(url, options)
        self._retrying = Retrying(
            self._shown, policy or retrying.POLICY, clock or SystemClock(), randomness, redact=self._redact
        )
        self._durable: set[str] = set()
        self._unsettled: set[str] = set()

    @property
    def url(self) -> str:
        return self._shown

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        path, pieces = self._path(key), []
        while True:
            wanted = PIECE if length is None else min(PIECE, length)
            pieces.append(self._ask("read", key, partial(_read, path=path, start=start, length=wanted)))
            start += wanted
            length = None if length is None else length - wanted
            if len(pieces[-1]) < wanted or length == 0:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_into(self, key: str, start: int, target: memoryview) -> int:
        path, got = self._path(key), 0
        view = target.cast("B") if target.nbytes else memoryview(bytearray())
        while True:
            wanted = min(PIECE, view.nbytes - got)
            data = self._ask("read", key, partial(_read, path=path, start=start + got, length=wanted))
            view[got : got + len(data)] = data
            got += len(data)
            if len(data) < wanted or got == view.nbytes:
                return got

    def size(self, key: str) -> int:
        return self._ask("read", key, partial(sftp_files.size_of, path=self._path(key)))

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except MissingKeyError:
            return False
        return True

    def put(self, key: str, parts: Iterable[Buffer]) -> int:
        path = self._path(key)
        for late in list(self._unsettled):  # a put that was given up must not arrive after this one
            self._ask("tidy up", key, partial(sftp_files.remove_file, path=late))
            self._unsettled.discard(late)
        temporary, length = self._write("write", key, pieces_of(parts))
        try:
            self._rename(key, temporary, path)
        except BaseException:
            self._discard(temporary)
            raise
        self._sync_names(key)
        return length

    def share(self, source: str, target: str) -> int:
        """A hard link. Where the server refuses it (too many, or another user's file), the bytes are copied."""
        origin, path = self._path(source), self._path(target)
        tried: list[str] = []

        async def link(client: asyncssh.SFTPClient) -> str | None:
            # A new name each time, as for what is written.
            tried.append(f"{posixpath.dirname(path)}/{new_temporary()}")
            return tried[-1] if await sftp_files.link(client, origin, tried[-1]) else None

        try:
            temporary = self._ask("share", source, link)
            if temporary is None:
                size = self.size(source)
                return self.put(target, (self.get(source, at, PIECE) for at in range(0, size, PIECE)))
            self._rename(target, temporary, path)
            self._sync_names(target)
            return 0
        finally:
            for late in tried:  # a rename leaves it where both are the same file already
                self._discard(late)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Create ``key``: True if it holds ``data`` by a call like this. ``data`` has to hold a nonce."""
        path, mine = self._path(key), bytes(data)
        temporary, _ = self._write("create", key, iter([mine]))
        try:
            created = self._link(key, temporary, path) or (bool(mine) and self.get(key) == mine)
            if created:
                self._sync_names(key)
            return created
        finally:
            self._discard(temporary)

    def remove_leftovers(self) -> list[str]:
        """Delete unfinished files of dead processes of this host, and those untouched for an hour; their keys.

        A live process's file that is removed all the same makes its write fail, never wrong. StorageError.
        """
        return self._ask("remove leftovers", "", partial(sftp_files.remove_leftovers, root=self._root))

    def children(self, prefix: str) -> list[str]:
        folder = folder_key(prefix)
        return self._ask("list", folder, partial(sftp_files.child_names, folder=self._place(folder)))

    def list(self, prefix: str) -> list[str]:
        folder = split_prefix(prefix)

        async def keys(client: asyncssh.SFTPClient) -> Iterable[str]:
            return [path async for path, _ in sftp_files.walk(client, self._place(folder))]

        found = (f"{folder}/{path}" if folder else path for path in self._ask("list", folder, keys))
        return sorted(key for key in found if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Remove ``key``, and the folders that this leaves empty. After a power loss it may be there again."""
        path = self._path(key)

        async def remove(client: asyncssh.SFTPClient) -> None:
            if await sftp_files.remove_file(client, path):
                folder = posixpath.dirname(path)
                self._durable.difference_update(await sftp_files.remove_empty_folders(client, folder, self._root))

        self._ask("delete", key, remove)

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _place(self, folder: str) -> str:
        return f"{self._root}/{folder}" if folder else self._root

    def _where(self, key: str) -> str:
        return f"{self._shown}/{key}" if key else self._shown

    def _ask(self, doing: str, key: str, work: Work[T]) -> T:
        """What ``work``, which may be done more than once, returns; done again while the connection gets lost."""
        return self._persist(doing, key, lambda _again: self._connection.run(work))

    def _persist(self, doing: str, key: str, once: Callable[[bool], T]) -> T:
        """What ``once`` returns, called with whether an earlier call of it may have had its effect."""
        tries = itertools.count()

        def request() -> tuple[T] | Exception:
            try:
                return (once(next(tries) > 0),)
            except Exception as error:
                if is_lost(error):
                    return error
                raise

        try:
            return self._retrying.attempt(request)[0]
        except Exception as error:  # noqa: BLE001 - raised again as what it means
            raise self._translated(error, doing, key) from self._redact.cause(error)

    def _write(self, doing: str, key: str, pieces: Iterator[bytes]) -> tuple[str, int]:
        """A durable temporary file beside the place of ``key``, with all of ``pieces``: (its path, its length).

        What fits into one piece is sent again when the connection gets lost; a longer one is an error then.
        """
        folder, first, second = posixpath.dirname(self._path(key)), next(pieces, b""), next(pieces, None)
        tried: dict[str, None] = {}

        async def begin(client: asyncssh.SFTPClient) -> asyncssh.SFTPClientFile:
            # A new name each time: what is under way on a lost connection may still write to the old one.
            path = f"{folder}/{new_temporary()}"
            tried[path] = None
            file = await sftp_files.create_file(client, path)
            await file.write(first, 0)
            if second is None:
                await sftp_files.finish(file, self._shown)
            return file

        try:
            file, length = self._persist_write(doing, key, begin), len(first)
            piece = second
            while piece is not None:
                self._run_write(doing, key, partial(_write_at, file=file, piece=piece, at=length))
                length += len(piece)
                piece = next(pieces, None)
            if second is not None:
                self._run_write(doing, key, lambda _: sftp_files.finish(file, self._shown))
        except BaseException:
            for path in tried:
                self._discard(path)
            raise
        *lost, temporary = tried
        for path in lost:
            self._discard(path)
        return temporary, length

    def _persist_write(self, doing: str, key: str, work: Work[T]) -> T:
        return self._persist(doing, key, lambda _again: self._run_write(doing, key, work, may_be_lost=True))

    def _run_write(self, doing: str, key: str, work: Work[T], *, may_be_lost: bool = False) -> T:
        """Do ``work`` once; StorageFullError where the server says "failure" (all that version 3 has) and is full."""
        try:
            return self._connection.run(work)
        except Exception as error:
            if may_be_lost and is_lost(error):
                raise
            if isinstance(error, asyncssh.SFTPFailure) and self._is_full():
                fix = "free space or raise the quota there, then run again"
                raise StorageFullError("no space is left on the server", where=self._where(key), fix=fix) from error
            raise self._translated(error, doing, key) from self._redact.cause(error)

    def _translated(self, error: Exception, doing: str, key: str) -> CkptError:
        return translate(error, doing, self._where(key), self._redact)

    def _is_full(self) -> bool:
        try:
            left = self._connection.run(lambda client: client.statvfs(self._root))
        except (asyncssh.Error, OSError):  # not known: then the first error has to do
            return False
        return left.bavail * left.frsize < PIECE

    def _rename(self, key: str, temporary: str, path: str) -> None:
        def once(again: bool) -> None:
            try:
                self._connection.run(lambda client: client.posix_rename(temporary, path))  # Commit point.
            except sftp_files.GONE:
                # Only this call ever renames this file: if it is gone, it was done, and only the answer was lost.
                if not again:
                    raise
            except asyncssh.SFTPOpUnsupported as error:
                raise sftp_files.lacks(
                    "posix-rename@openssh.com", "replaced in one step", self._shown, error
                ) from error

        self._persist("write", key, once)

    def _link(self, key: str, temporary: str, path: str) -> bool:
        """Give the temporary file its name; False if something has that name, be it by an earlier try of this."""

        def once(_again: bool) -> bool:
            try:
                self._connection.run(lambda client: client.link(temporary, path))  # Commit point.
            except (asyncssh.SFTPOpUnsupported, asyncssh.SFTPPermissionDenied) as error:
                raise sftp_files.lacks("hardlink@openssh.com", "created exclusively", self._shown, error) from error
            except asyncssh.SFTPError as error:
                # OpenSSH's server has one code for "exists" and much else. What is there says which it was.
                if is_lost(error) or not self.exists(key):
                    raise
                return False
            return True

        return self._persist("create", key, once)

    def _sync_names(self, key: str) -> None:
        """Make the names in the key's folder, and the first time those of the folders that lead to it, durable."""
        folder = at = posixpath.dirname(self._path(key))
        folders = [folder]
        # Another process may have made these folders and not have synced them yet: that they exist says nothing.
        while folder not in self._durable and at != posixpath.dirname(self._root):
            at = posixpath.dirname(at)
            folders.append(at or ".")
        self._ask("make durable", key, partial(sftp_files.sync_folders, folders=folders, where=self._shown))
        self._durable.add(folder)

    def _discard(self, temporary: str) -> None:
        """Delete a temporary file, or remember that it is still there: a request for it may be under way.

        Tried twice, once on a new connection, and not until the deadline: whoever calls this may have waited for that.
        """
        for _ in range(2):
            try:
                self._connection.run(partial(sftp_files.remove_file, path=temporary))
                return
            except (asyncssh.Error, OSError):
                continue
        self._unsettled.add(temporary)


async def _read(client: asyncssh.SFTPClient, path: str, start: int, length: int) -> bytes:
    return await sftp_files.read_range(client, path, start, length)


async def _write_at(_: asyncssh.SFTPClient, file: asyncssh.SFTPClientFile, piece: bytes, at: int) -> None:
    await file.write(piece, at)


def _parsed(url: str) -> tuple[str, str, dict[str, Any], str]:
    """(host, path of the store, what the address says besides, the address without a password). OptionError."""
    place, _, path = url.partition("://")[2].partition("/")
    fix = "write sftp://user@host:port/folder, or sftp://host/~/folder for one below the home of the user"
    try:
        split = urllib.parse.urlsplit(f"sftp://{place}")
        port, host = split.port, split.hostname
    except ValueError:
        port, host = None, None
    user, at, where = place.rpartition("@")
    shown = f"sftp://{user.partition(':')[0]}{at}{where}/{path.rstrip('/')}"
    root = posixpath.normpath(path.removeprefix("~/")) if path.startswith("~/") else posixpath.normpath(f"/{path}")
    if not host or not path.strip("/~") or root in (".", "..") or root.startswith("../"):
        shown = re.sub(r":(?!//).*@", "@", url.rstrip("/"), count=1)  # a password with a slash in it, perhaps
        raise OptionError("this is not the address of a folder on an SFTP server", where=shown, fix=fix)
    said: dict[str, Any] = {"port": port} if port is not None else {}
    if split.username:
        said["username"] = urllib.parse.unquote(split.username)
    if split.password:
        said["password"] = urllib.parse.unquote(split.password)
    return host, root, said, shown
