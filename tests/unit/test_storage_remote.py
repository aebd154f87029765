"""The fsspec adapter and the probe, against filesystems in memory that behave, or misbehave, like object stores."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.storage_doubles import SCHEME, HonestFileSystem, Uploading

from ckpt.errors import MissingKeyError, StorageError, UnsupportedStorageError
from ckpt.protocols import AppendableStorage, Storage
from ckpt.storage import local_path, resolve
from ckpt.storage.probe import probe
from ckpt.storage.remote import RemoteStorage
from ckpt.testing import FakeClock
from ckpt.testing.contract import BIG, StorageContract


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{SCHEME}://{tmp_path.as_posix().lstrip('/')}"


@pytest.fixture
def storage(url: str) -> RemoteStorage:
    return RemoteStorage(url, clock=FakeClock())


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[bool, Exception]]]:
    """Errors of the next creates: (after the effect?, error), taken in order."""
    coming: list[tuple[bool, Exception]] = []

    def strike(after: bool) -> None:
        if coming and coming[0][0] is after:
            raise coming.pop(0)[1]

    monkeypatch.setattr(HonestFileSystem, "trouble", staticmethod(strike))
    yield coming
    assert coming == []


class TestRemoteStorage(StorageContract):
    @pytest.fixture
    def storage(self, url: str) -> Storage:
        return RemoteStorage(url)


class TestRemoteStorageOverFsspecMemory(StorageContract):
    """fsspec's own memory filesystem (which ``resolve`` never uses: memory:// is ours)."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return RemoteStorage(f"memory://{tmp_path.as_posix().lstrip('/')}")


def test_lost_answer_of_a_create_is_a_win(storage: RemoteStorage, trouble: list[tuple[bool, Exception]]) -> None:
    trouble.append((True, TimeoutError("the answer was lost")))
    assert storage.put_if_absent("slot", b"my nonce") is True
    assert storage.get("slot") == b"my nonce"


def test_already_exists_with_own_bytes_is_a_win(storage: RemoteStorage, trouble: list[tuple[bool, Exception]]) -> None:
    trouble.append((True, FileExistsError("the client retried by itself")))
    assert storage.put_if_absent("slot", b"my nonce") is True


def test_lost_answer_after_somebody_else_won_is_no_win(
    storage: RemoteStorage, trouble: list[tuple[bool, Exception]]
) -> None:
    storage.put("slot", [b"theirs"])
    trouble.append((False, TimeoutError("lost")))
    assert storage.put_if_absent("slot", b"mine") is False
    assert storage.get("slot") == b"theirs"


def test_create_that_did_not_happen_is_tried_again(
    storage: RemoteStorage, trouble: list[tuple[bool, Exception]]
) -> None:
    trouble += [(False, OSError("409 conflict, try again")), (False, OSError("503 slow down"))]
    assert storage.put_if_absent("slot", b"mine") is True
    assert storage.get("slot") == b"mine"


def test_create_that_never_happens_is_an_error(storage: RemoteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_after: bool) -> None:
        raise OSError("503 slow down")

    monkeypatch.setattr(HonestFileSystem, "trouble", staticmethod(slow))
    with pytest.raises(StorageError, match="slow down"):
        storage.put_if_absent("slot", b"mine")
    assert not storage.exists("slot")


def test_create_whose_outcome_cannot_be_read_is_an_error(
    storage: RemoteStorage, trouble: list[tuple[bool, Exception]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_args: object, **_kwargs: object) -> bytes:
        raise ConnectionError("no network")

    monkeypatch.setattr(HonestFileSystem, "cat_file", unreachable)
    trouble.append((True, TimeoutError("lost")))
    with pytest.raises(StorageError, match="reading back"):
        storage.put_if_absent("slot", b"mine")


def test_failed_look_up_is_not_taken_for_absent(storage: RemoteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: object, **_kwargs: object) -> dict[str, object]:
        raise ConnectionError("no network")

    storage.put("slot", [b"x"])
    monkeypatch.setattr(HonestFileSystem, "info", unreachable)
    for call in (lambda: storage.exists("slot"), lambda: storage.size("slot")):
        with pytest.raises(StorageError) as caught:
            call()
        assert not isinstance(caught.value, MissingKeyError)


def test_failed_write_is_a_storage_error_with_address_and_fix(
    storage: RemoteStorage, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_args: object, **_kwargs: object) -> None:
        raise PermissionError("403 Forbidden")

    monkeypatch.setattr(HonestFileSystem, "pipe_file", denied)
    with pytest.raises(StorageError, match="403 Forbidden") as caught:
        storage.put("job/slot", [b"x"])
    assert caught.value.where == f"{url}/job/slot"
    assert "credentials" in caught.value.fix


def test_large_object_is_sent_in_pieces_and_there_when_all_are(tmp_path: Path) -> None:
    storage = RemoteStorage(f"uploading://{tmp_path.as_posix().lstrip('/')}")
    seen: list[bool] = []

    def parts() -> Iterator[bytes]:
        for _ in range(3):
            yield BIG
            seen.append(storage.exists("job/pack"))

    assert storage.put("job/pack", parts()) == 3 * len(BIG)
    assert seen == [False] * 3
    assert storage.get("job/pack") == BIG * 3


def test_upload_that_fails_half_way_is_given_up_and_never_completed(tmp_path: Path) -> None:
    storage = RemoteStorage(f"uploading://{tmp_path.as_posix().lstrip('/')}")

    def parts() -> Iterator[bytes]:
        yield BIG
        yield BIG
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.put("job/pack", parts())
    gc.collect()
    assert not storage.exists("job/pack")
    assert [path for path in Uploading.discarded if str(tmp_path) in path]


def test_it_is_neither_local_nor_appendable(storage: RemoteStorage) -> None:
    assert local_path(storage) is None
    assert not isinstance(storage, AppendableStorage)


def test_address_never_shows_a_password() -> None:
    assert RemoteStorage("honest://user:secret@host/store/").url == "honest://user@host/store"
    assert RemoteStorage("honest://container@account/store").url == "honest://container@account/store"


def test_each_process_makes_its_own_client(storage: RemoteStorage) -> None:
    storage.exists("a")
    made = HonestFileSystem.made
    storage.exists("a")
    assert HonestFileSystem.made == made
    child = os.fork()
    if child == 0:
        storage.exists("a")
        os._exit(0 if HonestFileSystem.made == made + 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_no_import_of_fsspec_until_a_remote_address_is_opened() -> None:
    code = "import sys, ckpt.storage as s; s.resolve('/x'); s.resolve('memory://x'); sys.exit('fsspec' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_probe_accepts_an_honest_storage(storage: RemoteStorage) -> None:
    probe(storage)
    assert storage.list("") == []


@pytest.mark.parametrize(
    ("scheme", "what"),
    [
        ("ignoring", "won instead of one|overwrites"),
        ("emptying", "empty data"),
        ("racing", "won instead of one"),
        ("plain", "only if it is absent"),
    ],
)
def test_probe_refuses_a_storage_that_does_not_create_exclusively(scheme: str, what: str, tmp_path: Path) -> None:
    storage = resolve(f"{scheme}://{tmp_path.as_posix().lstrip('/')}")
    with pytest.raises(UnsupportedStorageError, match=what) as caught:
        probe(storage)
    assert caught.value.fix
    assert storage.list("") == []
