"""The root of a store: format, id, key, and who is let in."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.storage_doubles import SCHEME

from ckpt import host
from ckpt.errors import (
    CorruptionError,
    OptionError,
    RunNotFoundError,
    StorageError,
    UnknownFormatError,
    UnsupportedStorageError,
    UntrustedError,
)
from ckpt.format.keys import UNSIGNED, Key
from ckpt.format.names import RunNames
from ckpt.format.segment import encode_header
from ckpt.root import StoreRoot, job_folders


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def shared(tmp_path: Path) -> str:
    return f"{SCHEME}://{tmp_path.as_posix().lstrip('/')}"


@pytest.fixture
def key() -> Key:
    return Key.generate(host.entropy)


def test_new_local_store_gets_format_private_key_and_ignore_file(store: Path) -> None:
    root = StoreRoot.open(store)
    assert json.loads((store / "FORMAT").read_text()) == {"format": 1, "store": root.store_id}
    assert (store / "key").stat().st_mode & 0o777 == 0o600
    assert Key.parse((store / "key").read_text()).id == root.key.id != UNSIGNED.id
    assert (store / ".gitignore").read_text() == "*\n"
    assert root.url == str(store)
    assert root.storage.url == str(store)


def test_opening_again_gives_the_same_store(store: Path) -> None:
    first = StoreRoot.open(store)
    for again in (StoreRoot.open(store), StoreRoot.open(store, create=False)):
        assert (again.key, again.store_id) == (first.key, first.store_id)
    assert StoreRoot.open(store.parent / "another").store_id != first.store_id
    assert StoreRoot.open(store.parent / "another").key != first.key


def test_secret_is_not_shown(store: Path) -> None:
    root = StoreRoot.open(store)
    assert (store / "key").read_text().strip() not in repr(root)
    assert repr(root.key.secret) not in repr(root)


OPEN = """
import sys
from ckpt.root import StoreRoot
print("ready", flush=True)
sys.stdin.readline()
root = StoreRoot.open(sys.argv[1])
print(root.store_id, root.key.to_text())
"""


def test_processes_that_make_one_store_at_once_agree(store: Path) -> None:
    start = [sys.executable, "-c", OPEN, str(store)]
    makers = [subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    answers = {maker.communicate(timeout=120)[0] for maker in makers}
    root = StoreRoot.open(store)
    assert answers == {f"{root.store_id} {root.key.to_text()}\n"}


def test_key_of_the_maker_that_was_first_is_used_by_all(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Key.generate
    first: list[StoreRoot] = []

    def generate(entropy: Callable[[int], bytes]) -> Key:
        if not first:  # the other one makes the whole store between our look and our own key
            monkeypatch.setattr(Key, "generate", real)
            first.append(StoreRoot.open(store))
        return real(entropy)

    monkeypatch.setattr(Key, "generate", generate)
    second = StoreRoot.open(store)
    assert (second.key, second.store_id) == (first[0].key, first[0].store_id)


@pytest.mark.parametrize("place", ["nothing", "an empty folder"])
def test_without_create_a_missing_store_is_not_found_and_not_made(place: str, store: Path) -> None:
    if place == "an empty folder":
        store.mkdir()
    with pytest.raises(RunNotFoundError, match="no ckpt store"):
        StoreRoot.open(store, create=False)
    assert not store.exists() or list(store.iterdir()) == []


def test_folder_with_other_things_is_refused_and_left_alone(store: Path) -> None:
    store.mkdir()
    (store / "thesis.tex").write_text("x")
    with pytest.raises(OptionError, match=r"other things \(thesis.tex\)"):
        StoreRoot.open(store)
    assert [path.name for path in store.iterdir()] == ["thesis.tex"]


def test_file_in_the_place_of_a_store_is_an_error(store: Path) -> None:
    store.write_text("x")
    for place in (store, store / "below"):
        with pytest.raises(StorageError, match=f"{store} is a file, and has to be a folder") as caught:
            StoreRoot.open(place)
        assert "set CKPT_STORE (or store=) to a folder" in caught.value.fix
    assert store.read_text() == "x"


def test_place_where_no_folder_can_be_made_is_an_error_of_the_address(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, *_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "mkdir", refused)  # as in /proc
    with pytest.raises(StorageError, match=f"in {store.parent} no folder can be made") as caught:
        StoreRoot.open(store)
    assert "set CKPT_STORE (or store=) to a folder" in caught.value.fix


def test_place_without_permission_says_so(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(StorageError, match="Permission denied") as caught:
        StoreRoot.open(store)
    assert "a folder that you can write to" in caught.value.fix


def test_newer_format_is_refused(store: Path) -> None:
    StoreRoot.open(store)
    (store / "FORMAT").write_text(json.dumps({"format": 2, "store": "new", "more": []}))
    with pytest.raises(UnknownFormatError, match="format 2") as caught:
        StoreRoot.open(store)
    assert "newer ckpt" in caught.value.fix


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[]", b"7", b'{"format": 1}', b'{"format": "1", "store": "x"}',
     b'{"format": 0, "store": "x"}', b"[" * 4000, b'{"format": ' + b"9" * 5000,
     b'{"format": true, "store": "00000000000000000000000000000000"}', b'{"format": 1, "store": "not hex"}'],
)  # fmt: skip
def test_unreadable_format_is_corruption(text: bytes, store: Path) -> None:
    StoreRoot.open(store)
    (store / "FORMAT").write_bytes(text)
    with pytest.raises(CorruptionError) as caught:
        StoreRoot.open(store)
    assert caught.value.path == "FORMAT"


def test_lost_format_of_a_store_with_runs_is_corruption(store: Path) -> None:
    StoreRoot.open(store).storage.put("job/run/floor", [b"x"])
    (store / "FORMAT").unlink()
    with pytest.raises(CorruptionError, match="no FORMAT"):
        StoreRoot.open(store)
    assert not (store / "FORMAT").exists()


def test_missing_key_of_a_store_with_runs_is_never_replaced(store: Path) -> None:
    StoreRoot.open(store).storage.put("job/run/floor", [b"x"])
    (store / "key").unlink()
    for create in (True, False):
        with pytest.raises(UntrustedError, match="key is missing"):
            StoreRoot.open(store, create=create)
    assert not (store / "key").exists()


def test_missing_key_of_a_store_without_runs_is_made_by_writers_only(store: Path) -> None:
    StoreRoot.open(store)
    (store / "key").unlink()
    with pytest.raises(UntrustedError):
        StoreRoot.open(store, create=False)
    assert StoreRoot.open(store).key.id != UNSIGNED.id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_key_that_others_can_read_or_change_is_refused(mode: int, store: Path) -> None:
    StoreRoot.open(store)
    (store / "key").chmod(mode)
    with pytest.raises(UntrustedError, match=f"mode 0{mode:o}") as caught:
        StoreRoot.open(store)
    assert f"chmod 600 {store}/key" in caught.value.fix


@pytest.mark.parametrize("text", ["", "hello", "ab" * 31, "ab" * 33])
def test_key_file_without_a_key_is_corruption(text: str, store: Path) -> None:
    StoreRoot.open(store)
    (store / "key").write_text(text)
    with pytest.raises(CorruptionError) as caught:
        StoreRoot.open(store)
    assert "key" in caught.value.path


def test_given_key_goes_before_the_stores_own(store: Path, key: Key, tmp_path: Path) -> None:
    own = StoreRoot.open(store).key
    file = tmp_path / "secret"
    file.write_text(key.to_text())
    file.chmod(0o600)
    for form in (key, key.to_text(), file, str(file)):
        assert StoreRoot.open(store, key=form).key.id == key.id
    assert StoreRoot.open(store).key == own


def test_store_made_with_a_given_key_keeps_none_of_its_own(store: Path, key: Key) -> None:
    StoreRoot.open(store, key=key).storage.put("job/run/floor", [b"x"])
    assert not (store / "key").exists()
    with pytest.raises(UntrustedError, match="CKPT_KEY"):
        StoreRoot.open(store)


def test_given_key_that_is_none_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="not a ckpt key"):
        StoreRoot.open(store, key="no such file and no key")
    with pytest.raises(StorageError, match="key file"):
        StoreRoot.open(store, key=tmp_path / "absent")
    assert not store.exists()


def test_shared_store_without_a_key_is_refused(shared: str) -> None:
    with pytest.raises(UntrustedError, match="needs a key") as caught:
        StoreRoot.open(shared)
    assert "CKPT_KEY" in caught.value.fix


def test_shared_store_with_a_key_is_made_and_opened_again(shared: str, key: Key) -> None:
    root = StoreRoot.open(shared, key=key.to_text())
    assert root.key.id == key.id
    assert root.storage.list("") == ["FORMAT"]
    assert StoreRoot.open(shared, key=key, create=False).store_id == root.store_id


def test_unsigned_shared_store_warns_loudly(shared: str) -> None:
    with pytest.warns(UserWarning, match="unsigned") as caught:
        root = StoreRoot.open(shared, unsigned=True)
    assert root.key.id == UNSIGNED.id
    assert caught[0].filename == __file__


def test_unsigned_store_warns_each_time(shared: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()  # as in a program: the same warning of the same line is shown once
        for _ in range(3):
            StoreRoot.open(shared, unsigned=True)
    assert ["unsigned" in str(warning.message) for warning in caught] == [True] * 3


@pytest.mark.parametrize("encrypt", [False, True])
def test_lost_format_is_told_by_the_segments(encrypt: bool, store: Path) -> None:
    root = StoreRoot.open(store, encrypt=encrypt)
    names = RunNames("sim", "aaaa")
    header, _ = encode_header(root.key, names, 1, 1, bytes(16))
    root.storage.put(names.segment(1), [header])
    text = (store / "FORMAT").read_text()
    (store / "FORMAT").unlink()
    with pytest.raises(CorruptionError) as caught:
        StoreRoot.open(store)
    assert caught.value.fix.endswith(text.strip())


def test_unsigned_does_not_switch_off_a_key_that_is_there(store: Path, shared: str, key: Key) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert StoreRoot.open(store, unsigned=True).key.id != UNSIGNED.id
        assert StoreRoot.open(shared, unsigned=True, key=key).key.id == key.id


def test_all_zero_key_is_refused_unless_unsigned_was_asked_for(store: Path, shared: str) -> None:
    with pytest.raises(UntrustedError, match="all-zero"):
        StoreRoot.open(shared, key="0" * 64)
    StoreRoot.open(store)
    (store / "key").write_text("0" * 64)
    with pytest.raises(UntrustedError, match="all-zero"):
        StoreRoot.open(store)


@pytest.mark.parametrize("scheme", ["ignoring", "emptying", "racing", "plain"])
def test_shared_store_on_an_unsafe_storage_is_refused_before_anything_is_made(
    scheme: str, key: Key, tmp_path: Path
) -> None:
    url = f"{scheme}://{tmp_path.as_posix().lstrip('/')}"
    with pytest.raises(UnsupportedStorageError):
        StoreRoot.open(url, key=key)
    with pytest.raises(RunNotFoundError):
        StoreRoot.open(url, key=key, create=False)


def test_memory_store_keeps_its_key_with_it(tmp_path: Path) -> None:
    url = f"memory://{tmp_path}"
    root = StoreRoot.open(url)
    assert root.key.id != UNSIGNED.id
    assert StoreRoot.open(url).key == root.key
    assert StoreRoot.open(url).store_id == root.store_id


def test_job_folders_are_the_jobs_and_nothing_else(store: Path) -> None:
    root = StoreRoot.open(store)
    for name in ("sim", "a%2Fb", ".probe-1"):
        root.storage.put(f"{name}/run/floor", [b"x"])
    assert job_folders(root.storage) == ["a%2Fb", "sim"]
