"""Owns which stored pieces the next snapshot draws on no more: they are stored again, in its own pack.

A snapshot draws on a bounded number of packs, and no pack is kept for long for the little of it that is alive. All that is
alive lies in the staged state, so nothing is read for it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from ckpt.snapshot import layout
from ckpt.snapshot.layout import Place

MOSTLY_DEAD = 0.25
"""A pack of which less than this part is alive is emptied."""

BUDGET = 1 / 16
"""Bytes that are stored again for that with one snapshot, as a part of the state's size."""

BUDGET_OF_LAST = 1 / 2
"""The same, as a part of what the snapshot before wrote. The larger of the two counts: where nearly all changes each time,
what does not change has to gather in a pack that is not mostly dead at once."""


class PackUse:
    """The packs of the newest snapshot: how large they are, and what of each it needs."""

    def __init__(self) -> None:
        self._last_nbytes = 0
        self._sizes: dict[str, int] = {}
        self._live: dict[str, set[Place]] = {}

    def note(self, places: Iterable[Place], new: tuple[str, int] | None = None) -> None:
        """A snapshot was written that needs ``places``, into the pack ``new`` (name, bytes); None: it was there before.

        Of packs that were there before only what is alive is known: they count as that large.
        """
        live: dict[str, set[Place]] = {}
        for place in places:
            live.setdefault(place.pack, set()).add(place)
        self._sizes = {pack: max(self._sizes.get(pack, 0), _size(alive)) for pack, alive in live.items()}
        if new is not None and new[0] in live:
            self._sizes[new[0]] = self._last_nbytes = new[1]
        self._live = live

    def given_up(self, nbytes: int) -> frozenset[Place]:
        """What a snapshot of a state of ``nbytes`` bytes is not to draw on.

        At the bound, the half of the packs with the least alive: there is room for as many snapshots, then.
        """
        alive = {pack: _size(places) for pack, places in self._live.items()}
        packs = sorted(alive, key=lambda pack: (alive[pack], pack))
        if len(packs) >= layout.MAX_PACKS:
            return frozenset().union(*(self._live[pack] for pack in packs[: (len(packs) + 1) // 2]))
        found: set[Place] = set()
        left = max(nbytes * BUDGET, self._last_nbytes * BUDGET_OF_LAST)
        for pack in packs:
            if alive[pack] >= MOSTLY_DEAD * self._sizes[pack]:
                continue
            for place in sorted(self._live[pack]):
                left -= place.length
                if left < 0:
                    return frozenset(found)
                found.add(place)
        return frozenset(found)


def _size(places: Iterable[Place]) -> int:
    return sum(place.length for place in places)
