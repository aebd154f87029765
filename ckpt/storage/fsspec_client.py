"""Any URL that fsspec opens and that has no adapter of its own. Whether it is safe, ``storage.probe`` finds out.

What its filesystem is like is not known here, so little is asked of it: no piece of an upload is sent twice, and what it
does in one call it does without a limit of time of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

from ckpt.errors import OptionError, UnsupportedStorageError
from ckpt.protocols import Buffer

_BLOCK = 8 * 1024 * 1024


class FsspecClient:
    """See ``clients.ObjectClient``; ``address`` is the store's URL."""

    lanes, repeatable = 1, False

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        self._scheme = address.partition("://")[0]
        kind = filesystem_class(self._scheme)
        always = {"skip_instance_cache": True, "use_listings_cache": False}
        self._filesystem = kind(**{**_options_from(kind, address), **options, **always})

    def create(self, path: str, data: bytes) -> None:
        filesystem = self._filesystem
        if not filesystem.async_impl and type(filesystem).pipe_file is AbstractFileSystem.pipe_file:
            raise self._cannot_create()  # fsspec's own fallback looks first and writes then: two can win
        try:
            filesystem.pipe_file(path, data, mode="create")  # Commit point.
        except (TypeError, NotImplementedError) as error:
            raise self._cannot_create() from error

    def write(self, path: str, data: bytes) -> None:
        self._filesystem.pipe_file(path, data)  # Commit point.

    def read(self, path: str, start: int, end: int | None) -> bytes:
        if start == 0 and end is None:
            return bytes(self._filesystem.cat_file(path))
        return bytes(self._filesystem.cat_file(path, start=start, end=self.size(path) if end is None else end))

    def size(self, path: str) -> int:
        self._filesystem.invalidate_cache()
        found: dict[str, Any] = self._filesystem.info(path)
        if found["type"] != "file":
            raise FileNotFoundError(path)
        return int(found["size"])

    def delete(self, path: str) -> None:
        self._filesystem.rm_file(path)

    def keys(self, bucket: str, prefix: str) -> Iterable[str]:
        return self._listed(f"{bucket}/{prefix.rpartition('/')[0]}", deep=True)

    def children(self, bucket: str, folder: str) -> Iterable[str]:
        return self._listed(f"{bucket}/{folder}", deep=False)

    def upload(self, path: str, nonce: str) -> FsspecUpload:
        return FsspecUpload(self._filesystem.open(path, "wb", block_size=_BLOCK))

    def _listed(self, folder: str, *, deep: bool) -> Iterable[str]:
        self._filesystem.invalidate_cache()
        listing = self._filesystem.find if deep else self._filesystem.ls
        found: Iterable[str] = listing(folder.rstrip("/"), detail=False)
        return found

    def _cannot_create(self) -> UnsupportedStorageError:
        what = f"{self._scheme}:// cannot create an object only if it is absent"
        return UnsupportedStorageError(what, where=f"{self._scheme}://", fix="use s3://, gs://, az://, sftp:// or a local path")


class FsspecUpload:
    """A file of fsspec that is open for writing (see ``clients.Upload``)."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def send(self, number: int, piece: Buffer, *, last: bool) -> None:
        self._file.write(piece)

    def complete(self) -> None:
        self._file.close()  # Commit point.

    def is_complete(self) -> bool:
        return False  # not known

    def abort(self) -> None:
        self._file.closed = True  # fsspec commits what there is when a file is closed, or collected, after an error
        with contextlib.suppress(NotImplementedError):
            self._file.discard()


def filesystem_class(scheme: str) -> Any:
    """fsspec's class for ``scheme``. OptionError if there is none, or if a package for it is missing."""
    try:
        return fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        fix = "use a path, file://, memory://, sftp://, s3://, gs:// or az://"
        raise OptionError(f"{scheme}:// is not an address that ckpt knows", where=f"{scheme}://", fix=fix) from error
    except ImportError as error:
        raise OptionError(
            f"{scheme}:// needs a package that is missing", where=f"{scheme}://", fix=str(error)
        ) from error


def root_of(address: str) -> str:
    """The path of ``address`` in its filesystem."""
    kind = filesystem_class(address.partition("://")[0])
    return str(kind._strip_protocol(address)).rstrip("/")


def _options_from(kind: Any, address: str) -> dict[str, Any]:
    """What the address itself says to the filesystem (host, user, port)."""
    options: dict[str, Any] = kind._get_kwargs_from_urls(address)
    options.pop("protocol", None)
    return options
