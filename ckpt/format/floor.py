"""The floor: the lowest slot of a run's log that still counts. Slots below it are waiting to be deleted, or gone.

    magic 8 | u32 version | u32 epoch | u64 slot | digest 32 (keyed, of the address and all before)

The file is a hint for where to begin; what binds is the highest floor that a SEAL record in the log names (a stalled
attempt may write an old floor here, but it cannot append to the log any more).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ckpt.errors import UnknownFormatError
from ckpt.format.keys import DIGEST_SIZE, Key, keyed
from ckpt.format.names import RunNames
from ckpt.format.segment import Damage

VERSION = 1

_MAGIC = b"CKPTFLR\n"
_FLOOR = struct.Struct("<8sIIQ")
_SIZE = _FLOOR.size + DIGEST_SIZE


@dataclass(frozen=True, slots=True)
class Floor:
    """The lowest live ``slot``, and the ``epoch`` of the attempt that said so."""

    slot: int
    epoch: int


def encode_floor(key: Key, names: RunNames, floor: Floor) -> bytes:
    """The content of the ``floor`` key."""
    head = _FLOOR.pack(_MAGIC, VERSION, floor.epoch, floor.slot)
    return head + _digest(key, names, head)


def decode_floor(data: bytes, key: Key, names: RunNames) -> Floor | Damage:
    """What ``encode_floor`` wrote, or what is wrong. UnknownFormatError for a newer version."""
    head = data[: _FLOOR.size]
    if len(data) != _SIZE or data[_FLOOR.size :] not in [_digest(one, names, head) for one in key.all]:
        return Damage(names.floor, 0, None, "the floor does not verify")
    _, version, epoch, slot = _FLOOR.unpack(head)
    if version != VERSION:
        raise UnknownFormatError(
            f"the floor has format version {version}; this ckpt reads version {VERSION}",
            where=names.floor,
            fix="use a newer ckpt",
        )
    return Floor(slot, epoch)


def _digest(key: Key, names: RunNames, head: bytes) -> bytes:
    return keyed(key.derive("floor"), head, names.address.encode("utf-8"))
