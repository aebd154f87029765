"""Store keys and keyed digests: the only use of BLAKE3.

With a secret key every digest is a MAC: nobody without the key can make one. Under ``UNSIGNED`` (an all-zero key that
everybody knows) the same digests show accidents, but not intent.

A key's id is derived from its secret, so two keys with one id do not happen by accident. ``digest`` is for what is
addressed by content (chunks); the log and the floor use keys of their own, derived by ``Key.derive``: content that
somebody may choose can so never pass for a log record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from blake3 import blake3

from ckpt.errors import OptionError
from ckpt.protocols import Buffer

DIGEST_SIZE = 32
SECRET_SIZE = 32
KEY_ID_SIZE = 16


@dataclass(frozen=True, slots=True)
class Key:
    """A store's key: ``id`` (at most 16 ASCII characters, public) and ``secret`` (32 bytes; not in ``repr``)."""

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_SIZE or not self.id.isascii() or not 0 < len(self.id) <= KEY_ID_SIZE:
            raise OptionError("a key has an id of 1 to 16 ASCII characters and a secret of 32 bytes")

    @classmethod
    def from_secret(cls, secret: bytes) -> Key:
        """The key with this secret (32 bytes); its id is derived from it."""
        return cls(blake3(secret, derive_key_context="ckpt v1 key id").digest(KEY_ID_SIZE // 2).hex(), secret)

    @classmethod
    def generate(cls, entropy: Callable[[int], bytes]) -> Key:
        """A new key from ``entropy`` (``host.entropy``, or a seeded source in tests)."""
        return cls.from_secret(entropy(SECRET_SIZE))

    @classmethod
    def parse(cls, text: str) -> Key:
        """The key that ``to_text`` wrote. Raises OptionError, which does not repeat the text: it may be a secret."""
        try:
            secret = bytes.fromhex(text.strip())
        except ValueError:
            secret = b""
        if len(secret) != SECRET_SIZE:
            raise OptionError(
                "this is not a ckpt key: a key is 64 hexadecimal digits",
                fix="take the text of the store's `key` file, or make one with: openssl rand -hex 32",
            )
        return UNSIGNED if secret == UNSIGNED.secret else cls.from_secret(secret)

    def to_text(self) -> str:
        """64 hexadecimal digits. A secret: for a file of mode 0600, never for a message."""
        return self.secret.hex()

    def derive(self, purpose: str) -> bytes:
        """A secret of 32 bytes for one purpose only; digests under it say nothing about those under another."""
        return _derive(self.secret, purpose)


@functools.lru_cache(maxsize=64)
def _derive(secret: bytes, purpose: str) -> bytes:
    return blake3(secret, derive_key_context=f"ckpt v1 {purpose}").digest()


UNSIGNED = Key("unsigned", bytes(SECRET_SIZE))
"""The key of a store that is not signed: integrity only."""


def digest(key: Key, *parts: Buffer) -> bytes:
    """Keyed BLAKE3 (32 bytes) of the concatenated ``parts``. Releases the GIL for large parts."""
    return keyed(key.secret, *parts)


def keyed(secret: bytes, *parts: Buffer) -> bytes:
    """As ``digest``, under a secret of ``Key.derive``."""
    hasher = blake3(key=secret)
    for part in parts:
        hasher.update(part)
    return hasher.digest()
