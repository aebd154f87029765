"""Memory of our own: regions that are mapped once and used again.

Guarantees: a region is in one place at a time (in use, or free); what is held is at most twice what was ever in use at
the same time.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import sys
import threading
import weakref
from collections.abc import Collection, Sequence

from ckpt.rawmemory import Address

REGION_STEP = 2 * 1024 * 1024
"""Mapped memory comes in multiples of this many bytes, the usual size of a huge page."""

_MADV_POPULATE_WRITE = 23
"""Linux 5.14 and later: map all pages now. The mmap module has no name for it."""

_system = ctypes.CDLL(None, use_errno=True)


class Region:
    """A private anonymous mapping, unmapped when it and all views of it are gone.

    ``content``: (serial of the watched buffer, number of its copy) that it holds; None if anything.
    """

    __slots__ = ("__weakref__", "content", "memory", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.content: tuple[int, int] | None = None
        try:
            # Private: a forked child must not see what the parent stages later.
            self.memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError(f"no {size} bytes of memory to copy the job's state into") from error
            raise
        if sys.platform == "linux":
            self._map_pages()

    def _map_pages(self) -> None:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                self.memory.madvise(mmap.MADV_HUGEPAGE)
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: a kernel without huge pages; small ones serve as well
                    raise
        with memoryview(self.memory) as view, Address(view) as address:
            # Called through ctypes because mmap.madvise holds the GIL, and this takes long for large regions.
            failed = _system.madvise(ctypes.c_void_p(address), ctypes.c_size_t(self.size), _MADV_POPULATE_WRITE)
            if failed and ctypes.get_errno() == errno.ENOMEM:
                raise MemoryError(f"no {self.size} bytes of memory to copy the job's state into")
        # Any other failure is a kernel older than the request: the first copy then maps the pages as it goes.


class Arena:
    """Hands out regions and takes them back. Bounded: what is held is at most twice the largest concurrent use."""

    def __init__(self, limit: int | None = None) -> None:
        """``limit``: bytes of free regions and of those in use that are held at most, as long as no more are in use."""
        self._limit = limit
        self._lock = threading.Lock()
        self._free: list[Region] = []  # the most recently used last
        self._used: weakref.WeakSet[Region] = weakref.WeakSet()  # weak: a dropped state must not count for ever
        self._peak = 0

    @property
    def held_bytes(self) -> int:
        with self._lock:
            return self._used_bytes() + sum(region.size for region in self._free)

    def fits(self, sizes: Sequence[int]) -> bool:
        """Whether regions of ``sizes`` bytes can be in use besides what is in use now, within the limit."""
        with self._lock:
            return self._limit is None or self._used_bytes() + sum(map(_region_size, sizes)) <= self._limit

    def take(self, nbytes: int, serial: int | None = None, keep: Collection[int] = ()) -> Region:
        """A region of at least ``nbytes`` bytes. MemoryError.

        The free one with the newest copy of the buffer ``serial``; else the best fit, but none with a copy of a buffer
        in ``keep``; else a new one.
        """
        size = _region_size(nbytes)
        with self._lock:
            # More than twice as large is no fit: the next large state would then have to map its memory afresh.
            fitting = [region for region in self._free if size <= region.size <= 2 * size]
            own = [region for region in fitting if region.content and region.content[0] == serial]
            others = [region for region in fitting if not region.content or region.content[0] not in keep]
            if own or others:
                region = max(own, key=_copy_number) if own else min(others, key=lambda candidate: candidate.size)
                self._free.remove(region)
                self._note_use(region)
                return region
            # Make room before mapping more, so that the peak of memory keeps to the bound as well.
            in_use = self._used_bytes() + size
            most = 2 * max(self._peak, in_use)
            self._shrink((most if self._limit is None else min(most, self._limit)) - in_use)
        region = Region(size)  # outside the lock: mapping takes long
        with self._lock:
            self._note_use(region)
        return region

    def give_back(self, region: Region) -> None:
        with self._lock:
            self._used.discard(region)
            self._free.append(region)

    def _note_use(self, region: Region) -> None:
        self._used.add(region)
        self._peak = max(self._peak, self._used_bytes())

    def _used_bytes(self) -> int:
        return sum(region.size for region in self._used)

    def _shrink(self, allowed: int) -> None:
        """Drop the free regions that were not used for longest until at most ``allowed`` bytes are free."""
        free = sum(region.size for region in self._free)
        while self._free and free > allowed:
            free -= self._free.pop(0).size


def _copy_number(region: Region) -> int:
    return region.content[1] if region.content else -1


def _region_size(nbytes: int) -> int:
    """``nbytes`` rounded up by at most an eighth, so that a state that grows slowly keeps fitting its region."""
    step = max(REGION_STEP, 1 << max(0, nbytes.bit_length() - 4))
    return -(-nbytes // step) * step
