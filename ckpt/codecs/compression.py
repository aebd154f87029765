"""Owns compression: which bytes are worth it, the numbers that formats use for codecs, and the only use of zstandard.

Guarantees: what ``compress_if_worth`` returns comes back exactly from ``decompress``; decompressing never allocates
more than the caller expects, whatever the input. Both release the GIL while they work and are thread-safe.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zstandard

    from ckpt.protocols import Buffer

RAW = 0
"""Codec number: bytes as they are."""

ZSTD = 1
"""Codec number: one zstd frame that states its content size."""

WORTH = 0.8
"""Compress what shrinks below this part of its size: less gain does not pay for the work at either end."""

LEVEL = 1
"""Higher levels are slower than most storage for a few per cent less."""

MIN_SIZE = 256
"""Bytes below which the frame's own overhead eats the gain."""

SAMPLE_SIZE = 2048
SAMPLE_COUNT = 4
"""A probe compresses this many samples from evenly spread places: 2 % of the work for a whole MiB."""


class _Contexts(threading.local):
    """One compressor and one decompressor for each thread: zstandard's are not thread-safe, and dear to make."""

    compressor: zstandard.ZstdCompressor | None = None
    decompressor: zstandard.ZstdDecompressor | None = None


_contexts = _Contexts()


def load() -> None:
    """Import what compressing needs now, in this thread."""
    import zstandard  # noqa: F401


def compress_if_worth(view: Buffer) -> tuple[int, Buffer]:
    """The codec's number and the bytes to store: ``view`` itself (RAW) unless a sample of it shrinks well (ZSTD)."""
    size = memoryview(view).nbytes
    if size < MIN_SIZE:
        return RAW, view
    if size > 2 * SAMPLE_SIZE * SAMPLE_COUNT:
        sample = _sample(memoryview(view).cast("B"))
        if len(_compress(sample)) >= WORTH * len(sample):
            return RAW, view
    stored = _compress(view)
    return (ZSTD, stored) if len(stored) < WORTH * size else (RAW, view)


def decompress(codec: int, data: Buffer, raw_length: int) -> Buffer:
    """The ``raw_length`` bytes that ``data`` stands for; ValueError if it stands for anything else."""
    if codec == RAW:
        if memoryview(data).nbytes != raw_length:
            raise ValueError(f"{memoryview(data).nbytes} bytes stored where {raw_length} are expected")
        return data
    if codec != ZSTD:
        raise ValueError(f"unknown codec number {codec}")
    import zstandard

    if _contexts.decompressor is None:
        _contexts.decompressor = zstandard.ZstdDecompressor()
    try:
        # A frame that states another size, or none, is refused before anything is allocated for its content.
        declared = zstandard.frame_content_size(data)
        if declared != raw_length:
            raise ValueError(f"a frame of {declared} bytes where {raw_length} are expected")
        raw = _contexts.decompressor.decompress(data, max_output_size=raw_length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a zstd frame: {error}") from error
    if len(raw) != raw_length:
        raise ValueError(f"{len(raw)} bytes decompressed where {raw_length} are expected")
    return raw


def _compress(data: Buffer) -> bytes:
    if _contexts.compressor is None:
        import zstandard

        _contexts.compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
    return _contexts.compressor.compress(data)


def _sample(view: memoryview) -> bytes:
    step = (view.nbytes - SAMPLE_SIZE) // (SAMPLE_COUNT - 1)
    return b"".join(view[at : at + SAMPLE_SIZE] for at in range(0, step * SAMPLE_COUNT, step))
