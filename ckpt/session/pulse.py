"""The sign of life for a supervisor: a small file that is touched at safe points.

Its text is a decimal number: what this attempt has made durable so far (checkpoints and operations). A supervisor sees
from its time that the job passes safe points, and from its number whether an attempt made progress before it died.
"""

from __future__ import annotations

import os

from ckpt import events


class Pulse:
    """The pulse file named by the environment. The supervisor makes it; a missing file means it is gone: no effect."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._in_trouble = False

    def beat(self, durable: int) -> None:
        """Say that a safe point was passed, with ``durable`` things durable. Where that fails it is said once."""
        try:
            self._touch(durable)
            self._in_trouble = False
        except FileNotFoundError:
            return
        except OSError as error:
            if not self._in_trouble:
                self._in_trouble = True
                events.say(f"no sign of life can be given to ckpt run, the job goes on: {self._path}: {error.strerror}")

    def _touch(self, durable: int) -> None:
        fd = os.open(self._path, os.O_WRONLY)
        try:
            os.pwrite(fd, str(durable).encode(), 0)
            os.utime(fd)
        finally:
            os.close(fd)
