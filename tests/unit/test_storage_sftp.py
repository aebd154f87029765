"""The SFTP adapter against OpenSSH's own server, behind a proxy that loses answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.fixtures import running
from servers.proxy import FaultyProxy
from servers.sftp import SftpServer

from ckpt.errors import OptionError, StorageError, UnsupportedStorageError
from ckpt.protocols import Storage
from ckpt.storage import resolve, sweep_leftovers
from ckpt.storage.probe import probe
from ckpt.storage.retrying import RetryPolicy
from ckpt.storage.temporaries import own_temporary
from ckpt.testing import FakeClock
from ckpt.testing.contract import BIG, StorageContract

asyncssh = pytest.importorskip("asyncssh", reason="the SFTP adapter needs asyncssh: pip install asyncssh")
from ckpt.storage.sftp import SftpStorage


class TestSftpStorage(StorageContract):
    many_keys = 150  # more than one answer to SSH_FXP_READDIR has (100)

    @pytest.fixture
    def storage(self, sftp_server: SftpServer) -> Storage:
        return resolve(sftp_server.fresh_store_url(), sftp_server.storage_options)


@pytest.fixture
def folder(sftp_server: SftpServer) -> Path:
    return sftp_server.fresh_folder()


@pytest.fixture
def storage(sftp_server: SftpServer, folder: Path) -> SftpStorage:
    return SftpStorage(f"sftp://127.0.0.1:{sftp_server.port}{folder}", sftp_server.storage_options)


@pytest.fixture
def proxy(sftp_server: SftpServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(sftp_server.port) as proxy:
        yield proxy


@pytest.fixture
def far(sftp_server: SftpServer, folder: Path, proxy: FaultyProxy, tmp_path: Path) -> SftpStorage:
    """The same folder through the proxy, which the known hosts have to have, too."""
    known = tmp_path / "known_hosts"
    known.write_text(sftp_server.known_hosts.read_text().replace(f":{sftp_server.port} ", f":{proxy.port} "))
    options = {**sftp_server.storage_options, "known_hosts": str(known)}
    return SftpStorage(f"sftp://127.0.0.1:{proxy.port}{folder}", options, clock=FakeClock())


CREATE_ANSWERS, PUT_ANSWERS = 28, 16
"""More than the calls below have answers to lose; the last test of each kind makes sure of that."""


@pytest.mark.parametrize("skip", range(CREATE_ANSWERS))
def test_create_whose_answer_is_lost_has_won(far: SftpStorage, proxy: FaultyProxy, folder: Path, skip: int) -> None:
    far.put("warm", [b"x"])
    proxy.cut_next_answers(skip=skip)
    assert far.put_if_absent("job/slot", b"my nonce") is True
    assert skip < CREATE_ANSWERS - 1 or proxy.cut == 0
    proxy.cut_next_answers(0)
    assert far.get("job/slot") == b"my nonce"
    assert far.put_if_absent("job/slot", b"another nonce") is False
    assert far.put_if_absent("job/slot", b"") is False
    assert far.get("job/slot") == b"my nonce"
    assert [path.name for path in (folder / "job").iterdir()] == ["slot"]


@pytest.mark.parametrize("skip", range(PUT_ANSWERS))
def test_put_whose_answer_is_lost_is_whole(far: SftpStorage, proxy: FaultyProxy, folder: Path, skip: int) -> None:
    far.put("job/key", [b"old"])
    proxy.cut_next_answers(skip=skip)
    assert far.put("job/key", [b"new"]) == 3
    assert skip < PUT_ANSWERS - 1 or proxy.cut == 0
    proxy.cut_next_answers(0)
    assert far.get("job/key") == b"new"
    assert [path.name for path in (folder / "job").iterdir()] == ["key"]


def test_long_put_whose_connection_is_lost_fails_and_leaves_the_old_content(
    far: SftpStorage, proxy: FaultyProxy, folder: Path
) -> None:
    far.put("job/key", [b"old"])

    def parts() -> Iterator[bytes]:
        yield from (BIG, BIG)
        proxy.cut_connections()
        yield BIG

    with pytest.raises(StorageError, match="cannot write"):
        far.put("job/key", parts())
    assert far.get("job/key") == b"old"
    assert far.put("job/key", [b"new"]) == 3
    assert [path.name for path in (folder / "job").iterdir()] == ["key"]


def test_outage_is_a_typed_error_and_the_next_call_works(far: SftpStorage, proxy: FaultyProxy) -> None:
    far.put("job/key", [b"old"])
    proxy.refuse()
    calls: list[Callable[[], object]] = [
        lambda: far.get("job/key"),
        lambda: far.put("job/key", [b"new"]),
        lambda: far.put_if_absent("job/other", b"nonce"),
        lambda: far.exists("job/key"),
        lambda: far.list(""),
        lambda: far.delete("job/key"),
    ]
    for call in calls:
        with pytest.raises(StorageError):
            call()
    proxy.refuse(False)
    assert far.get("job/key") == b"old"
    assert far.put_if_absent("job/other", b"nonce") is True


def test_request_that_is_not_answered_in_time_is_made_again(
    sftp_server: SftpServer, proxy: FaultyProxy, far: SftpStorage, tmp_path: Path
) -> None:
    options = {**sftp_server.storage_options, "known_hosts": str(tmp_path / "known_hosts"), "timeout_s": 2}
    impatient = SftpStorage(far.url, options, clock=FakeClock())
    impatient.put("key", [b"x"])
    proxy.cut_next_answers(silently=True)
    assert impatient.get("key") == b"x"
    assert proxy.cut == 1


def test_names_are_given_to_durable_files_and_are_made_durable(
    storage: SftpStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("write", "fsync", "link", "posix_rename"):
        original = getattr(asyncssh.sftp.SFTPClientHandler, name)

        async def noted(*arguments: Any, name: str = name, original: Any = original) -> Any:
            result = await original(*arguments)
            done.append(name)
            return result

        monkeypatch.setattr(asyncssh.sftp.SFTPClientHandler, name, noted)
    storage.put_if_absent("job/run/slot", b"nonce")
    file, folders = ["write", "fsync"], ["fsync"] * 4  # job/run, job, the store, and what that lies in
    assert done == [*file, "link", *folders]
    done.clear()
    storage.put("job/run/key", [b"x"])
    assert done == [*file, "posix_rename", "fsync"]
    done.clear()
    storage.put_if_absent("job/run/slot", b"nonce")  # perhaps after an error: then it may not have been made durable
    assert done[-1] == "fsync"


def test_outage_costs_one_deadline_and_leaves_what_is_unfinished_for_later(
    far: SftpStorage, proxy: FaultyProxy, folder: Path
) -> None:
    clock = FakeClock()
    patient = SftpStorage(far.url, far._connection._asyncssh, clock=clock, policy=RetryPolicy(deadline_s=20.0))
    patient.put("job/key", [b"old"])
    for call in (lambda: patient.put("job/key", [b"new"]), lambda: patient.put_if_absent("job/slot", b"nonce")):
        began_s = clock.monotonic()
        proxy.cut_next_answers(skip=2)  # in the midst of writing
        proxy.refuse_when_cut()
        with pytest.raises(StorageError):
            call()
        assert clock.monotonic() - began_s <= 20.0
        assert len(list((folder / "job").glob(".tmp-*"))) == 1
        proxy.refuse(False)
        patient.put("job/other", [b"x"])
        assert list((folder / "job").glob(".tmp-*")) == []
    assert patient.get("job/key") == b"old"


def test_late_rename_of_a_put_that_was_given_up_cannot_arrive(storage: SftpStorage, folder: Path) -> None:
    storage.put("key", [b"newer"])
    late = folder / f"{own_temporary()}late"
    late.write_bytes(b"older")
    storage._unsettled.add(str(late))
    storage.put("key", [b"newest"])
    assert not late.exists()
    assert storage.get("key") == b"newest"


@pytest.mark.parametrize(("denied", "named"), [("fsync", "fsync@openssh.com"), ("hardlink", "hardlink@openssh.com")])
def test_server_without_what_safety_needs_is_refused(denied: str, named: str) -> None:
    for server in running(lambda: SftpServer(sftp_options=f"-P {denied}")):
        with pytest.raises(UnsupportedStorageError, match=named):
            probe(SftpStorage(server.fresh_store_url(), server.storage_options))


def test_server_without_atomic_replacing_is_refused() -> None:
    for server in running(lambda: SftpServer(sftp_options="-P posix-rename")):
        storage = SftpStorage(server.fresh_store_url(), server.storage_options)
        with pytest.raises(StorageError):
            storage.put("key", [b"x"])
        assert not storage.exists("key")


def test_unknown_host_key_is_refused(sftp_server: SftpServer, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    options = {**sftp_server.storage_options, "known_hosts": str(tmp_path / "known_hosts")}
    with pytest.raises(StorageError, match="host key"):
        SftpStorage(sftp_server.fresh_store_url(), options).exists("key")


def test_unknown_user_key_is_refused(sftp_server: SftpServer, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    options = {**sftp_server.storage_options, "client_keys": str(tmp_path / "key"), "agent_path": None}
    with pytest.raises(StorageError, match="let us in"):
        SftpStorage(sftp_server.fresh_store_url(), options).exists("key")


@pytest.mark.parametrize(
    "url", ["sftp://", "sftp://host", "sftp://host/", "sftp:///folder", "sftp://h:x/f", "sftp://h/~/.."]
)
def test_address_without_host_or_folder_is_refused(url: str) -> None:
    with pytest.raises(OptionError, match="not the address"):
        resolve(url)


def test_password_is_never_shown() -> None:
    storage = SftpStorage("sftp://me:secret@127.0.0.1:1/~/runs/", clock=FakeClock())
    assert storage.url == "sftp://me@127.0.0.1:1/~/runs"
    with pytest.raises(StorageError) as caught:
        storage.exists("key")
    assert "secret" not in f"{caught.value} {caught.value.__cause__!r}"
    with pytest.raises(OptionError) as refused:
        SftpStorage("sftp://host/f", {"pasword": "secret"})
    assert "secret" not in str(refused.value)


def test_forked_child_makes_a_connection_of_its_own(storage: SftpStorage) -> None:
    storage.put("key", [b"of the parent"])
    child = os.fork()
    if child == 0:
        try:
            storage.put("child", [b"of the child"])
            os._exit(0 if storage.get("key") == b"of the parent" else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert storage.get("child") == b"of the child"


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_stay(
    sftp_server: SftpServer, storage: SftpStorage, folder: Path
) -> None:
    script = (
        "import os, signal, sys; from ckpt.storage import resolve\n"
        "def parts():\n    yield from [b'x' * 9_000_000] * 3\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "resolve(sys.argv[1]).put('job/run/pack', parts())"
    )
    environ = {**os.environ, **sftp_server.environ}
    child = subprocess.run([sys.executable, "-c", script, storage.url], env=environ, check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL
    (leftover,) = (folder / "job/run").iterdir()
    own = leftover.with_name(f"{own_temporary()}abc")
    foreign, old = leftover.with_name(".tmp-ffffffff-1-abc"), leftover.with_name(".tmp-ffffffff-1-old")
    for path in (own, foreign, old):
        path.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    assert storage.list("") == []
    assert storage.children("") == []
    assert storage.children("job/run") == []
    assert sweep_leftovers(storage, FakeClock()) == sorted(f"job/run/{path.name}" for path in (leftover, old))
    assert sorted((folder / "job/run").iterdir()) == sorted([own, foreign])
    assert list(folder.glob(".tmp*")) == []
