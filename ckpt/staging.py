"""Owns the memory that a job's state is copied into, so that the job can go on while its checkpoint is written.

Guarantees: when ``Stager.stage`` has returned, nothing that it returned shares memory with the job; large buffers are
copied by a primitive that releases the GIL; the memory of a released state is used again, so that every copy but the
first goes into memory that is already mapped (a copy into fresh memory is several times slower); at most twice the
memory that was ever in use at the same time is kept.

Copying with two threads was measured on two cores: 1.2 times faster at best. Not worth a thread here.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pickle import PickleBuffer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ALIGNMENT = 64
"""Each part starts at a multiple of this many bytes: a cache line, and the widest vector registers."""

SMALL_STATE = 64 * 1024
"""States below this many bytes live in plain memory: mapping pages would cost more than the copy."""

SMALL_COPY = 128 * 1024
"""Copies below this hold the GIL for some ten microseconds; finding raw addresses would take as long."""

REGION_STEP = 2 * 1024 * 1024
"""Mapped memory comes in multiples of this many bytes, the usual size of a huge page."""

_MADV_POPULATE_WRITE = 23
"""Linux 5.14 and later: map all pages now. The mmap module has no name for it."""


class StagedState:
    """A copy of one state. ``parts[0]`` is the skeleton, then the buffers in order; ``nbytes`` is the sum of their sizes.

    The parts may be read by any thread until ``release``, and raise ValueError after it. A staged state that is dropped
    without ``release`` gives its memory back to the system instead of to the next copy.
    """

    __slots__ = ("_arena", "_region", "nbytes", "parts")

    def __init__(self, parts: list[memoryview], arena: _Arena, region: _Region | None) -> None:
        self.parts = parts
        self.nbytes = sum(part.nbytes for part in parts)
        self._arena, self._region = arena, region

    @contextmanager
    def reading(self) -> Iterator[list[memoryview]]:
        """The parts, for a block in which ``release`` is refused: slices of them stay what they are."""
        held: list[PickleBuffer] = []
        try:
            for part in self.parts:
                held.append(PickleBuffer(part))
            yield self.parts
        finally:
            for hold in held:
                hold.release()

    def release(self) -> None:
        """End the use of this copy: its memory serves the next one. Calling it again does nothing.

        BufferError inside a ``reading`` block, or while an object made from a part (an array, a PickleBuffer) is alive;
        the memory is then not used again until ``release`` has succeeded.
        """
        for part in self.parts:
            part.release()
        region, self._region = self._region, None
        if region is not None:
            self._arena.give_back(region)


class Stager:
    """Copies states into memory of its own. Thread-safe."""

    def __init__(self) -> None:
        self._arena = _Arena()

    @property
    def held_bytes(self) -> int:
        """Bytes of mapped memory that are in use or kept for the next state."""
        return self._arena.held_bytes

    def stage(self, skeleton: bytes, buffers: Sequence[ReadableBuffer]) -> StagedState:
        """A copy of ``skeleton`` and ``buffers``; returns once nothing of the job's memory is referred to.

        Buffers are C- or F-contiguous (BufferError otherwise), maybe read-only, maybe empty. They are copied as the
        bytes that they occupy: an F-ordered one in F order. After a MemoryError the stager is as it was before.
        """
        sources: list[memoryview] = []
        try:
            for buffer in (skeleton, *buffers):
                sources.append(PickleBuffer(buffer).raw())
            return self._copy_all(sources)
        finally:
            for source in sources:
                source.release()

    def _copy_all(self, sources: list[memoryview]) -> StagedState:
        offsets, total = [], 0
        for source in sources:
            offsets.append(total)
            total += -(-source.nbytes // ALIGNMENT) * ALIGNMENT
        region = self._arena.take(total) if total >= SMALL_STATE else None
        memory = memoryview(bytearray(total) if region is None else region.memory)
        parts = [memory[at : at + source.nbytes] for at, source in zip(offsets, sources, strict=True)]
        for source, part in zip(sources, parts, strict=True):
            if source.nbytes < SMALL_COPY:
                part[:] = source
            else:
                # ctypes releases the GIL around foreign functions: other threads of the job run during the copy.
                with _Address(part) as target_address, _Address(source) as source_address:
                    ctypes.memmove(target_address, source_address, source.nbytes)
        return StagedState(parts, self._arena, region)


class _Region:
    """A private anonymous mapping, unmapped when it and all views of it are gone."""

    __slots__ = ("__weakref__", "memory", "size")

    def __init__(self, size: int) -> None:
        self.size = size
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
        system = ctypes.CDLL(None, use_errno=True)
        with memoryview(self.memory) as view, _Address(view) as address:
            # Called through ctypes because mmap.madvise holds the GIL, and this takes long for large regions.
            failed = system.madvise(ctypes.c_void_p(address), ctypes.c_size_t(self.size), _MADV_POPULATE_WRITE)
            if failed and ctypes.get_errno() == errno.ENOMEM:
                raise MemoryError(f"no {self.size} bytes of memory to copy the job's state into")
        # Any other failure is a kernel older than the request: the first copy then maps the pages as it goes.


class _Arena:
    """Hands out regions and takes them back. Bounded: what is held is at most twice the largest concurrent use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[_Region] = []  # the most recently used last
        self._used: weakref.WeakSet[_Region] = weakref.WeakSet()  # weak: a dropped state must not count for ever
        self._peak = 0

    @property
    def held_bytes(self) -> int:
        with self._lock:
            return self._used_bytes() + sum(region.size for region in self._free)

    def take(self, nbytes: int) -> _Region:
        """A region of at least ``nbytes`` bytes, the best fit among the free ones if any fits. MemoryError."""
        size = _region_size(nbytes)
        with self._lock:
            # More than twice as large is no fit: the next large state would then have to map its memory afresh.
            fitting = [region for region in self._free if size <= region.size <= 2 * size]
            if fitting:
                region = min(fitting, key=lambda candidate: candidate.size)
                self._free.remove(region)
                self._note_use(region)
                return region
            # Make room before mapping more, so that the peak of memory keeps to the bound as well.
            in_use = self._used_bytes() + size
            self._shrink(2 * max(self._peak, in_use) - in_use)
        region = _Region(size)  # outside the lock: mapping takes long
        with self._lock:
            self._note_use(region)
        return region

    def give_back(self, region: _Region) -> None:
        with self._lock:
            self._used.discard(region)
            self._free.append(region)

    def _note_use(self, region: _Region) -> None:
        self._used.add(region)
        self._peak = max(self._peak, self._used_bytes())

    def _used_bytes(self) -> int:
        return sum(region.size for region in self._used)

    def _shrink(self, allowed: int) -> None:
        """Drop the free regions that were not used for longest until at most ``allowed`` bytes are free."""
        free = sum(region.size for region in self._free)
        while self._free and free > allowed:
            free -= self._free.pop(0).size


def _region_size(nbytes: int) -> int:
    """``nbytes`` rounded up by at most an eighth, so that a state that grows slowly keeps fitting its region."""
    step = max(REGION_STEP, 1 << max(0, nbytes.bit_length() - 4))
    return -(-nbytes // step) * step


class _PyBuffer(ctypes.Structure):
    """``Py_buffer`` of CPython's stable ABI (3.11 and later)."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_get_buffer.restype = ctypes.c_int
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None


class _Address:
    """The address of a contiguous view's bytes, held in place inside the ``with`` block.

    ctypes itself gives addresses of writable memory only, and numpy must not be required.
    """

    __slots__ = ("_buffer", "_view")

    def __init__(self, view: memoryview) -> None:
        self._view, self._buffer = view, _PyBuffer()

    def __enter__(self) -> int:
        _get_buffer(self._view, ctypes.byref(self._buffer), 0)  # raises BufferError by itself
        return int(self._buffer.buf or 0)

    def __exit__(self, *_: object) -> None:
        _release_buffer(ctypes.byref(self._buffer))
