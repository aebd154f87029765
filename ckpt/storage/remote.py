"""Keys in an object store: what all of them have in common, over the requests of one provider's client.

Guarantees: nothing is answered from a cache; a failed look-up is never taken for "absent"; a lost answer is no lost
write (after any error of a create the object is read back: bytes equal to the caller's are the caller's, so they must
hold a nonce); no call waits much longer than the policy's deadline; an object is there whole or not at all. Whether the
storage really creates exclusively is for ``storage.probe`` to find out.

Clients do not survive a fork: each process makes its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeVar

from ckpt import host
from ckpt.errors import CkptError, MissingKeyError, StorageError, UnsupportedStorageError
from ckpt.protocols import Buffer, Clock
from ckpt.storage import retrying
from ckpt.storage.clients import CopyingClient, ObjectClient, split_path
from ckpt.storage.keys import check_key, folder_key, split_prefix
from ckpt.storage.retrying import Retrying, RetryPolicy
from ckpt.storage.secrets import Redactor, without_password
from ckpt.storage.uploading import PIECE, pieces_of, upload_pieces
from ckpt.storage.verdicts import Verdict, judge, status_of

T = TypeVar("T")

READERS = 4
"""Ranges of one large read that are asked for at once."""

_MISSING_FIX = "check the address of the store and the run"
_FIXES = {
    401: "check the credentials: the storage does not know them",
    403: "give these credentials the right to read, write, list and delete there",
}

MakeClient = Callable[[Mapping[str, Any]], ObjectClient]


class RemoteStorage:
    """The objects below ``url`` (see ``protocols.Storage``). OptionError for a bad scheme or a missing package.

    ``client`` makes the requests (given ``options``); without one fsspec's filesystem for the scheme does.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None = None,
        *,
        clock: Clock | None = None,
        client: MakeClient | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._address, self._options = url.rstrip("/"), dict(options or {})
        self._root = self._address.partition("://")[2]
        if client is None:
            from ckpt.storage.fsspec_client import FsspecClient, root_of

            self._root, client = root_of(self._address), functools.partial(FsspecClient, self._address)
        self._make: MakeClient = client
        self._made: ObjectClient | None = None
        self._pid, self._lock = -1, threading.Lock()
        randomness = random.Random(host.entropy(16))
        self._redact = Redactor(self._address, self._options)
        self._retrying = Retrying(
            self.url, policy or retrying.POLICY, clock or host.SystemClock(), randomness, redact=self._redact
        )

    @property
    def url(self) -> str:
        return without_password(self._address)

    def __repr__(self) -> str:
        return f"RemoteStorage({self.url!r})"

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        path = self._path(key)
        if length == 0:
            self.size(key)  # a key that is not there is an error, whatever is asked for
            return b""
        end = None if length is None else start + length
        with self._errors("read", key):
            return self._retrying.call(lambda: self._read(path, start, end))

    def read_into(self, key: str, start: int, target: memoryview) -> int:
        view = target.cast("B") if target.nbytes else target
        if view.nbytes <= PIECE:
            data = self.get(key, start, view.nbytes)
            view[: len(data)] = data
            return len(data)
        spans = [(at, min(at + PIECE, view.nbytes)) for at in range(0, view.nbytes, PIECE)]

        def read(span: tuple[int, int]) -> int:
            data = self.get(key, start + span[0], span[1] - span[0])
            view[span[0] : span[0] + len(data)] = data
            return len(data)

        with ThreadPoolExecutor(READERS, "ckpt-ranges") as readers:
            return sum(readers.map(read, spans))

    def size(self, key: str) -> int:
        path = self._path(key)
        with self._errors("read", key):
            return self._retrying.call(lambda: self._client().size(path))

    def exists(self, key: str) -> bool:
        # Not a client's exists(): those take every error for "no", and the end of the log is found by this.
        try:
            self.size(key)
        except MissingKeyError:
            return False
        return True

    def put(self, key: str, parts: Iterable[Buffer]) -> int:
        path = self._path(key)
        pieces = pieces_of(parts)
        first = next(pieces, b"")
        second = next(pieces, None)
        with self._errors("write", key):
            if second is None:
                self._retrying.call(lambda: self._client().write(path, first))  # Commit point.
                return len(first)
            nonce = host.entropy(16).hex()
            return upload_pieces(self._client(), self._retrying, path, nonce, chain((first, second), pieces))

    def share(self, source: str, target: str) -> int:
        """A copy in the service. Where that is refused (a key of the customer's, a server without it): through this machine."""
        path, to, size = self._path(source), self._path(target), self.size(source)
        client = self._client()
        if isinstance(client, CopyingClient):
            with self._errors("share", source):
                try:
                    self._retrying.call(lambda: client.copy(path, to))  # Commit point.
                    return 0
                except Exception as error:
                    if judge(error) in (Verdict.MISSING, Verdict.TRANSIENT):
                        raise
        return self.put(target, (self.get(source, at, PIECE) for at in range(0, size, PIECE)))

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Create ``key``: True if it holds ``data`` by this call. ``data`` has to hold a nonce (see the module)."""
        path, mine = self._path(key), bytes(data)

        def create() -> tuple[bool] | Exception:
            try:
                self._client().create(path, mine)  # Commit point.
                return (True,)
            except CkptError:
                raise
            except Exception as error:
                # Perhaps ours is there: an answer was lost, or the one to a first try that arrived late.
                found = self._read_back(key, error)
                verdict = judge(error)
                if found is not None:
                    return (bool(mine) and found == mine,)
                if verdict is Verdict.EXISTS:
                    return (False,)  # it was, and has been deleted since
                if verdict is Verdict.TRANSIENT:
                    return error
                raise

        with self._errors("create", key):
            return self._retrying.attempt(create)[0]

    def children(self, prefix: str) -> list[str]:
        folder = folder_key(prefix)
        found = self._listed(folder, lambda client, bucket, below: client.children(bucket, below))
        start = f"{folder}/" if folder else ""
        names = (self._key(path).rstrip("/").removeprefix(start) for path in found)
        return sorted({name for name in names if name and "/" not in name})

    def list(self, prefix: str) -> list[str]:
        folder, last = split_prefix(prefix), prefix.rpartition("/")[2]
        found = self._listed(folder, lambda client, bucket, below: client.keys(bucket, below + last))
        return sorted(key for key in map(self._key, found) if key.startswith(prefix) and not key.endswith("/"))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._errors("delete", key), contextlib.suppress(FileNotFoundError):
            try:
                self._retrying.call(lambda: self._client().delete(path))
            except Exception as error:
                if judge(error) is not Verdict.MISSING:  # absent from the start, or by the try whose answer was lost
                    raise

    def _listed(self, folder: str, listing: Callable[[ObjectClient, str, str], Iterable[str]]) -> Iterable[str]:
        """What the client finds in ``folder``, '' being the root; nothing where there is no such folder."""
        bucket, below = split_path(f"{self._root}/{folder}".rstrip("/") + "/")
        with self._errors("list", folder):
            try:
                return self._retrying.call(lambda: [*listing(self._client(), bucket, below)])
            except FileNotFoundError as error:
                if "bucket" in str(error).lower():
                    raise StorageError(
                        "there is no such bucket", where=self.url, fix="make the bucket, or correct the address"
                    ) from error
                return []

    def _read(self, path: str, start: int, end: int | None) -> bytes:
        client = self._client()
        try:
            return client.read(path, start, end)
        except Exception as error:
            # Servers refuse a range that begins at the end or behind it, each in its own way.
            ranged = start > 0 or end is not None
            if ranged and judge(error) not in (Verdict.MISSING, Verdict.TRANSIENT) and start >= client.size(path):
                return b""
            raise

    def _client(self) -> ObjectClient:
        if self._pid != os.getpid():
            if self._pid != -1:
                self._lock = threading.Lock()  # another thread may have held it at the moment of the fork
            with self._lock:
                if self._pid != os.getpid():
                    with self._errors("open", ""):
                        self._made = self._make(self._options)
                    self._pid = os.getpid()
        assert self._made is not None
        return self._made

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _key(self, path: str) -> str:
        return path.removeprefix(self._root).lstrip("/")

    def _read_back(self, key: str, cause: Exception) -> bytes | None:
        """What ``key`` holds after a create that failed with ``cause``; None if nothing. StorageError if unknown."""
        try:
            return self.get(key)
        except MissingKeyError:
            return None
        except StorageError as error:
            what = f"the create failed ({cause}), and reading back whether it happened failed too ({error.what})"
            fix = "run again when the storage answers"
            raise StorageError(
                self._redact(what), where=self._where(key), fix=fix
            ) from self._redact.cause(cause)

    def _where(self, key: str) -> str:
        return f"{self.url}/{key}" if key else self.url

    @contextlib.contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except CkptError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again as what it means
            # Adapters raise what their clients raise; what the caller has to know is made of it here.
            raise translate(error, doing, self._where(key), self._redact) from self._redact.cause(error)


def translate(error: Exception, doing: str, where: str, redact: Redactor) -> Exception:
    """The error of ckpt for a client's ``error``; names no secret that ``redact`` knows."""
    verdict, text = judge(error), redact(f"{type(error).__name__}: {error}")
    if verdict is Verdict.MISSING and doing in ("read", "share"):
        return MissingKeyError("is not there", where=where, fix=_MISSING_FIX)
    if isinstance(error, NotImplementedError):
        what = f"this storage cannot {doing} objects: {text}"
        return UnsupportedStorageError(what, where=where, fix="use s3://, gs://, az://, sftp:// or a local path")
    fix = _FIXES.get(status_of(error) or 0, "check address, credentials and network, then run again")
    if verdict is Verdict.TRANSIENT:
        fix = "wait until the storage answers (network, credentials, quota), then run again"
    return StorageError(f"cannot {doing}: {text}", where=where, fix=fix)
