"""Keys in an object store, through whatever fsspec has for the URL's scheme. The only home of fsspec.

Guarantees: nothing is answered from a cache; a failed look-up is never taken for "absent"; a lost answer is no lost
write (after any error of a create the object is read back: bytes equal to the caller's are the caller's, so they must
hold a nonce). Whether the storage really creates exclusively is for ``storage.probe`` to find out.

fsspec's filesystems do not survive a fork and share instances by their arguments: each process makes its own.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

from ckpt.errors import CkptError, MissingKeyError, OptionError, StorageError, UnsupportedStorageError
from ckpt.host import SystemClock
from ckpt.protocols import Buffer, Clock
from ckpt.storage.keys import check_key, folder_key, split_prefix

_WHOLE = 8 * 1024 * 1024
"""Objects up to this many bytes are sent in one request; longer ones in pieces of this size."""

_CREATES = 4
_PAUSE_S = 0.1
"""How often a create that left nothing behind is tried, and the first pause between; each next one is twice as long."""

_MISSING_FIX = "check the address of the store and the run"


class RemoteStorage:
    """The objects below ``url`` (see ``protocols.Storage``). ``options`` go to fsspec. OptionError for a bad scheme."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None, *, clock: Clock | None = None) -> None:
        self._address, self._options, self._clock = url.rstrip("/"), dict(options or {}), clock or SystemClock()
        self._scheme = url.partition("://")[0]
        self._class = _filesystem_class(self._scheme)
        self._pid, self._made = -1, None
        self._root = str(self._class._strip_protocol(self._address)).rstrip("/")

    @property
    def url(self) -> str:
        return _without_password(self._address)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        path = self._path(key)
        with self._errors("read", key):
            if start == 0 and length is None:
                return bytes(self._filesystem().cat_file(path))
            end = self._info(key)["size"] if length is None else start + length
            try:
                return bytes(self._filesystem().cat_file(path, start=start, end=end)) if start < end else b""
            except FileNotFoundError:
                raise
            except Exception:
                # Servers refuse a range that begins at the end or behind it, each in its own way.
                if start >= self._info(key)["size"]:
                    return b""
                raise

    def read_into(self, key: str, start: int, target: memoryview) -> int:
        data = self.get(key, start, target.nbytes)
        if data:
            target.cast("B")[: len(data)] = data
        return len(data)

    def size(self, key: str) -> int:
        with self._errors("read", key):
            return int(self._info(key)["size"])

    def exists(self, key: str) -> bool:
        # Not fsspec's exists(): that takes every error for "no", and the end of the log is found by this.
        try:
            self.size(key)
        except MissingKeyError:
            return False
        return True

    def put(self, key: str, parts: Iterable[Buffer]) -> int:
        path = self._path(key)
        pieces = _pieces(parts)
        first = next(pieces, b"")
        second = next(pieces, None)
        with self._errors("write", key):
            if second is None:
                self._filesystem().pipe_file(path, first)  # Commit point.
                return len(first)
            return self._put_long(path, first, second, pieces)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Create ``key``: True if it holds ``data`` by this call. ``data`` has to hold a nonce (see the module)."""
        path, mine = self._path(key), bytes(data)
        self._check_can_create()
        for attempt in range(_CREATES):
            try:
                self._filesystem().pipe_file(path, mine, mode="create")  # Commit point.
                return True
            except FileExistsError:
                # Perhaps by ourselves: a client that lost the first answer asked again.
                return bool(mine) and self.get(key) == mine
            except (TypeError, NotImplementedError) as error:
                raise self._cannot_create() from error
            except Exception as error:
                found = self._read_back(key, error)
                if found is not None:
                    return bool(mine) and found == mine
                if attempt == _CREATES - 1:
                    raise self._translate(error, "create", key) from error
                self._clock.sleep(_PAUSE_S * 2**attempt)
        raise AssertionError("unreachable")

    def children(self, prefix: str) -> list[str]:
        folder = folder_key(prefix)
        found = self._listed(folder, deep=False)
        names = (self._key(path.rstrip("/")).removeprefix(folder).removeprefix("/") for path in found)
        return sorted({name for name in names if name and "/" not in name})

    def list(self, prefix: str) -> list[str]:
        found = self._listed(split_prefix(prefix), deep=True)
        return sorted(key for key in map(self._key, found) if key.startswith(prefix) and not key.endswith("/"))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._errors("delete", key), contextlib.suppress(FileNotFoundError):
            self._filesystem().rm_file(path)

    def _listed(self, folder: str, *, deep: bool) -> Iterable[str]:
        """The filesystem's paths in ``folder``, or all below it; asked anew."""
        with self._errors("list", folder):
            filesystem = self._filesystem()
            filesystem.invalidate_cache()
            listing = filesystem.find if deep else filesystem.ls
            try:
                found: Iterable[str] = listing(f"{self._root}/{folder}".rstrip("/"), detail=False)
            except FileNotFoundError:
                return ()
            return found

    def _filesystem(self) -> Any:
        if self._pid != os.getpid():
            options = {**_options_from(self._class, self._address), **self._options}
            options |= {"skip_instance_cache": True, "use_listings_cache": False}
            with self._errors("open", ""):
                self._made = self._class(**options)
            self._pid = os.getpid()
        return self._made

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _key(self, path: str) -> str:
        return path.removeprefix(self._root).lstrip("/")

    def _info(self, key: str) -> dict[str, Any]:
        filesystem = self._filesystem()
        filesystem.invalidate_cache()
        found: dict[str, Any] = filesystem.info(self._path(key))
        if found["type"] != "file":
            raise FileNotFoundError(key)
        return found

    def _put_long(self, path: str, first: bytes, second: bytes, rest: Iterator[bytes]) -> int:
        """Send pieces one after the other; the object is there once the last request is answered."""
        target = self._filesystem().open(path, "wb", block_size=_WHOLE)
        try:
            length = target.write(first) + target.write(second)
            for piece in rest:
                length += target.write(piece)
        except BaseException:
            target.closed = True  # fsspec commits what there is when a file is closed, or collected, after an error
            with contextlib.suppress(NotImplementedError):
                target.discard()
            raise
        target.close()  # Commit point.
        return int(length)

    def _read_back(self, key: str, cause: Exception) -> bytes | None:
        """What ``key`` holds after a create that failed with ``cause``; None if nothing. StorageError if unknown."""
        try:
            return self.get(key)
        except MissingKeyError:
            return None
        except StorageError as error:
            what = f"the create failed ({cause}), and reading back whether it happened failed too ({error.what})"
            raise StorageError(what, where=self._where(key), fix="run again when the storage answers") from cause

    def _check_can_create(self) -> None:
        filesystem = self._filesystem()
        if not filesystem.async_impl and type(filesystem).pipe_file is AbstractFileSystem.pipe_file:
            raise self._cannot_create()  # fsspec's own fallback looks first and writes then: two can win

    def _cannot_create(self) -> UnsupportedStorageError:
        return UnsupportedStorageError(
            f"{self._scheme}:// cannot create an object only if it is absent",
            where=self.url,
            fix="use s3://, gs://, az:// or a local path",
        )

    def _where(self, key: str) -> str:
        return f"{self.url}/{key}" if key else self.url

    @contextlib.contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise self._translate(error, doing, key) from error

    def _translate(self, error: Exception, doing: str, key: str) -> CkptError:
        """Adapters raise what their clients raise; all that matters here is whether the object was not there."""
        if isinstance(error, CkptError):
            return error
        if isinstance(error, FileNotFoundError) and doing == "read":
            return MissingKeyError("is not there", where=self._where(key), fix=_MISSING_FIX)
        if isinstance(error, (NotImplementedError, TypeError)):
            what = f"{self._scheme}:// cannot {doing} objects: {error!r}"
            return UnsupportedStorageError(what, where=self._where(key), fix="use s3://, gs://, az:// or a local path")
        what = f"cannot {doing}: {type(error).__name__}: {error}"
        fix = "check address, credentials and network, then run again"
        return StorageError(what, where=self._where(key), fix=fix)


def _filesystem_class(scheme: str) -> Any:
    try:
        return fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        fix = "use a path, file://, memory://, s3://, gs:// or az://"
        raise OptionError(f"{scheme}:// is not an address that ckpt knows", where=f"{scheme}://", fix=fix) from error
    except ImportError as error:
        fix = 'pip install "ckpt-jobs[s3]"' if scheme in ("s3", "s3a") else str(error)
        raise OptionError(f"{scheme}:// needs a package that is missing", where=f"{scheme}://", fix=fix) from error


def _options_from(filesystem_class: Any, address: str) -> dict[str, Any]:
    """What the address itself says to the filesystem (host, user, port)."""
    options: dict[str, Any] = filesystem_class._get_kwargs_from_urls(address)
    options.pop("protocol", None)
    return options


def _without_password(url: str) -> str:
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1@", url)


def _pieces(parts: Iterable[Buffer]) -> Iterator[bytes]:
    """The bytes of ``parts`` in pieces of at most ``_WHOLE`` bytes; a part is copied before the next is asked for."""
    gathered = bytearray()
    for part in parts:
        view = memoryview(part)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        while view.nbytes:
            room = _WHOLE - len(gathered)
            gathered += view[:room]
            view = view[room:]
            if len(gathered) == _WHOLE:
                yield bytes(gathered)
                gathered = bytearray()
    if gathered:
        yield bytes(gathered)
