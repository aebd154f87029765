"""Output files where there is no job: plain append files, and objects that are written when they are closed."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from ckpt.errors import MissingKeyError
from ckpt.outputs.handle import Output, Settings
from ckpt.outputs.registry import SPOOL_BYTES, local_place
from ckpt.storage import resolve


def open_plain(path: str | os.PathLike[str], settings: Settings) -> Any:
    """A plain file object; for a URL an ``Output`` that is written, whole, when it is closed. OSError, StorageError."""
    name = os.fspath(path)
    place = local_place(name)
    if place is None:
        return Output(_WholeObject(name, settings))
    if settings.binary:
        return open(place, settings.mode)
    return open(
        place, settings.mode, encoding=settings.encoding or "utf-8", errors=settings.errors, newline=settings.newline
    )


class _WholeObject:
    """Gathers an object outside of a job (see ``handle.Target``)."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.settings, self.encoder, self.opens = name, settings, settings.encoder(), 1
        folder, _, self._key = name.rpartition("/")
        self._storage = resolve(folder)
        self._spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - closed with the object
        self.length = 0
        if not settings.truncates:
            try:
                self.write(self._storage.get(self._key))
            except MissingKeyError:
                return
            if self.encoder is not None and self.length:
                self.encoder.setstate(0)

    def write(self, data: bytes) -> None:
        self._spool.write(data)
        self.length += len(data)

    def flush(self) -> None:
        """Nothing: an object is there whole or not at all."""

    def closed(self) -> None:
        self._spool.seek(0)
        self._storage.put(self._key, iter(lambda: self._spool.read(SPOOL_BYTES), b""))
        self._spool.close()
