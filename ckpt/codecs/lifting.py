"""Lifts large ``bytes`` and ``bytearray`` out of a pickle while it is written: they become out-of-band buffers of their own.

``pickle`` has no hook for these types, but it does not copy them either: contents of 64 KiB and more go straight to the
file's ``write``, behind an opcode with their length that is in no frame (``Lib/pickle.py``, ``_Framer.write_large_bytes``;
``_pickle.c``, ``_Pickler_write_bytes``). ``Skeleton`` is that file. It replaces the opcode and the contents by a call of
``bytes`` or ``writable`` on the next out-of-band buffer, so what it holds is a pickle of protocol 5 as before, and the
memo, hence the identity of objects, is pickle's own. What it does not recognise stays in the pickle, as it came.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

_HEADERS = {
    pickle.BINBYTES[0]: (4, b"cbuiltins\nbytes\n"),
    pickle.BINBYTES8[0]: (8, b"cbuiltins\nbytes\n"),
    pickle.BYTEARRAY8[0]: (8, b"cckpt.codecs.pickling\nwritable\n"),
}
"""Opcode: size of the length behind it, and the function that makes the object again."""

_CALL = pickle.NEXT_BUFFER + pickle.TUPLE1 + pickle.REDUCE
_FRAME_HEADER = 9
_PROTOCOL_SIZE = 2


class Skeleton:
    """The file that a pickler of protocol 5 writes to."""

    def __init__(self, lift: Callable[[pickle.PickleBuffer], bool]) -> None:
        """``lift(buffer)`` as pickle's ``buffer_callback``: true leaves the contents in the pickle."""
        self._lift = lift
        self._out = io.BytesIO()
        self._awaits: tuple[bytes, int, bytes] | None = None

    def write(self, piece: Any) -> int:
        """Take what the pickler writes: opcodes in a frame, maybe with the opcode of large contents behind it, or contents."""
        awaits, self._awaits = self._awaits, None
        if awaits is None:
            opcode = _opcode_behind_frame(piece)
            self._out.write(piece[: len(piece) - len(opcode)])
            if opcode:
                size, make = _HEADERS[opcode[0]]
                self._awaits = opcode, int.from_bytes(opcode[1 : 1 + size], "little"), make
            return len(piece)
        opcode, length, make = awaits
        kind = bytearray if opcode[0] == pickle.BYTEARRAY8[0] else bytes
        if type(piece) is kind and len(piece) == length and not self._lift(pickle.PickleBuffer(piece)):
            self._out.write(make + _CALL)
        else:
            self._out.write(opcode)
            self._out.write(piece)
        return len(piece)

    def getvalue(self) -> bytes:
        if self._awaits is not None:
            self._out.write(self._awaits[0])
            self._awaits = None
        return self._out.getvalue()


def _opcode_behind_frame(piece: bytes) -> bytes:
    """The opcode of large contents that ``piece`` ends with, or nothing: outside of a frame there is hardly anything else."""
    at = _PROTOCOL_SIZE if piece[:1] == pickle.PROTO else 0
    if piece[at : at + 1] == pickle.FRAME:
        at += _FRAME_HEADER + int.from_bytes(piece[at + 1 : at + _FRAME_HEADER], "little")
    for size in (8, 4):
        opcode = piece[-1 - size :]
        # At most three bytes of a frame that was too short to be one stand in between.
        fits = len(opcode) == 1 + size and at <= len(piece) - len(opcode) <= at + 3
        if fits and opcode[0] in _HEADERS and _HEADERS[opcode[0]][0] == size:
            return opcode
    return b""
