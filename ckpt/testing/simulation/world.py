"""A storage in memory that does to its users what real ones do, and the switch from one attempt to another.

Two kinds. An *object store* fails before or after the effect, carries a request out later than it said that it failed,
or twice, and lists what was there a while ago. A *disk* loses what was not synced when the power goes, tears appends,
and refuses syncs. On both, every request is a place where an attempt may be put aside.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import greenlet

from ckpt.errors import MissingKeyError, StorageError
from ckpt.protocols import Buffer

T = TypeVar("T")
Names = list[str]


class Crash(BaseException):
    """SIGKILL: unwinds an attempt whose requests have no effect any more."""


@dataclass(slots=True)
class File:
    """A key's content; the first ``durable`` bytes survive a power loss."""

    data: bytearray
    durable: int


@dataclass(slots=True)
class World:
    """The one storage of a schedule. ``fault_rate``: the share of requests that go wrong; 0 in a calm phase."""

    rng: random.Random
    fault_rate: float
    stale_lists: bool
    files: dict[str, File] = field(default_factory=dict)
    late: list[Callable[[], object]] = field(default_factory=list)
    listings: list[list[str]] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    main: Any = field(default_factory=greenlet.getcurrent)

    def note(self, text: str) -> None:
        self.trace.append(text)

    def strikes(self) -> bool:
        return self.fault_rate > 0 and self.rng.random() < self.fault_rate

    def carry_out_late(self, share: float = 1.0) -> None:
        """Requests that were thought lost arrive now."""
        waiting, self.late = self.late, []
        for effect in waiting:
            if self.rng.random() < share:
                self.note("  a late request arrives")
                effect()
            else:
                self.late.append(effect)

    def lose_power(self) -> None:
        for key in sorted(self.files):
            file = self.files[key]
            kept = self.rng.randint(file.durable, len(file.data))
            if kept < len(file.data):
                self.note(f"  {key} is cut from {len(file.data)} to {kept} bytes")
                del file.data[kept:]

    def flip_a_bit(self) -> None:
        """Rot: one bit of one file is another one from now on."""
        keys = sorted(key for key, file in self.files.items() if file.data)
        if keys:
            key = self.rng.choice(keys)
            place = self.rng.randrange(len(self.files[key].data))
            self.files[key].data[place] ^= 1 << self.rng.randrange(8)
            self.note(f"  a bit of byte {place} of {key} flips")


class ObjectPort:
    """The storage as one attempt uses it (see ``protocols.Storage``)."""

    appendable = False

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.url = "simulated://"
        self.greenlet: Any = None
        self.dead = False
        self.patience = 0
        """Requests until somebody else has a turn."""

    # -- the protocol ---------------------------------------------------------------------------------------

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        stop = None if length is None else start + length
        return self._ask("get", key, lambda: bytes(self._file(key).data[start:stop]))

    def read_into(self, key: str, start: int, target: memoryview) -> int:
        data = self.get(key, start, target.nbytes)
        target[: len(data)] = data
        return len(data)

    def size(self, key: str) -> int:
        return self._ask("size", key, lambda: len(self._file(key).data))

    def exists(self, key: str) -> bool:
        return self._ask("exists", key, lambda: key in self.world.files)

    def list(self, prefix: str) -> Names:
        return [key for key in self._ask("list", prefix, self._listing) if key.startswith(prefix)]

    def children(self, prefix: str) -> Names:
        below = {key.removeprefix(f"{prefix}/").partition("/")[0] for key in self.list(prefix)}
        return sorted(below)

    def put(self, key: str, parts: Iterable[Buffer]) -> int:
        data = b"".join(bytes(part) for part in parts)
        self._change("put", key, lambda: self._write(key, data))
        return len(data)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        content = bytes(data)
        return self._change("create", key, lambda: key not in self.world.files and self._write(key, content))

    def delete(self, key: str) -> None:
        self._change("delete", key, lambda: self.world.files.pop(key, None))

    # -- how a request goes ---------------------------------------------------------------------------------

    def _file(self, key: str) -> File:
        if key not in self.world.files:
            raise MissingKeyError("absent", where=key)
        return self.world.files[key]

    def _write(self, key: str, data: bytes) -> bool:
        self.world.files[key] = File(bytearray(data), len(data))
        return True

    def _listing(self) -> Names:
        now = sorted(self.world.files)
        if not self.world.stale_lists:
            return now
        self.world.listings.append(now)
        return self.world.rng.choice(self.world.listings[-4:])

    def _ask(self, what: str, key: str, effect: Callable[[], T]) -> T:
        """A request that changes nothing."""
        if greenlet.getcurrent() is not self.greenlet:
            return effect()  # a reader's thread: no place to put an attempt aside
        self.wait_turn(what, key)
        if self.world.strikes():
            raise self.error(what, key, "fails")
        return effect()

    def _change(self, what: str, key: str, effect: Callable[[], T]) -> T:
        """A request that changes something: it may fail with or without its effect, come late, or come twice."""
        self.wait_turn(what, key)
        way = self.world.rng.choice(("before", "after", "late", "twice")) if self.world.strikes() else ""
        if way == "before":
            raise self.error(what, key, "fails before its effect")
        if way == "late":
            self.world.late.append(effect)
            raise self.error(what, key, "is on its way, its answer is lost")
        result = effect()
        if way == "twice":
            self.world.late.append(effect)
        self.wait_turn(what, f"{key}: done")
        if way == "after":
            raise self.error(what, key, "had its effect, its answer is lost")
        return result

    def wait_turn(self, what: str, key: str) -> None:
        """A place where somebody else may go on, and this attempt may end."""
        if self.dead:
            raise Crash
        self.patience -= 1
        if self.patience < 0:
            self.world.main.switch()
            if self.dead:
                raise Crash
        self.world.note(f"{self.name} {what} {key}")

    def error(self, what: str, key: str, how: str) -> StorageError:
        self.world.note(f"  {what} {how}")
        return StorageError(f"{what} {how}", where=key)


class DiskPort(ObjectPort):
    """A disk (see ``protocols.AppendableStorage``): nothing comes late or twice, but keys grow, and power may go."""

    def create_append(self, key: str, head: Buffer) -> AppendPort | None:
        return AppendPort(self, key, self._file(key)) if self.put_if_absent(key, head) else None

    def make_durable(self, key: str) -> None:
        def sync() -> None:
            file = self._file(key)
            file.durable = len(file.data)

        self._ask("make_durable", key, sync)

    def _change(self, what: str, key: str, effect: Callable[[], T]) -> T:
        self.wait_turn(what, key)
        way = self.world.rng.choice(("before", "after")) if self.world.strikes() else ""
        if way == "before":
            raise self.error(what, key, "fails before its effect")
        result = effect()
        self.wait_turn(what, f"{key}: done")
        if way == "after":
            raise self.error(what, key, "had its effect, its answer is lost")
        return result


class AppendPort:
    """An open file: goes on growing when its key is gone, as a file descriptor does (see ``protocols.AppendFile``)."""

    def __init__(self, port: DiskPort, key: str, file: File) -> None:
        self._port, self._key, self._file = port, key, file
        self.broken = False

    @property
    def length(self) -> int:
        return len(self._file.data)

    def append(self, parts: Iterable[Buffer]) -> None:
        self._check_usable()
        data = b"".join(bytes(part) for part in parts)
        self._port.wait_turn("append", self._key)
        world = self._port.world
        if world.strikes():
            if world.rng.random() < 0.5:
                raise self._port.error("append", self._key, "fails, and nothing was written")
            self._file.data += data[: world.rng.randrange(len(data) + 1)]
            self.broken = True
            raise self._port.error("append", self._key, "fails half-way")
        cut = world.rng.randrange(len(data) + 1)
        self._file.data += data[:cut]
        self._port.wait_turn("append", f"{self._key}: half-way")
        self._file.data += data[cut:]

    def sync(self) -> None:
        self._check_usable()
        self._port.wait_turn("sync", self._key)
        if self._port.world.strikes():
            self.broken = True
            raise self._port.error("sync", self._key, "fails")
        self._file.durable = len(self._file.data)
        self._port.wait_turn("sync", f"{self._key}: done")

    def close(self) -> None:
        pass

    def _check_usable(self) -> None:
        if self.broken:
            raise AssertionError("a file whose content is unknown was used again")
