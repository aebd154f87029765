"""Encryption at rest: nothing in clear, nothing that moves decrypts, no salt twice; and who is told what."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from unit.snapshot_doubles import CHUNK, KEY, NAMES, fresh_storage, noise

from ckpt import host
from ckpt.errors import CorruptionError, OptionError, UnknownFormatError, UntrustedError
from ckpt.format.cipher import Cipher, decrypt_record, encrypt_record
from ckpt.format.keys import Key
from ckpt.format.names import RunNames
from ckpt.format.records import Kind, encode_payload, lsn_of
from ckpt.format.segment import encode_frames, encode_header, parse_segment, stored_payload
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotRef, SnapshotWriter, layout, read_snapshot
from ckpt.snapshot.reference import Packed
from ckpt.staging import Stager
from ckpt.storage.memory import MemoryStorage

SECRET = replace(KEY, encrypts=True)
MARK = b"the patient's name is Smith. "
PARTS = [b"skeleton " + MARK, MARK * 3000, noise(1, 3 * CHUNK + 5), b"", MARK + noise(2, 70_000), noise(1, 3 * CHUNK + 5)]


def stored(storage: MemoryStorage) -> bytes:
    return b"".join(storage.get(key) for key in storage.list(""))


def test_parts_come_back_and_nothing_of_them_is_in_the_packs() -> None:
    storage = fresh_storage()
    ref = SnapshotWriter(storage, NAMES, SECRET, 1).write(Stager().stage(PARTS[0], PARTS[1:]))
    assert read_snapshot(SnapshotRef.decode(ref.encode()), storage, NAMES, SECRET) == PARTS
    data = stored(storage)
    for start in range(0, CHUNK, CHUNK // 16):
        assert PARTS[2][start : start + 32] not in data
    assert MARK not in data
    assert layout.chunk_digest(SECRET, PARTS[2][:CHUNK]) not in data


def test_what_did_not_change_is_stored_once_across_snapshots_and_attempts() -> None:
    storage = fresh_storage()
    writer = SnapshotWriter(storage, NAMES, SECRET, 1)
    first = writer.write(Stager().stage(PARTS[0], PARTS[1:]))
    second = writer.write(Stager().stage(PARTS[0], [*PARTS[1:], noise(9, 1000)]))
    later = SnapshotWriter(storage, NAMES, SECRET, 2)
    later.adopt([second])
    third = later.write(Stager().stage(PARTS[0], [*PARTS[1:], noise(8, 1000)]))
    assert first.stored_nbytes > 3 * CHUNK
    assert max(second.stored_nbytes, third.stored_nbytes) < 10_000
    assert read_snapshot(third, storage, NAMES, SECRET) == [*PARTS, noise(8, 1000)]


def test_equal_states_of_two_snapshots_look_different() -> None:
    bodies = []
    for epoch in (1, 2):
        storage = fresh_storage()
        SnapshotWriter(storage, NAMES, SECRET, epoch).write(Stager().stage(PARTS[0], PARTS[1:]))
        bodies.append(stored(storage)[layout.HEADER_SIZE :])
    blocks = [{body[at : at + 16] for at in range(0, len(body), 16)} for body in bodies]
    assert not blocks[0] & blocks[1]


def test_every_pack_and_every_record_has_fresh_salts() -> None:
    drawn: list[bytes] = []

    def entropy(size: int) -> bytes:
        drawn.append(host.entropy(size))
        return drawn[-1]

    writer = SnapshotWriter(fresh_storage(), NAMES, SECRET, 1, entropy=entropy, inline_limit=0)
    for n in range(5):
        writer.write(Stager().stage(b"x", [noise(n, 3000)]))
    payload = encode_payload({"n": 1})
    same = {stored_payload(SECRET, NAMES, Kind.STATUS, payload, entropy) for _ in range(5)}
    assert len(same) == len({text[:32] for text in same}) == 5
    assert len(set(drawn)) == len(drawn) == 10


def test_pieces_of_a_pack_have_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[int, int]] = []
    real = Cipher.encrypt
    monkeypatch.setattr(Cipher, "encrypt", lambda self, n, data: used.append((id(self), n)) or real(self, n, data))
    writer = SnapshotWriter(fresh_storage(), NAMES, SECRET, 1)
    writer.write(Stager().stage(PARTS[0], PARTS[1:]))
    assert len(used) == len(set(used)) >= 6
    assert len({cipher for cipher, _ in used}) == 1


def test_what_was_moved_does_not_decrypt() -> None:
    salt = bytes(32)
    boxed = encrypt_record(SECRET, "record 2 of a/b", salt, b"x")
    assert decrypt_record(SECRET, "record 2 of a/b", boxed) == b"x"
    with pytest.raises(ValueError, match="decrypt"):
        decrypt_record(SECRET, "record 2 of a/c", boxed)
    with pytest.raises(ValueError, match="decrypt"):
        decrypt_record(Key(KEY.id, b"z" * 32), "record 2 of a/b", boxed)
    with pytest.raises(ValueError, match="short"):
        decrypt_record(SECRET, "record 2 of a/b", boxed[:47])
    piece = Cipher(SECRET, salt, "pack").encrypt(96, b"chunk")
    for number, place in ((97, "pack"), (96, "another")):
        with pytest.raises(ValueError, match="decrypt"):
            Cipher(SECRET, salt, place).decrypt(number, piece)


def segment(kinds: list[Kind], names: RunNames = NAMES, written: RunNames = NAMES) -> bytes:
    header, seed = encode_header(SECRET, names, 4, 2, b"n" * 16)
    payloads = [
        (lsn_of(4, n), kind, stored_payload(SECRET, written, kind, encode_payload({"n": n}, [MARK]), host.entropy))
        for n, kind in enumerate(kinds)
    ]
    pieces, _ = encode_frames(SECRET, seed, 2, payloads)
    return header + b"".join(pieces)


def test_records_are_encrypted_head_and_all_and_come_back() -> None:
    data = segment([Kind.FENCE, Kind.OPERATION])
    assert MARK not in data
    assert b'"n"' not in data
    parsed = parse_segment(data, KEY, NAMES, 4)  # the reader needs no flag: the header has it
    assert [(r.head, bytes(r.sections[0])) for r in parsed.records] == [({"n": 0}, MARK), ({"n": 1}, MARK)]


def test_signed_record_that_was_encrypted_for_another_run_is_damage() -> None:
    parsed = parse_segment(segment([Kind.FENCE], written=RunNames("sim", "another")), SECRET, NAMES, 4)
    assert parsed.records == []
    assert "decrypt" in parsed.damages[0].reason


@pytest.mark.parametrize("at", [12, 16, 40, layout.HEADER_SIZE + 3, layout.HEADER_SIZE + CHUNK])
def test_flipped_bit_in_an_encrypted_pack_is_found(at: int) -> None:
    storage = fresh_storage()
    ref = SnapshotWriter(storage, NAMES, SECRET, 1).write(Stager().stage(PARTS[0], PARTS[1:]))
    (pack,) = ref.packs
    data = bytearray(storage.get(pack))
    data[at] ^= 4
    storage.put(pack, [data])
    with pytest.raises(CorruptionError) as caught:
        read_snapshot(ref, storage, NAMES, SECRET)
    assert caught.value.path == pack


def test_pack_that_is_not_encrypted_does_not_pass_for_one_that_is() -> None:
    storage = fresh_storage()
    ref = SnapshotWriter(storage, NAMES, SECRET, 1).write(Stager().stage(PARTS[0], PARTS[1:]))
    SnapshotWriter(storage, NAMES, KEY, 1).write(Stager().stage(PARTS[0], PARTS[1:]))  # under the same name
    with pytest.raises(CorruptionError):
        read_snapshot(ref, storage, NAMES, SECRET)


@pytest.mark.parametrize("key", [KEY, SECRET])
def test_reference_and_pack_have_to_agree_about_encryption(key: Key) -> None:
    storage = fresh_storage()
    ref = SnapshotWriter(storage, NAMES, key, 1).write(Stager().stage(PARTS[0], PARTS[1:]))
    assert isinstance(ref.body, Packed)
    other = replace(ref, body=replace(ref.body, encrypted=not ref.body.encrypted))
    with pytest.raises(CorruptionError, match=r"does not fit|manifest"):
        read_snapshot(other, storage, NAMES, key)


def test_store_is_encrypted_for_good_and_says_so_itself(tmp_path: Path) -> None:
    made = StoreRoot.open(tmp_path / "s", encrypt=True)
    assert json.loads((tmp_path / "s" / "FORMAT").read_text())["encryption"] == "AES-256-GCM"
    assert made.key.encrypts
    assert StoreRoot.open(tmp_path / "s").key == made.key


def test_store_that_is_not_encrypted_is_refused_to_those_who_ask_for_it(tmp_path: Path) -> None:
    StoreRoot.open(tmp_path / "s")
    with pytest.raises(OptionError, match="not encrypted"):
        StoreRoot.open(tmp_path / "s", encrypt=True)
    with pytest.raises(OptionError, match="unsigned"), pytest.warns(UserWarning, match="unsigned"):
        StoreRoot.open(tmp_path / "t", key="0" * 64, unsigned=True, encrypt=True)


def test_format_that_was_changed_makes_nothing_verify(tmp_path: Path) -> None:
    made = StoreRoot.open(tmp_path / "s", encrypt=True)
    format_file = tmp_path / "s" / "FORMAT"
    plain = {"format": 1, "store": made.store_id}
    format_file.write_text(json.dumps(plain))
    with pytest.raises(UntrustedError):
        parse_segment(segment_of(made.key), StoreRoot.open(tmp_path / "s").key, NAMES, 4)
    with pytest.raises(OptionError, match="not encrypted"):
        StoreRoot.open(tmp_path / "s", encrypt=True)
    format_file.write_text(json.dumps({**plain, "encryption": "ROT13"}))
    with pytest.raises(UnknownFormatError, match="ROT13"):
        StoreRoot.open(tmp_path / "s")


def segment_of(key: Key) -> bytes:
    header, seed = encode_header(key, NAMES, 4, 2, b"n" * 16)
    return header + b"".join(encode_frames(key, seed, 2, [(lsn_of(4, 0), Kind.FENCE, encode_payload({}))])[0])


def test_missing_package_is_named_before_a_store_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(OptionError, match="cryptography") as caught:
        StoreRoot.open(tmp_path / "s", encrypt=True)
    assert "ckpt-jobs[encrypt]" in caught.value.fix
    assert not (tmp_path / "s" / "FORMAT").exists()
