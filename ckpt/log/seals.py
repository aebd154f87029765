"""SEAL records: how far earlier segments count, and the floor.

{"floor": slot, "sealed": [{"digest": hex, "length": bytes, "records": n, "slot": slot}, ...], "when": unix s}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ckpt.format.segment import ParsedSegment


@dataclass(frozen=True, slots=True)
class Seal:
    """The first ``length`` bytes of ``slot``'s segment count: ``records`` frames, the last with this ``digest``."""

    slot: int
    length: int
    records: int
    digest: bytes

    def fits(self, parsed: ParsedSegment) -> bool:
        """Whether a segment, read as far as ``length``, is what was sealed."""
        return (parsed.good_length, parsed.count, parsed.last_digest) == (self.length, self.records, self.digest)


def seal_head(seals: Sequence[Seal], floor: int, when: float) -> dict[str, Any]:
    """The head of a SEAL record."""
    sealed = [{"slot": s.slot, "length": s.length, "records": s.records, "digest": s.digest.hex()} for s in seals]
    return {"sealed": sealed, "floor": floor, "when": when}


def parse_seal_head(head: dict[str, Any]) -> tuple[list[Seal], int]:
    """(seals, floor) of a SEAL record's head. ValueError if it is not made like one."""
    try:
        seals = [
            Seal(int(s["slot"]), int(s["length"]), int(s["records"]), bytes.fromhex(s["digest"]))
            for s in head["sealed"]
        ]
        return seals, int(head["floor"])
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"a SEAL lacks or misstates {error}") from error
