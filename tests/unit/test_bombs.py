"""What a stranger can write never makes the reader allocate much, hang, or fail in an untyped way."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.snapshot_doubles import KEY, NAMES, fresh_storage, noise

from ckpt.errors import CkptError
from ckpt.format.cipher import decrypt_record
from ckpt.format.floor import Floor, decode_floor, encode_floor
from ckpt.format.names import RunNames
from ckpt.format.records import decode_payload, encode_payload, lsn_of
from ckpt.format.segment import encode_frames, encode_header, origin_of, parse_segment
from ckpt.holder import Holder
from ckpt.log.seals import parse_seal_head
from ckpt.snapshot import SnapshotRef, SnapshotWriter, layout
from ckpt.staging import Stager

BOMBS = '''
import resource, struct, sys, zstandard
from ckpt.codecs.compression import ZSTD, compress_if_worth, decompress
from ckpt.errors import CkptError
from ckpt.format.keys import Key
from ckpt.format.names import RunNames
from ckpt.format.records import decode_payload
from ckpt.format.segment import encode_header, parse_segment
from ckpt.snapshot import SnapshotRef, read_snapshot
from ckpt.snapshot.layout import decode_manifest
from ckpt.storage.memory import MemoryStorage
import ckpt.snapshot.reader, zlib

key, names = Key.from_secret(b"k" * 32), RunNames("a", "b")
size = 1 << 32  # of zeros, in a frame of some 400 KiB
stream = zstandard.ZstdCompressor(level=1).compressobj()
pieces = [stream.compress(bytes(1 << 20)) for _ in range(size >> 20)] + [stream.flush()]
unstated = b"".join(pieces)
one = compress_if_worth(bytes(1 << 20))[1]

def forged(stated):  # header of a frame that states `stated` bytes (8-byte field), in front of the endless blocks
    return b"\\x28\\xb5\\x2f\\xfd" + bytes([0xE0]) + struct.pack("<Q", stated) + unstated[6:]

limit = 1 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
def refused(what, function, *arguments):
    try:
        function(*arguments)
    except (ValueError, CkptError) as error:
        print("refused", what, type(error).__name__)
    else:
        sys.exit(f"{what}: not refused")

for stated in (1 << 20, 0, size, 1 << 62):
    refused(f"frame of {stated}", decompress, ZSTD, forged(stated), 1 << 20)
refused("unstated", decompress, ZSTD, unstated, 1 << 20)
refused("more behind", decompress, ZSTD, bytes(one) + bytes(one), 1 << 20)
refused("small", decompress, ZSTD, bytes(one), 1 << 40)
refused("payload head", decode_payload, struct.pack("<I", 0xFFFFFFFF) + b"{}" + bytes(100))
refused("payload table", decode_payload, struct.pack("<I", 2) + b"{}" + struct.pack("<I", 0xFFFFFFFF) + bytes(100))
refused("manifest", decode_manifest, struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF), ("p",))
body = struct.pack("<BBQQ16s", 1, 0, 1 << 60, 0, key.id.encode()) + bytes(32)
body += struct.pack("<HI", 1, 3) + struct.pack("<III", *[0xFFFFFFFF] * 3) + unstated
ref = SnapshotRef.decode(body + struct.pack("<I", zlib.crc32(body)))
refused("inline", read_snapshot, ref, MemoryStorage("x"), names, key)
header, _ = encode_header(key, names, 1, 1, bytes(16))
frame = struct.pack("<IB3xIQ", 0xFFFFFFF0, 1, 1, 1 << 32)
segment = header + frame + struct.pack("<I", zlib.crc32(frame)) + bytes(100)
assert not parse_segment(segment, key, names, 1).records
# Not ru_maxrss: a child begins with the peak of the process that forked it.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("peak", int(peak.split()[1]) >> 10, "MiB")
'''


def test_bombs_are_refused_in_little_memory() -> None:
    result = subprocess.run([sys.executable, "-c", BOMBS], check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("refused") == 11
    assert int(result.stdout.split()[-2]) < 300


def made() -> dict[str, tuple[bytes, Any]]:
    """Good bytes of each kind, and what reads them."""
    storage = fresh_storage()
    inline, packed = (
        SnapshotWriter(storage, NAMES, KEY, 1, inline_limit=limit).write(Stager().stage(b"s", [noise(1, 3000)]))
        for limit in (9000, 0)
    )
    header, seed = encode_header(KEY, NAMES, 4, 2, b"n" * 16)
    payload = encode_payload({"a": [1, {"b": None}]}, [b"xy", b"z" * 90])
    pieces, _ = encode_frames(KEY, seed, 2, [(lsn_of(4, n), 2, payload) for n in range(3)])
    secret = replace(KEY, encrypts=True)
    holder = b'{"host": "h", "pid": 3, "boot_id": "b", "process_start": "1", "started": 1.5}'
    return {
        "payload": (payload, decode_payload),
        "segment": (header + b"".join(pieces), lambda data: parse_segment(data, KEY, NAMES, 4)),
        "origin": (header, origin_of),
        "reference": (inline.encode(), SnapshotRef.decode),
        "packed reference": (packed.encode(), SnapshotRef.decode),
        "manifest": (bytes(8) + bytes(60), lambda data: layout.decode_manifest(bytes(data), ("p",))),
        "pack header": (
            layout.pack_header(KEY, "p", None),
            lambda data: layout.open_header(KEY, "p", bytes(data)),
        ),
        "floor": (encode_floor(KEY, NAMES, Floor(3, 2)), lambda data: decode_floor(bytes(data), KEY, NAMES)),
        "encrypted record": (bytes(70), lambda data: decrypt_record(secret, "p", data)),
        "holder": (holder, Holder.parse),
        "address": (b"job/run", lambda data: RunNames.parse(data.decode("latin-1"))),
    }


MADE = made()


@pytest.mark.parametrize("kind", sorted(MADE))
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_decoders_read_or_refuse_anything_in_a_typed_way(kind: str, data: st.DataObject) -> None:
    good, decode = MADE[kind]
    rng = random.Random(data.draw(st.integers(0, 2**32), label="seed"))
    changed = bytearray(good)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(changed) + 1)
        how = rng.randrange(4)
        if how == 0 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif how == 1:
            changed[at:at] = rng.choice([b"\xff" * 4, b"\0" * 8, rng.randbytes(5), b"[" * 3000, b"9" * 5000])
        elif how == 2:
            del changed[at : at + rng.randrange(9)]
        else:
            changed[at : at + 4] = b"\xff\xff\xff\x7f"
    try:
        decode(bytes(changed))
    except (CkptError, ValueError):
        pass


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)))
@settings(max_examples=200, deadline=None)
def test_seals_of_any_shape_are_read_or_refused(content: Any) -> None:
    for head in ({"sealed": content, "floor": 1}, {"sealed": [content], "floor": content}):
        try:
            parse_seal_head(head)
        except ValueError:
            pass
