"""Encryption at rest: AES-256-GCM under data keys that are used for one record or one pack. The home of cryptography.

A data key is BLAKE3, keyed with ``Key.derive("data key")``, of a *salt*: 32 fresh random bytes that stand in clear in
front of what it protects. So there is nothing to wrap, and whoever has the store's key has every data key.

No nonce is ever used twice under one data key, by construction:
 - a record has a salt, and so a data key, of its own, drawn when it is encrypted; nonce 0 is its only one;
 - a pack has a salt of its own, drawn when its bytes begin to be made; the nonce of a piece (a chunk, the manifest) is
   the offset in the pack at which it is written, and the bytes of one pack are made once, from front to back.
Nothing is counted across calls, processes or restarts, so a fork, a kill, a restored machine or a retry cannot set a
counter back. A retry sends the same bytes; what is made anew gets a new salt.

The associated data is what a piece is and where it belongs (run and kind of record; run, pack and offset): what was
moved does not decrypt. Everything is verified under a keyed digest as well (docs/format.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import OptionError
from ckpt.format.keys import Key, keyed
from ckpt.protocols import Buffer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALGORITHM = "AES-256-GCM"
SALT_SIZE = 32
TAG_SIZE = 16
RECORD_OVERHEAD = SALT_SIZE + TAG_SIZE

_NONCE_SIZE = 12
_MAX_SIZE = 2**31 - 1  # what one call of the library takes


class Cipher:
    """The data key of one ``salt``, for the things of one ``place`` (text that is bound in). Thread-safe."""

    def __init__(self, key: Key, salt: bytes, place: str) -> None:
        self._aead = _library()(keyed(key.derive("data key"), salt))
        self._place = place.encode("utf-8")

    def encrypt(self, number: int, data: Buffer) -> bytes:
        """``data`` and its tag, as piece ``number``: the caller never gives one number two contents."""
        if memoryview(data).nbytes > _MAX_SIZE - TAG_SIZE:
            raise OptionError(
                "an encrypted record cannot hold 2 GiB or more", fix="keep large values in the state, not in steps"
            )
        return self._aead.encrypt(_nonce(number), data, self._place)

    def decrypt(self, number: int, data: Buffer) -> bytes:
        """The inverse of ``encrypt``; ValueError for anything else."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aead.decrypt(_nonce(number), data, self._place)
        except (InvalidTag, OverflowError) as error:
            raise ValueError("it does not decrypt") from error


def encrypt_record(key: Key, place: str, salt: bytes, payload: Buffer) -> bytes:
    """A record's payload as it is stored. ``salt``: fresh random bytes, for this record only."""
    return salt + Cipher(key, salt, place).encrypt(0, payload)


def decrypt_record(key: Key, place: str, stored: Buffer) -> bytes:
    """The inverse of ``encrypt_record``; ValueError for anything else."""
    view = memoryview(stored)
    if view.nbytes < RECORD_OVERHEAD:
        raise ValueError("it is too short to be encrypted")
    return Cipher(key, bytes(view[:SALT_SIZE]), place).decrypt(0, view[SALT_SIZE:])


def check_available() -> None:
    """OptionError if the library is not installed."""
    _library()


def _library() -> type[AESGCM]:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise OptionError(
            "the store is encrypted, and the package cryptography is not installed",
            fix='pip install "ckpt-jobs[encrypt]"',
        ) from error
    return AESGCM


def _nonce(number: int) -> bytes:
    return number.to_bytes(_NONCE_SIZE, "little")
