"""Damage: whatever happens to a pack or a reference, the right parts come back or a CorruptionError does."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.snapshot_doubles import CHUNK, KEY, NAMES, fresh_storage, noise

from ckpt.codecs import compression
from ckpt.errors import CorruptionError, UnknownFormatError, UntrustedError
from ckpt.format.keys import Key
from ckpt.format.names import RunNames
from ckpt.snapshot import SnapshotRef, SnapshotWriter, layout, read_snapshot
from ckpt.snapshot.layout import Chunk, Manifest, Place
from ckpt.snapshot.reference import Packed
from ckpt.staging import Stager


def write(storage, parts, *, key=KEY, names=NAMES, epoch=1):
    return SnapshotWriter(storage, names, key, epoch).write(Stager().stage(parts[0], parts[1:]))


def small_chunks():
    return mock.patch.object(layout, "CHUNK_SIZE", 2000)


def flip(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


PARTS = [b"skeleton", noise(1, 9000), b"soft " * 4000, bytes(5000), b"", noise(2, 70_000)]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_in_a_pack_is_found(data):
    storage = fresh_storage()
    with small_chunks():
        snapshots = SnapshotWriter(storage, NAMES, KEY, 1)
        snapshots.write(Stager().stage(PARTS[0], PARTS[1:4]))
        ref = snapshots.write(Stager().stage(PARTS[0], PARTS[1:]))
        pack = data.draw(st.sampled_from(sorted(ref.packs)))
        content = storage.get(pack)
        storage.put(pack, [flip(content, data.draw(st.integers(0, 8 * len(content) - 1)))])
        try:
            parts = read_snapshot(ref, storage, NAMES, KEY)
        except CorruptionError as error:
            parts = error.path
        assert parts in (PARTS, pack)  # the right parts where it hit the older snapshot's manifest


@given(st.data(), st.sampled_from([[b"s" * 30, noise(3, 500)], [b"soft " * 90, b""], PARTS]))
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_in_a_reference_is_found(data, parts):
    with small_chunks():
        encoded = write(fresh_storage(), parts).encode()
    with pytest.raises(CorruptionError):
        SnapshotRef.decode(flip(encoded, data.draw(st.integers(0, 8 * len(encoded) - 1))))


@pytest.mark.parametrize("parts", [[b"s" * 30, noise(3, 500)], PARTS])
def test_a_reference_cut_anywhere_is_found(parts):
    encoded = write(fresh_storage(), parts).encode()
    assert SnapshotRef.decode(memoryview(encoded)).nbytes == sum(map(len, parts))
    for length in range(len(encoded)):
        with pytest.raises(CorruptionError):
            SnapshotRef.decode(encoded[:length])


def sealed(body):
    return body + struct.pack("<I", zlib.crc32(body))


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 3))
@settings(max_examples=500, deadline=None)
def test_garbage_with_a_right_checksum_is_found(garbage, well_begun, form):
    head = bytes([1, form]) if well_begun else b""
    storage = fresh_storage()
    try:
        ref = SnapshotRef.decode(sealed(head + garbage))
    except (CorruptionError, UnknownFormatError):
        return
    with pytest.raises((CorruptionError, UntrustedError)):
        read_snapshot(ref, storage, NAMES, KEY)


def test_a_newer_reference_is_refused_as_such():
    encoded = write(fresh_storage(), PARTS).encode()
    with pytest.raises(UnknownFormatError):
        SnapshotRef.decode(sealed(b"\x03" + encoded[1:-4]))


def test_parts_in_a_reference_that_were_changed_without_the_key_are_found():
    encoded = write(fresh_storage(), [b"balance: 100 " + noise(1, 100)]).encode()
    forged = encoded[:-4].replace(b"balance: 100", b"balance: 999")
    assert forged != encoded[:-4]
    ref = SnapshotRef.decode(sealed(forged))
    with pytest.raises(CorruptionError):
        read_snapshot(ref, fresh_storage(), NAMES, KEY)


@pytest.mark.parametrize("parts", [PARTS, [b"small"]])
def test_nothing_comes_back_under_another_key(parts):
    storage = fresh_storage()
    ref = write(storage, parts)
    with pytest.raises(UntrustedError, match=KEY.id):
        read_snapshot(ref, storage, NAMES, Key.from_secret(b"x" * 32))
    with pytest.raises(CorruptionError):
        read_snapshot(ref, storage, NAMES, Key(KEY.id, b"x" * 32))


def two_packs(storage):
    snapshots = SnapshotWriter(storage, NAMES, KEY, 1)
    snapshots.write(Stager().stage(b"s", [noise(1, 3 * CHUNK)]))
    return snapshots.write(Stager().stage(b"t", [noise(1, 3 * CHUNK), noise(2, 9 * 1000)]))


@pytest.mark.parametrize("n", [0, 1])
def test_a_missing_pack_is_named(n):
    storage = fresh_storage()
    ref = two_packs(storage)
    storage.delete(NAMES.pack(1, n))
    with pytest.raises(CorruptionError, match="missing") as caught:
        read_snapshot(ref, storage, NAMES, KEY)
    assert caught.value.path == NAMES.pack(1, n)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_short_pack_is_found(n, share):
    storage = fresh_storage()
    ref = two_packs(storage)
    pack = NAMES.pack(1, n)
    if n == 0:  # of the older pack the manifest is not needed
        share = min(share, 0.9)
    storage.put(pack, [storage.get(pack)[: int(share * storage.size(pack))]])
    with pytest.raises(CorruptionError) as caught:
        read_snapshot(ref, storage, NAMES, KEY)
    assert caught.value.path == pack
    if n == 0 and share > 0:
        assert "ends early" in str(caught.value)
        assert caught.value.offset == storage.size(pack)


def test_a_pack_that_ends_among_small_chunks_is_found():
    storage = fresh_storage()
    snapshots = SnapshotWriter(storage, NAMES, KEY, 1)
    parts = [noise(seed, 3000) for seed in range(40)]
    ref = [snapshots.write(Stager().stage(parts[0], parts[1:])) for _ in range(2)][1]
    pack = NAMES.pack(1, 0)
    storage.put(pack, [storage.get(pack)[:50_000]])
    with pytest.raises(CorruptionError, match="ends early") as caught:
        read_snapshot(ref, storage, NAMES, KEY)
    assert (caught.value.path, caught.value.offset) == (pack, 50_000)


def test_a_damaged_chunk_is_named_with_its_offset():
    storage = fresh_storage()
    ref = write(storage, [b"s", noise(1, 5 * CHUNK)])
    pack = NAMES.pack(1, 0)
    storage.put(pack, [flip(storage.get(pack), 8 * (3 * CHUNK + CHUNK // 2))])
    with pytest.raises(CorruptionError) as caught:
        read_snapshot(ref, storage, NAMES, KEY)
    assert (caught.value.path, caught.value.offset) == (pack, layout.HEADER_SIZE + 1 + 3 * CHUNK)


def test_swapped_packs_are_found():
    storage = fresh_storage()
    refs = [write(storage, [b"s", noise(seed, 3 * CHUNK)], epoch=seed) for seed in (1, 2)]
    contents = [storage.get(NAMES.pack(epoch, 0)) for epoch in (1, 2)]
    storage.put(NAMES.pack(1, 0), [contents[1]])
    storage.put(NAMES.pack(2, 0), [contents[0]])
    for ref in refs:
        with pytest.raises(CorruptionError):
            read_snapshot(ref, storage, NAMES, KEY)


def test_a_pack_of_another_run_is_found_even_with_the_same_content():
    storage, other = fresh_storage(), RunNames("sim", "other")
    ref = write(storage, PARTS)
    write(storage, PARTS, names=other)
    storage.put(NAMES.pack(1, 0), [storage.get(other.pack(1, 0))])
    with pytest.raises(CorruptionError, match="header"):
        read_snapshot(ref, storage, NAMES, KEY)


@pytest.mark.parametrize("name", ["key", "../../etc/passwd", "sim/other/pack/1-0.pack", "sim/3fa9/floor"])
def test_a_reference_that_names_other_keys_is_refused(name):
    storage = fresh_storage()
    ref = write(storage, PARTS)
    forged = replace(ref, body=replace(ref.body, packs=(name, *ref.body.packs)))
    with pytest.raises(CorruptionError) as caught:
        read_snapshot(SnapshotRef.decode(forged.encode()), storage, NAMES, KEY)
    assert caught.value.path == name


def craft(storage, manifest, chunks=b""):
    """A snapshot that somebody with the key made wrong."""
    pack = NAMES.pack(9, 0)
    encoded = manifest if isinstance(manifest, bytes) else layout.encode_manifest(manifest, [pack])
    header = layout.pack_header(KEY, pack, None)
    storage.put(pack, [header, chunks, encoded])
    body = Packed((pack,), len(header) + len(chunks), len(encoded), layout.manifest_digest(KEY, encoded), False)
    return SnapshotRef(1 << 24 if isinstance(manifest, bytes) else sum(manifest.lengths), 0, body, KEY.id)


def test_a_manifest_that_was_changed_without_the_key_is_found():
    """Every chunk verifies by itself: only the manifest's own digest tells that two of them changed places."""
    storage = fresh_storage()
    with small_chunks():
        ref = write(storage, [b"skeleton", noise(1, 40_000)])
        pack = ref.body.packs[-1]
        data = storage.get(pack)
        entries = 8 + 2 * 8  # behind the counts and the two lengths
        first, second = (ref.body.offset + entries + 48 * number for number in (1, 2))
        swapped = data[:first] + data[second : second + 48] + data[first : first + 48] + data[second + 48 :]
        storage.put(pack, [swapped])
        with pytest.raises(CorruptionError, match="manifest"):
            read_snapshot(ref, storage, NAMES, KEY)


@pytest.mark.parametrize("expected", [1000, 1 << 20])
def test_a_chunk_that_decompresses_to_another_size_is_refused(expected):
    storage = fresh_storage()
    codec, bomb = compression.compress_if_worth(bytes(1 << 24))
    place = Place(NAMES.pack(9, 0), layout.HEADER_SIZE, len(bomb), codec)
    ref = craft(storage, Manifest((expected,), (Chunk(b"d" * 32, place),)), bomb)
    with pytest.raises(CorruptionError, match="frame"):
        read_snapshot(ref, storage, NAMES, KEY)


def test_a_raw_chunk_of_another_size_is_refused():
    storage = fresh_storage()
    place = Place(NAMES.pack(9, 0), layout.HEADER_SIZE, 100_000, compression.RAW)
    ref = craft(storage, Manifest((200_000,), (Chunk(b"d" * 32, place),)), noise(1, 100_000))
    with pytest.raises(CorruptionError, match="stored size"):
        read_snapshot(ref, storage, NAMES, KEY)


@pytest.mark.parametrize(
    ("count", "rest"), [(0, b""), (1, b"\x01\x00p" + b"more"), (1, b"\x02\x00\xff\xff"), (2, b"\x01\x00p")]
)
def test_a_reference_with_an_impossible_list_of_packs_is_refused(count, rest):
    head = struct.pack("<BBQQ16s", 1, 1, 10, 10, KEY.id.encode()) + struct.pack("<QI32sHH", 0, 0, b"d" * 32, count, 0)
    with pytest.raises(CorruptionError):
        SnapshotRef.decode(sealed(head + rest))


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"1234567",
        struct.pack("<II", 2**32 - 1, 2**32 - 1),
        struct.pack("<IIQ", 1, 0, 2**62),
        struct.pack("<IIQ", 2, 0, 0) + b"half",
        struct.pack("<IIQ", 1, 1, 5),
        struct.pack("<IIQ32sQIHH", 1, 1, 5, b"d" * 32, 0, 0, 7, 0),
    ],
)
def test_a_manifest_with_impossible_counts_is_refused_before_anything_is_allocated(manifest):
    storage = fresh_storage()
    with pytest.raises(CorruptionError, match="manifest"):
        read_snapshot(craft(storage, manifest), storage, NAMES, KEY)


def test_a_manifest_length_beyond_the_pack_is_refused():
    storage = fresh_storage()
    ref = write(storage, PARTS)
    forged = replace(ref, body=replace(ref.body, length=2**32 - 1))
    with pytest.raises(CorruptionError, match="ends before"):
        read_snapshot(forged, storage, NAMES, KEY)
