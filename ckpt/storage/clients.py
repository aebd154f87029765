"""What an adapter for one provider has to bring: ``ObjectClient``. ``remote`` makes a storage of it.

A client makes single requests and raises whatever its library raises (``verdicts`` judges it); it never tries again by
itself, asks no cache, and never waits without end. Paths are ``bucket/key``. Clients belong to one process.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, Protocol, TypeVar, runtime_checkable

from fsspec.asyn import sync

from ckpt.protocols import Buffer

T = TypeVar("T")

CONNECT_S = 10.0
READ_S = 30.0
REQUEST_S = 120.0
"""Limits in seconds: to connect, without a byte of the answer, and for a whole request of at most ``remote.PIECE``."""


LISTED_AT_ONCE = 1000
"""Names in one answer to a listing, at most: what S3 gives, at most."""


class Upload(Protocol):
    """An object that goes up in pieces, and is not there before ``complete``."""

    def send(self, number: int, piece: Buffer, *, last: bool) -> None:
        """Send piece ``number`` (from 0). May be called again for the same piece after an error."""

    def complete(self) -> None:
        """Make the object of all pieces. Commit point. May be called again after an error."""

    def is_complete(self) -> bool:
        """Whether the object that is there now is this upload's: asked after an error of ``complete`` or ``send``."""

    def abort(self) -> None:
        """Give the pieces up. Nothing of them is visible."""


class ObjectClient(Protocol):
    """Requests to one kind of object store. A missing object is a FileNotFoundError, or an error with status 404."""

    lanes: int
    """Pieces of one upload that may be under way at once."""
    repeatable: bool
    """Whether sending a piece again is safe."""

    def create(self, path: str, data: bytes) -> None:
        """Write ``path`` if it is absent; an error with status 412, or FileExistsError, if it is not. Commit point."""

    def write(self, path: str, data: bytes) -> None:
        """Write ``path``, replacing it at once. Commit point."""

    def read(self, path: str, start: int, end: int | None) -> bytes:
        """The bytes from ``start`` to ``end``, which is behind it; fewer where the object ends."""

    def size(self, path: str) -> int: ...

    def delete(self, path: str) -> None: ...

    def keys(self, bucket: str, prefix: str) -> Iterable[str]:
        """The paths in ``bucket`` whose keys begin with ``prefix``, at any depth."""

    def children(self, bucket: str, folder: str) -> Iterable[str]:
        """The paths directly in ``folder`` ('' or with '/' at its end); those of folders may end with '/'."""

    def upload(self, path: str, nonce: str) -> Upload: ...


@runtime_checkable
class CopyingClient(Protocol):
    """A client whose service copies objects by itself."""

    def copy(self, source: str, target: str) -> None:
        """Make ``target`` what ``source`` is, replacing; complete on return. May be called again after an error."""


def wait(filesystem: Any, request: Coroutine[Any, Any, T]) -> T:
    """Run one request in the filesystem's event loop; it is cancelled after ``REQUEST_S``: TimeoutError."""
    found: T = sync(filesystem.loop, _run, request, timeout=REQUEST_S)
    return found


async def _run(request: Coroutine[Any, Any, T]) -> T:
    return await request


def split_path(path: str) -> tuple[str, str]:
    """(bucket, key)."""
    bucket, _, key = path.partition("/")
    return bucket, key

