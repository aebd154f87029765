"""Storage on local disk: the contract, what is durable when, races of processes, full disks, leftovers."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt import host
from ckpt.errors import MissingKeyError, StorageError, StorageFullError, UnsupportedStorageError
from ckpt.protocols import AppendableStorage
from ckpt.storage import LocalStorage, files, sweep_leftovers
from ckpt.storage.local import remove_leftovers
from ckpt.storage.temporaries import own_temporary
from ckpt.testing import FakeClock
from ckpt.testing.contract import BIG, AppendableStorageContract


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


class TestLocalStorage(AppendableStorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> AppendableStorage:
        return LocalStorage(tmp_path / "store")


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the storage did to make things durable, in order: (call, path)."""
    calls: list[tuple[str, str]] = []
    real_fsync, real_data, real_link, real_replace = os.fsync, os.fdatasync, os.link, os.replace

    def path_of(fd: int) -> str:
        return os.readlink(f"/proc/self/fd/{fd}")

    def fsync(fd: int) -> None:
        calls.append(("folder", path_of(fd)))
        real_fsync(fd)

    def fdatasync(fd: int) -> None:
        calls.append(("data", path_of(fd)))
        real_data(fd)

    def link(source: Path, target: Path) -> None:
        calls.append(("name", str(target)))
        real_link(source, target)

    def replace(source: Path, target: Path) -> None:
        calls.append(("name", str(target)))
        real_replace(source, target)

    for name, double in (("fsync", fsync), ("fdatasync", fdatasync), ("link", link), ("replace", replace)):
        monkeypatch.setattr(os, name, double)
    return calls


@pytest.mark.parametrize("way", ["put", "put_if_absent", "create_append"])
def test_data_is_durable_before_its_name_and_the_folders_after(
    way: str, storage: LocalStorage, journal: list[tuple[str, str]]
) -> None:
    write = {"put": lambda k: storage.put(k, [b"x"]), "put_if_absent": lambda k: storage.put_if_absent(k, b"x")}
    create = write.get(way, lambda k: storage.create_append(k, b"x"))
    create("job/run/a")
    root = storage.root
    data = next(i for i, (call, path) in enumerate(journal) if call == "data" and f"{root}/job/run/.tmp-" in path)
    name = journal.index(("name", f"{root}/job/run/a"))
    assert data < name
    for folder in (root / "job/run", root / "job", root, root.parent):
        assert ("folder", str(folder)) in journal[name:], folder
    journal.clear()
    create("job/run/b")
    assert journal[-1] == ("folder", f"{root}/job/run")


def test_sync_makes_appends_durable(storage: LocalStorage, journal: list[tuple[str, str]]) -> None:
    file = storage.create_append("log", b"head")
    assert file is not None
    file.append([b"record"])
    journal.clear()
    file.sync()
    assert journal == [("data", f"{storage.root}/log")]
    file.close()


def test_what_another_process_wrote_is_made_durable_with_its_name(
    storage: LocalStorage, journal: list[tuple[str, str]]
) -> None:
    other = LocalStorage(storage.root).create_append("job/run/log", b"head")
    assert other is not None
    other.append([b"record"])
    journal.clear()
    storage.make_durable("job/run/log")
    root = storage.root
    assert journal[0] == ("data", f"{root}/job/run/log")
    assert {("folder", str(folder)) for folder in (root / "job/run", root / "job", root)} <= set(journal)
    other.close()


def test_failing_to_make_durable_is_an_error(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    storage.put("log", [b"x"])
    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(StorageError, match="cannot make durable: Input/output"):
        storage.make_durable("log")


def test_folders_made_by_another_process_are_made_durable_too(
    storage: LocalStorage, journal: list[tuple[str, str]]
) -> None:
    (storage.root / "job/run").mkdir(parents=True)
    storage.put("job/run/a", [b"x"])
    assert ("folder", str(storage.root / "job")) in journal
    assert ("folder", str(storage.root)) in journal


RACE = """
import json, sys
from pathlib import Path
from ckpt.storage import LocalStorage
storage, me = LocalStorage(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps([i for i in range(50) if storage.put_if_absent(f"job/slot-{i}", f"creator {me}".encode() * 100)]))
"""


def test_processes_racing_to_create_have_one_winner_per_key(tmp_path: Path) -> None:
    start = [sys.executable, "-c", RACE, str(tmp_path)]
    racers = [
        subprocess.Popen([*start, str(i)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for i in range(8)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [json.loads(racer.communicate(timeout=120)[0]) for racer in racers]
    assert sorted(slot for slots in won for slot in slots) == list(range(50))
    storage = LocalStorage(tmp_path)
    for me, slots in enumerate(won):
        for slot in slots:
            assert storage.get(f"job/slot-{slot}") == f"creator {me}".encode() * 100
    assert len(os.listdir(tmp_path / "job")) == 50


def test_key_appears_whole_or_not_at_all(storage: LocalStorage) -> None:
    seen: list[bool] = []

    def parts() -> Iterator[bytes]:
        yield BIG
        seen.append(storage.exists("job/a"))
        yield BIG

    storage.put("job/a", parts())
    assert seen == [False]
    assert storage.size("job/a") == 2 * len(BIG)


def test_short_writes_and_reads_are_completed(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev, pread, preadv = os.pwritev, os.pread, os.preadv
    monkeypatch.setattr(os, "pwritev", lambda fd, views, at: pwritev(fd, [views[0][:777]], at))
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, min(length, 999), at))
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:555]], at))
    data = bytes(range(256)) * 1000
    storage.put("a", [data[:10], data[10:100_010], data[100_010:]])
    assert storage.get("a") == data
    target = bytearray(len(data))
    assert storage.read_into("a", 0, memoryview(target)) == len(data)
    assert target == data


def test_lost_answer_of_the_link_is_a_win(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    real_link = os.link

    def link_and_say_it_existed(source: Path, target: Path) -> None:
        real_link(source, target)
        raise FileExistsError(errno.EEXIST, "NFS sent the request twice")

    monkeypatch.setattr(os, "link", link_and_say_it_existed)
    assert storage.put_if_absent("slot", b"mine") is True


def test_file_system_without_links_is_unsupported(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(UnsupportedStorageError, match="hard links"):
        storage.put_if_absent("slot", b"mine")
    assert os.listdir(storage.root) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_is_a_full_error_and_leaves_nothing(
    code: int, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put("job/kept", [b"old"])
    pwritev = os.pwritev

    def half(fd: int, views: list[memoryview], at: int) -> int:
        if at > 0:
            raise OSError(code, os.strerror(code))
        return pwritev(fd, [views[0][: views[0].nbytes // 2]], at)

    monkeypatch.setattr(os, "pwritev", half)
    for write in (lambda: storage.put("job/kept", [BIG]), lambda: storage.put_if_absent("job/new", BIG)):
        with pytest.raises(StorageFullError) as caught:
            write()
        assert str(storage.root) in caught.value.where
    assert storage.get("job/kept") == b"old"
    assert os.listdir(storage.root / "job") == ["kept"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip(f"this user cannot mount a small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_really_full_disk_keeps_what_was_there_and_works_again(small_disk: Path) -> None:
    storage = LocalStorage(small_disk)
    file = storage.create_append("job/log", b"head")
    assert file is not None
    file.append([b"-good"])
    for write in (
        lambda: file.append([b"x" * (2 << 20)]),
        lambda: storage.put("job/pack", [b"x" * (2 << 20)]),
        lambda: storage.put_if_absent("job/slot", b"x" * (2 << 20)),
    ):
        with pytest.raises(StorageFullError):
            write()
    assert storage.get("job/log") == b"head-good"
    assert storage.list("") == ["job/log"]
    assert os.listdir(small_disk / "job") == ["log"]
    assert not file.broken
    file.append([b"-again"])
    file.sync()
    file.close()
    assert storage.get("job/log") == b"head-good-again"


def test_append_beyond_a_size_limit_is_cut_back(storage: LocalStorage) -> None:
    file = storage.create_append("log", b"head")
    assert file is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError):
            file.append([b"x" * 200_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert storage.get("log") == b"head"
    assert not file.broken
    file.append([b"-next"])
    file.close()
    assert storage.get("log") == b"head-next"


def test_file_whose_end_cannot_be_cut_back_is_broken(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_args: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    file = storage.create_append("log", b"head")
    assert file is not None
    monkeypatch.setattr(os, "pwritev", fails)
    monkeypatch.setattr(os, "ftruncate", fails)
    with pytest.raises(StorageError, match="Input/output"):
        file.append([b"x"])
    monkeypatch.undo()
    assert file.broken
    with pytest.raises(StorageError, match="broken"):
        file.append([b"x"])
    file.close()


def test_failed_sync_breaks_the_file_for_good(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    file = storage.create_append("log", b"head")
    assert file is not None
    file.append([b"x"])
    monkeypatch.setattr(files, "sync_data", fails)
    with pytest.raises(StorageError, match="Input/output"):
        file.sync()
    monkeypatch.undo()
    assert file.broken
    for call in (file.sync, lambda: file.append([b"y"])):
        with pytest.raises(StorageError, match="broken"):
            call()
    file.close()


@pytest.mark.parametrize("prefix", ["", "a/", "a/b", "a/b/", "none/"])
def test_sizes_are_those_of_the_keys_that_are_listed(storage: LocalStorage, prefix: str) -> None:
    for key in ("top", "a/b/one", "a/b/two", "a/bc", "z/deep/er/key"):
        storage.put(key, [key.encode()])
    (storage.root / "a" / own_temporary()).write_bytes(b"unfinished")
    assert storage.sizes(prefix) == {key: storage.size(key) for key in storage.list(prefix)}


def test_unfinished_files_are_never_listed_or_named(storage: LocalStorage) -> None:
    storage.put("job/a", [b"x"])
    (storage.root / "job/.tmp-0-1-a").write_bytes(b"half")
    (storage.root / "empty").mkdir()
    (storage.root / ".tmp-0-1-b").write_bytes(b"half")
    assert storage.list("") == ["job/a"]
    assert storage.children("") == ["job"]
    assert storage.children("job") == ["a"]
    with pytest.raises(StorageError, match="not a valid key"):
        storage.get("job/.tmp-0-1-a")


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_stay(storage: LocalStorage) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from ckpt.storage import LocalStorage\n"
        "def parts():\n    yield from [b'x' * 10_000_000] * 4\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "LocalStorage(Path(sys.argv[1])).put('job/run/pack', parts())"
    )
    child = subprocess.run([sys.executable, "-c", script, str(storage.root)], check=False)
    assert child.returncode == -signal.SIGKILL
    (leftover,) = (storage.root / "job/run").iterdir()
    assert leftover.stat().st_size > 0
    own = leftover.with_name(f"{own_temporary()}abc")
    foreign = leftover.with_name(".tmp-ffffffff-1-abc")
    for path in (own, foreign):
        path.write_bytes(b"half")
    clock = FakeClock(own.stat().st_mtime + 3000)
    assert sweep_leftovers(storage, clock) == [str(leftover)]
    clock.advance(700)
    assert sorted(sweep_leftovers(storage, clock)) == sorted([str(own), str(foreign)])
    assert list((storage.root / "job/run").iterdir()) == []


def test_sweeping_a_store_that_is_not_there_finds_nothing(tmp_path: Path) -> None:
    assert remove_leftovers(tmp_path / "nowhere", host.SystemClock().now()) == []


def test_folder_removed_meanwhile_is_made_again(storage: LocalStorage) -> None:
    storage.put("job/run/a", [b"x"])
    LocalStorage(storage.root).delete("job/run/a")
    assert not (storage.root / "job").exists()
    assert storage.put_if_absent("job/run/b", b"y")
    assert storage.get("job/run/b") == b"y"


def test_file_in_the_place_of_a_folder_is_an_error_with_its_path(storage: LocalStorage) -> None:
    storage.put("job", [b"a file"])
    with pytest.raises(StorageError) as caught:
        storage.put("job/run", [b"x"])
    assert not isinstance(caught.value, MissingKeyError)
    assert str(storage.root) in caught.value.where


def test_private_file_is_for_its_owner_only(storage: LocalStorage) -> None:
    before = os.umask(0)
    try:
        assert storage.create_private("key", b"secret") is True
        assert storage.create_private("key", b"other") is False
    finally:
        os.umask(before)
    assert (storage.root / "key").stat().st_mode & 0o777 == 0o600
    assert storage.get("key") == b"secret"
