"""A snapshot that is read back before it counts, and states that are stored from the job's own memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from unit.snapshot_doubles import KEY, NAMES, fresh_storage, noise

from ckpt.errors import StorageError
from ckpt.snapshot import SnapshotWriter, read_snapshot
from ckpt.staging import Stager

MIB = 1 << 20


class Rotten:
    """A storage that flips one bit of what it stores, ``at`` that offset; None: it is honest."""

    def __init__(self) -> None:
        self.inner, self.at = fresh_storage(), None

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def put(self, key, parts):
        data = bytearray(b"".join(parts))
        if self.at is not None:
            data[self.at] ^= 4
        return self.inner.put(key, [bytes(data)])


def writer(storage) -> SnapshotWriter:
    made = SnapshotWriter(storage, NAMES, KEY, 1)
    made.validate = True
    return made


@pytest.mark.parametrize("at", [3, 5000, MIB + 7, -3])
def test_what_does_not_read_back_is_an_error_and_is_never_drawn_on(at):
    storage, parts = Rotten(), [noise(1, 2 * MIB), noise(2, 100_000)]
    snapshots, stager = writer(storage), Stager()
    storage.at = at
    with pytest.raises(StorageError, match="read back"):
        snapshots.write(stager.stage(b"skeleton", parts))
    storage.at = None
    ref = snapshots.write(stager.stage(b"skeleton", parts))
    assert ref.packs == {NAMES.pack(1, 1)}
    assert [bytes(part) for part in read_snapshot(ref, storage, NAMES, KEY)][1:] == parts


def test_staged_memory_that_changed_is_found():
    class Changes(Rotten):
        def put(self, key, parts):
            written = self.inner.put(key, parts)
            state.parts[1][5] ^= 1
            return written

    state = Stager().stage(b"skeleton", [noise(1, 2 * MIB)])
    with pytest.raises(StorageError, match="not what was given"):
        writer(Changes()).write(state)


def test_memory_that_is_written_to_while_it_is_stored_gives_a_snapshot_that_verifies():
    array = np.frombuffer(bytearray(noise(1, 24 * MIB)), np.uint8)
    stop = threading.Event()

    def scribble():
        while not stop.is_set():
            np.add(array, 1, out=array)

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        storage = fresh_storage()
        for _ in range(3):
            state = Stager(1).live(b"skeleton", [array])
            ref = SnapshotWriter(storage, NAMES, KEY, 1).write(state)
            state.release()
            assert len(read_snapshot(ref, storage, NAMES, KEY)[1]) == array.size
    finally:
        stop.set()
        thread.join()


def test_copies_stay_within_the_limit():
    limit = 16 * MIB
    stager, arrays = Stager(limit), [np.zeros(3 * MIB, np.uint8) for _ in range(3)]
    assert stager.fits(b"", arrays)
    first = stager.stage(b"", arrays)
    assert not stager.fits(b"", arrays)
    first.release()
    for nbytes in (5 * MIB, 9 * MIB, 2 * MIB, 14 * MIB, MIB):
        array = np.zeros(nbytes, np.uint8)
        assert stager.fits(b"", [array])
        stager.stage(b"", [array]).release()
        assert stager.held_bytes <= limit
    assert not stager.fits(b"", [np.zeros(limit + 1, np.uint8)])


def test_a_live_state_shares_memory_until_it_is_released():
    array = bytearray(2 * MIB)
    state = Stager(1).live(b"s", [array])
    array[7] = 1
    assert state.parts[1][7] == 1
    state.release()
    array.clear()  # BufferError if anything still held on to it
