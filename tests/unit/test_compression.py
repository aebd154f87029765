"""Compression: exact both ways, only where it pays, and never more memory than expected."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ckpt.codecs import compression
from ckpt.codecs.compression import RAW, ZSTD, compress_if_worth, decompress

NOISE = random.Random(7).randbytes(1 << 20)


@given(st.builds(lambda piece, times: piece * times, st.binary(max_size=3000), st.integers(0, 60)))
def test_every_content_comes_back(data):
    codec, stored = compress_if_worth(memoryview(data))
    assert bytes(decompress(codec, stored, len(data))) == data


def test_noise_is_stored_as_it_is():
    view = memoryview(NOISE)
    codec, stored = compress_if_worth(view)
    assert codec == RAW
    assert stored is view


def test_what_shrinks_is_compressed():
    data = np.arange(100_000, dtype=np.int64).tobytes()
    codec, stored = compress_if_worth(data)
    assert codec == ZSTD
    assert len(stored) < 0.8 * len(data)


def test_content_that_shrinks_too_little_is_stored_as_it_is():
    data = NOISE[:9000] + bytes(1000)
    assert compress_if_worth(data)[0] == RAW


def test_noise_behind_a_soft_beginning_is_stored_as_it_is():
    assert compress_if_worth(bytes(100_000) + NOISE)[0] == RAW


def test_a_probe_is_all_that_noise_costs(monkeypatch):
    handed_over = []
    original = compression._compress
    monkeypatch.setattr(compression, "_compress", lambda data: handed_over.append(len(data)) or original(data))
    compress_if_worth(NOISE)
    assert sum(handed_over) <= 8192


def test_tiny_content_is_stored_as_it_is():
    assert compress_if_worth(b"a" * 100) == (RAW, b"a" * 100)


def test_views_of_other_formats_are_taken_as_bytes():
    array = np.arange(50_000)
    codec, stored = compress_if_worth(memoryview(array))
    assert codec == ZSTD
    assert bytes(decompress(codec, stored, array.nbytes)) == array.tobytes()


def bomb_without_size():
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return compressor.compress(bytes(1 << 24)) + compressor.flush()


@pytest.mark.parametrize(
    ("codec", "data", "raw_length"),
    [
        (ZSTD, zstandard.compress(bytes(1 << 24)), 1000),
        (ZSTD, zstandard.compress(bytes(1000)), 1 << 24),
        (ZSTD, bomb_without_size(), 1000),
        (ZSTD, bomb_without_size(), 1 << 24),
        (ZSTD, zstandard.compress(bytes(1000))[:-1], 1000),
        (ZSTD, zstandard.compress(bytes(1000)) + b"more", 1000),
        (ZSTD, zstandard.compress(bytes(500)) * 2, 1000),
        (ZSTD, b"", 0),
        (ZSTD, b"no frame at all", 15),
        (RAW, bytes(999), 1000),
        (2, bytes(1000), 1000),
    ],
)
def test_what_does_not_stand_for_the_expected_length_is_refused(codec, data, raw_length):
    with pytest.raises(ValueError, match=r"."):
        decompress(codec, data, raw_length)


def test_a_frame_that_lies_about_its_size_is_refused():
    frame = bytearray(zstandard.compress(bytes(70_000)))
    at = frame.index((70_000).to_bytes(4, "little"))
    frame[at : at + 4] = (1000).to_bytes(4, "little")
    with pytest.raises(ValueError, match="zstd"):
        decompress(ZSTD, bytes(frame), 1000)


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_any_bytes_are_refused_or_give_the_expected_length(data, raw_length):
    try:
        raw = decompress(ZSTD, data, raw_length)
    except ValueError:
        return
    assert len(raw) == raw_length


def test_threads_compress_side_by_side():
    inputs = [np.arange(200_000, dtype=np.int64) * factor for factor in range(1, 9)]
    results = {}

    def work(number):
        for _ in range(5):
            codec, stored = compress_if_worth(memoryview(inputs[number]))
            results[number] = bytes(decompress(codec, stored, inputs[number].nbytes))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: array.tobytes() for number, array in enumerate(inputs)}
