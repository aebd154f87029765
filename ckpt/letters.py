"""Dead letters: the items of a run's maps that failed, as the log tells them. Plain JSON: nothing is unpickled for it.

They are in the record of the batch in which they failed, and repeated by each later checkpoint and by the run's end, so
that they can be shown, and tried again, after the log was trimmed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from ckpt.format.records import Kind, Record

MAX_LETTERS = 1000
"""Letters that a checkpoint repeats; older ones are only counted."""

MOVED = "moved"
"""In the head of a record that was written before, further in front: it tells nothing new."""

_Name = tuple[str, str]


class Letters:
    """The dead letters of one run. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._letters: dict[_Name, dict[str, Any]] = {}
        self._marked: set[_Name] = set()
        self.forgotten = 0
        """How many there were besides, of which only the number is known."""

    @classmethod
    def of(cls, records: Iterable[Record]) -> Letters:
        """Those that the records of a run tell of, which have to begin after it was last started afresh.

        The newest checkpoint, or the run's end, tells of all that its state covers; operations behind that add to it.
        """
        letters, known = cls(), -1
        records = list(records)
        for record in reversed(records):
            if record.kind is Kind.CHECKPOINT or (record.kind is Kind.STATUS and record.head.get("status") == "finished"):
                known = int(record.head.get("covers", record.lsn))
                letters.note(record.head)
                break
        for record in records:
            head = record.head
            if record.kind is Kind.OPERATION and "map" in head and record.lsn > known and MOVED not in head:
                letters.note(head)
        return letters

    def note(self, head: Mapping[str, Any]) -> None:
        """What one record tells: all letters, new ones, items that have a result now, items that are to be tried again."""
        with self._lock:
            for one in (*head.get("letters", ()), *head.get("failed", ())):
                self._letters.pop(_name(one), None)  # a new one comes last
                self._letters[_name(one)] = one
                self._marked.discard(_name(one))
            self.forgotten += head.get("letters_forgotten", 0)
            for item in head.get("mended", ()):
                self._letters.pop((head["map"], item), None)
                self._marked.discard((head["map"], item))
            for item in head.get("retry", ()):
                self._marked.add((head["map"], item))
            self._marked.update((one[0], one[1]) for one in head.get("letters_marked", ()))

    def mended(self, identity: bytes, items: Iterable[bytes]) -> list[str]:
        """Those of ``items`` that had failed, or were to be tried again."""
        with self._lock:
            if not self._letters and not self._marked:
                return []
            names = ((identity.hex(), item.hex()) for item in items)
            return [name[1] for name in names if name in self._letters or name in self._marked]

    def all(self) -> list[dict[str, Any]]:
        """Oldest first."""
        with self._lock:
            return [*self._letters.values()]

    @property
    def marked(self) -> int:
        """How many were to be tried again and were not yet."""
        return len(self._marked)

    def is_marked(self, letter: Mapping[str, Any]) -> bool:
        return _name(letter) in self._marked

    def head(self) -> dict[str, Any]:
        """For the head of a record that later readers may begin with."""
        with self._lock:
            while len(self._letters) > MAX_LETTERS:
                del self._letters[next(iter(self._letters))]
                self.forgotten += 1
            head: dict[str, Any] = {}
            if self._letters or self.forgotten:
                head = {"letters": [*self._letters.values()], "letters_forgotten": self.forgotten}
            if self._marked:
                head["letters_marked"] = sorted(self._marked)
            return head


def _name(letter: Mapping[str, Any]) -> _Name:
    return letter["map"], letter["item"]
