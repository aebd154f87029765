"""Store keys and keyed digests: the home of BLAKE3 (segments use it too).

With a secret key every digest is a MAC: nobody without the key can make one. Under ``UNSIGNED`` (an all-zero key that
everybody knows) the same digests show accidents, but not intent.

A key's id is derived from its secret, so two keys with one id do not happen by accident. A reader may hold several keys:
the first signs, all verify (rotation). ``Key.of_store`` is the key as one store uses it: nothing that was signed for
another store verifies under it, even where both have the same secret. ``digest`` is for what is addressed by content
(chunks); the log, the floor and encryption use keys of their own, derived by ``Key.derive``: content that somebody may
choose can so never pass for a log record.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from blake3 import blake3

from ckpt.errors import OptionError, UntrustedError
from ckpt.protocols import Buffer

DIGEST_SIZE = 32
SECRET_SIZE = 32
KEY_ID_SIZE = 16
STORE_ID_SIZE = 16

_SEPARATORS = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class Key:
    """A store's key: ``id`` (at most 16 ASCII characters, public) and ``secret`` (32 bytes; not in ``repr``).

    It signs. ``older`` keys only verify. ``store`` is the id of the store that the key was bound to by ``of_store``
    (16 zero bytes before that); ``encrypts``: what is written there is encrypted, too.
    """

    id: str
    secret: bytes = field(repr=False)
    older: tuple[Key, ...] = ()
    store: bytes = bytes(STORE_ID_SIZE)
    encrypts: bool = False

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
        """The key that ``to_text`` wrote: one or several, separated by commas or white space; the first one signs.

        Raises OptionError, which does not repeat the text: it may be a secret.
        """
        keys = list(dict.fromkeys(_parse_one(part) for part in _SEPARATORS.split(text) if part))
        if not keys:
            raise _not_a_key()
        if len(keys) > 1 and UNSIGNED in keys:
            raise OptionError(
                "the all-zero key stands among others: it would let in what nobody signed", fix="take it out"
            )
        return replace(keys[0], older=tuple(keys[1:]))

    def to_text(self) -> str:
        """64 hexadecimal digits for each key, a line each. Secret: for a file of mode 0600, never for a message."""
        return "\n".join(key.secret.hex() for key in self.all)

    @property
    def all(self) -> tuple[Key, ...]:
        """Every key that verifies, the one that signs first."""
        return (self, *self.older)

    def named(self, key_id: str, *, where: str, what: str) -> Key:
        """The key of this id. UntrustedError, about ``what`` at ``where``, if this reader has none."""
        for key in self.all:
            if key.id == key_id:
                return key
        if key_id == UNSIGNED.id:
            raise UntrustedError(
                f"{what} is unsigned, and this reader has a key ({self.ids}): it takes only what that has signed",
                where=where,
                fix="do not use it, unless you wrote it yourself with unsigned=True: then open it so",
            )
        has = "no key (unsigned=True)" if self.id == UNSIGNED.id else self.ids
        raise UntrustedError(
            f"{what} was signed with the key {key_id}; this reader has {has}",
            where=where,
            fix=f"add the key {key_id} to CKPT_KEY or to the store's `key` file, behind the one that signs",
        )

    @property
    def ids(self) -> str:
        """The ids of all keys, for messages."""
        return ", ".join(key.id for key in self.all)

    def of_store(self, store: bytes, *, encrypts: bool) -> Key:
        """The key as the store of this id (16 bytes) uses it: the same id, and a secret of the store's own."""
        bound = keyed(self.derive("store"), store, bytes([encrypts]))
        older = tuple(key.of_store(store, encrypts=encrypts) for key in self.older)
        return Key(self.id, bound, older, store, encrypts)

    def derive(self, purpose: str) -> bytes:
        """A secret of 32 bytes for one purpose only; digests under it say nothing about those under another."""
        return _derive(self.secret, purpose)


def _parse_one(text: str) -> Key:
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_SIZE:
        raise _not_a_key()
    return UNSIGNED if secret == UNSIGNED.secret else Key.from_secret(secret)


def _not_a_key() -> OptionError:
    return OptionError(
        "this is not a ckpt key: a key is 64 hexadecimal digits",
        fix="take the text of the store's `key` file, or make one with: ckpt key new",
    )


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
