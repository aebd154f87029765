"""Dead letters: the items of a run's maps that failed, as the log tells them. Plain JSON: nothing is unpickled for it.

They are in the record of the batch in which they failed, and repeated by each later checkpoint and by the run's end, so
that they can be shown, and tried again, after the log was trimmed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

MAX_LETTERS = 1000
"""Letters that a checkpoint repeats; older ones are only counted."""


class Letters:
    """The dead letters of one run. Thread-safe."""

    def __init__(self, heads: Iterable[Mapping[str, Any]] = ()) -> None:
        """``heads`` of the records that tell of them, oldest first: a checkpoint, then operations."""
        self._lock = threading.Lock()
        self._letters: dict[tuple[str, str], dict[str, Any]] = {}
        self._forgotten = 0
        for head in heads:
            self.note(head)

    def note(self, head: Mapping[str, Any]) -> None:
        """What one record tells: all letters (``letters``), new ones, and items that have a result now, or will be tried."""
        if "letters" in head:
            self._letters = {(one["map"], one["item"]): one for one in head["letters"]}
            self._forgotten = head.get("letters_forgotten", 0)
        for one in head.get("failed", ()):
            self._letters.pop((one["map"], one["item"]), None)
            self._letters[one["map"], one["item"]] = one
        for item in (*head.get("mended", ()), *head.get("retry", ())):
            self._letters.pop((head["map"], item), None)

    def mended(self, identity: bytes, items: Iterable[bytes]) -> list[bytes]:
        """Those of ``items`` that failed before."""
        with self._lock:
            if not self._letters:
                return []
            return [item for item in items if (identity.hex(), item.hex()) in self._letters]

    def add(self, identity: bytes, letters: Iterable[dict[str, Any]]) -> None:
        with self._lock:
            self.note({"map": identity.hex(), "failed": letters})

    def remove(self, identity: bytes, items: Iterable[bytes]) -> None:
        with self._lock:
            self.note({"map": identity.hex(), "mended": [item.hex() for item in items]})

    def all(self) -> list[dict[str, Any]]:
        """Oldest first."""
        with self._lock:
            return [*self._letters.values()]

    def head(self) -> dict[str, Any]:
        """For the head of a record that later readers may begin with."""
        with self._lock:
            if not self._letters and not self._forgotten:
                return {}
            while len(self._letters) > MAX_LETTERS:
                del self._letters[next(iter(self._letters))]
                self._forgotten += 1
            return {"letters": [*self._letters.values()], "letters_forgotten": self._forgotten}
