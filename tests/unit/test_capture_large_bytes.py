"""Large bytes, bytearrays and array.arrays in a state: buffers of their own, and the same objects as before otherwise."""

from __future__ import annotations

import array
import pickle
import pickletools
import random
from pathlib import Path
from typing import Any

import pytest
from unit.capture_support import check_resumed, through_a_state, tick

import ckpt
from ckpt.capture.graph import Graph
from ckpt.capture.rebuild import Scene
from ckpt.capture.visible import Visible
from ckpt.codecs import lifting

LARGE = 70_000
NOISE = random.Random(3).randbytes(LARGE)


def dumped(value: Any) -> tuple[bytes, list[Any]]:
    return Graph(Visible(), lambda kind: None).dump(value, Scene([], []))


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


class Named(bytes):
    pass


def array_of_bytes(data: bytes) -> Any:
    return array.array("B", data)


DEEP = {
    "itself": lambda value: value,
    "in a list": lambda value: [1, value, 2],
    "deep": lambda value: {"a": [Holder((value,))]},
    "behind small things": lambda value: [list(range(9000)), "x" * 500, value, NOISE[:50], value],
}


@pytest.mark.parametrize("where", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("make", [bytes, bytearray, lambda data: array.array("q", data)], ids=["bytes", "bytearray", "array"])
def test_large_contents_are_no_part_of_the_skeleton(make: Any, where: Any) -> None:
    skeleton, buffers = dumped(where(make(NOISE)))
    assert len(buffers) == 1
    assert buffers[0].raw() == NOISE
    assert NOISE[:64] not in skeleton


def test_contents_are_not_copied_on_their_way_out() -> None:
    for value in (NOISE, bytearray(NOISE), array.array("q", NOISE)):
        _, [buffer] = dumped([value])
        assert memoryview(buffer).obj is value


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("make", [bytes, bytearray, Named, array_of_bytes])
def test_value_and_type_come_back(make: Any, size: int) -> None:
    before = make(random.Random(size).randbytes(size))
    after = through_a_state(Holder([before])).held[0]
    assert type(after) is type(before)
    assert after == before


@pytest.mark.parametrize("code", array.typecodes if hasattr(array, "typecodes") else "bBuhHiIlLqQfd")
def test_every_type_code_of_an_array_comes_back(code: str) -> None:
    before = array.array(code, "ä" * LARGE if code in "uw" else range(100))
    if code not in "uw":
        before *= 1000
    after = through_a_state(before)
    assert (type(after), after.typecode, after) == (array.array, code, before)
    after.append(after[0])  # it can grow, so nothing else holds its memory


@pytest.mark.parametrize("make", [bytes, bytearray, lambda data: array.array("q", data)], ids=["bytes", "bytearray", "array"])
def test_one_object_under_two_names_is_one_object_again(make: Any) -> None:
    one, equal = make(NOISE), make(bytes(bytearray(NOISE)))
    first, [second], third = through_a_state((one, [one], equal))
    assert first is second
    assert first is not third
    assert first == third


def test_bytearray_can_be_changed_and_resized_again() -> None:
    data = bytearray(NOISE)
    first, second = through_a_state([data, bytearray(NOISE)])
    first += b"more"
    first[0] ^= 1
    assert second == data


def test_a_bytearray_can_be_resized_once_its_buffers_are_dropped() -> None:
    data = bytearray(NOISE)
    _, buffers = dumped([data])
    buffers.clear()
    data += b"more"


def test_long_text_stays_in_the_skeleton() -> None:
    text = "ä\ud800" * LARGE
    assert dumped([text, text])[1] == []
    assert through_a_state([text]) == [text]


def test_what_looks_like_an_opcode_of_large_contents_is_none() -> None:
    """Floats and texts whose bytes are those of the opcode, at the ends of frames and all over."""
    lookalike = pickle.BINBYTES + (65_536).to_bytes(4, "little")
    for count in (9_000, 13_107, 20_000):
        value = [lookalike + bytes([n % 256]) for n in range(count)] + [NOISE, lookalike * 20_000, bytearray(lookalike * 20_000)]
        assert through_a_state(value) == value


@pytest.mark.parametrize("seed", range(4))
def test_random_mixtures_come_back(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)

    def some(depth: int) -> Any:
        kind = rng.randrange(8 if depth else 6)
        size = rng.choice([0, 5, 255, 256, 4000, 65_535, 65_536, 65_540, 100_000])
        if kind < 2:
            return rng.choice([bytes, bytearray])(rng.randbytes(size))
        if kind < 6:
            return [rng.random(), "t" * size, rng.randrange(2**70), None][kind - 2]
        return [some(depth - 1) for _ in range(rng.randrange(12))]

    value = [some(3) for _ in range(30)]
    skeleton, buffers = dumped(value)
    assert list(pickletools.genops(skeleton))[-1][0].name == "STOP"  # all of it is opcodes that exist
    assert buffers
    assert through_a_state(value) == value


def test_contents_that_pickle_hands_over_in_another_way_stay_in_the_pickle() -> None:
    """A writer that splits what it writes otherwise: nothing is recognised, and nothing is lost."""
    whole = pickle.dumps([NOISE, bytearray(NOISE)], 5)
    taken: list[Any] = []
    file = lifting.Skeleton(lambda buffer: bool(taken.append(buffer)))
    for at in range(0, len(whole), 1000):
        file.write(whole[at : at + 1000])
    assert (file.getvalue(), taken) == (whole, [])


@ckpt.job
def changing(tail: int) -> Any:
    log = bytearray(NOISE)
    numbers = array.array("q", [0]) * 20_000
    still = NOISE
    held = {"log": log, "numbers": [numbers], "still": still}
    for step in ckpt.loop(range(5)):
        log[step] = step
        log += bytes(tail)
        numbers[step] = step
        tick()
        held["log"][10 + step] = 7
        held["numbers"][0].append(step)
        tick()
    return log, list(numbers), held["log"] is log, held["numbers"][0] is numbers, held["still"] is still


def test_two_names_stay_one_object_and_later_changes_are_not_in_the_checkpoint(tmp_path: Path) -> None:
    check_resumed(changing, tmp_path / "store", lambda: (3,))
