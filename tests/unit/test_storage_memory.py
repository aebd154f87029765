"""Storage in this process's memory: the contract, and who shares what."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckpt.protocols import AppendableStorage, Storage
from ckpt.storage import MemoryStorage
from ckpt.testing.contract import StorageContract


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return MemoryStorage(str(tmp_path))


def test_same_name_is_the_same_place(tmp_path: Path) -> None:
    MemoryStorage(f"{tmp_path}/a").put("key", [b"x"])
    assert MemoryStorage(f"{tmp_path}/a").get("key") == b"x"
    assert not MemoryStorage(f"{tmp_path}/b").exists("key")


def test_it_is_not_appendable() -> None:
    assert not isinstance(MemoryStorage("n"), AppendableStorage)


def test_put_if_absent_of_equal_bytes_wins_once(tmp_path: Path) -> None:
    storage = MemoryStorage(str(tmp_path))
    assert storage.put_if_absent("key", b"") is True
    assert storage.put_if_absent("key", b"") is False
    assert storage.put_if_absent("other", data := b"same object") is True
    assert storage.put_if_absent("other", data) is False
