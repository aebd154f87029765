"""The recorded history of a run's operation-logged objects: an image, and the operations since, by position.

A position counts the operations of all objects since the run began. The history is decoded when it is first asked for:
by then the program has defined the classes that it names.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ckpt.errors import CorruptionError, ReplayDivergedError
from ckpt.format.records import Record, lsn_text
from ckpt.session import image
from ckpt.session.containers import Operation
from ckpt.session.image import Imaged

NEW = "new"
"""The operation by which an object begins: (name, NEW, class as text, contents)."""


@dataclass(slots=True)
class History:
    """What was recorded: ``parts`` of the image at position ``first`` (none: nothing was there), and ``records``."""

    first: int
    parts: list[Any] | None
    records: Sequence[Record]
    where: str
    _image: dict[str, Imaged] = field(default_factory=dict)
    _operations: list[Operation] | None = None

    def image(self) -> dict[str, Imaged]:
        """The objects at ``first``."""
        self._decode()
        return self._image

    def operations(self, start: int, end: int) -> Iterable[Operation]:
        """Those from position ``start`` on and before ``end``. CorruptionError if the log does not have them."""
        found = self._decode()
        if start < self.first or end > self.first + len(found):
            what = f"operations {start} to {end} of the run's logged objects are not in its log"
            raise CorruptionError(what, path=self.where)
        return found[start - self.first : end - self.first]

    def _decode(self) -> list[Operation]:
        if self._operations is None:
            try:
                if self.parts is not None:
                    self._image = image.decode(self.parts, self.where)
                self._operations = list(self._joined())
            except (AttributeError, ImportError) as error:
                raise ReplayDivergedError(
                    f"the recorded operations name what the program does not have any more ({error})",
                    where=self.where,
                    fix="run the version of the code that recorded them, or define it before run.dict(...) and its like",
                ) from error
        return self._operations

    def _joined(self) -> Iterator[Operation]:
        """One history of what attempts recorded: each goes on somewhere, and what was recorded behind that is void."""
        found: list[Operation] = []
        for record in self.records:
            begins = record.head["logged"]["from"]
            operations = pickle.loads(record.sections[0])
            at = begins - self.first
            if at < 0:
                operations, at = operations[-at:], 0
            if at > len(found):
                what = f"record {lsn_text(record.lsn)} goes on at operation {begins}, and there are {self.first + len(found)}"
                raise CorruptionError(what, path=self.where)
            found[at:] = operations
        return iter(found)
