"""Which texts must never be shown: the credentials among a store's options. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TELLING = re.compile(r"key|secret|token|password|passphrase|credential|connection_string|auth|sas", re.IGNORECASE)
HIDDEN = "***"
_SHORTEST = 4


def redact(text: str, options: Mapping[str, Any]) -> str:
    """``text`` without the credentials in ``options``, and without passwords in addresses."""
    for secret in sorted(_secrets(options), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = re.sub(r"(://[^/@:\s]*):[^/@\s]*@", r"\1@", text)
    return re.sub(r"(?i)\b(AccountKey|SharedAccessSignature|sig|secret|password|token)=[^;&\s]+", rf"\1={HIDDEN}", text)


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and len(value) >= _SHORTEST and _TELLING.search(str(name)):
            yield value
