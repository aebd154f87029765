"""Decoders are given bytes that nobody wrote: mutations of right ones, checksums made right again, and plain noise.

Only the errors that a decoder documents may come out, within bounded memory and time.
"""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckpt.codecs.compression import compress_if_worth, decompress
from ckpt.errors import CorruptionError, OptionError, UnknownFormatError, UntrustedError
from ckpt.format.floor import Floor, decode_floor, encode_floor
from ckpt.format.keys import Key
from ckpt.format.names import RunNames, parse_job
from ckpt.format.path import path_from_json
from ckpt.format.records import Kind, decode_payload, encode_payload, lsn_of
from ckpt.format.segment import HEADER_SIZE, encode_frames, encode_header, parse_segment
from ckpt.holder import Holder
from ckpt.log.seals import Seal, parse_seal_head, seal_head
from ckpt.session.steps import decode_results, encode_results
from ckpt.snapshot import layout
from ckpt.snapshot.layout import Chunk, Manifest, Place
from ckpt.snapshot.reference import Inline, Packed, SnapshotRef
from proofs.common import main, no_hang, say

KEY = Key.from_secret(bytes(range(32)))
NAMES = RunNames("job", "run")
PACKS = ("job/run/pack/1-0.pack", "job/run/pack/1-1.pack")
MOST_BYTES = 8 << 20
"""What a decoder may allocate for an input of a few hundred bytes."""
MEASURE_EACH = 16
"""Measuring memory takes long: it is done for one case of so many."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """``read`` may raise ``errors`` only; ``right`` are inputs that it takes; ``mend`` makes checksums right again."""

    name: str
    read: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    right: tuple[bytes, ...]
    mend: Callable[[bytes], bytes] = bytes


def _segment() -> bytes:
    header, seed = encode_header(KEY, NAMES, 3, 2, b"n" * 16)
    head = {"id": "00", "sealed": [], "floor": 1}
    records = [(lsn_of(3, index), kind, encode_payload(head, [b"value"])) for index, kind in enumerate(Kind)]
    return header + b"".join(encode_frames(KEY, seed, 2, records)[0])


def _mend_segment(data: bytes) -> bytes:
    """The CRC of the first frame's head, or of the header, made right again."""
    changed = bytearray(data)
    if len(changed) >= HEADER_SIZE + 24:
        changed[HEADER_SIZE + 20 : HEADER_SIZE + 24] = struct.pack("<I", zlib.crc32(changed[HEADER_SIZE : HEADER_SIZE + 20]))
        changed[HEADER_SIZE - 4 : HEADER_SIZE] = struct.pack("<I", zlib.crc32(changed[: HEADER_SIZE - 4]))
    return bytes(changed)


def _mend_reference(data: bytes) -> bytes:
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def _path(data: bytes) -> Any:
    return path_from_json(json.loads(data))


def _seal(data: bytes) -> Any:
    return parse_seal_head(json.loads(data))


def _results(data: bytes) -> Any:
    return decode_results([data, b"one", b"two"], "results")


def _compressed(data: bytes) -> Any:
    return decompress(int.from_bytes(data[:2], "little"), data[2:], 5000)


def _name(data: bytes) -> Any:
    text = data.decode("utf-8", "surrogateescape")
    return parse_job(text), NAMES.parse_pack(text), NAMES.parse_segment(text), RunNames.parse(text)


def decoders() -> list[Decoder]:
    chunk = Chunk(b"c" * 32, Place(PACKS[0], 48, 10, 1))
    manifest = layout.encode_manifest(Manifest((10, 0), (chunk,)), PACKS)
    inline = SnapshotRef(5, 9, Inline((2, 3), 0, b"hello", b"d" * 32), KEY.id).encode()
    packed = SnapshotRef(10, 99, Packed(PACKS, 48, len(manifest), b"m" * 32, False), KEY.id).encode()
    node: dict[str, Any] = dict.fromkeys(
        ("site", "label", "line", "status", "entry", "arrives", "base_index", "index", "state", "length", "base_item",
         "item", "kind", "rerun_s", "forgot", "depth"), 0)  # fmt: skip
    path = json.dumps([node, {**node, "depth": 1}]).encode()
    seal = json.dumps(seal_head([Seal(1, 200, 2, b"s" * 32)], 1, 2.0)).encode()
    holder = json.dumps({"host": "h", "pid": 7, "boot_id": "b", "process_start": "1", "started": 2.5}).encode()
    codec, stored = compress_if_worth(b"x" * 5000)
    payload = encode_payload({"a": [1, {"b": None}]}, [b"one", b"two"])
    floor = encode_floor(KEY, NAMES, Floor(3, 2))
    refused = (UntrustedError, UnknownFormatError)
    return [
        Decoder("segment", lambda data: parse_segment(data, KEY, NAMES, 3), refused, (_segment(),), _mend_segment),
        Decoder("payload of a record", decode_payload, (ValueError,), (payload,)),
        Decoder("floor", lambda data: decode_floor(data, KEY, NAMES), (UnknownFormatError,), (floor,)),
        Decoder("snapshot reference", SnapshotRef.decode, (CorruptionError, UnknownFormatError), (inline, packed),
                _mend_reference),
        Decoder("manifest", lambda data: layout.decode_manifest(data, PACKS), (ValueError,), (manifest,)),
        Decoder("compressed chunk", _compressed, (ValueError,), (codec.to_bytes(2, "little") + bytes(stored),)),
        Decoder("path", _path, (KeyError, TypeError, ValueError, RecursionError), (path,)),
        Decoder("SEAL", _seal, (ValueError, RecursionError), (seal,)),
        Decoder("recorded results", _results, (CorruptionError,),
                tuple(encode_results([(b"i" * 16, b"one"), (b"j" * 16, b"two")])[:1])),
        Decoder("holder of a lease", Holder.parse, (), (holder,)),
        Decoder("name of a key", _name, (OptionError,), (b"job%2F/run", PACKS[0].encode(), NAMES.segment(7).encode())),
    ]  # fmt: skip


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Bits, bytes, numbers and blocks of ``data`` changed."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(changed) + 1)
        choice = rng.randrange(7)
        if choice == 0 and changed:
            changed[at % len(changed)] ^= 1 << rng.randrange(8)
        elif choice == 1:
            changed[at : at + 4] = rng.choice((0, 1, 2**31, 2**32 - 1, len(data))).to_bytes(4, "little")
        elif choice == 2:
            del changed[at : at + rng.randrange(40)]
        elif choice == 3:
            changed[at:at] = changed[: rng.randrange(40)]
        elif choice == 4:
            changed[at : at + 8] = rng.randbytes(8)
        elif choice == 5:
            changed[at:at] = rng.choice((b"[", b"{\"a\":")) * rng.choice((1, 3, 4000))
        else:
            words = (b"1e999", b"-1", b"null", b"[]", b'"\\ud800"', b"NaN", b"9" * 30, b"9" * 5000, b"%", b"\0")
            changed[at : at + rng.randrange(6)] = rng.choice(words)
    return bytes(changed)


def attack(decoder: Decoder, rng: random.Random, *, measure: bool) -> str:
    """One input; how it ended. AssertionError for an error that is not documented, too much memory, or a hang."""
    base = rng.choice(decoder.right)
    data = rng.randbytes(rng.randrange(400)) if rng.random() < 0.05 else mutated(rng, base)
    if rng.random() < 0.7:
        data = decoder.mend(data)
    if measure:
        tracemalloc.start()
    try:
        with no_hang():
            decoder.read(data)
        ended = "taken"
    except decoder.errors as error:
        ended = type(error).__name__
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{decoder.name}: {type(error).__name__}: {error} for {data[:3000]!r}") from error
    finally:
        peak = tracemalloc.get_traced_memory()[1] if measure else 0
        tracemalloc.stop()
    assert peak < MOST_BYTES, f"{decoder.name}: {peak} bytes for {data!r}"
    return ended


def run(cycles: int, seed: int) -> str:
    """``cycles`` inputs, in turn to every decoder."""
    rng, counts = random.Random(seed), Counter[str]()
    every = decoders()
    for decoder in every:
        for right in decoder.right:
            decoder.read(right)
    for number in range(cycles):
        decoder = every[number % len(every)]
        counts[f"{decoder.name}: {attack(decoder, rng, measure=number % MEASURE_EACH < len(every))}"] += 1
        if number % 1000 == 0:
            say(f"{number} of {cycles}")
    shown = "\n".join(f"  {count:7}  {how}" for how, count in sorted(counts.items()))
    return f"{cycles} inputs for {len(every)} decoders: documented errors only (seed {seed})\n{shown}"


if __name__ == "__main__":
    main(run, 100_000, __doc__.splitlines()[0])
