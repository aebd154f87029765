"""Snapshots: what was staged comes back, in writable memory, from few and bounded reads."""

from __future__ import annotations

import pickle
import random
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.snapshot_doubles import KEY, NAMES, fresh_storage, noise

from ckpt.format.keys import UNSIGNED
from ckpt.snapshot import SnapshotRef, SnapshotWriter, layout, read_snapshot, reader
from ckpt.snapshot.reader import read_manifest
from ckpt.staging import Stager
from ckpt.storage.local import LocalStorage


def write(storage, parts, *, key=KEY, inline_limit=16384):
    return SnapshotWriter(storage, NAMES, key, 3, inline_limit=inline_limit).write(Stager().stage(parts[0], parts[1:]))


PARTS = st.lists(
    st.one_of(
        st.binary(max_size=3000),
        st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=40), st.integers(0, 400)),
        st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(0, 5), st.integers(0, 20000)),
    ),
    min_size=1,
    max_size=12,
)


@given(PARTS, st.sampled_from([0, 16384]), st.sampled_from([100, 1000]), st.sampled_from([1, 512, 10**6]))
@settings(max_examples=150, deadline=None)
def test_any_parts_come_back_through_storage_and_an_encoded_reference(parts, inline_limit, chunk_size, direct_size):
    storage = fresh_storage()
    with (
        mock.patch.object(layout, "CHUNK_SIZE", chunk_size),
        mock.patch.object(reader, "DIRECT_SIZE", direct_size),
        mock.patch.object(reader, "RUN_SIZE", 2500),
    ):
        ref = write(storage, parts, inline_limit=inline_limit)
        again = read_snapshot(SnapshotRef.decode(ref.encode()), storage, NAMES, KEY)
    assert [bytes(part) for part in again] == parts
    assert ref.nbytes == sum(map(len, parts))


def test_full_chunks_of_a_large_pack_lie_where_they_can_be_written_from_their_own_memory(tmp_path):
    parts = [b"skeleton", noise(1, 9 * layout.CHUNK_SIZE + 5), bytes(layout.CHUNK_SIZE), noise(2, 2 * layout.CHUNK_SIZE)]
    storage = LocalStorage(tmp_path)
    ref = write(storage, parts)
    chunks = read_manifest(ref, storage, NAMES, KEY).chunks
    full = [chunk.place.offset for chunk in chunks if chunk.place.length == layout.CHUNK_SIZE]
    assert len(full) == 11
    assert not any(offset % layout.ALIGNED for offset in full)
    assert [bytes(part) for part in read_snapshot(ref, storage, NAMES, KEY)] == parts


@pytest.mark.parametrize("key", [KEY, UNSIGNED])
def test_large_arrays_come_back_from_a_local_store(tmp_path, key):
    rng = np.random.default_rng(5)
    value = {
        "noise": rng.standard_normal(700_001),
        "counts": rng.integers(0, 9, 500_000),
        "zeros": np.zeros(1_500_000),
        "small": [rng.standard_normal(1000) for _ in range(50)],
        "f": np.asfortranarray(rng.standard_normal((400, 300))),
        "empty": np.empty((0, 4)),
    }
    buffers = []
    state = Stager().stage(pickle.dumps(value, protocol=5, buffer_callback=buffers.append), buffers)
    storage = LocalStorage(tmp_path)
    ref = SnapshotWriter(storage, NAMES, key, 1).write(state)
    state.release()
    parts = read_snapshot(ref, storage, NAMES, key)
    again = pickle.loads(parts[0], buffers=parts[1:])
    np.testing.assert_equal(again, value)
    again["noise"][0] = 1.0  # numpy takes writability from the buffer
    assert again["f"].flags.f_contiguous


@pytest.mark.parametrize("size", [10, 100_000])
def test_parts_are_writable_and_separate(size):
    storage = fresh_storage()
    ref = write(storage, [b"s", b"a" * size, b"a" * size])
    parts = read_snapshot(ref, storage, NAMES, KEY)
    parts[1][0] = 0
    assert (bytes(parts[0]), bytes(parts[2])) == (b"s", b"a" * size)


def test_a_small_state_needs_no_storage():
    storage = fresh_storage()
    ref = write(storage, [b"skeleton" * 20, b"", bytes(5000)])
    assert storage.list("") == []
    assert ref.packs == frozenset()
    assert len(ref.encode()) < 300  # compressed
    assert ref.stored_nbytes < 300


def test_a_state_above_the_limit_goes_into_one_pack():
    storage = fresh_storage()
    ref = write(storage, [b"skeleton", random.Random(1).randbytes(16384)])
    assert storage.list("") == sorted(ref.packs) == [NAMES.pack(3, 0)]
    assert ref.stored_nbytes == storage.size(NAMES.pack(3, 0))
    assert len(ref.encode()) < 200


def test_many_empty_parts_are_not_a_small_state():
    storage = fresh_storage()
    parts = [b"skeleton"] + [b""] * 10_000
    ref = write(storage, parts)
    assert len(ref.encode()) < 200
    assert read_snapshot(ref, storage, NAMES, KEY) == parts


class CountingStorage:
    """Counts the requests that reach the storage below."""

    def __init__(self, below):
        self._below, self.requests, self.longest = below, 0, 0

    def __getattr__(self, name):
        return getattr(self._below, name)

    def get(self, key, start=0, length=None):
        data = self._below.get(key, start, length)
        self.requests, self.longest = self.requests + 1, max(self.longest, len(data))
        return data

    def read_into(self, key, start, target):
        self.requests, self.longest = self.requests + 1, max(self.longest, target.nbytes)
        return self._below.read_into(key, start, target)


def test_neighbouring_chunks_are_read_together_in_bounded_pieces():
    storage = CountingStorage(fresh_storage())
    noise = random.Random(3)
    parts = [b"s"] + [noise.randbytes(8000) for _ in range(1000)] + [noise.randbytes(10_000_000)]
    ref = write(storage, parts)
    assert read_snapshot(ref, storage, NAMES, KEY) == parts
    assert storage.requests <= 10  # header, manifest, 2 for the small parts, 3 for the large one, and their seams
    assert storage.longest <= reader.RUN_SIZE


def test_repeated_content_is_stored_and_read_once():
    storage = CountingStorage(fresh_storage())
    block = random.Random(4).randbytes(layout.CHUNK_SIZE)
    parts = [b"s", block * 5, block, block * 2]
    ref = write(storage, parts)
    assert ref.stored_nbytes < 1.01 * layout.CHUNK_SIZE
    assert read_snapshot(ref, storage, NAMES, KEY) == parts
    assert storage.requests <= 4


def test_the_pack_is_made_while_it_is_written():
    digested = []

    class Slow:
        """Takes one piece after the other and notes how far the digests are ahead."""

        def put(self, _key, pieces):
            ahead, length = [], 0
            for number, piece in enumerate(pieces):
                ahead.append(len(digested) - number)
                length += memoryview(piece).nbytes
            assert max(ahead) <= 20
            return length

    original = layout.chunk_digest

    def counting(key, raw):
        digested.append(1)
        return original(key, raw)

    with mock.patch.object(layout, "chunk_digest", counting), mock.patch.object(layout, "CHUNK_SIZE", 1000):
        ref = write(Slow(), [b"s", random.Random(5).randbytes(60_000)])
    assert len(digested) == 61
    assert ref.stored_nbytes > 60_000
