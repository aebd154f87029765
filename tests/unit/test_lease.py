"""The lease of local and in-process stores: one holder, gone with its process, not inherited, named when it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt import host
from ckpt.errors import RunBusyError, StorageError
from ckpt.format.names import RunNames
from ckpt.holder import Holder
from ckpt.host import SystemClock
from ckpt.lease import acquire, current_holder
from ckpt.protocols import Storage
from ckpt.storage import LocalStorage, MemoryStorage
from ckpt.testing import FakeClock, FaultPlan, FaultyStorage

NAMES = RunNames("job", "run")


@pytest.fixture(params=["local", "memory", "wrapped"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "memory":
        return MemoryStorage(str(tmp_path))
    local = LocalStorage(tmp_path / "store")
    return FaultyStorage(local, FaultPlan()) if request.param == "wrapped" else local


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def me(clock: FakeClock) -> Holder:
    return Holder.this_process(clock)


HOLD = """
import os, sys
from pathlib import Path
from ckpt.format.names import RunNames
from ckpt.holder import Holder
from ckpt.host import SystemClock
from ckpt.lease import acquire
from ckpt.storage import LocalStorage
clock = SystemClock()
lease = acquire(LocalStorage(Path(sys.argv[1])), RunNames("job", "run"), holder=Holder.this_process(clock), clock=clock)
child = os.fork() if "fork" in sys.argv else -1
if child == 0:
    sys.stdin.readline()
    os._exit(0)
print(child, flush=True)
sys.stdin.readline()
lease.release()
print("released", flush=True)
sys.stdin.readline()
"""


class OtherProcess:
    """A process that holds the lease once it has been made."""

    def __init__(self, store: Path, *words: str) -> None:
        command = [sys.executable, "-c", HOLD, str(store), *words]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.child = int(self.hear())

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[OtherProcess]:
    process = OtherProcess(tmp_path)
    yield process
    process.kill()


def test_second_use_in_the_same_process_is_refused(storage: Storage, me: Holder, clock: FakeClock) -> None:
    lease = acquire(storage, NAMES, holder=me, clock=clock)
    with pytest.raises(RunBusyError, match="this process itself") as caught:
        acquire(storage, NAMES, holder=me, clock=clock)
    assert (caught.value.host, caught.value.pid, caught.value.since) == (host.host_name(), os.getpid(), me.started)
    lease.release()
    acquire(storage, NAMES, holder=me, clock=clock).release()


def test_other_runs_are_free(storage: Storage, me: Holder, clock: FakeClock) -> None:
    leases = [acquire(storage, RunNames("job", f"run-{i}"), holder=me, clock=clock) for i in range(3)]
    for lease in leases:
        lease.release()


def test_release_twice_does_not_release_the_next_holder(storage: Storage, me: Holder, clock: FakeClock) -> None:
    first = acquire(storage, NAMES, holder=me, clock=clock)
    first.release()
    second = acquire(storage, NAMES, holder=me, clock=clock)
    first.release()
    assert first.renew() is False
    assert second.renew() is True
    assert current_holder(storage, NAMES) == me
    second.release()


def test_current_holder_is_none_before_and_after(storage: Storage, me: Holder, clock: FakeClock) -> None:
    assert current_holder(storage, NAMES) is None
    lease = acquire(storage, NAMES, holder=me, clock=clock)
    assert current_holder(storage, NAMES) == me
    lease.release()
    assert current_holder(storage, NAMES) is None


def test_one_store_by_two_paths_is_one_lease(tmp_path: Path, me: Holder, clock: FakeClock) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    lease = acquire(LocalStorage(tmp_path / "real"), NAMES, holder=me, clock=clock)
    with pytest.raises(RunBusyError):
        acquire(LocalStorage(tmp_path / "link"), NAMES, holder=me, clock=clock)
    lease.release()


def test_live_holder_in_another_process_is_named(
    other: OtherProcess, tmp_path: Path, me: Holder, clock: FakeClock
) -> None:
    clock.set_wall(SystemClock().now() + 7300)
    with pytest.raises(RunBusyError) as caught:
        acquire(LocalStorage(tmp_path), NAMES, holder=me, clock=clock)
    assert (caught.value.host, caught.value.pid) == (host.host_name(), other.process.pid)
    assert abs(caught.value.since - SystemClock().now()) < 100
    text = str(caught.value)
    assert f"process {other.process.pid} on {host.host_name()}" in text
    assert "for 2 h 01 min" in text
    assert "job/run" in text
    assert "wait=" in text
    found = current_holder(LocalStorage(tmp_path), NAMES)
    assert found is not None
    assert found.pid == other.process.pid


def test_looking_at_a_lease_does_not_take_it(other: OtherProcess, tmp_path: Path, me: Holder, clock: FakeClock) -> None:
    for _ in range(20):
        assert current_holder(LocalStorage(tmp_path), NAMES) is not None
    with pytest.raises(RunBusyError):
        acquire(LocalStorage(tmp_path), NAMES, holder=me, clock=clock)


def test_killed_holder_is_taken_over_at_once(other: OtherProcess, tmp_path: Path, me: Holder, clock: FakeClock) -> None:
    other.kill()
    assert current_holder(LocalStorage(tmp_path), NAMES) is None
    lease = acquire(LocalStorage(tmp_path), NAMES, holder=me, clock=clock)
    assert clock.sleeps == []
    assert Holder.parse((tmp_path / NAMES.lock).read_bytes()) == me
    lease.release()


def test_wait_gets_the_lease_when_it_is_released(
    other: OtherProcess, tmp_path: Path, me: Holder, clock: FakeClock
) -> None:
    class ReleasingClock(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if len(self.sleeps) == 3:
                other.say()
                assert other.hear() == "released"

    waiting = ReleasingClock()
    lease = acquire(LocalStorage(tmp_path), NAMES, holder=me, wait_s=30, clock=waiting)
    assert len(waiting.sleeps) == 3
    lease.release()


def test_wait_ends_after_its_time(other: OtherProcess, tmp_path: Path, me: Holder, clock: FakeClock) -> None:
    with pytest.raises(RunBusyError, match="waited 30 s"):
        acquire(LocalStorage(tmp_path), NAMES, holder=me, wait_s=30, clock=clock)
    assert clock.monotonic() == pytest.approx(30)


def test_forked_child_does_not_keep_the_lock_alive(tmp_path: Path, me: Holder, clock: FakeClock) -> None:
    parent = OtherProcess(tmp_path, "fork")
    try:
        parent.process.kill()
        parent.process.wait()
        os.kill(parent.child, 0)
        acquire(LocalStorage(tmp_path), NAMES, holder=me, clock=clock).release()
    finally:
        os.kill(parent.child, signal.SIGKILL)
        parent.kill()


def test_forked_child_neither_holds_nor_releases(storage: Storage, me: Holder, clock: FakeClock) -> None:
    lease = acquire(storage, NAMES, holder=me, clock=clock)
    child = os.fork()
    if child == 0:
        held = lease.renew()
        lease.release()
        os._exit(1 if held else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert lease.renew() is True
    if not isinstance(storage, MemoryStorage):
        script = "import sys; from pathlib import Path; from ckpt.lease import *; from ckpt.storage import *\n" + (
            "sys.exit(current_holder(LocalStorage(Path(sys.argv[1])), RunNames('job', 'run')).pid != int(sys.argv[2]))"
        )
        subprocess.run([sys.executable, "-c", script, storage.url, str(os.getpid())], check=True)
    lease.release()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_fork_while_another_thread_is_busy_with_leases_does_not_hang_the_child(
    tmp_path: Path, me: Holder, clock: FakeClock
) -> None:
    stop = threading.Event()

    def churn() -> None:
        storage = LocalStorage(tmp_path / "a")
        while not stop.is_set():
            acquire(storage, NAMES, holder=me, clock=clock).release()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)  # a child that hangs must end, and fail the test
                acquire(LocalStorage(tmp_path / "b"), NAMES, holder=me, clock=clock).release()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


def test_deleted_lock_file_is_noticed(tmp_path: Path, me: Holder, clock: FakeClock) -> None:
    storage = LocalStorage(tmp_path)
    lease = acquire(storage, NAMES, holder=me, clock=clock)
    storage.delete(NAMES.lock)
    assert lease.renew() is False
    lease.release()
    again = acquire(storage, NAMES, holder=me, clock=clock)
    assert again.renew() is True
    again.release()


def test_threads_of_one_process_exclude_each_other(storage: Storage, me: Holder, clock: FakeClock) -> None:
    won: list[object] = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        try:
            won.append(acquire(storage, NAMES, holder=me, clock=clock))
        except RunBusyError:
            return

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].release()  # type: ignore[attr-defined]


def test_lock_that_cannot_be_made_is_a_storage_error(tmp_path: Path, me: Holder, clock: FakeClock) -> None:
    (tmp_path / "job").write_text("a file in the place of the job's folder")
    with pytest.raises(StorageError) as caught:
        acquire(LocalStorage(tmp_path), NAMES, holder=me, clock=clock)
    assert str(tmp_path) in caught.value.where


def test_holder_is_written_and_read_back(me: Holder) -> None:
    import json

    assert Holder.parse(json.dumps(me.to_json()).encode()) == me
    for text in (b"", b"{}", b"[1]", b"\xff", b'{"host": "x", "pid": "y"}'):
        assert Holder.parse(text) is None


def test_holder_knows_whether_it_lives(me: Holder) -> None:
    from dataclasses import replace

    assert me.alive() is True
    assert replace(me, process_start="1").alive() is False
    assert replace(me, process_start="").alive() is True
    assert replace(me, host="elsewhere").alive() is None
    assert replace(me, boot_id="earlier").alive() is None
