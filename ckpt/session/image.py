"""Images of operation-logged objects: all their contents at one position of their history, as parts of a snapshot.

An image is taken in two steps: a shallow copy by the job's thread (values cannot change, so that is a consistent one),
and its pickling, block by block, beside the job. Layout: part 0 is the pickled index, a list of (name, class, number of
blocks); the blocks follow, each a pickle. Blocks of a dict are lists of (key, value), those of a list are lists.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ckpt.errors import CorruptionError
from ckpt.session.containers import LoggedDict, LoggedList

BLOCK = 2000
"""Entries that are pickled at once: it takes about a millisecond, in which no other thread runs."""


@dataclass(frozen=True, slots=True)
class Imaged:
    """One object in an image: its class as the log names it, and its contents (what its ``fill`` takes)."""

    kind: str
    contents: Any


def encode(objects: Mapping[str, Imaged]) -> list[bytes]:
    """The parts of an image. Slow for large objects: not for the job's thread."""
    index, blocks = [], []
    for name, one in objects.items():
        own = [pickle.dumps(block, protocol=5) for block in _blocks(one)]
        index.append((name, one.kind, len(own)))
        blocks += own
    return [pickle.dumps(index, protocol=5), *blocks]


def _blocks(one: Imaged) -> Iterator[Any]:
    if one.kind not in (LoggedDict.kind, LoggedList.kind):
        yield one.contents
        return
    entries = iter(one.contents.items() if one.kind == LoggedDict.kind else one.contents)
    while block := list(itertools.islice(entries, BLOCK)):
        yield block


def decode(parts: list[Any], path: str) -> dict[str, Imaged]:
    """The inverse of ``encode``; only for parts that were verified. CorruptionError if index and blocks do not fit."""
    index = pickle.loads(parts[0])
    if sum(count for _, _, count in index) != len(parts) - 1:
        raise CorruptionError("the index of an image does not fit its blocks", path=path)
    blocks = iter(parts[1:])
    return {name: Imaged(kind, _joined(kind, itertools.islice(blocks, count))) for name, kind, count in index}


def _joined(kind: str, blocks: Iterator[Any]) -> Any:
    if kind == LoggedDict.kind:
        found: dict[Any, Any] = {}
        for block in blocks:
            found.update(pickle.loads(block))
        return found
    if kind == LoggedList.kind:
        return [item for block in blocks for item in pickle.loads(block)]
    return pickle.loads(next(blocks))
