"""Where stores live: ``resolve`` turns an address into the storage that reads and writes there.

One adapter per kind: ``local`` (paths, ``file://``), ``memory`` (``memory://name``), ``sftp``, ``s3``, ``azure``,
``gcs``, and ``fsspec_client`` for every other URL. The last four share ``remote``; each client library is imported only
then.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ckpt.errors import OptionError
from ckpt.protocols import Clock, Storage
from ckpt.storage.local import LocalStorage, remove_leftovers
from ckpt.storage.memory import MemoryStorage
from ckpt.storage.secrets import without_password

__all__ = [
    "LocalStorage",
    "MemoryStorage",
    "add_wrapper",
    "is_in_process",
    "local_path",
    "remove_wrapper",
    "resolve",
    "sweep_leftovers",
]

Wrapper = Callable[[Storage], Storage]
_wrappers: list[Wrapper] = []

_URL = re.compile(r"([A-Za-z0-9+.:-]+)://(.*)", re.DOTALL)
_CREDENTIALS = re.compile(r"(?!arn:)[^/@]*:.*@", re.DOTALL)
"""``user:password@`` at the beginning of an address without its scheme; a password may have slashes in it."""


def resolve(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Storage:
    """The storage at ``url``: a path (``~`` is the home folder), ``file://``, ``memory://name``, or an fsspec URL.

    ``storage_options`` go to the fsspec filesystem. Nothing is read or written yet. OptionError.
    """
    storage = _adapter(os.fspath(url), storage_options)
    for wrapper in _wrappers:
        storage = wrapper(storage)
    return storage


def _adapter(address: str, options: Mapping[str, Any] | None) -> Storage:
    match = _URL.fullmatch(address)
    scheme, rest = (match[1], match[2]) if match else ("file", address)
    if "::" in scheme:
        fix = "give the address of the storage itself: a cache in between would hide what others write"
        raise OptionError("chained addresses are not supported", where=without_password(address), fix=fix)
    if scheme == "sftp":
        from ckpt.storage.sftp import SftpStorage

        return SftpStorage(address, options)
    if scheme in _PROVIDERS and _CREDENTIALS.match(rest):
        fix = "give them as storage_options=, or in the environment, as the provider's own tools want them"
        raise OptionError("an address of this kind has no place for credentials", where=f"{scheme}://", fix=fix)
    if scheme in _PROVIDERS and not rest.partition("/")[0]:
        place = "container" if _PROVIDERS[scheme] is _AZURE else "bucket"
        fix = f"write {scheme}://{place.upper()}, or {scheme}://{place.upper()}/folder"
        raise OptionError(f"the name of the {place} is missing", where=without_password(address), fix=fix)
    if scheme not in ("file", "memory"):
        from ckpt.storage.remote import RemoteStorage

        return RemoteStorage(address, options, client=_client_for(scheme))
    if not rest:
        raise OptionError("the address of the store is empty", where=repr(address), fix="give a path or a URL")
    if options:
        fix = "leave them out, or give the URL of a remote storage"
        raise OptionError(f"storage options mean nothing for {scheme} stores", where=without_password(address), fix=fix)
    if scheme == "memory":
        return MemoryStorage(rest.strip("/"))
    path = os.path.expanduser(rest)
    if path.startswith("~"):
        raise OptionError("there is no such user", where=address, fix="give an existing user's name or a whole path")
    return LocalStorage(Path(path))


_S3, _AZURE, _GCS = ("s3", "S3Client", "s3fs", "s3"), ("azure", "AzureClient", "adlfs", "azure"), (
    "gcs", "GcsClient", "gcsfs", "gcs",
)  # fmt: skip
_PROVIDERS = {"s3": _S3, "s3a": _S3, "az": _AZURE, "abfs": _AZURE, "abfss": _AZURE, "gs": _GCS, "gcs": _GCS}
"""Module here, class in it, package that it needs, and the extra that installs that, for each scheme."""


def _client_for(scheme: str) -> Callable[[Mapping[str, Any]], Any] | None:
    """What makes the client of a provider with an adapter of its own; None leaves it to fsspec. OptionError."""
    if scheme not in _PROVIDERS:
        return None
    module, name, package, extra = _PROVIDERS[scheme]
    if importlib.util.find_spec(package) is None:
        fix = f'pip install "ckpt-jobs[{extra}]"'
        raise OptionError(f"{scheme}:// needs {package}, which is missing", where=f"{scheme}://", fix=fix)
    made: Callable[[Mapping[str, Any]], Any] = getattr(importlib.import_module(f"ckpt.storage.{module}"), name)
    return made


def local_path(storage: Storage) -> Path | None:
    """The folder of a storage that keeps its keys as files on this machine, wrapped or not; None for all others."""
    return None if _URL.fullmatch(storage.url) else Path(storage.url)


def is_in_process(storage: Storage) -> bool:
    """Whether the storage is the memory of this process, which nobody else can reach."""
    return storage.url.startswith("memory://")


def sweep_leftovers(storage: Storage, clock: Clock) -> list[str]:
    """Delete what crashed processes left unfinished, and return it; only file systems have any. StorageError."""
    root = local_path(storage)
    if root is not None:
        return [str(path) for path in remove_leftovers(root, clock.now())]
    return storage.remove_leftovers() if isinstance(storage, _SweepableStorage) else []


@runtime_checkable
class _SweepableStorage(Protocol):
    """A storage that is not local and in which a killed writer leaves unfinished files."""

    def remove_leftovers(self) -> list[str]:
        """Delete the unfinished files of dead writers; returns their keys. StorageError."""


def add_wrapper(wrapper: Wrapper) -> None:
    """From now on ``resolve`` returns what ``wrapper`` makes of the storage (fault injection, tracing, counting).

    What it returns has to have the same ``url``.
    """
    _wrappers.append(wrapper)


def remove_wrapper(wrapper: Wrapper) -> None:
    """Undo one ``add_wrapper``."""
    _wrappers.remove(wrapper)
