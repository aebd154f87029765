"""An output file in a storage that cannot append: parts of equal size, and the rest of them in the checkpoint.

On the storage, below ``<path>.parts/``: ``claim`` (see ``claim``); ``<number, 8 digits>-<tag>``, a part of exactly ``PART_BYTES``
bytes, created only if absent and never written again. The tag is new at each cut, so no two attempts, and no two tries
at a byte, ever have the same name: what an attempt that was overtaken still uploads is named by nobody. What does not
fill a part yet travels in the states.

At the end of the run the parts are joined into one object at ``<path>``, or listed in ``<path>.manifest.json``.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from ckpt.codecs.pickling import OutOfBand
from ckpt.errors import MissingKeyError, OutputChangedError
from ckpt.outputs.claim import Owner, claim_object
from ckpt.storage import resolve

PART_BYTES = 8 << 20
"""Bytes of a part: one request of any object store, and what a state may have to carry."""

MAX_PENDING = 4
"""Full parts that wait for the next checkpoint in memory; more are uploaded at once, in the job's time."""


def is_claimed(url: str) -> bool:
    """Whether a run has the object at ``url``, and is not finished."""
    folder, _, name = url.rpartition("/")
    return resolve(folder).exists(f"{name}.parts/claim")


class PartsSink:
    """The object at ``url``, claimed for the run (see ``registry.Sink``)."""

    def __init__(
        self, url: str, owner: Owner, *, truncates: bool, join: bool, new_tag: Callable[[], str],
        check_current: Callable[[], None],
    ) -> None:  # fmt: skip
        """``new_tag`` gives a text that was never used before; ``check_current`` raises FencedError for an attempt that
        was overtaken. OutputBusyError, OutputChangedError, StorageError."""
        self._join, self._new_tag, self._check = join, new_tag, check_current
        folder, _, self._name = url.rpartition("/")
        self._storage = resolve(folder)
        self.where = f"{self._storage.url}/{self._name}"
        size = 0 if truncates else self._size_before()
        first = {"start": size, "part_bytes": PART_BYTES}
        claim = claim_object(self._storage, self._key("claim"), owner, self.where, first=first)
        self.start, self._part_bytes = int(claim["start"]), int(claim["part_bytes"])
        self._tail = bytearray()
        self._count, self._crc = 0, 0
        self._tags: list[tuple[int, str]] = []
        self._pending: deque[tuple[str, bytes]] = deque()
        self._listed: list[str] = []
        self._io = threading.Lock()

    def _key(self, name: str) -> str:
        return f"{self._name}.parts/{name}"

    def _size_before(self) -> int:
        try:
            return self._storage.size(self._name)
        except MissingKeyError:
            return 0

    def begin(self, saved: Mapping[str, Any] | None) -> None:
        # Without a claim the object is as the run found it, unless another run (the origin of a fork) has finished it.
        if saved is not None and saved.get("start", self.start) != self.start:
            what = f"its part began at byte {saved['start']}, and the object has {self.start} bytes: another run finished it"
            raise OutputChangedError(
                f"the output file is not what the run left: {what}",
                where=self.where,
                fix="write to another path, or start the run afresh: f.options(fresh=True)(...) (of a with block: ckpt rm)",
            )

    def cut(self, length: int, crc: int, more: Any) -> None:
        saved = more or {"tail": b"", "tags": []}
        with self._io:
            self._pending.clear()
            self._tail = bytearray(saved["tail"])
            self._tags = [(int(first), str(tag)) for first, tag in saved["tags"]]
            self._count = (length - self.start - len(self._tail)) // self._part_bytes
            self._tags.append((self._count, self._new_tag()))
        there = set(self._storage.list(self._key("")))
        for name in self._names():
            # A listing is only a hint.
            if name not in there and not self._storage.exists(name):
                raise self._changed(f"the part {name} is not there")

    def _names(self) -> list[str]:
        """The parts that count, in order."""
        names = []
        spans = [*self._tags, (self._count, "")]
        for (first, tag), (following, _) in pairwise(spans):
            names += [self._key(f"{number:08d}-{tag}") for number in range(first, min(following, self._count))]
        return names

    def append(self, data: bytes) -> None:
        self._tail += data
        while len(self._tail) >= self._part_bytes:
            part = bytes(self._tail[: self._part_bytes])
            del self._tail[: self._part_bytes]
            self._pending.append((self._key(f"{self._count:08d}-{self._tags[-1][1]}"), part))
            self._count += 1
        if len(self._pending) > MAX_PENDING:
            self.make_durable()

    def saved(self) -> Any:
        # Tags that no part has got are left out: of many attempts in a row only those that got on are named.
        used = [one for one, after in zip(self._tags, [*self._tags[1:], (self._count, "")], strict=True) if one[0] < after[0]]
        return {"tail": OutOfBand(bytes(self._tail)), "tags": used}

    def make_durable(self) -> None:
        with self._io:
            while self._pending:
                name, part = self._pending[0]
                if not self._storage.put_if_absent(name, part):
                    raise self._changed(f"the part {name} is there with other bytes")
                self._pending.popleft()

    def complete(self) -> None:
        """Join the parts, or list them. An attempt that was overtaken gets no further than its FencedError."""
        self.make_durable()
        self._check()
        if self._join:
            self._storage.put(self._name, self._pieces())  # Commit point: all of the object, or what was there before.
            return
        names = self._names()
        if self._tail:
            names.append(self._key(f"{self._count:08d}-{self._tags[-1][1]}-last"))
            self._storage.put_if_absent(names[-1], bytes(self._tail))
        self._listed = names
        listed = [{"key": name, "bytes": self._storage.size(name)} for name in names]
        if self.start:
            listed.insert(0, {"key": self._name, "bytes": self.start})
        manifest = {"version": 1, "bytes": sum(one["bytes"] for one in listed), "parts": listed}  # type: ignore[misc]
        self._storage.put(self._manifest, [json.dumps(manifest, indent=1).encode()])  # Commit point.

    @property
    def _manifest(self) -> str:
        return f"{self._name}.manifest.json"

    def set_crc(self, crc: int) -> None:
        """The CRC-32 of all that the run wrote: what is joined is compared with it."""
        self._crc = crc

    def _pieces(self) -> Iterator[bytes]:
        """What was there before, the parts and the rest; OutputChangedError before the last piece if they do not fit."""
        for at in range(0, self.start, self._part_bytes):
            yield self._storage.get(self._name, at, min(self._part_bytes, self.start - at))
        crc = 0
        for name in self._names():
            part = self._storage.get(name)
            crc = zlib.crc32(part, crc)
            yield part
        if zlib.crc32(self._tail, crc) != self._crc:
            raise self._changed("its parts are not what the run wrote")
        yield bytes(self._tail)

    def release(self) -> None:
        kept = {*(self._listed or self._manifested()), self._key("claim")}
        for key in self._storage.list(self._key("")):
            if key not in kept:
                self._storage.delete(key)
        self._storage.delete(self._key("claim"))

    def _manifested(self) -> list[str]:
        """What the manifest lists, if the parts are to stay."""
        if self._join:
            return []
        return [one["key"] for one in json.loads(self._storage.get(self._manifest))["parts"]]

    def close(self) -> None:
        """Nothing is held."""

    def _changed(self, what: str) -> OutputChangedError:
        return OutputChangedError(
            f"the output file is not what the run left: {what}",
            where=self.where,
            fix="put it back, or start the run afresh: f.options(fresh=True)(...) (of a with block: ckpt rm)",
        )
