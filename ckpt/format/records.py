"""What a log record says: its kind, its JSON head, and its binary sections.

    payload = u32 length of the head | head (JSON, ASCII, sorted keys, no spaces)
            | u32 number of sections | one u32 length per section | the sections' bytes

All integers are little-endian. Decoding copies no section: they are views into the payload.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ckpt.errors import OptionError
from ckpt.protocols import Buffer

_U32 = struct.Struct("<I")
_MAX = 0xFFFF_FFFF
_NO_SECTIONS = _U32.pack(0)

# ASCII output: a head may hold file names with lone surrogates, which have no UTF-8.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_decode = json.JSONDecoder().raw_decode  # decode() looks for white space, which is not there


class Kind(IntEnum):
    """What a record is."""

    FENCE = 1
    """An attempt began: all lower epochs have ended."""
    OPERATION = 2
    """The result of a recorded, replayable unit."""
    CHECKPOINT = 3
    """Names all state at one LSN."""
    STATUS = 4
    """The run finished, failed, or was preempted."""
    SEAL = 5
    """Fixes how far earlier segments count, and the floor."""


@dataclass(frozen=True, slots=True)
class Record:
    """One verified record. ``sections`` are views into the segment that was read: keep one, keep them all alive."""

    kind: Kind
    lsn: int
    epoch: int
    head: dict[str, Any]
    sections: tuple[memoryview | bytes, ...]


def lsn_of(slot: int, index: int) -> int:
    """The LSN of record ``index`` of ``slot``."""
    return slot << 32 | index


def lsn_slot(lsn: int) -> int:
    """The slot in which this LSN was given out."""
    return lsn >> 32


def lsn_text(lsn: int) -> str:
    """For people: ``42.7`` is record 7 of slot 42."""
    return f"{lsn >> 32}.{lsn & _MAX}"


def parse_lsn(text: str) -> int:
    """The inverse of ``lsn_text``. OptionError."""
    slot, dot, index = text.partition(".")
    if not (dot and slot.isdecimal() and index.isdecimal() and int(slot) <= _MAX and int(index) <= _MAX):
        raise OptionError(f"{text!r} is no position in a log", fix="give one as `ckpt show --json` prints it, like 42.7")
    return lsn_of(int(slot), int(index))


def encode_payload(head: Mapping[str, Any], sections: Sequence[Buffer] = ()) -> bytes:
    """The payload of a record. OptionError if the head is not JSON or a part has 4 GiB or more."""
    try:
        text = _encode(head).encode("ascii")
    except (TypeError, ValueError) as error:
        raise OptionError(f"the head of a log record must be plain JSON: {error}") from error
    if not sections:
        return b"".join((_U32.pack(len(text)), text, _NO_SECTIONS))
    views = [section if type(section) is bytes else _flat(section) for section in sections]
    lengths = [len(view) for view in views]
    if sum(lengths) + len(text) + 4 * (len(views) + 2) > _MAX:
        raise OptionError("a log record cannot hold 4 GiB or more", fix="keep large values in the state, not in steps")
    table = struct.pack(f"<I{len(views)}I", len(views), *lengths)
    return b"".join((_U32.pack(len(text)), text, table, *views))


def decode_payload(payload: Buffer) -> tuple[dict[str, Any], tuple[memoryview, ...]]:
    """Head and sections of a verified payload. ValueError if it is not made like one."""
    view = payload if isinstance(payload, memoryview) else memoryview(payload)
    size = len(view)
    try:
        (head_length,) = _U32.unpack_from(view, 0)
        (count,) = _U32.unpack_from(view, 4 + head_length)
        text = str(view[4 : 4 + head_length], "utf-8")
        head, end = _decode(text)
        at = 8 + head_length
        if count == 0:
            sections: tuple[memoryview, ...] = ()
        elif 4 * count > size - at:  # before a huge count makes a huge format
            raise ValueError("the table of sections does not fit")
        else:
            lengths = struct.unpack_from(f"<{count}I", view, at)
            at += 4 * count
            parts = []
            for length in lengths:
                parts.append(view[at : at + length])
                at += length
            sections = tuple(parts)
    except struct.error as error:
        raise ValueError(f"the payload is cut: {error}") from error
    except RecursionError as error:
        raise ValueError("the head is nested too deeply") from error
    if at != size or end != len(text) or type(head) is not dict:
        raise ValueError("the payload's lengths do not add up")
    return head, sections


def _flat(section: Buffer) -> memoryview | bytes:
    view = memoryview(section)
    return view.cast("B") if view.nbytes else b""  # what is empty cannot be cast
