"""Finds out, on the living storage, whether it creates exclusively. Leaves nothing behind.

The safety of a shared store rests on one thing: of several creators of one key exactly one wins, and what is there is
never overwritten by a create. Some servers and clients ignore the condition without a word, so it is tried.
"""

from __future__ import annotations

import threading

from ckpt import host
from ckpt.errors import CkptError, MissingKeyError, UnsupportedStorageError
from ckpt.protocols import Storage

PROBE_PREFIX = ".probe-"
"""How the folders of probes begin, at the root of a store; no job's folder begins so."""

_ROUNDS = 3
_CREATORS = 4


def probe(storage: Storage) -> None:
    """Returns if ``storage`` creates exclusively. UnsupportedStorageError says what it does not do; StorageError."""
    folder = f"{PROBE_PREFIX}{host.entropy(8).hex()}"
    keys = [f"{folder}/{number}" for number in range(_ROUNDS)]
    try:
        for key in keys:
            _race(storage, key)
        _create_again(storage, keys[0])
    finally:
        for key in keys:
            storage.delete(key)


def _race(storage: Storage, key: str) -> None:
    """Several creates of ``key`` at once: exactly one may win, and its bytes are there then."""
    nonces = [host.entropy(16) for _ in range(_CREATORS)]
    won: list[bytes] = []
    failures: list[CkptError] = []
    together = threading.Barrier(_CREATORS)

    def create(nonce: bytes) -> None:
        together.wait()
        try:
            if storage.put_if_absent(key, nonce):
                won.append(nonce)
        except CkptError as error:
            failures.append(error)

    creators = [threading.Thread(target=create, args=(nonce,), daemon=True) for nonce in nonces]
    for creator in creators:
        creator.start()
    for creator in creators:
        creator.join()
    if failures:
        raise failures[0]
    if len(won) != 1:
        raise _unsafe(storage, f"of {_CREATORS} creates of one key at the same time {len(won)} won instead of one")
    if _content(storage, key) != won[0]:
        raise _unsafe(storage, "a key does not hold the bytes of the create that won")


def _create_again(storage: Storage, key: str) -> None:
    """A create of a key that is there: refused, and without effect, with bytes and with none."""
    before = _content(storage, key)
    for data, kind in ((host.entropy(16), "bytes"), (b"", "empty data")):
        if storage.put_if_absent(key, data) or _content(storage, key) != before:
            raise _unsafe(storage, f"a create with {kind} overwrites a key that is there")


def _content(storage: Storage, key: str) -> bytes:
    try:
        return storage.get(key)
    except MissingKeyError as error:
        raise _unsafe(storage, "a key that was just created cannot be read") from error


def _unsafe(storage: Storage, what: str) -> UnsupportedStorageError:
    return UnsupportedStorageError(
        f"this storage is not safe for a shared store: {what}",
        where=storage.url,
        fix="use a storage with conditional writes (AWS S3, Google Cloud Storage, Azure Blob) or a local path",
    )
