"""Large files past the page cache: O_DIRECT writes from aligned memory, one being written while the next is gathered.

What lies aligned in memory, and belongs to an aligned place in the file, is written from where it is; all else is copied
into aligned blocks first.

A large file written through the page cache costs a second copy, holds memory that the job could use, and is slowed down
by the writeback of everybody else: about half the speed of the disk (docs/decisions/0041). Where the file system does
not know O_DIRECT, and elsewhere than on Linux, the same bytes are written the ordinary way. Nothing here is durable
before the caller's sync.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ckpt import rawmemory
from ckpt.protocols import Buffer
from ckpt.storage.files import write_all

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

BLOCK = 4 * 1024 * 1024
"""Bytes of one write; files up to this size are written the ordinary way."""

BLOCKS = 4
"""Blocks of memory: one is filled, one written, and the others wait, so that the disk never does. As many writes, less one,
may be on their way."""

ALIGNED = 4096
"""Memory, offset and length of a direct write are multiples of this: the page, and the largest sector of a disk."""

_DIRECT = getattr(os, "O_DIRECT", 0)


def write_file(fd: int, parts: Iterable[Buffer]) -> int:
    """As ``files.write_all`` from the start of a new file: the number of bytes; not durable. OSError."""
    pieces = _small(parts)
    head = bytearray()
    for piece in pieces:
        if len(head) + piece.nbytes > BLOCK:
            if _set_direct(fd, on=True):
                return _Direct(fd).write([memoryview(head), piece], pieces)
            return write_all(fd, _chain([memoryview(head), piece], pieces), 0)
        head += piece
    return write_all(fd, [head], 0)


def _small(parts: Iterable[Buffer]) -> Iterator[memoryview]:
    """``parts`` in pieces that are no larger than a block."""
    for part in parts:
        view = memoryview(part)
        if view.nbytes:
            view = view.cast("B")
            for start in range(0, view.nbytes, BLOCK):
                yield view[start : start + BLOCK]


def _chain(first: Iterable[memoryview], rest: Iterable[memoryview]) -> Iterator[memoryview]:
    yield from first
    yield from rest


def _set_direct(fd: int, *, on: bool) -> bool:
    """Whether writes to ``fd`` go past the page cache (``on``) or through it from here on."""
    if not _DIRECT:
        return False
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | _DIRECT if on else flags & ~_DIRECT)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
        return False
    return True


class _Direct:
    """Writes aligned pieces from where they are; others are copied into blocks. A thread writes what is full."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0  # where the block, or the pieces, that are being gathered belong
        self._filled = 0
        self._pieces: list[memoryview] = []
        self._gathered = 0
        self._pending: deque[Future[None]] = deque()

    def write(self, first: list[memoryview], rest: Iterable[memoryview]) -> int:
        from concurrent.futures import ThreadPoolExecutor  # imports logging: too slow for `import ckpt`

        # Leaving this block, by an error too, waits for the thread: the caller closes the file.
        with ThreadPoolExecutor(1, "ckpt-write") as writer:
            blocks = deque(mmap.mmap(-1, BLOCK) for _ in range(BLOCKS))
            for piece in _chain(first, rest):
                if self._filled % ALIGNED == 0 and _is_aligned(piece):
                    self._submit_block(blocks, writer)
                    self._gather(piece, writer)
                else:
                    self._submit_pieces(writer)
                    self._fill(piece, blocks, writer)
            self._submit_pieces(writer)
            self._settle(0)
            # The end of a file is rarely a multiple of a sector: it goes through the page cache.
            aligned = self._filled // ALIGNED * ALIGNED
            with memoryview(blocks[0]) as block:
                _write_aligned(self._fd, [block[:aligned]], self._at)
                _set_direct(self._fd, on=False)
                write_all(self._fd, [block[aligned : self._filled]], self._at + aligned)
        return self._at + self._filled

    def _gather(self, piece: memoryview, writer: ThreadPoolExecutor) -> None:
        self._pieces.append(piece)
        self._gathered += piece.nbytes
        if self._gathered >= BLOCK:
            self._submit_pieces(writer)

    def _fill(self, piece: memoryview, blocks: deque[mmap.mmap], writer: ThreadPoolExecutor) -> None:
        done = 0
        while done < piece.nbytes:
            size = min(piece.nbytes - done, BLOCK - self._filled)
            with memoryview(blocks[0]) as block, rawmemory.Address(block) as target, rawmemory.Address(piece) as source:
                rawmemory.copy(target + self._filled, source + done, size)
            self._filled, done = self._filled + size, done + size
            if self._filled == BLOCK:
                self._submit_block(blocks, writer)

    def _submit_block(self, blocks: deque[mmap.mmap], writer: ThreadPoolExecutor) -> None:
        """Have the block written as far as it is filled, and go on in the next one."""
        if self._filled:
            self._submit([memoryview(blocks[0])[: self._filled]], self._filled, writer)
            blocks.rotate(-1)  # the next block was written by now: there is one more than may be pending
            self._filled = 0

    def _submit_pieces(self, writer: ThreadPoolExecutor) -> None:
        if self._pieces:
            self._submit(self._pieces, self._gathered, writer)
            self._pieces, self._gathered = [], 0

    def _submit(self, views: list[memoryview], nbytes: int, writer: ThreadPoolExecutor) -> None:
        self._pending.append(writer.submit(_write_aligned, self._fd, views, self._at))
        self._at += nbytes
        self._settle(BLOCKS - 1)

    def _settle(self, most: int) -> None:
        """Wait until at most ``most`` writes are not over yet. OSError."""
        while len(self._pending) > most:
            self._pending.popleft().result()


def _is_aligned(piece: memoryview) -> bool:
    """Whether ``piece`` can be written from where it is."""
    if piece.nbytes % ALIGNED:
        return False
    with rawmemory.Address(piece) as address:
        return address % ALIGNED == 0


def _write_aligned(fd: int, views: list[memoryview], at: int) -> None:
    """Write ``views`` one after the other at ``at``, past the page cache as far as the file system takes it."""
    left = [view for view in views if view.nbytes]
    while left:
        try:
            written = os.pwritev(fd, left, at)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            written = 0
        at += written
        while left and written >= left[0].nbytes:
            written -= left.pop(0).nbytes
        if left and (written % ALIGNED or not written):
            # Less than asked for, or sectors larger than ours: the rest goes the ordinary way, which says what is wrong.
            _set_direct(fd, on=False)
            write_all(fd, [left[0][written:], *left[1:]], at)
            return
        if left:
            left[0] = left[0][written:]
