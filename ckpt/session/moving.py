"""Moves what the log keeps for maps to its end, where much else has come behind it.

The results of a map that no marked loop goes through stay in the log for as long as a re-execution may ask for them. In
``pages = list(ckpt.map(...))`` in front of a long loop that is until the run ends; everything that is recorded behind them would
have to stay, too. So once it is several times as much as they are, they are written again: what is in front can go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ckpt.format.records import Kind, lsn_slot
from ckpt.letters import MOVED
from ckpt.log import read_log
from ckpt.retention import ROTATE_BYTES

if TYPE_CHECKING:
    from ckpt.session.services import Services

MIN_SLOTS = 16
"""Segments behind the first record that is needed, below which nothing is moved."""
FACTOR = 4
"""How many times as much as is moved has to lie behind it: what moving costs is at most a quarter of that."""



class Resting(Protocol):
    """The journal of a map that is over, as far as moving is concerned."""

    @property
    def first_needed(self) -> float: ...

    @property
    def nbytes(self) -> int:
        """What moving it writes."""

    def moved_to(self, lsn: int) -> None:
        """All that was behind ``first_needed`` is durable behind ``lsn``, too."""


def move(services: Services, resting: Mapping[bytes, Resting]) -> None:
    """Move the records of these maps if that is worth it. In the checkpointer's thread.

    Raises what the log and the storage raise: then the records are where they were, perhaps twice.
    """
    log = services.log
    first = min((journal.first_needed for journal in resting.values()), default=math.inf)
    if first == math.inf:
        return
    own = sum(journal.nbytes for journal in resting.values()) // ROTATE_BYTES
    if log.next_slot - lsn_slot(int(first)) <= max(MIN_SLOTS, FACTOR * own):
        return
    wanted = {identity.hex(): journal for identity, journal in resting.items()}
    log.flush()
    moved: dict[str, int] = {}
    for record in read_log(services.storage, services.names, services.key).records:
        name = record.head.get("map", "")
        if record.kind is Kind.OPERATION and name in wanted and record.lsn >= wanted[name].first_needed:
            lsn = log.append(Kind.OPERATION, {**record.head, MOVED: True}, record.sections, durable=False)
            moved.setdefault(name, lsn)
    log.flush()
    for name, lsn in moved.items():
        wanted[name].moved_to(lsn)
