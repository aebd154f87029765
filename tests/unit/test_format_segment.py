"""Segments, taken apart by every flipped bit, every cut and every lost sector."""

from __future__ import annotations

import struct
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.errors import UnknownFormatError, UntrustedError
from ckpt.format.keys import UNSIGNED, Key
from ckpt.format.names import RunNames
from ckpt.format.records import Kind, encode_payload, lsn_of
from ckpt.format.segment import HEADER_SIZE, encode_frames, encode_header, newest_only, parse_segment

KEY = Key.from_secret(bytes(range(32)))
NAMES = RunNames("job", "r1")


def build(payloads: list[bytes], slot: int = 4, epoch: int = 2, key: Key = KEY) -> tuple[bytes, list[int]]:
    """(a segment, the offset behind the header and behind each record)."""
    header, seed = encode_header(key, NAMES, slot, epoch, b"n" * 16)
    pieces, _ = encode_frames(key, seed, epoch, [(lsn_of(slot, i), 2, p) for i, p in enumerate(payloads)])
    ends = [HEADER_SIZE]
    for i in range(len(payloads)):
        ends.append(ends[-1] + sum(map(len, pieces[3 * i : 3 * i + 3])))
    return header + b"".join(pieces), ends


def small(count: int = 4) -> tuple[bytes, list[int]]:
    return build([encode_payload({"n": n}, [b"value %d" % n] * n) for n in range(count)])


def heads(parsed) -> list[int]:
    for record in parsed.records:
        assert [bytes(section) for section in record.sections] == [b"value %d" % record.head["n"]] * record.head["n"]
        assert record.lsn == lsn_of(4, record.head["n"])
        assert (record.kind, record.epoch) == (Kind.OPERATION, 2)
    return [record.head["n"] for record in parsed.records]


def test_records_come_back_as_views_into_the_segment():
    data, ends = small()
    parsed = parse_segment(data, KEY, NAMES, 4)
    assert heads(parsed) == [0, 1, 2, 3]
    assert (parsed.damages, parsed.torn, parsed.count, parsed.good_length) == ([], None, 4, ends[-1])
    assert parsed.last_digest == data[-32:]
    assert all(section.obj is data for record in parsed.records for section in record.sections)
    assert (parsed.header.slot, parsed.header.epoch, parsed.header.nonce) == (4, 2, b"n" * 16)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_any_sections_come_back(sections):
    data, _ = build([encode_payload({}, sections), encode_payload({"last": True})])
    first, last = parse_segment(data, KEY, NAMES, 4).records
    assert [bytes(section) for section in first.sections] == sections
    assert last.head == {"last": True}


def test_every_flipped_bit_is_damage_and_never_torn_or_wrong():
    data, ends = small()
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        parsed = parse_segment(changed, KEY, NAMES, 4)
        assert parsed.damages, bit
        assert parsed.torn is None, bit
        hit = sum(end <= bit // 8 for end in ends) - 1  # -1: the header
        assert hit not in heads(parsed), bit
        assert min(damage.offset for damage in parsed.damages) <= bit // 8


def test_records_around_a_damaged_payload_are_still_read():
    data, ends = small()
    changed = bytearray(data)
    changed[ends[1] + 30] ^= 1
    parsed = parse_segment(changed, KEY, NAMES, 4)
    assert heads(parsed) == [0, 2, 3]
    (damage,) = parsed.damages
    assert (damage.path, damage.offset, damage.lsn) == (NAMES.segment(4), ends[1], lsn_of(4, 1))


def test_every_cut_is_torn_at_a_record_or_damage_in_what_is_created_whole():
    data, ends = small()
    for cut in range(len(data)):
        parsed = parse_segment(data[:cut], KEY, NAMES, 4)
        whole = sum(end <= cut for end in ends) - 1
        assert heads(parsed) == list(range(max(whole, 0)))
        if whole < 1:
            assert parsed.damages, cut
            assert parsed.torn is None
        else:
            assert parsed.damages == [], cut
            assert parsed.good_length == ends[whole]
            assert (parsed.torn is None) == (cut == ends[whole])
            if parsed.torn:
                assert (parsed.torn.offset, parsed.torn.length) == (ends[whole], cut - ends[whole])


@pytest.mark.parametrize("size", [10, 400, 448, 500, 1500])
def test_lost_sectors_at_the_end_are_torn_unless_a_flipped_bit_could_look_so(size):
    data, ends = build([encode_payload({"n": 0}), encode_payload({"n": 1}, [b"\xa5" * size])])
    for boundary in range(-(-ends[1] // 512) * 512, len(data), 512):
        lost = data[:boundary] + bytes(len(data) - boundary)
        parsed = parse_segment(lost, KEY, NAMES, 4)
        assert [record.head["n"] for record in parsed.records] == [0]
        assert bool(parsed.torn) == (len(data) - boundary >= 8)
        assert bool(parsed.torn) != bool(parsed.damages)
    parsed = parse_segment(data[: ends[1]] + bytes(700), KEY, NAMES, 4)  # all of it, and a longer file
    assert parsed.torn is not None
    assert parsed.damages == []


def test_flip_in_a_record_whose_digest_ends_in_zeros_behind_a_sector_boundary_is_never_torn():
    first = encode_payload({})
    size = 512 - len(build([first, encode_payload({"salt": 100_000}, [b""])])[0]) + 1
    for salt in range(100_000, 200_000):  # one in 256 digests ends in a zero byte, here the only one of its sector
        data, ends = build([first, encode_payload({"salt": salt}, [b"x" * size])])
        if data[-1] == 0:
            break
    assert len(data) == 513
    for bit in range(ends[1] * 8, len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        parsed = parse_segment(changed, KEY, NAMES, 4)
        assert parsed.damages, bit
        assert parsed.torn is None


@pytest.mark.parametrize("behind", range(1, 8))
def test_record_that_lost_only_the_last_bytes_of_its_digest_is_still_read(behind: int):
    first = encode_payload({})
    size = 1024 - len(build([first, encode_payload({"n": 1}, [b""])])[0]) + behind
    data, ends = build([first, encode_payload({"n": 1}, [b"x" * size])])
    assert len(data) == 1024 + behind
    lost = bytearray(data[:1024] + bytes(behind))
    parsed = parse_segment(lost, KEY, NAMES, 4)
    assert (len(parsed.records), parsed.damages, parsed.torn, parsed.good_length) == (2, [], None, len(data))
    for bit in range(ends[1] * 8, 1024 * 8, 5):
        changed = bytearray(lost)
        changed[bit // 8] ^= 1 << bit % 8
        parsed = parse_segment(changed, KEY, NAMES, 4)
        assert (len(parsed.records), parsed.torn) == (1, None), bit
        assert parsed.damages, bit


def test_zeros_inside_are_damage():
    data, ends = build([encode_payload({"n": n}, [b"x" * 600]) for n in range(3)])
    hole = data[:1024] + bytes(512) + data[1536:]
    assert ends[1] < 1024
    assert ends[3] > 1536
    parsed = parse_segment(hole, KEY, NAMES, 4)
    assert parsed.damages
    assert parsed.torn is None


def test_moved_and_copied_segments_are_damage():
    data, _ = small()
    assert parse_segment(data, KEY, NAMES, 5).records == []
    assert "moved" in parse_segment(data, KEY, NAMES, 5).damages[0].reason
    assert "moved" in parse_segment(data, KEY, RunNames("job", "r2"), 4).damages[0].reason


def test_removed_repeated_and_swapped_records_are_damage():
    data, ends = build([encode_payload({"n": n}) for n in range(4)])
    frames = [data[a:b] for a, b in pairwise(ends)]
    for order in ([0, 2, 3], [0, 1, 1, 2, 3], [0, 2, 1, 3], [1, 2, 3]):
        parsed = parse_segment(data[:HEADER_SIZE] + b"".join(frames[i] for i in order), KEY, NAMES, 4)
        assert parsed.damages, order
        found = [record.lsn for record in parsed.records]
        assert found == sorted(set(found))


def test_frames_of_another_segment_do_not_verify():
    mine, ends = small()
    header, _ = encode_header(KEY, NAMES, 4, 2, b"m" * 16)
    assert parse_segment(header + mine[ends[0] :], KEY, NAMES, 4).damages


def test_foreign_keys_are_untrusted_and_newer_formats_unknown():
    data, _ = small()
    with pytest.raises(UntrustedError, match=KEY.id):
        parse_segment(data, UNSIGNED, NAMES, 4)
    with pytest.raises(UntrustedError, match="not signed"):
        parse_segment(data, Key(KEY.id, b"k" * 32), NAMES, 4)
    newer = bytearray(data[:HEADER_SIZE])
    struct.pack_into("<I", newer, 8, 2)
    struct.pack_into("<I", newer, HEADER_SIZE - 4, crc32(newer[:-4]))
    with pytest.raises(UnknownFormatError, match="version 2"):
        parse_segment(newer + data[HEADER_SIZE:], KEY, NAMES, 4)


def test_limit_hides_what_lies_behind_it():
    data, ends = small()
    assert heads(parse_segment(data, KEY, NAMES, 4, limit=ends[2])) == [0, 1]


@pytest.mark.parametrize(
    ("lsn", "kind", "epoch"), [(lsn_of(4, 0), 2, 2), (lsn_of(5, 0), 2, 2), (lsn_of(4, 1), 9, 2), (lsn_of(4, 1), 2, 3)]
)
def test_signed_nonsense_is_damage(lsn, kind, epoch):
    data, _ = small(1)
    pieces, _ = encode_frames(KEY, data[-32:], epoch, [(lsn, kind, encode_payload({"n": 1}))])
    parsed = parse_segment(data + b"".join(pieces), KEY, NAMES, 4)
    assert heads(parsed) == [0]
    assert len(parsed.damages) == 1


KINDS = st.lists(st.sampled_from([Kind.FENCE, Kind.OPERATION, Kind.CHECKPOINT, Kind.STATUS, Kind.SEAL]), min_size=1, max_size=12)


@given(KINDS, st.booleans(), st.integers(0))
def test_newest_records_are_all_but_what_the_last_checkpoint_makes_old(kinds, reopened, flip):
    header, seed = encode_header(KEY, NAMES, 4, 2, bytes(16))
    status = "reopened" if reopened else "running"
    payloads = [(lsn_of(4, n), int(kind), encode_payload({"status": status, "n": n})) for n, kind in enumerate(kinds)]
    data = bytearray(b"".join([header, *encode_frames(KEY, seed, 2, payloads)[0]]))
    for _ in range(2):
        whole, newest = (parse_segment(data, KEY, NAMES, 4, choose=choice) for choice in (None, newest_only))
        assert (newest.count, newest.good_length, newest.torn, newest.damages) == (
            whole.count, whole.good_length, whole.torn, whole.damages,
        ), "all of it is verified"  # fmt: skip
        last = max((n for n, one in enumerate(whole.records) if one.kind is Kind.CHECKPOINT), default=0)
        old = {one.lsn for one in whole.records[:last] if one.kind in (Kind.CHECKPOINT, Kind.OPERATION)}
        if reopened and Kind.STATUS in [one.kind for one in whole.records]:
            old = set()
        assert newest.records == [one for one in whole.records if one.lsn not in old]
        data[HEADER_SIZE + flip % (len(data) - HEADER_SIZE)] ^= 1
