"""Storages in memory that forget what was not synced, and small helpers, for the tests of the log."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable

from ckpt.errors import MissingKeyError, StorageError
from ckpt.format.keys import Key
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.log import LogView, LogWriter, Place
from ckpt.protocols import Buffer, Storage

KEY = Key.from_secret(bytes(range(32)))
NAMES = RunNames("job", "run")

_attempts = itertools.count(1)

Hook = Callable[[str, str], None]


class SimFile:
    """A file's content; ``durable`` bytes of it survive a power loss."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.durable = len(data)


class SimObjects:
    """An object store. ``before`` and ``after`` are called around every operation, and may raise."""

    def __init__(self) -> None:
        self.files: dict[str, SimFile] = {}
        self.before: Hook = _nothing
        self.after: Hook = _nothing

    @property
    def url(self) -> str:
        return "sim://"

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self.before("get", key)
        if key not in self.files:
            raise MissingKeyError("absent", where=key)
        data = bytes(self.files[key].data[start : None if length is None else start + length])
        self.after("get", key)
        return data

    def read_into(self, key: str, start: int, target: memoryview) -> int:
        data = self.get(key, start, len(target))
        target[: len(data)] = data
        return len(data)

    def size(self, key: str) -> int:
        return len(self.get(key))

    def exists(self, key: str) -> bool:
        self.before("exists", key)
        there = key in self.files
        self.after("exists", key)
        return there

    def put(self, key: str, parts: Iterable[Buffer]) -> int:
        self.before("put", key)
        self.files[key] = SimFile(b"".join(bytes(part) for part in parts))
        self.after("put", key)
        return len(self.files[key].data)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        self.before("create", key)
        created = key not in self.files
        if created:
            self.files[key] = SimFile(bytes(data))
        self.after("create", key)
        return created

    def list(self, prefix: str) -> list[str]:
        self.before("list", prefix)
        return sorted(key for key in self.files if key.startswith(prefix))

    def children(self, prefix: str) -> list[str]:
        raise NotImplementedError

    def delete(self, key: str) -> None:
        self.before("delete", key)
        self.files.pop(key, None)
        self.after("delete", key)


class SimDisk(SimObjects):
    """A file system: keys can grow, and what was not synced may be lost."""

    def create_append(self, key: str, head: Buffer) -> SimAppend | None:
        return SimAppend(self, key, self.files[key]) if self.put_if_absent(key, head) else None

    def make_durable(self, key: str) -> None:
        self.before("make_durable", key)
        self.files[key].durable = len(self.files[key].data)

    def lose_power(self, rng: random.Random) -> None:
        """Of what was not synced, any number of bytes is lost."""
        for file in self.files.values():
            del file.data[rng.randint(file.durable, len(file.data)) :]


class SimAppend:
    """An open file; goes on writing to it after its key is gone, as a file descriptor does."""

    def __init__(self, disk: SimDisk, key: str, file: SimFile) -> None:
        self.disk, self.key, self.file = disk, key, file
        self.broken = self.closed = False

    @property
    def length(self) -> int:
        return len(self.file.data)

    def append(self, parts: Iterable[Buffer]) -> None:
        assert not self.broken
        assert not self.closed
        self.disk.before("append", self.key)
        self.file.data += b"".join(bytes(part) for part in parts)

    def sync(self) -> None:
        assert not self.broken, "a file whose sync failed was synced again"
        try:
            self.disk.before("sync", self.key)
            self.file.durable = len(self.file.data)
            self.disk.after("sync", self.key)
        except StorageError:
            self.broken = True
            raise

    def close(self) -> None:
        self.closed = True


class FixedClock:
    """Always the same moment."""

    def now(self) -> float:
        return 1_700_000_000.0

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("the log never sleeps")


class Fault:
    """Raises ``error`` at the ``nth`` call of ``operation`` ('any' for every one); once."""

    def __init__(self, operation: str, error: BaseException, nth: int = 1) -> None:
        self.operation, self.error, self.left = operation, error, nth

    def __call__(self, operation: str, key: str) -> None:
        if self.operation in ("any", operation):
            self.left -= 1
            if self.left == 0:
                raise self.error


def take_over(
    storage: Storage, *, names: RunNames = NAMES, key: Key = KEY, host: str = "h1", known: LogView | None = None
) -> tuple[LogWriter, LogView]:
    """A new attempt. No two have the same nonces."""
    rng = random.Random(next(_attempts))
    fence = {"host": host, "pid": 7, "started": 1.5}
    return LogWriter.take_over(Place(storage, names, key, rng.randbytes, FixedClock()), fence=fence, known=known)


def op(writer: LogWriter, n: int, *, durable: bool = True) -> int:
    """Append operation ``n``."""
    return writer.append(Kind.OPERATION, {"n": n}, [b"value %d" % n], durable=durable)


def ops(view: LogView) -> list[int]:
    """The operations that count, each checked to be what was appended."""
    found = [record for record in view.records if record.kind is Kind.OPERATION]
    assert all(bytes(record.sections[0]) == b"value %d" % record.head["n"] for record in found)
    return [record.head["n"] for record in found]


def _nothing(operation: str, key: str) -> None:
    return None
