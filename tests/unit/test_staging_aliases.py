"""Arrays that share memory, staged and stored again and again under every strategy: each snapshot is of its own moment."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
from programs.staging import STRATEGIES, make_small, missing
from unit.capture_support import visible
from unit.snapshot_doubles import KEY, NAMES, fresh_storage
from unit.test_capture_arrays import SHARING, base, check_sharing, nine

from ckpt import rawmemory
from ckpt.capture.graph import Graph
from ckpt.capture.rebuild import Scene
from ckpt.snapshot import SnapshotRef, SnapshotWriter, read_snapshot
from ckpt.staging import Stager
from ckpt.staging.watched import Watched

SEED = int(os.environ.get("CRASH_SEED", random.SystemRandom().randrange(10**6)))
TURNS = 6


def grid() -> Any:
    return np.arange(12_000.0).reshape(20, 600)


LARGE = {
    base: grid,
    nine: lambda: np.arange(12_000.0),
    "fortran": lambda: np.asfortranarray(grid()),
    "owned and permuted": lambda: np.arange(12_000.0).reshape(20, 30, 20).transpose(1, 0, 2).copy(order="K"),
    "field": lambda: np.zeros(6_000, [("key", "i1"), ("value", "f8")]),
    "real part": lambda: np.zeros(6_000, complex),
    "of one bytearray": lambda: bytearray(80_000),
}
"""What owns the memory, large enough to be watched, for each of ``SHARING``."""


COPYING = [name for name in STRATEGIES if name != "streaming"]
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
every_strategy_that_copies = pytest.mark.parametrize("strategy", COPYING)


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch.setattr)


def stager_of(strategy: str) -> Stager:
    reason = missing(strategy)
    if reason:
        pytest.skip(reason)
    one = Stager()
    if strategy != "streaming":
        one.strategy = strategy  # type: ignore[assignment]
    return one


class Desk:
    """Two arrays that share memory, in one state after the other."""

    def __init__(self, strategy: str, one: Any, other: Any, rng: random.Random) -> None:
        self.one, self.other, self.rng, self.streams = one, other, rng, strategy == "streaming"
        self.stager, self.storage = stager_of(strategy), fresh_storage()
        self.snapshots = SnapshotWriter(self.storage, NAMES, KEY, 1)
        self.graph = Graph(visible(), lambda kind: None)

    def change(self) -> None:
        """One element, by one of the names."""
        for array in (self.one, self.other):
            if array.flags.writeable and self.rng.random() < 0.7:
                place = tuple(self.rng.randrange(length) for length in array.shape)
                array[place] = np.array(self.rng.randrange(100)).astype(array.dtype)

    def save(self) -> SnapshotRef:
        """Store the state as it is now; the job goes on when it is staged, and changes it, before it is written."""
        skeleton, buffers = self.graph.dump({"one": self.one, "deep": [{"other": self.other}]}, Scene([], []))
        if self.streams:
            state = self.stager.live(skeleton, buffers)
            ref = self.snapshots.write(state)
            state.release()
            return ref
        state = self.stager.stage(skeleton, buffers)
        place = (self.one.shape[0] // 2, *(0 for _ in self.one.shape[1:]))
        before = self.one[place].copy()
        self.one[place] = np.zeros((), self.one.dtype) if any(before.tobytes()) else np.ones((), self.one.dtype)
        ref = self.snapshots.write(state)
        self.one[place] = before
        state.release()
        return ref

    def load(self, ref: SnapshotRef) -> tuple[Any, Any]:
        """The arrays as another process has them, from what was stored."""
        parts = read_snapshot(ref, self.storage, NAMES, KEY)
        again = Graph(visible(), lambda kind: None).load(parts[0], parts[1:], Scene([], []))
        return again["one"], again["deep"][0]["other"]


@every_strategy
def test_arrays_that_share_memory_share_it_again_whatever_was_copied(strategy: str) -> None:
    print(f"CRASH_SEED={SEED}")
    rng, patched, packed = random.Random(SEED), 0, 0
    for name, (owner, first, second) in SHARING.items():
        memory = LARGE.get(name, LARGE.get(owner, owner))()
        desk = Desk(strategy, first(memory), second(memory), rng)
        for turn in range(TURNS):
            desk.change()
            ref = desk.save()
            packed += 1
            patched += getattr(ref.body, "patched", False)
            one, other = desk.load(ref)
            assert one.tobytes() == desk.one.tobytes(), f"{name}, turn {turn}, seed {SEED}"
            assert other.tobytes() == desk.other.tobytes(), f"{name}, turn {turn}, seed {SEED}"
            if turn == TURNS - 1:
                check_sharing(desk.one, desk.other, one, other)
        desk.stager.close()
    assert (patched > packed // 4) == (strategy not in ("copy", "streaming")), f"{patched} of {packed} are patched"


@every_strategy_that_copies
def test_what_is_written_while_it_is_copied_is_copied_the_next_time(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.zeros(60_001, np.uint8)
    copy, copy_ranges = rawmemory.copy, Watched._copy_ranges

    def another_thread_writes() -> None:
        array[20_000 + int(array[0])] ^= 1

    def copy_and_write(target: int, source: int, nbytes: int) -> None:
        copy(target, source, nbytes)
        another_thread_writes()

    def copy_ranges_and_write(self: Watched, *arguments: Any) -> None:
        copy_ranges(self, *arguments)
        another_thread_writes()

    monkeypatch.setattr(rawmemory, "copy", copy_and_write)
    monkeypatch.setattr(Watched, "_copy_ranges", copy_ranges_and_write)
    one = stager_of(strategy)
    for turn in range(8):
        array[0] = turn
        before = array.tobytes()
        state = one.stage(b"", [array])
        assert array.tobytes() != before
        assert bytes(state.parts[1]) in (before, array.tobytes()), f"copy {turn} lacks what was written before"
        state.release()
    one.close()


@every_strategy_that_copies
def test_first_and_last_bytes_that_share_pages_with_others_are_copied(strategy: str) -> None:
    memory = np.zeros(200_000, np.uint8)
    arrays = [memory[7:70_003], memory[70_003:130_001], memory[130_010:]]  # side by side, pages shared
    one = stager_of(strategy)
    for turn in range(9):
        array = arrays[turn % 3]
        array[(0, -1)[turn % 2]] += 1
        array[-5 if turn % 2 else 5] += 1
        state = one.stage(b"", arrays)
        for part, wanted in zip(state.parts[1:], arrays, strict=True):
            assert bytes(part) == wanted.tobytes(), f"copy {turn}"
        assert len(state.origins) == len(arrays)
        state.release()
    one.close()
