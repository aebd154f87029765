"""What is known not to have changed is neither digested nor stored again, and every snapshot still reads back exactly."""

from __future__ import annotations

import random
from unittest import mock

import numpy as np
import pytest
from unit.snapshot_doubles import KEY, NAMES, fresh_storage, noise

from ckpt.errors import CorruptionError, StorageError, StorageFullError, UnknownFormatError
from ckpt.format.keys import Key
from ckpt.snapshot import SnapshotRef, SnapshotWriter, images, layout, read_snapshot, reference
from ckpt.staging import Stager, stager
from ckpt.staging.pages import PAGE, WrittenPages

MIB = 1 << 20
SEED = random.SystemRandom().getrandbits(32)


def kernel_tells() -> bool:
    try:
        WrittenPages().close()
    except OSError:
        return False
    return True


STRATEGIES = [
    "copy",
    "compare",
    pytest.param("pages", marks=pytest.mark.skipif(not kernel_tells(), reason="this kernel does not tell written pages")),
]


def staging(strategy: str) -> Stager:
    one = Stager()
    one.strategy = strategy
    return one


class Desk:
    """A job's arrays, checkpointed again and again into one storage."""

    def __init__(self, strategy: str, *arrays: np.ndarray, key: Key = KEY) -> None:
        self.storage, self.key = fresh_storage(), key
        self.snapshots = SnapshotWriter(self.storage, NAMES, key, 1)
        self.stager, self.arrays = staging(strategy), [*arrays]

    def save(self) -> SnapshotRef:
        state = self.stager.stage(b"skeleton", self.arrays)
        ref = self.snapshots.write(state)
        state.release()
        return SnapshotRef.decode(ref.encode())

    def change(self, rng: random.Random) -> None:
        """Some bytes of some arrays; sometimes the arrays come in another order."""
        for _ in range(rng.randrange(5)):
            array = rng.choice(self.arrays)
            start = rng.randrange(array.size)
            array[start : start + rng.choice((1, 100, 20_000, 50_000))] ^= rng.randrange(1, 256)
        if rng.random() < 0.1:
            rng.shuffle(self.arrays)

    def sweep(self, wanted: frozenset[str]) -> None:
        """Delete all other packs."""
        gone = set(self.storage.list(NAMES.pack_prefix)) - wanted
        self.snapshots.forget(gone)
        for pack in gone:
            self.storage.delete(pack)

    def read(self, ref: SnapshotRef) -> list[bytes]:
        return [bytes(part) for part in read_snapshot(ref, self.storage, NAMES, self.key)][1:]

    @property
    def content(self) -> list[bytes]:
        return [array.tobytes() for array in self.arrays]


def numbers(seed: int, nbytes: int) -> np.ndarray:
    return np.frombuffer(bytearray(noise(seed, nbytes)), np.uint8)


class Failing:
    """A storage that fails when it is told to, before or after the write."""

    def __init__(self, inner):
        self.inner, self.fault = inner, None

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def put(self, key, parts):
        if self.fault == "before":
            raise StorageFullError("full", where=key)
        written = self.inner.put(key, parts)
        if self.fault == "after":
            raise StorageError("no answer", where=key)
        return written


@pytest.mark.parametrize("encrypts", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_snapshot_reads_back_after_any_changes_failures_and_sweeps(strategy, encrypts, monkeypatch):
    if encrypts:
        pytest.importorskip("cryptography")
    rng = random.Random(SEED)
    monkeypatch.setattr(stager, "LARGE_BUFFER", 16 * 1024)
    monkeypatch.setattr(layout, "CHUNK_SIZE", 16 * 1024)
    monkeypatch.setattr(layout, "MAX_PACKS", 9)
    monkeypatch.setattr(layout, "ALIGNED_FROM", 64 * 1024)
    key = KEY.of_store(bytes(16), encrypts=encrypts)
    desk = Desk(strategy, *(numbers(seed, size) for seed, size in ((1, 300_001), (2, 90_000), (3, 700_000))), key=key)
    desk.storage = desk.snapshots._storage = failing = Failing(desk.storage)
    kept, waiting = [], []
    patched = 0
    for turn in range(100):
        desk.change(rng)
        waiting.append((desk.stager.stage(b"skeleton", desk.arrays), desk.content))
        while waiting and rng.random() < 0.7:  # states are written in order or not, later than they were staged, or never
            state, content = waiting.pop(rng.randrange(len(waiting)))
            failing.fault = rng.choice((None, None, None, None, "before", "after"))
            if rng.random() < 0.85:
                try:
                    kept.append((desk.snapshots.write(state), content))
                    patched += kept[-1][0].body.patched
                except StorageError:
                    assert failing.fault
            state.release()
        if rng.random() < 0.3 and len(kept) > 2:
            del kept[:-2]
            desk.sweep(frozenset().union(*(ref.packs for ref, _ in kept)))
        for ref, content in kept[-3:]:
            assert desk.read(ref) == content, f"seed {SEED}, turn {turn}"
            assert len(ref.packs) <= 9
    assert strategy == "copy" or patched, f"seed {SEED}"  # else this test says nothing
    desk.stager.close()


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
@pytest.mark.parametrize(("pattern", "limit"), [("scattered", 4), ("contiguous", 1.2)])
def test_few_changed_pages_cost_what_they_are(strategy, pattern, limit):
    array = numbers(1, 64 * MIB)
    desk, rng = Desk(strategy, array), np.random.default_rng(SEED)
    desk.save()
    desk.save()
    for _ in range(3):
        count = array.size // PAGE // 100
        if pattern == "scattered":
            array.reshape(-1, PAGE)[rng.choice(array.size // PAGE, count, replace=False)] ^= 5
        else:
            start = int(rng.integers(array.size - count * PAGE))
            array[start : start + count * PAGE] ^= 5
        ref = desk.save()
        assert ref.stored_nbytes <= limit * count * PAGE
    assert desk.read(ref) == desk.content


def test_nothing_is_patched_that_was_forgotten():
    desk, ref = patched_snapshot()
    desk.sweep(frozenset())
    desk.arrays[0][7] ^= 1
    again = desk.save()
    assert again.packs & ref.packs == set()
    assert desk.read(again) == desk.content


def test_parts_of_different_states_together_draw_on_bounded_packs(monkeypatch):
    monkeypatch.setattr(layout, "MAX_PACKS", 6)
    one, other = numbers(1, 3 * MIB), numbers(2, 9 * MIB)  # so different that each keeps its copy
    desk = Desk("compare")
    for array in (one, one, one, one, other, other, other, other):
        desk.arrays = [array]
        array[: MIB : 300_000] ^= 1
        desk.save()
    desk.arrays = [one, other]
    ref = desk.save()
    assert len(ref.packs) <= 6
    assert desk.read(ref) == desk.content


def test_patches_are_given_up_before_they_cover_most_of_a_part():
    array = numbers(1, 4 * MIB)
    desk = Desk("compare", array)
    desk.save()
    patched = []
    for turn in range(24):
        array[turn * 170_000 : turn * 170_000 + 150_000] ^= 1
        ref = desk.save()
        patched.append(ref.body.patched)
        assert desk.read(ref) == desk.content
        [image] = desk.snapshots._images.values()
        assert images.size_of(image.covered) <= 2 * MIB
    assert patched[0]
    assert not all(patched)


def patched_snapshot():
    array = numbers(1, 3 * MIB)
    desk = Desk("compare", array)
    desk.save()
    desk.save()
    array[2 * MIB + 5] ^= 1
    ref = desk.save()
    assert ref.body.patched
    return desk, ref


def test_an_unpatched_snapshot_is_of_the_first_version_and_a_patched_one_of_the_second():
    desk, ref = patched_snapshot()
    assert ref.encode()[0] == reference.PATCHED_VERSION == 2
    assert Desk("copy", desk.arrays[0]).save().encode()[0] == 1
    encoded = ref.encode()
    with mock.patch.object(reference, "PATCHED_VERSION", 9), pytest.raises(UnknownFormatError):
        SnapshotRef.decode(encoded)


def test_each_flipped_bit_of_a_patch_is_found():
    desk, ref = patched_snapshot()
    manifest = layout.decode_manifest(
        desk.storage.get(ref.body.packs[-1], ref.body.offset, ref.body.length), ref.body.packs, patched=True
    )
    [patch] = manifest.patches
    pack = bytearray(desk.storage.get(patch.place.pack))
    for bit in [*range(128), *random.Random(SEED).sample(range(8 * patch.place.length), 40)]:
        at = patch.place.offset + bit // 8
        pack[at] ^= 1 << bit % 8
        desk.storage.put(patch.place.pack, [bytes(pack)])
        with pytest.raises(CorruptionError):
            desk.read(ref)
        pack[at] ^= 1 << bit % 8


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        layout.encode_patch([(8, b"abc")]),  # past the end of the part
        layout.encode_patch([(1 << 63, b"abc")]),
        layout.encode_patch([(0, b"abc")]) + b"x",
        layout.encode_patch([(0, b"abc"), (4, b"de")])[:-1],
    ],
)
def test_a_patch_that_fits_no_part_is_refused(raw):
    with pytest.raises(ValueError, match="patch"):
        [*layout.decode_patch(raw, 10)]
