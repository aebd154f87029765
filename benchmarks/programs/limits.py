"""What the machine itself can do with as many bytes: copy, compare, write, read, hash. Each call gives seconds.

All memory was used before (allocated and touched), unless a function says otherwise.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
from pathlib import Path

import numpy as np
from blake3 import blake3

BLOCK = 8 << 20
"""Bytes in one write or read."""


class Limits:
    """Buffers of ``nbytes`` each, made at the first use; files in ``folder``."""

    def __init__(self, nbytes: int, folder: Path) -> None:
        self.nbytes, self.folder = nbytes, folder
        self._pair: tuple[bytearray, bytearray] | None = None
        self._aligned: mmap.mmap | None = None
        self.direct = True

    @property
    def pair(self) -> tuple[bytearray, bytearray]:
        """Two equal buffers."""
        if self._pair is None:
            self._pair = bytearray(b"\1") * self.nbytes, bytearray(b"\1") * self.nbytes
        return self._pair

    def memcpy(self) -> float:
        target, source = (np.frombuffer(one, np.uint8) for one in self.pair)
        began = time.perf_counter()
        np.copyto(target, source)
        return time.perf_counter() - began

    def compare(self) -> float:
        """One ``memcmp`` of two equal buffers."""
        first, second = self.pair
        began = time.perf_counter()
        assert first == second
        return time.perf_counter() - began

    def write_direct(self) -> float:
        """fallocate, O_DIRECT writes of incompressible bytes from aligned memory, fsync; the file is removed, uncounted.

        Where the file system has no O_DIRECT (``direct`` is then False) the writes are buffered ones.
        """
        if self._aligned is None:
            self._aligned = mmap.mmap(-1, BLOCK)
            self._aligned[:] = os.urandom(BLOCK)
        path = self.folder / "peer.direct"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        began = time.perf_counter()
        try:
            fd = os.open(path, flags | getattr(os, "O_DIRECT", 0))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.direct = False
            fd = os.open(path, flags)
        whole = -(-self.nbytes // BLOCK) * BLOCK
        try:
            os.posix_fallocate(fd, 0, whole)
            for at in range(0, whole, BLOCK):
                os.pwrite(fd, self._aligned, at)
            os.fsync(fd)
        finally:
            os.close(fd)
        seconds = time.perf_counter() - began
        path.unlink()
        return seconds

    def read_fresh(self, path: Path) -> float:
        """Read ``nbytes`` of a file that is in the page cache into memory that was never touched."""
        began = time.perf_counter()
        target = mmap.mmap(-1, self.nbytes)
        with path.open("rb", buffering=0) as file, memoryview(target) as view:
            at = 0
            while at < self.nbytes and (got := file.readinto(view[at : at + BLOCK])):
                at += got
        seconds = time.perf_counter() - began
        target.close()
        return seconds

    def hash_all_cores(self) -> float:
        """BLAKE3 of ``nbytes``, on all cores."""
        source = self.pair[0]
        began = time.perf_counter()
        blake3(source, max_threads=blake3.AUTO).digest()
        return time.perf_counter() - began
