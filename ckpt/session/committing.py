"""Positions: how a run whose whole state is operation-logged records that it got on, without a checkpoint.

At the end of an iteration its operations and the position of the loops go to the log in *one* record: all or none. A
resume goes on behind it, with nothing executed again. The record says where each loop on the path is; what their inputs
need to start there is in the newest checkpoint, which it names by number. Where that does not do, a checkpoint is taken
in its place: a loop that was just entered, an input whose state changes with each item, keys, or random numbers drawn.
"""

from __future__ import annotations

import types
from typing import Any

from ckpt.capture.randomness import random_marks
from ckpt.format.path import PathNode, path_text, path_to_json
from ckpt.session.containers import LoggedDict, LoggedList
from ckpt.session.journal import Journal
from ckpt.session.node import Node, freeze
from ckpt.session.saving import Saving
from ckpt.session.sources import ConsumedSource, IndexedSource, Source
from ckpt.session.track import Track


class Committing:
    """Decides at the safe points of one run, in the job's thread. ``sync_s``: the longest that operations may wait."""

    def __init__(self, journal: Journal, track: Track, saving: Saving, *, captures_locals: bool, sync_s: float) -> None:
        self._journal, self._track, self._saving = journal, track, saving
        self.whole = not captures_locals
        """Whether all state of the run is operation-logged, so that a position says enough."""
        self._sync_s = sync_s
        self._last: Node | None = None
        self._asked = False

    def also_other_state(self) -> None:
        """The run has state that only checkpoints hold."""
        self.whole = False
        self._journal.known_at_checkpoints_only()

    def note_asked(self) -> None:
        """Operations wait, or have waited for ``sync_s``."""
        self._asked = True

    def is_due(self, node: Node) -> bool:
        """Whether the position at ``node`` has to be recorded here, with what is pending."""
        asked, self._asked = self._asked, False
        self._journal.looked_at()
        if not self.whole:
            return False
        # Behind an inner loop: what was recorded there must not be run again because the outer position is an old one.
        moved = not self._sync_s or (self._last is not None and self._last is not node)
        inside = bool(node.children) and moved and self._journal.reached is not None
        return inside or (self._journal.pending and (asked or not self._sync_s or len(self._track.active) == 1))

    def commit(self, node: Node, frame: types.FrameType | None, now_s: float) -> bool:
        """Record the operations and the position: durable on return. True if that took a checkpoint. StorageError, FencedError."""
        self._last = node
        if self.move(node, now_s):
            named = self._named()
            if named is not None:
                checkpoint, path = named
                self._journal.record({"path": path_to_json(path), "checkpoint": checkpoint, "where": path_text(path)})
                return False
        self._saving.wait_idle()
        self._track.rebase(node, frame)
        self._saving.submit_and_wait("operations", self._track.root, now_s)
        return True

    def move(self, node: Node, now_s: float) -> bool:
        """Where index and base say where ``node`` is, its base stands for this point as well: nothing has to be copied."""
        if not self.whole or not self._can_be_named(node):
            return False
        assert node.base is not None
        node.rebase(node.base, now_s)
        node.logged = self._journal.reached
        return True

    def marks(self) -> Any:
        """Where the random generators are, for ``_can_be_named``; None where no position alone is recorded."""
        return random_marks() if self.whole else None

    def _can_be_named(self, node: Node) -> bool:
        """Whether ``node``'s base, together with its index, says where it is."""
        if node.base is None or node.source is None or node.drew is None or not _is_steady(node.source):
            return False
        return bool(node.drew == random_marks())

    def _named(self) -> tuple[int, list[PathNode]] | None:
        """(number of the newest durable checkpoint, the path with its states numbered as there); None if it lacks some.

        While the next one is in flight: that does not wait for it, and the one named stays as long as two are kept.
        """
        if self._saving.keeps_one:
            self._saving.wait_idle()
        named = self._numbered()
        if named is None and self._saving.busy:
            self._saving.wait_idle()
            named = self._numbered()
        return named

    def _numbered(self) -> tuple[int, list[PathNode]] | None:
        checkpoint, there = self._saving.newest
        states: list[Any] = []
        path = freeze(self._track.root.children, states)
        known = {id(state): number for number, state in enumerate(there)}
        numbers = [known.get(id(state)) for state in states]
        if None in numbers:
            return None
        _renumber(path, numbers)
        return checkpoint, path


def _renumber(path: list[PathNode], numbers: list[int | None]) -> None:
    for node in path:
        if node.state is not None:
            node.state = numbers[node.state]
        _renumber(node.children, numbers)


def _is_steady(source: Source) -> bool:
    """Whether the input, as it was when the base was kept, is where the index says."""
    if isinstance(source.iterable, LoggedList | LoggedDict):
        return True
    if isinstance(source, IndexedSource):
        return not source.moved
    return isinstance(source, ConsumedSource)
