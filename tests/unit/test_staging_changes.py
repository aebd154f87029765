"""What is not copied again has not changed: every way to write to memory, against a full copy, under every strategy."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import threading

import numpy as np
import pytest

from ckpt.staging import Stager, memory, pages, stager, watched
from ckpt.staging.pages import PAGE, WrittenPages
from ckpt.staging.ranges import Change, changes_between, pieces, size_of, union

MIB = 1024 * 1024
SEED = random.SystemRandom().getrandbits(32)


def kernel_tells() -> bool:
    try:
        WrittenPages().close()
    except OSError:
        return False
    return True


needs_kernel = pytest.mark.skipif(not kernel_tells(), reason="this kernel does not tell written pages")
STRATEGIES = ["copy", "compare", "auto", pytest.param("pages", marks=needs_kernel)]


@pytest.fixture(autouse=True)
def _small_buffers_are_watched(monkeypatch):
    monkeypatch.setattr(stager, "LARGE_BUFFER", 16 * 1024)


def stager_of(strategy):
    one = Stager()
    one.strategy = strategy
    return one


class Writers:
    """Ways to write to an array of bytes."""

    def __init__(self, rng, folder):
        self.rng, self.folder = rng, folder

    def place(self, array, most=9000):
        start = self.rng.randrange(array.size)
        return start, min(array.size, start + self.rng.randrange(1, most))

    def by_numpy(self, array):
        start, stop = self.place(array)
        array[start:stop] = self.rng.randrange(256)

    def by_ufunc(self, array):
        start, stop = self.place(array)
        np.add(array[start:stop], 1, out=array[start:stop])

    def by_one_byte(self, array):
        memoryview(array)[self.rng.randrange(array.size)] = self.rng.randrange(256)

    def at_the_edges(self, array):
        array[self.rng.choice((0, -1))] ^= 1

    def by_foreign_code(self, array):
        start, stop = self.place(array)
        ctypes.memset(array.ctypes.data + start, self.rng.randrange(256), stop - start)

    def by_readv(self, array):
        start, stop = self.place(array)
        path = self.folder / "data"
        path.write_bytes(self.rng.randbytes(stop - start))
        with path.open("rb", buffering=0) as file:
            assert os.readv(file.fileno(), [memoryview(array)[start:stop]]) == stop - start

    def by_a_pipe(self, array):
        start, stop = self.place(array, 4000)
        read, write = os.pipe()
        os.write(write, self.rng.randbytes(stop - start))
        assert os.readv(read, [memoryview(array)[start:stop]]) == stop - start
        os.close(read)
        os.close(write)

    def in_a_thread(self, array):
        thread = threading.Thread(target=self.by_numpy, args=(array,))
        thread.start()
        thread.join()

    def around_a_fork(self, array):
        self.by_one_byte(array)
        child = os.fork()
        if child == 0:
            array[:] = 77  # the child's own copy
            os._exit(0)
        self.by_numpy(array)
        os.waitpid(child, 0)
        self.by_one_byte(array)

    def everywhere(self, array):
        array += 1

    def nowhere(self, array):
        pass

    def any(self, array):
        names = [name for name in dir(Writers) if name.startswith(("by_", "at_", "in_", "around_", "everywhere", "nowhere"))]
        # A fork is dear, and what changes everywhere stops the watching for long.
        rare = {"around_a_fork", "everywhere"}
        name = self.rng.choice([name for name in sorted(names) if name not in rare or self.rng.random() < 0.2])
        getattr(self, name)(array)


def patched(before: bytes, after: bytes, ranges) -> bytes:
    whole = bytearray(before)
    for start, stop in ranges:
        whole[start:stop] = after[start:stop]
    return bytes(whole)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_copies_and_changes_are_those_of_a_full_copy_after_any_writes(strategy, tmp_path):
    rng = random.Random(SEED)
    writers, one = Writers(rng, tmp_path), stager_of(strategy)
    arrays = [np.frombuffer(bytearray(rng.randbytes(size)), np.uint8) for size in (20_000, 300_001, MIB, 2 * MIB + 5)]
    staged = []
    seen: dict[tuple[int, int], bytes] = {}
    told = 0
    for turn in range(120):
        if rng.random() < 0.05:
            number = rng.randrange(len(arrays))
            arrays[number] = np.array(arrays[number])  # elsewhere, or where a freed one was
        for _ in range(rng.randrange(4)):
            writers.any(rng.choice(arrays))
        wanted = [array.tobytes() for array in arrays]
        state = one.stage(b"skeleton", arrays)
        for array in arrays:
            array[rng.randrange(array.size)] ^= 255  # after the copy: not in it
        assert [bytes(part) for part in state.parts[1:]] == wanted, f"seed {SEED}, turn {turn}"
        for index, origin in state.origins.items():
            content = bytes(state.parts[index])
            for number in range(max(1, origin.number - 3), origin.number):
                ranges = origin.changes_since(number)
                if ranges is not None and (origin.serial, number) in seen:
                    told += 1
                    assert patched(seen[origin.serial, number], content, ranges) == content, f"seed {SEED}, turn {turn}"
            seen[origin.serial, origin.number] = content
        staged.append((state, wanted))
        while staged and (len(staged) > 2 or rng.random() < 0.7):
            old, content = staged.pop(0)
            assert [bytes(part) for part in old.parts[1:]] == content, f"seed {SEED}, turn {turn}"
            old.release()
    assert strategy == "copy" or told > 100  # else this test says nothing
    one.close()


@pytest.mark.parametrize("strategy", ["compare", pytest.param("pages", marks=needs_kernel)])
def test_only_what_changed_is_told(strategy):
    one = stager_of(strategy)
    array = np.ones(4 * MIB, np.uint8)
    for _ in range(3):
        one.stage(b"", [array]).release()
    array[2 * MIB] = 9
    state = one.stage(b"", [array])
    origin = state.origins[1]
    changed = origin.changes_since(origin.number - 1)
    assert any(start <= 2 * MIB < stop for start, stop in changed)
    assert size_of(changed) <= PAGE
    state.release()
    one.close()


@needs_kernel
@pytest.mark.parametrize("whole_table", [False, True])
def test_memory_given_back_to_the_kernel_has_changed(whole_table):
    one = stager_of("pages")
    with mmap.mmap(-1, 8 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped:
        mapped.madvise(mmap.MADV_HUGEPAGE)
        mapped[:] = b"x" * (8 * MIB)
        for _ in range(3):
            one.stage(b"", [mapped]).release()
        if whole_table:
            mapped.madvise(mmap.MADV_DONTNEED)
        else:
            mapped.madvise(mmap.MADV_DONTNEED, 2 * PAGE, 3 * PAGE)
        state = one.stage(b"", [mapped])
        assert bytes(state.parts[1]) == mapped[:]
        state.release()
    one.close()


@needs_kernel
def test_memory_mapped_anew_at_the_same_address_has_changed():
    system = ctypes.CDLL(None, use_errno=True)
    system.mmap.restype = ctypes.c_void_p
    system.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)

    def map_at(address, fixed):
        return system.mmap(address, MIB, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | fixed, -1, 0)

    one, address = stager_of("pages"), map_at(None, 0)
    memory_there = (ctypes.c_char * MIB).from_address(address)
    ctypes.memset(address, 1, MIB)
    for _ in range(3):
        one.stage(b"", [memory_there]).release()
    assert map_at(address, 0x10) == address  # MAP_FIXED: zeros, which nobody wrote
    state = one.stage(b"", [memory_there])
    assert bytes(state.parts[1]) == bytes(MIB)
    one.close()
    state.release()
    system.munmap(ctypes.c_void_p(address), ctypes.c_size_t(MIB))


@needs_kernel
def test_memory_that_others_can_write_is_never_watched():
    with mmap.mmap(-1, MIB) as shared:  # MAP_SHARED
        one = stager_of("pages")
        for turn in range(5):
            child = os.fork()
            if child == 0:
                shared[turn * 5000] = turn + 1
                os._exit(0)
            os.waitpid(child, 0)
            state = one.stage(b"", [shared])
            assert bytes(state.parts[1]) == shared[:]
            state.release()
        one.close()


@needs_kernel
def test_a_device_that_may_write_memory_ends_the_watching(monkeypatch):
    one = stager_of("auto")
    array = np.ones(MIB, np.uint8)
    for _ in range(3):
        one.stage(b"", [array]).release()
    monkeypatch.setattr(pages, "_device_may_write", lambda: True)
    monkeypatch.setattr(WrittenPages, "written", lambda *_: ())  # what it would say is not asked for
    array[5000] = 2
    state = one.stage(b"", [array])
    assert bytes(state.parts[1]) == array.tobytes()
    state.release()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_forked_child_copies_its_own_memory_and_disturbs_no_marks(strategy):
    one, array = stager_of(strategy), np.ones(MIB, np.uint8)
    for _ in range(3):
        one.stage(b"", [array]).release()
    array[7000] = 2
    child = os.fork()
    if child == 0:
        good = 0
        for turn in range(4):
            array[turn * 9000] = 3 + turn
            state = one.stage(b"", [array])
            good += bytes(state.parts[1]) == array.tobytes()
            state.release()
        os._exit(0 if good == 4 else 1)
    assert os.waitpid(child, 0)[1] == 0
    state = one.stage(b"", [array])
    assert bytes(state.parts[1]) == array.tobytes()
    state.release()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_buffers_that_share_memory_are_copied_whole(strategy):
    one, array = stager_of(strategy), np.ones(MIB, np.uint8)
    for turn in range(6):
        array[turn * 70_000] = turn
        state = one.stage(b"", [array, array[100_000:900_000], array[:200_000]])
        assert not state.origins
        assert bytes(state.parts[2]) == array[100_000:900_000].tobytes()
        state.release()
        alone = one.stage(b"", [array[50_000:]])
        assert bytes(alone.parts[1]) == array[50_000:].tobytes()
        alone.release()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_asking_for_one_buffer_hides_no_change_of_another_that_shares_its_memory(strategy):
    one, array = stager_of(strategy), np.ones(9 * MIB, np.uint8)
    views = [array, array[: 2 * MIB], array[5 * PAGE : 4 * MIB]]  # so different in size that each has a region of its own
    for turn in range(30):
        view = views[0 if turn % 4 < 2 else 1 + turn % 2]
        array[(turn * 7919 * 13) % MIB] ^= 1
        state = one.stage(b"", [view])
        assert bytes(state.parts[1]) == view.tobytes()
        state.release()
    one.close()


def test_a_buffer_that_changes_much_is_looked_at_again_later():
    one, array = stager_of("auto"), np.ones(MIB, np.uint8)
    told = []
    for turn in range(2 + watched.PAUSE + 4):
        if turn < 4:
            array += 1
        state = one.stage(b"", [array])
        told.append(state.origins[1].changes_since(state.origins[1].number - 1) is not None)
        state.release()
    assert not any(told[:watched.PAUSE])
    assert told[-1]
    one.close()


def test_memory_of_a_buffer_that_is_gone_serves_the_next_one():
    one = Stager()
    for _ in range(10):
        one.stage(b"", [np.ones(4 * MIB, np.uint8), np.zeros(2 * MIB, np.uint8)]).release()
    assert one.held_bytes <= 2 * (memory._region_size(4 * MIB) + memory._region_size(2 * MIB))


def test_changes_add_up_along_any_path():
    known = [Change(1, 2, ((0, 5),)), Change(1, 3, ((10, 12),)), Change(3, 4, ((4, 7),))]
    assert changes_between(known, 3, 4) == ((4, 7),)
    assert changes_between(known, 2, 4) == ((0, 7), (10, 12))
    assert changes_between(known, 4, 4) == ()
    assert changes_between(known, 0, 4) is None


def test_ranges_are_joined_and_cut():
    assert union([(5, 9), (0, 2)], [(2, 4), (8, 12)]) == ((0, 4), (5, 12))
    assert [*pieces(((3, 25),), 10)] == [(0, 3, 10), (1, 10, 20), (2, 20, 25)]


@needs_kernel
def test_pages_that_are_nowhere_count_as_written(monkeypatch):
    def scan(_self, start, _stop, _flags, mask, inverted):
        return ((start, start + PAGE),) if mask == inverted else ((start + PAGE, start + 2 * PAGE),)

    monkeypatch.setattr(WrittenPages, "_scan", scan)
    assert WrittenPages().written(0, 8 * PAGE) == ((0, 2 * PAGE),)
