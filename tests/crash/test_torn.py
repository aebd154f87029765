"""A last record torn at any byte is cut off, reported, and the run goes on from what is in front of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash import damage
from crash.harness import ForkHost, Kill

from ckpt.format.keys import Key
from ckpt.format.segment import FRAME_OVERHEAD, HEADER_SIZE


@pytest.fixture
def wreck(fork_host: ForkHost, scratch: Path) -> damage.Wreck:
    return damage.make(fork_host, "small_state", scratch / "made", Kill(tick=4))


def frames(path: Path) -> list[int]:
    """Where the frames of a segment begin, and its end."""
    data, at, starts = path.read_bytes(), HEADER_SIZE, []
    while at < len(data):
        starts.append(at)
        at += FRAME_OVERHEAD + int.from_bytes(data[at : at + 4], "little")
    assert at == len(data), "the segment ends with a whole frame"
    return [*starts, at]


def test_last_record_torn_at_every_byte_is_cut_off_and_the_run_goes_on(wreck: damage.Wreck, scratch: Path) -> None:
    segment = wreck.segments()[-1]
    *_, start, end = frames(wreck.store / segment)
    assert len(frames(wreck.store / segment)) > 3, "the last record is not the first"
    wrong = []
    step = max(1, (end - start) // 120)
    for length in sorted({*range(start, end, step), *range(start, start + 30), *range(end - 30, end)}):
        form = wreck.copy(scratch / "copy")
        with open(form.folder / "store" / segment, "r+b") as file:
            file.truncate(length)
        attempt = form.run(**damage.EVERY)
        if attempt.status != 0 or attempt.result != wreck.expected:
            wrong.append((length - start, attempt))
        elif length > start:
            assert "unfinished" in attempt.err, f"not reported at {length - start}: {attempt.err}"
    assert not wrong, f"{len(wrong)} lengths, the first {wrong[0][0]} of {end - start}: {wrong[0][1].err}"


def test_store_with_a_torn_record_stays_good(wreck: damage.Wreck, scratch: Path) -> None:
    segment = wreck.segments()[-1]
    form = wreck.copy(scratch / "copy")
    path = form.folder / "store" / segment
    with open(path, "r+b") as file:
        file.truncate(frames(path)[-1] - 5)
    assert form.run(**damage.EVERY).result == wreck.expected
    assert form.run(**damage.EVERY).result == wreck.expected, "and the repaired store is a good one"


def test_torn_twice_in_a_row(wreck: damage.Wreck, scratch: Path) -> None:
    form = wreck.copy(scratch / "copy")
    for kill in (2, 2):
        newest = max((form.folder / "store").rglob("*.log"))
        with open(newest, "r+b") as file:
            file.truncate(newest.stat().st_size - 7)
        form.run(Kill(tick=kill), SETTLE_S="0.05", **damage.EVERY)
    attempt = form.run(**damage.EVERY)
    assert attempt.result == wreck.expected, attempt.err


def test_store_has_a_key_that_only_its_owner_reads(wreck: damage.Wreck) -> None:
    key = wreck.store / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert Key.parse(key.read_text())
