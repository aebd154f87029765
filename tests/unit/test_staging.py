"""The staged copy: exact, never aliased, in memory that is used again and bounded."""

from __future__ import annotations

import gc
import mmap
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt import staging
from ckpt.staging import ALIGNMENT, Stager, memory

MIB = 1024 * 1024


def stage_bytes(buffers, skeleton=b"skeleton"):
    state = Stager().stage(skeleton, buffers)
    copies = [part.tobytes() for part in state.parts]
    state.release()
    assert copies[0] == skeleton
    return copies[1:]


@given(
    skeleton=st.binary(max_size=200),
    buffers=st.lists(st.builds(lambda piece, times: piece * times, st.binary(max_size=300), st.integers(0, 900))),
)
def test_parts_are_the_skeleton_and_the_buffers(skeleton, buffers):
    state = Stager().stage(skeleton, buffers)
    same = [bytes(part) for part in state.parts] == [skeleton, *buffers]
    assert same, "the parts are others"  # not the comparison itself: explaining how 100 KiB differ takes minutes
    assert state.nbytes == len(skeleton) + sum(map(len, buffers))


@pytest.mark.parametrize("nbytes", [100, staging.SMALL_STATE, 300_000, 5 * MIB])
def test_changing_the_source_after_staging_leaves_the_copy_as_it_was(nbytes):
    source, skeleton = bytearray(b"a" * nbytes), bytearray(b"s" * 50)
    state = Stager().stage(skeleton, [source])
    source[:] = b"b" * nbytes
    skeleton[:] = b"t" * 50
    assert state.parts[0] == b"s" * 50
    assert state.parts[1] == b"a" * nbytes


@pytest.mark.parametrize("nbytes", [100, 5 * MIB])
def test_the_source_can_be_resized_once_staging_has_returned(nbytes):
    source = bytearray(nbytes)
    state = Stager().stage(b"", [source])
    source.clear()  # BufferError if anything still held on to it
    assert state.parts[1].nbytes == nbytes


@pytest.mark.parametrize("shape", [(30, 40), (700, 800)])
def test_f_ordered_arrays_are_copied_in_f_order(shape):
    array = np.asfortranarray(np.random.default_rng(1).standard_normal(shape))
    assert stage_bytes([array]) == [array.tobytes(order="F")]
    assert stage_bytes([pickle.PickleBuffer(array)]) == [array.tobytes(order="F")]


@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_read_only_sources_are_copied(size):
    array = np.random.default_rng(2).standard_normal(size)
    array.flags.writeable = False
    assert stage_bytes([array, array.tobytes(), memoryview(array)]) == [array.tobytes()] * 3


def test_empty_and_zero_dimensional_buffers_are_copied():
    zero_d = np.array(3.5)
    buffers = [b"", np.empty((0, 3)), zero_d, np.empty((4, 0), order="F"), bytearray()]
    assert stage_bytes(buffers) == [b"", b"", zero_d.tobytes(), b"", b""]


def test_other_kinds_of_memory_are_copied():
    with mmap.mmap(-1, MIB) as mapped:
        mapped[:5] = b"hello"
        (copy,) = stage_bytes([mapped])
    assert copy == b"hello" + bytes(MIB - 5)
    assert stage_bytes([np.arange(200_000, dtype=np.complex128)[::1].view(np.int16)])[0][:2] == b"\0\0"


def test_a_buffer_with_gaps_is_refused_and_holds_nothing():
    source = bytearray(10)
    with pytest.raises(BufferError) as caught:
        Stager().stage(b"", [source, memoryview(bytes(10))[::2]])
    source.clear()
    assert caught.tb is not None  # alive until here, with the frames that had a view of the source


@pytest.mark.parametrize("nbytes", [77, 200_001])
def test_parts_start_at_aligned_places(nbytes):
    state = Stager().stage(b"s", [b"x" * nbytes, b"y", b"z" * nbytes])
    addresses = [np.frombuffer(part, np.uint8).ctypes.data for part in state.parts]
    assert {(address - addresses[0]) % ALIGNMENT for address in addresses} == {0}


def test_pickled_arrays_come_back_from_the_staged_parts():
    value = {"a": np.arange(100_000.0), "b": np.asfortranarray(np.ones((300, 7))), "c": "text"}
    buffers = []
    state = Stager().stage(pickle.dumps(value, protocol=5, buffer_callback=buffers.append), buffers)
    again = pickle.loads(state.parts[0], buffers=[bytearray(part) for part in state.parts[1:]])
    assert again["c"] == "text"
    np.testing.assert_array_equal(again["a"], value["a"])
    np.testing.assert_array_equal(again["b"], value["b"])
    assert again["b"].flags.f_contiguous


def test_released_memory_is_used_again():
    stager = Stager()
    first = stager.stage(b"", [b"a" * MIB])
    address = np.frombuffer(first.parts[0].obj, np.uint8).ctypes.data
    first.release()
    second = stager.stage(b"", [b"b" * (MIB + 1000)])
    assert np.frombuffer(second.parts[0].obj, np.uint8).ctypes.data == address
    assert second.parts[1] == b"b" * (MIB + 1000)


def test_memory_in_use_is_not_given_out_twice():
    stager = Stager()
    first = stager.stage(b"", [b"a" * MIB])
    second = stager.stage(b"", [b"b" * MIB])
    assert first.parts[1] == b"a" * MIB
    assert second.parts[1] == b"b" * MIB


def test_a_released_state_cannot_be_read_and_releasing_again_changes_nothing():
    stager = Stager()
    state = stager.stage(b"s", [b"a" * MIB])
    state.release()
    state.release()
    with pytest.raises(ValueError, match="released"):
        bytes(state.parts[1])
    # Had the second release given the memory back again, these two would share it.
    first, second = stager.stage(b"", [b"b" * MIB]), stager.stage(b"", [b"c" * MIB])
    assert (bytes(first.parts[1]), bytes(second.parts[1])) == (b"b" * MIB, b"c" * MIB)


def test_memory_that_is_still_read_is_not_released():
    stager = Stager()
    state = stager.stage(b"s", [b"a" * MIB])
    with state.reading() as parts, pytest.raises(BufferError):
        state.release()
    assert parts[1] == b"a" * MIB
    other = stager.stage(b"", [b"b" * MIB])
    assert parts[1] == b"a" * MIB
    other.release()
    state.release()
    assert stager.held_bytes == 2 * staging.REGION_STEP


def test_at_most_twice_the_peak_of_concurrent_use_is_kept():
    stager = Stager()
    peak = 0
    for mib in [1, 3, 9, 2, 30, 5, 14, 1, 28, 7, 34, 38, 42, 50, 56, 64, 3]:
        state = stager.stage(b"", [bytes(mib * MIB)])
        peak = max(peak, memory._region_size(mib * MIB))
        assert stager.held_bytes <= 2 * peak
        state.release()
        assert stager.held_bytes <= 2 * peak


def test_a_state_that_is_dropped_gives_its_memory_to_the_system():
    stager = Stager()
    stager.stage(b"", [b"a" * MIB])
    gc.collect()
    assert stager.held_bytes == 0


def test_without_memory_the_stager_stays_usable(monkeypatch):
    stager = Stager()
    stager.stage(b"", [b"a" * MIB]).release()
    held = stager.held_bytes

    def no_memory(*_args, **_kwargs):
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", no_memory)
        with pytest.raises(MemoryError):
            stager.stage(b"", [bytes(50 * MIB)])
    assert stager.held_bytes == held
    assert stager.stage(b"", [b"b" * MIB]).parts[1] == b"b" * MIB
