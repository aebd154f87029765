"""What a key holds, under a second key of the same storage."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt.errors import StorageError
from ckpt.protocols import SharingStorage, Storage

PIECE = 8 << 20
"""Bytes that are read and written at once."""


def share_key(storage: Storage, source: str, target: str) -> int:
    """Give the bytes of ``source`` the key ``target`` too, as cheaply as the storage can: how many passed through here.

    Durable on return. MissingKeyError, StorageError.
    """
    if isinstance(storage, SharingStorage):
        return storage.share(source, target)
    return copy_key(storage, source, target)


def copy_key(storage: Storage, source: str, target: str) -> int:
    """Write the bytes of ``source`` as ``target``: how many. Durable on return. MissingKeyError, StorageError."""
    size = storage.size(source)
    copied = storage.put(target, _pieces(storage, source, size))
    if copied != size:
        raise StorageError(f"only {copied} of {size} bytes were copied", where=source, fix="mend the storage")
    return copied


def _pieces(storage: Storage, key: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, PIECE):
        yield storage.get(key, start, PIECE)
