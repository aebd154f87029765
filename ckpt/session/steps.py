"""Step results: which operation is which, what is recorded, and what a re-execution gets back.

The identity of an operation is (loop path, name, explicit key or digest of the arguments, occurrence): the same in
every attempt, whatever other threads do in between.
"""

from __future__ import annotations

import hashlib
import math
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ckpt.errors import CorruptionError
from ckpt.session.callee import Callee, Calls, note_call
from ckpt.session.node import Node, Results

_ENTRY = struct.Struct("<16sQ")


def identity_of(active: list[Node], callee: Callee, argument_digest: bytes, *, in_order: bool) -> bytes:
    """16 bytes that name this call within the run. Counts the occurrence: call once per call of the step.

    ``in_order``: the call is made by the job's own thread. IdentityError if it cannot be told from another one.
    """
    innermost = active[-1]
    fetching = innermost.fetching
    gap = (innermost.index, innermost.entries) if fetching is None else (-1, fetching)
    if innermost.gap != gap:
        innermost.gap = gap
        innermost.occurrences = {}
    calls = innermost.occurrences.setdefault((callee.identity, argument_digest), Calls())
    occurrence = note_call(calls, callee, in_order=in_order)
    place = f"{scope_of(active)}|{innermost.entries}"
    if fetching is not None:
        place = f"{scope_of(active[:-1])}|{innermost.site}[{innermost.entry}]<{fetching}"
    return hashlib.blake2b(f"{place}|{callee.identity}|{occurrence}|".encode() + argument_digest, digest_size=16).digest()


def scope_of(active: list[Node]) -> str:
    """``simulate#0[0]@41/...``: the loops that a call is in, with entry and position (or the item's key)."""
    parts = []
    for node in active[1:]:
        position = node.item_key.hex() if node.item_key else str(node.index)
        parts.append(f"{node.site}[{node.entry}]@{position}")
    return "/".join(parts)


def encode_results(results: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """An index (identity and length of each) and the results, as parts of a snapshot."""
    pairs = list(results)
    index = b"".join(_ENTRY.pack(identity, len(data)) for identity, data in pairs)
    return [index, *(data for _, data in pairs)]


def decode_results(parts: list[Any], path: str) -> Results:
    """The inverse of ``encode_results``. CorruptionError if index and parts do not fit."""
    index = bytes(parts[0])
    entries = list(_ENTRY.iter_unpack(index)) if len(index) % _ENTRY.size == 0 else []
    if len(entries) != len(parts) - 1 or len(index) % _ENTRY.size:
        raise CorruptionError("the index of the recorded results does not fit them", path=path)
    return {identity: bytes(data) for (identity, _), data in zip(entries, parts[1:], strict=True)}


def _home(node: Node) -> Results:
    return node.open if node.fetching is None else node.fetched


class Recorded:
    """The results that re-execution may still ask for. Thread-safe."""

    def __init__(self, results: Results) -> None:
        self._left = results
        self.lock = threading.Lock()
        self.journals: dict[bytes, Callable[[], float]] = {}
        """For each map, by its identity: the LSN of the first record of it that a re-execution may ask for."""
        self.checkpointed: Callable[[], None] = lambda: None
        """To be called, in the background, when a checkpoint is durable and what is old was let go of."""

    def take(self, identity: bytes, node: Node) -> bytes | None:
        """The recorded result; from now on it belongs to the iteration of ``node``."""
        with self.lock:
            data = self._left.pop(identity, None)
            if data is not None:
                _home(node)[identity] = data
            return data

    def add(self, identity: bytes, data: bytes, node: Node) -> None:
        """A step was executed. Called *before* the log append: a checkpoint that covers the record has the result."""
        with self.lock:
            _home(node)[identity] = data

    def remove(self, identity: bytes, node: Node) -> None:
        """The append failed: the step has no result."""
        with self.lock:
            _home(node).pop(identity, None)

    def first_needed(self, root: Node) -> float:
        """The LSN of the first record of a map that a resume from here can ask for; inf for none."""
        if not self.journals:
            return math.inf
        with self.lock:
            held = [self._left, *root.all_results()]
            for identity in [one for one in self.journals if not any(one in results for results in held)]:
                del self.journals[identity]
            return min((first() for first in self.journals.values()), default=math.inf)

    def snapshot(self, root: Node) -> list[tuple[bytes, bytes]]:
        """Everything that a resume from here can ask for."""
        with self.lock:
            found: Results = {}
            for results in root.all_results():
                found.update(results)
            found.update(self._left)
            return list(found.items())
