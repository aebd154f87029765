"""What is stored already is not stored again; what failed to be stored is; and old packs can go."""

from __future__ import annotations

import random
import threading
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from unit.snapshot_doubles import CHUNK, KEY, NAMES, fresh_storage, noise

from ckpt.errors import StorageError, StorageFullError
from ckpt.snapshot import SnapshotWriter, layout, read_snapshot
from ckpt.staging import Stager


def stage(*parts):
    return Stager().stage(parts[0], parts[1:])


def read(ref, storage):
    return [bytes(part) for part in read_snapshot(ref, storage, NAMES, KEY)]


def test_an_unchanged_state_stores_a_manifest_only():
    storage = fresh_storage()
    snapshots = SnapshotWriter(storage, NAMES, KEY, 1)
    parts = [b"skeleton", noise(1, 5 * CHUNK + 17), noise(2, 100)]
    first, second = snapshots.write(stage(*parts)), snapshots.write(stage(*parts))
    assert first.stored_nbytes > 5 * CHUNK
    assert second.stored_nbytes < 1000
    assert second.packs == {NAMES.pack(1, 0), NAMES.pack(1, 1)}
    assert read(second, storage) == read(first, storage) == parts


def test_a_changed_byte_stores_its_chunk_only():
    storage = fresh_storage()
    snapshots = SnapshotWriter(storage, NAMES, KEY, 1)
    content = bytearray(noise(1, 6 * CHUNK))
    snapshots.write(stage(b"s", bytes(content)))
    content[3 * CHUNK + 5] ^= 1
    ref = snapshots.write(stage(b"s", bytes(content)))
    assert CHUNK < ref.stored_nbytes < CHUNK + 2000
    assert read(ref, storage) == [b"s", bytes(content)]


def test_chunks_are_aligned_to_their_part_so_a_longer_neighbour_changes_nothing():
    snapshots = SnapshotWriter(fresh_storage(), NAMES, KEY, 1)
    content = noise(1, 3 * CHUNK)
    snapshots.write(stage(b"short", content))
    assert snapshots.write(stage(b"a longer skeleton", b"and another part", content)).stored_nbytes < 1000


def test_another_attempt_knows_what_it_adopts():
    storage = fresh_storage()
    parts = [b"s", noise(1, 3 * CHUNK)]
    first = SnapshotWriter(storage, NAMES, KEY, 1).write(stage(*parts))
    stranger, heir = SnapshotWriter(storage, NAMES, KEY, 2), SnapshotWriter(storage, NAMES, KEY, 3)
    heir.adopt([first])
    assert stranger.write(stage(*parts)).stored_nbytes > 3 * CHUNK
    ref = heir.write(stage(*parts))
    assert ref.stored_nbytes < 1000
    assert read(ref, storage) == parts


def test_forgotten_packs_are_not_drawn_on():
    storage = fresh_storage()
    snapshots = SnapshotWriter(storage, NAMES, KEY, 1)
    parts = [b"s", noise(1, 3 * CHUNK)]
    gone = snapshots.write(stage(*parts)).packs
    snapshots.forget(gone)
    for pack in gone:
        storage.delete(pack)
    ref = snapshots.write(stage(*parts))
    assert not ref.packs & gone
    assert read(ref, storage) == parts


class Faulty:
    """A storage whose next ``put`` goes wrong in the way of ``fault``, after it took ``take`` pieces."""

    def __init__(self, below, take=10**9):
        self._below, self._take, self.fault = below, take, None

    def __getattr__(self, name):
        return getattr(self._below, name)

    def put(self, key, pieces):
        fault, self.fault = self.fault, None
        if fault == "lost answer":
            self._below.put(key, pieces)
            raise StorageError("the connection broke")
        if fault == "short":
            return self._below.put(key, list(pieces)[:-1])
        if fault == "full":
            for number, _piece in enumerate(pieces):
                if number == self._take:
                    raise StorageFullError("no space left")
        return self._below.put(key, pieces)


@pytest.mark.parametrize("take", [0, 1, 3])
def test_chunks_of_a_pack_that_found_no_space_are_stored_again(take):
    storage = Faulty(fresh_storage(), take)
    snapshots = SnapshotWriter(storage, NAMES, KEY, 1)
    before = [b"s", noise(1, 2 * CHUNK)]
    first = snapshots.write(stage(*before))
    parts = [*before, noise(2, 20 * CHUNK)]
    state = stage(*parts)
    storage.fault = "full"
    with pytest.raises(StorageFullError):
        snapshots.write(state)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ckpt-chunks")]
    assert storage.list("") == sorted(first.packs)
    ref = snapshots.write(state)
    state.release()  # refused if anything still read it
    assert 20 * CHUNK < ref.stored_nbytes < 21 * CHUNK
    assert read(ref, storage) == parts


@pytest.mark.parametrize("fault", ["lost answer", "short"])
def test_a_pack_in_doubt_is_not_drawn_on_and_its_name_not_used_again(fault):
    storage = Faulty(fresh_storage())
    snapshots = SnapshotWriter(storage, NAMES, KEY, 1)
    parts = [b"s", noise(1, 2 * CHUNK)]
    storage.fault = fault
    with pytest.raises(StorageError):
        snapshots.write(stage(*parts))
    ref = snapshots.write(stage(*parts))
    assert ref.packs == {NAMES.pack(1, 1)}
    assert read(ref, storage) == parts


def test_a_state_cannot_be_released_while_it_is_written():
    state = stage(b"s", noise(1, 3 * CHUNK))

    class Releasing:
        def put(self, _key, pieces):
            next(iter(pieces))
            state.release()

    with pytest.raises(BufferError):
        SnapshotWriter(Releasing(), NAMES, KEY, 1).write(state)
    assert state.parts[0] == b"s"


def test_a_released_state_is_refused():
    state = stage(b"s", noise(1, CHUNK))
    state.release()
    with pytest.raises(ValueError, match="released"):
        SnapshotWriter(fresh_storage(), NAMES, KEY, 1).write(state)


def test_a_snapshot_at_the_bound_of_packs_is_followed_by_one_that_draws_on_the_fuller_half():
    storage = fresh_storage()
    snapshots = SnapshotWriter(storage, NAMES, KEY, 1)
    counts, first = [], []
    with mock.patch.object(layout, "CHUNK_SIZE", 1000), mock.patch.object(layout, "MAX_PACKS", 5):
        blocks = [noise(seed, 1000) for seed in range(40)]
        for step in range(12):
            blocks[step] = noise(100 + step, 1000)
            ref = snapshots.write(stage(b"s", b"".join(blocks)))
            assert read(ref, storage) == [b"s", b"".join(blocks)]
            counts.append(len(ref.packs))
            first.append(NAMES.pack(1, 0) in ref.packs)
    assert counts == [1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 3]
    assert all(first)  # it holds most of the state


def test_small_changes_of_a_large_state_never_cost_all_of_it_again():
    snapshots = SnapshotWriter(fresh_storage(), NAMES, KEY, 1)
    rng, written = random.Random(3), []
    with mock.patch.object(layout, "CHUNK_SIZE", 1000), mock.patch.object(layout, "MAX_PACKS", 16):
        blocks = [noise(seed, 1000) for seed in range(1000)]
        for step in range(120):
            blocks[rng.randrange(len(blocks))] = noise(5000 + step, 1000)
            written.append(snapshots.write(stage(b"s", b"".join(blocks))).stored_nbytes - 49 * len(blocks))
    assert sum(written[1:]) < 10 * 1000 * len(written)  # it was 59 times
    assert max(written[1:]) < 120_000


def test_packs_that_are_mostly_dead_are_not_kept_for_what_is_alive_in_them():
    storage = fresh_storage()
    snapshots = SnapshotWriter(storage, NAMES, KEY, 1)
    with mock.patch.object(layout, "CHUNK_SIZE", 1000):
        blocks = [noise(seed, 1000) for seed in range(60)]
        for step in range(30):  # in each step one more block has changed for the last time
            blocks[step:] = [noise(1000 * step + number, 1000) for number in range(step, 60)]
            ref = snapshots.write(stage(b"s", b"".join(blocks)))
        assert read(ref, storage) == [b"s", b"".join(blocks)]
    assert sum(storage.size(pack) for pack in ref.packs) < 4 * ref.nbytes  # it was 22 times


class Snapshots(RuleBasedStateMachine):
    """Writes, failures, sweeps and takeovers in any order: every kept snapshot reads back from bounded packs."""

    def __init__(self):
        super().__init__()
        self.patches = [mock.patch.object(layout, "CHUNK_SIZE", 64), mock.patch.object(layout, "MAX_PACKS", 3)]
        for patch in self.patches:
            patch.start()
        self.storage = Faulty(fresh_storage(), 2)
        self.kept = []
        self.epoch = 0
        self.take_over()

    def teardown(self):
        for patch in self.patches:
            patch.stop()

    @rule()
    def take_over(self):
        self.epoch += 1
        self.snapshots = SnapshotWriter(self.storage, NAMES, KEY, self.epoch, inline_limit=100)
        self.snapshots.adopt(ref for ref, _ in self.kept)

    @rule(seeds=st.lists(st.integers(0, 12), max_size=12), fault=st.sampled_from([None, None, "full", "lost answer"]))
    def write(self, seeds, fault):
        parts = [b"s", b"".join(noise(seed, 64) for seed in seeds), noise(len(seeds), 100)]
        self.storage.fault = fault
        try:
            self.kept.append((self.snapshots.write(stage(*parts)), parts))
        except StorageError:
            assert fault
        self.storage.fault = None

    @precondition(lambda self: len(self.kept) > 2)
    @rule()
    def sweep(self):
        del self.kept[:-2]
        wanted = frozenset().union(*(ref.packs for ref, _ in self.kept))
        gone = set(self.storage.list(NAMES.pack_prefix)) - wanted
        self.snapshots.forget(gone)
        for pack in gone:
            self.storage.delete(pack)

    @invariant()
    def all_kept_snapshots_are_whole(self):
        for ref, parts in self.kept:
            assert read(ref, self.storage) == parts
            assert len(ref.packs) <= 3


TestSnapshots = Snapshots.TestCase
TestSnapshots.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
