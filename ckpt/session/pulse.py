"""The sign of life for a supervisor: a small file that is touched at safe points.

Its text: how many steps this attempt has recorded, and how far the run is, as JSON: for each loop on the way to it, from
the outermost in, which entry it is and how many items are finished (``3 [[0, 2], [0, 41]]``). Such positions compare as
lists do. A supervisor sees from the file's time that the job passes safe points, and from its text whether an attempt
got further before it died.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ckpt import events
from ckpt.session.node import Node

Position = list[list[int]]


def reached(root: Node) -> Position:
    """How far the run is. For the job's thread."""
    position, node = [], root
    while node.children:
        node = node.children[-1]
        position.append([node.entry, node.index])
    return position


def led_to(path: Sequence[Mapping[str, Any]]) -> Position:
    """How far a checkpoint with this path (as in its head) leads."""
    position: Position = []
    for node in path:
        del position[node["depth"] :]
        position.append([node["entry"], node["index"]])
    return position


class Pulse:
    """The pulse file named by the environment. The supervisor makes it; a missing file means it is gone: no effect."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._longest = 0
        self._in_trouble = False

    def beat(self, recorded: int, position: Position) -> None:
        """Say that a safe point was passed, with ``recorded`` steps recorded by this attempt. Where that fails it is
        said once."""
        text = f"{recorded} {json.dumps(position)}"
        self._longest = max(self._longest, len(text))
        try:
            self._touch(text.ljust(self._longest))
            self._in_trouble = False
        except FileNotFoundError:
            return
        except OSError as error:
            if not self._in_trouble:
                self._in_trouble = True
                events.say(f"no sign of life can be given to ckpt run, the job goes on: {self._path}: {error.strerror}")

    def _touch(self, text: str) -> None:
        fd = os.open(self._path, os.O_WRONLY)
        try:
            # One write that covers what was there before: whenever the process dies, the text is a whole one.
            os.pwrite(fd, text.encode(), 0)
            os.utime(fd)
        finally:
            os.close(fd)
