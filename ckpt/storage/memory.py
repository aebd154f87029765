"""Keys in the memory of this process: for tests and for trying things out. Gone when the process ends.

``memory://name`` is the same place for everyone in the process who uses the same name. What is "durable" here is what
the process holds. Thread-safe; not appendable, so the log treats it as it treats an object store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from ckpt.errors import MissingKeyError
from ckpt.protocols import Buffer
from ckpt.storage.keys import check_key, folder_key, split_prefix

_places: dict[str, dict[str, bytes]] = {}
_lock = threading.Lock()


class MemoryStorage:
    """The keys of ``memory://name`` (see ``protocols.Storage``)."""

    def __init__(self, name: str) -> None:
        self._name = name
        with _lock:
            self._keys = _places.setdefault(name, {})

    @property
    def url(self) -> str:
        return f"memory://{self._name}"

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        data = self._find(key)
        return data[start:] if length is None else data[start : start + length]

    def read_into(self, key: str, start: int, target: memoryview) -> int:
        data = memoryview(self._find(key))[start : start + target.nbytes]
        if data.nbytes:
            target.cast("B")[: data.nbytes] = data
        return data.nbytes

    def size(self, key: str) -> int:
        return len(self._find(key))

    def exists(self, key: str) -> bool:
        with _lock:
            return check_key(key) in self._keys

    def put(self, key: str, parts: Iterable[Buffer]) -> int:
        check_key(key)
        data = bytearray()
        for part in parts:
            data += memoryview(part)
        with _lock:
            self._keys[key] = bytes(data)  # Commit point.
        return len(data)

    def share(self, source: str, target: str) -> int:
        data = self._find(source)
        with _lock:
            self._keys[check_key(target)] = data  # Commit point.
        return 0

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        check_key(key)
        mine = bytes(data)
        with _lock:
            if key in self._keys:
                return False
            self._keys[key] = mine  # Commit point.
            return True

    def children(self, prefix: str) -> list[str]:
        folder = folder_key(prefix)
        return child_names(self.list(f"{folder}/" if folder else ""), folder)

    def list(self, prefix: str) -> list[str]:
        split_prefix(prefix)
        with _lock:
            return sorted(key for key in self._keys if key.startswith(prefix))

    def delete(self, key: str) -> None:
        check_key(key)
        with _lock:
            self._keys.pop(key, None)

    def _find(self, key: str) -> bytes:
        check_key(key)
        with _lock:
            data = self._keys.get(key)
        if data is None:
            where = f"{self.url}/{key}"
            raise MissingKeyError("is not there", where=where, fix="check the address of the store and the run")
        return data


def child_names(keys: Iterable[str], folder: str) -> list[str]:
    """The names directly below ``folder`` that ``keys``, all below it, begin with; sorted."""
    skip = len(folder) + 1 if folder else 0
    return sorted({key[skip:].partition("/")[0] for key in keys})
