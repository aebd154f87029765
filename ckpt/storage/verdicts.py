"""What an error of a client library means. Pure, and without importing any of them: errors are looked at by their shape.

The status of the server's answer decides where there is one: botocore's ``response``, azure-core's ``status_code``,
gcsfs's ``code``, aiohttp's ``status``, in the error itself or in the ones that it was raised from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from ckpt.errors import CkptError


class Verdict(Enum):
    """What to do about an error."""

    MISSING = auto()
    """The key is not there."""
    EXISTS = auto()
    """A create found the key there: perhaps by the caller's own hand."""
    TRANSIENT = auto()
    """Nothing is known; try again."""
    REFUSED = auto()
    """Trying again will not help."""


_BY_STATUS = {404: Verdict.MISSING, 412: Verdict.EXISTS}
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""409 is S3's ConditionalRequestConflict: two creates at once, decided for neither; never "exists"."""

_TRANSIENT_NAMES = frozenset({
    "ChecksumError", "ClientConnectionError", "ClientPayloadError", "ConnectionError", "FSTimeoutError", "HTTPClientError",
    "IncompleteRead", "IncompleteReadError", "ResponseParserError", "ServiceRequestError", "ServiceResponseError",
    "TimeoutError", "TransportError",
})  # fmt: skip
"""Classes (with all that derive from them) for: no answer, half an answer, or a damaged one."""

_LONGEST_ASKED_S = 30.0


def judge(error: BaseException) -> Verdict:
    """What ``error`` of a request means."""
    if isinstance(error, CkptError):
        return Verdict.REFUSED
    status = status_of(error)
    if status is not None:
        if status == 409 and "AlreadyExists" in _codes(error):  # Azure's BlobAlreadyExists
            return Verdict.EXISTS
        if status in _TRANSIENT_STATUS:
            return Verdict.TRANSIENT
        return _BY_STATUS.get(status, Verdict.REFUSED)
    if isinstance(error, FileNotFoundError):
        return Verdict.MISSING
    if isinstance(error, FileExistsError):
        return Verdict.EXISTS
    if any(kind.__name__ in _TRANSIENT_NAMES for kind in type(error).__mro__):
        return Verdict.TRANSIENT
    if not isinstance(error, OSError) or isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        return Verdict.REFUSED
    # gcsfs makes this of a 403, without the status.
    return Verdict.REFUSED if str(error).startswith("Forbidden") else Verdict.TRANSIENT


def status_of(error: BaseException) -> int | None:
    """The HTTP status that ``error`` came from; None if there was no answer."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            found = getattr(one, "status_code", None) or getattr(one, "code", None) or getattr(one, "status", None)
        if isinstance(found, int) or (isinstance(found, str) and found.isdecimal()):
            return int(found)
    return None


def retry_after_s(error: BaseException) -> float:
    """The seconds that the server asked to wait (Retry-After as a number); 0 if it did not. At most half a minute."""
    for one in _chain(error):
        text = _headers(one).get("retry-after", "")
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return min(float(text), _LONGEST_ASKED_S)
    return 0.0


def _headers(error: BaseException) -> dict[str, str]:
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    else:
        headers = getattr(response, "headers", None) or getattr(error, "headers", None) or {}
    return {str(name).lower(): str(value) for name, value in dict(headers).items()}


def _codes(error: BaseException) -> str:
    return " ".join(str(getattr(one, "error_code", "")) for one in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen = 0
    one: BaseException | None = error
    while one is not None and seen < 10:
        yield one
        one, seen = one.__cause__, seen + 1
