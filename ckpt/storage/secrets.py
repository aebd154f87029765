"""Which texts must never be shown or stored: the credentials among a store's options and in its address. Pure."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

_TELLING = re.compile(r"key|secret|token|password|passphrase|credential|connection_string|auth|sas", re.IGNORECASE)
_PATHS = frozenset({"client_keys"})
"""Options whose name tells of a secret and whose value is only the path of one."""
_IN_ADDRESS = re.compile(r"(://[^/@:\s]*):([^/\s]*)@")
_ASSIGNED = re.compile(r"(?i)\b(AccountKey|SharedAccessSignature|sig|secret|password|token)=[^;&\s]+")
HIDDEN = "***"
_SHORTEST = 4


def without_password(address: str) -> str:
    """The address as it may be shown: with the user's name, without the password."""
    return _IN_ADDRESS.sub(r"\1@", address)


class Redactor:
    """Takes the credentials of one store out of texts: those in its ``options``, and the password in its ``address``."""

    def __init__(self, address: str = "", options: Mapping[str, Any] | None = None) -> None:
        found = {*_in_options(options or {}), *_in_address(address)}
        self._secrets = sorted((one for one in found if len(one) >= _SHORTEST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """``text`` without them, and without passwords in addresses of whatever kind."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return _ASSIGNED.sub(rf"\1={HIDDEN}", without_password(text))

    def cause(self, error: BaseException) -> BaseException | None:
        """``error``, if it may be shown as the cause of another one; None if it, or what led to it, names a secret."""
        seen: list[BaseException] = []
        waiting: list[BaseException | None] = [error]
        while waiting:
            one = waiting.pop()
            if one is None or any(one is other for other in seen):
                continue
            seen.append(one)
            waiting += (one.__cause__, one.__context__)
        texts = [text for one in seen for text in (str(one), repr(one), *getattr(one, "__notes__", ()))]
        return error if all(self(text) == text for text in texts) else None


def _in_options(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _in_options(value)
        elif isinstance(value, str) and name not in _PATHS and _TELLING.search(str(name)):
            yield value


def _in_address(address: str) -> Iterator[str]:
    if found := _IN_ADDRESS.search(address):
        yield from (found[2], urllib.parse.unquote(found[2]))
