"""A run that says what it records, one fact after the other, and what recovery must find of it. For crashes of any kind.

A fact is an operation, a checkpoint or the end of the run, numbered from 1. What recovery finds reaches up to some fact:
at least the last one that was acknowledged, with nothing missing in front of it, and with the very values.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unit.runs import Writing

from ckpt.errors import RunNotFoundError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.retention import Retention
from proofs.common import recover

NAMES = RunNames("sim", "aaaa")
LARGE = 17_000
"""Bytes of a state that lies in a pack."""

Ack = Callable[[int], None]
"""Told the number of each fact as soon as it is durable."""


class Playing:
    """Attempts at one run, one after the other, with the retention of a real one. ``fact`` is the number of the last fact."""

    def __init__(self, url: Path, ack: Ack, fact: int = 0) -> None:
        self.url, self.ack, self.fact = url, ack, fact
        self.begin()

    def begin(self) -> None:
        """Take the run over, as the next attempt."""
        self.writing = Writing.start(self.url)
        self.retention = Retention(self.writing.root.storage, NAMES, self.writing.log, self.writing.snapshots, keep=1,
                                   running={"status": "running", "host": "h", "pid": 1, "started": 1.0})  # fmt: skip

    def operation(self) -> None:
        self.fact += 1
        head = {"id": f"{self.fact:032x}", "step": "fetch", "where": "", "seconds": 0.1, "outcome": "ok", "bytes": 1}
        self.writing.log.append(Kind.OPERATION, head, [b"value %d" % self.fact])
        self.ack(self.fact)

    def checkpoint(self, nbytes: int) -> None:
        self.fact += 1
        self.writing.number = self.fact - 1  # the checkpoint is numbered, and its state filled, by its fact
        covers = self.writing.log.position
        ref = self.writing.checkpoint(self.fact, nbytes=nbytes)
        self.ack(self.fact)
        self.retention.committed(self.writing.log.position, covers, ref.packs)

    def rotate(self) -> None:
        self.writing.log.rotate()

    def finish(self) -> None:
        self.fact += 1
        self.writing.number = self.fact
        self.writing.status("finished")
        self.ack(self.fact)
        self.retention.finished(self.writing.log.position, frozenset())

    def end(self) -> None:
        self.writing.end()

    def die(self) -> None:
        """As a killed process: nothing is said, but the kernel closes its files."""
        self.writing.log._tail.close()
        self.writing.lease.release()


def play(url: Path, ack: Ack, rounds: int = 1) -> None:
    """All commit paths: a store made, a takeover, appends, packs, a rotation with a trim and a sweep, another attempt, the end."""
    playing = Playing(url, ack)
    playing.checkpoint(100)
    for _ in range(rounds):
        playing.operation()
        playing.operation()
        playing.checkpoint(LARGE)
        playing.operation()
        playing.rotate()
        playing.checkpoint(LARGE)
        playing.operation()
        playing.end()
        playing.begin()
        playing.operation()
        playing.checkpoint(LARGE)
    playing.finish()
    playing.end()


def check(store: Path, acknowledged: int, written: int) -> int:
    """The fact that recovery reaches in ``store``. Between ``acknowledged`` and ``written``, or AssertionError."""
    try:
        found = recover(store, NAMES)
    except RunNotFoundError:
        found = ("start", [])
    if found[0] == "result":
        reach = found[1][1][0]
        assert found[1][1] == bytes([reach]) * 24, "the result is not what was recorded"
        assert acknowledged <= reach <= written, f"the result is that of fact {reach} of {written}"
        return int(reach)
    reach, operations = 0, found[-1]
    if found[0] == "checkpoint":
        _, reach, (state, results), _ = found
        assert state[1] == bytes([reach % 256]) * len(state[1]), f"the state of checkpoint {reach} is another one's"
        assert len(state[1]) in (100, LARGE)
        assert results[1] == b""
    for identity, value in operations:
        reach = int.from_bytes(identity, "big") if not reach or int.from_bytes(identity, "big") == reach + 1 else -1
        assert value == b"value %d" % reach, f"{value!r} in the place of the result of fact {reach}"
    assert acknowledged <= reach <= written, f"recovery reaches fact {reach}; acknowledged were {acknowledged} of {written}"
    return reach
