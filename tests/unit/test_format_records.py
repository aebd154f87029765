"""Keys, names and payloads: what is written is what is read, and nothing else is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.errors import OptionError
from ckpt.format.floor import Floor, decode_floor, encode_floor
from ckpt.format.keys import UNSIGNED, Key, digest
from ckpt.format.names import RunNames, check_name, is_run_id, pack_made_as, pack_origin, parse_job, quote_job
from ckpt.format.records import decode_payload, encode_payload, lsn_of, lsn_slot, lsn_text
from ckpt.format.segment import Damage

KEY = Key.from_secret(bytes(range(32)))
HEADS = st.dictionaries(
    st.text(max_size=8), st.none() | st.integers() | st.text() | st.lists(st.booleans()), max_size=5
)


def test_key_survives_its_text_and_never_shows_its_secret():
    key = Key.generate(lambda length: bytes(range(7, 7 + length)))
    assert Key.parse(key.to_text() + "\n") == key
    assert key.to_text() not in repr(key)
    assert key.secret.hex() not in str(key)
    assert len(key.id) == 16
    assert Key.parse(UNSIGNED.to_text()) == UNSIGNED


@pytest.mark.parametrize("text", ["", "secret", "ab" * 31, "ab" * 33, "zz" * 32])
def test_text_that_is_no_key_is_refused_without_repeating_it(text):
    with pytest.raises(OptionError) as caught:
        Key.parse(text)
    assert not text or text not in str(caught.value)


def test_digest_depends_on_key_and_content_and_not_on_the_cut():
    assert digest(KEY, b"ab", b"c") == digest(KEY, memoryview(b"abc")) != digest(UNSIGNED, b"abc")
    assert digest(KEY, b"abc") != digest(KEY, b"abd")
    assert KEY.derive("floor") not in (KEY.derive("record chain"), KEY.secret)


@given(st.text(min_size=1, max_size=30))
def test_any_job_name_becomes_one_safe_path_element_and_back(job):
    try:
        element = quote_job(job)
    except OptionError:
        assert len(job.encode("utf-8", "surrogatepass")) > 60 or any("\ud800" <= c <= "\udfff" for c in job)
        return
    assert element.isascii()
    assert "/" not in element
    assert not element.startswith(".")
    assert element.lower() not in ("format", "key")
    assert parse_job(element) == job
    names = RunNames(job, "r-1")
    assert RunNames.parse(names.address) == names
    assert names.parse_segment(names.segment(12)) == 12
    assert names.parse_pack(names.pack(3, 45)) == (3, 45)
    fork, again = RunNames(job, "fork.1"), RunNames(job, "pack")
    shared = fork.shared_pack(names.pack(3, 45))
    assert fork.parse_pack(shared) == (0, 45), "older than every attempt at the fork"
    assert names.parse_pack(shared) is None
    assert again.shared_pack(shared) == again.shared_pack(names.pack(3, 45)) != shared
    assert {pack_made_as(one) for one in (shared, again.shared_pack(shared), names.pack(3, 45))} == {names.pack(3, 45)}
    assert pack_origin(again.shared_pack(shared)) == "r-1"


@pytest.mark.parametrize("job", ["", "x" * 201, "ä" * 40, "\ud800"])
def test_job_name_that_fits_no_file_name_is_refused(job):
    with pytest.raises(OptionError):
        quote_job(job)


@pytest.mark.parametrize("element", ["FORMAT", "key", "%41", ".hidden", "a b", "%zz", "%2e%2e", "..", "%ff"])
def test_folder_that_no_job_has_is_none(element):
    assert parse_job(element) is None


@pytest.mark.parametrize("text", ["", "..", ".a", "a/b", "a b", "ä", "x" * 201, "a\n"])
def test_bad_run_id_is_refused(text):
    with pytest.raises(OptionError):
        check_name(text)
    assert not is_run_id(text)
    with pytest.raises(OptionError):
        RunNames("job", text)


def test_keys_of_other_runs_and_other_shapes_are_not_parsed():
    names = RunNames("job", "r1")
    assert names.segment(1) == "job/r1/log/00000000000000000001.log"
    assert names.parse_segment(RunNames("job", "r2").segment(1)) is None
    for key in ("job/r1/log/1.log", names.segment(1) + ".torn", names.floor, names.pack(1, 1)):
        assert names.parse_segment(key) is None
    odd = ["01-1.pack", "1.pack", "1-2@.pack", "1-2@a@b.pack", "1-2@../x.pack", "1-2@.a.pack", f"1-2@{'a' * 201}.pack", "@a.pack", "1-2@a"]
    for key in (*(f"job/r1/pack/{name}" for name in odd), names.segment(1)):
        assert names.parse_pack(key) is None
        with pytest.raises(ValueError, match="no key of a pack"):
            pack_made_as(key)
    with pytest.raises(OptionError):
        RunNames.parse("no-slash")


def test_lsn_orders_by_slot_then_index():
    assert lsn_of(1, 2**32 - 1) < lsn_of(2, 0)
    assert lsn_slot(lsn_of(42, 7)) == 42
    assert lsn_text(lsn_of(42, 7)) == "42.7"


@given(HEADS, st.lists(st.binary(max_size=40), max_size=4))
def test_payload_comes_back(head, sections):
    decoded, views = decode_payload(encode_payload(head, sections))
    assert decoded == head
    assert [bytes(view) for view in views] == sections


def test_payload_has_one_form():
    assert encode_payload({"b": 1, "a": "ü"}, [memoryview(b"xy")]) == (
        b"\x14\0\0\0" + b'{"a":"\\u00fc","b":1}' + b"\1\0\0\0" + b"\2\0\0\0" + b"xy"
    )
    import array

    lengths = [view.nbytes for view in decode_payload(encode_payload({}, [array.array("i", [1]), array.array("i")]))[1]]
    assert lengths == [4, 0]


@pytest.mark.parametrize("head", [{"x": b"bytes"}, {"x": float("nan")}, {1.5: {}, "a": set()}])
def test_head_that_is_no_json_is_refused(head):
    with pytest.raises(OptionError):
        encode_payload(head)


@given(HEADS, st.lists(st.binary(max_size=10), max_size=3), st.data())
def test_cut_or_extended_payload_is_a_value_error(head, sections, data):
    payload = encode_payload(head, sections)
    cut = data.draw(st.integers(0, len(payload) - 1))
    for bad in (payload[:cut], payload + b"\0"):
        with pytest.raises(ValueError):  # noqa: PT011 - any
            decode_payload(bad)


def test_payload_with_an_absurd_count_is_refused_cheaply():
    with pytest.raises(ValueError, match="table"):
        decode_payload(b"\2\0\0\0{}" + b"\xff" * 4)


def test_floor_comes_back_and_no_changed_bit_does():
    names = RunNames("job", "r1")
    data = encode_floor(KEY, names, Floor(9, 3))
    assert decode_floor(data, KEY, names) == Floor(9, 3)
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert isinstance(decode_floor(bytes(changed), KEY, names), Damage)
    for cut in range(len(data)):
        assert isinstance(decode_floor(data[:cut], KEY, names), Damage)
    assert isinstance(decode_floor(data, KEY, RunNames("job", "r2")), Damage)
    assert isinstance(decode_floor(data, UNSIGNED, names), Damage)
