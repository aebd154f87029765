"""The heartbeat lease of remote stores, on a fake clock; on a double and on every real server."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from servers.fixtures import Server
from unit.storage_doubles import SCHEME

from ckpt.errors import RunBusyError, StorageError
from ckpt.format.names import RunNames
from ckpt.holder import Holder
from ckpt.lease import acquire, current_holder
from ckpt.lease_remote import TTL_S, RemoteLease
from ckpt.storage import resolve
from ckpt.storage.remote import RemoteStorage
from ckpt.testing import Action, FakeClock, Fault, FaultPlan, FaultyStorage

NAMES = RunNames("job", "run")


@pytest.fixture(params=["double", "s3_server", "azure_server", "gcs_server", "sftp_server"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> FaultyStorage:
    if request.param == "double":
        return FaultyStorage(RemoteStorage(f"{SCHEME}://{tmp_path.as_posix().lstrip('/')}"), FaultPlan())
    server: Server = request.getfixturevalue(request.param)
    return FaultyStorage(resolve(server.fresh_store_url(), server.storage_options), FaultPlan())


@pytest.fixture
def me() -> Holder:
    return Holder.this_process(FakeClock())


@pytest.fixture
def elsewhere(me: Holder) -> Holder:
    return replace(me, host="elsewhere", boot_id="another", pid=7)


class RenewingClock(FakeClock):
    """While somebody sleeps on it, the other attempt renews every five seconds, ``times`` times."""

    def __init__(self, lease: RemoteLease, times: float) -> None:
        super().__init__()
        self.lease, self.times, self.next_s = lease, times, 5.0

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        while self.times > 0 and self.monotonic() >= self.next_s:
            assert self.lease.renew() is True
            self.next_s += 5.0
            self.times -= 1


def hold(storage: FaultyStorage, holder: Holder) -> RemoteLease:
    lease = acquire(storage, NAMES, holder=holder, clock=FakeClock())
    assert isinstance(lease, RemoteLease)
    return lease


def test_lease_is_held_until_released(storage: FaultyStorage, me: Holder) -> None:
    assert current_holder(storage, NAMES) is None
    lease = hold(storage, me)
    assert current_holder(storage, NAMES) == me
    assert lease.renew() is True
    lease.release()
    lease.release()
    assert lease.renew() is False
    assert current_holder(storage, NAMES) is None
    hold(storage, me).release()


def test_live_process_of_the_same_machine_is_refused_at_once(storage: FaultyStorage, me: Holder) -> None:
    hold(storage, replace(me, started=100.0))
    clock = FakeClock()
    with pytest.raises(RunBusyError) as caught:
        acquire(storage, NAMES, holder=me, clock=clock)
    assert (caught.value.pid, caught.value.since) == (os.getpid(), 100.0)
    assert clock.sleeps == []


def test_dead_process_of_the_same_machine_is_taken_over_at_once(storage: FaultyStorage, me: Holder) -> None:
    dead = hold(storage, replace(me, process_start="1"))
    assert current_holder(storage, NAMES) is None
    clock = FakeClock()
    lease = acquire(storage, NAMES, holder=me, clock=clock)
    assert clock.sleeps == []
    assert lease.renew() is True
    assert dead.renew() is False


def test_silent_holder_elsewhere_is_taken_over_after_its_time(
    storage: FaultyStorage, me: Holder, elsewhere: Holder
) -> None:
    zombie = hold(storage, elsewhere)
    clock = FakeClock()
    lease = acquire(storage, NAMES, holder=me, clock=clock)
    assert TTL_S <= clock.monotonic() < TTL_S + 2
    assert zombie.renew() is False
    zombie.release()
    assert lease.renew() is True
    assert current_holder(storage, NAMES) == me


def test_renewing_holder_elsewhere_is_refused_as_soon_as_it_renews(
    storage: FaultyStorage, me: Holder, elsewhere: Holder
) -> None:
    clock = RenewingClock(hold(storage, elsewhere), times=float("inf"))
    with pytest.raises(RunBusyError) as caught:
        acquire(storage, NAMES, holder=me, clock=clock)
    assert (caught.value.host, caught.value.pid) == ("elsewhere", 7)
    assert 5 <= clock.monotonic() < TTL_S


def test_wait_outlives_a_holder_that_dies_meanwhile(storage: FaultyStorage, me: Holder, elsewhere: Holder) -> None:
    clock = RenewingClock(hold(storage, elsewhere), times=4)
    lease = acquire(storage, NAMES, holder=me, wait_s=120, clock=clock)
    assert 20 + TTL_S <= clock.monotonic() < 20 + TTL_S + 3
    assert lease.renew() is True


def test_clock_of_the_holder_does_not_matter(storage: FaultyStorage, me: Holder, elsewhere: Holder) -> None:
    clock = RenewingClock(hold(storage, replace(elsewhere, started=-1e9)), times=float("inf"))
    with pytest.raises(RunBusyError):
        acquire(storage, NAMES, holder=me, clock=clock)


def test_lost_answer_of_a_renewal_does_not_lose_the_lease(storage: FaultyStorage, me: Holder) -> None:
    lease = hold(storage, me)
    storage.plan.add(Fault(Action.LOSE, "put"))
    with pytest.raises(StorageError, match="lost"):
        lease.renew()
    assert lease.renew() is True


def test_forked_child_neither_holds_nor_releases(storage: FaultyStorage, me: Holder) -> None:
    lease = hold(storage, me)
    child = os.fork()
    if child == 0:
        held = lease.renew()
        lease.release()
        os._exit(1 if held else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert lease.renew() is True


def test_unreadable_lease_is_taken_over_only_after_its_time(storage: FaultyStorage, me: Holder) -> None:
    storage.put(NAMES.lock, [b"\xff garbage"])
    clock = FakeClock()
    assert acquire(storage, NAMES, holder=me, clock=clock).renew() is True
    assert clock.monotonic() >= TTL_S


HOLD = """
import os, sys, time
from ckpt import host
from ckpt.format.names import RunNames
from ckpt.holder import Holder
from ckpt.lease import acquire
from ckpt.storage import resolve
clock = host.SystemClock()
lease = acquire(resolve(sys.argv[1]), RunNames("job", "run"), holder=Holder.this_process(clock), clock=clock)
print("HELD", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["s3_server", "azure_server", "gcs_server", "sftp_server"])
def test_lease_of_a_killed_process_of_this_machine_is_free_at_once(
    name: str, me: Holder, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(name)
    url, clock = server.fresh_store_url(), FakeClock()
    storage = resolve(url, server.storage_options)
    environ = {**os.environ, **server.environ}
    child = subprocess.Popen([sys.executable, "-c", HOLD, url], env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "HELD\n"
        with pytest.raises(RunBusyError) as caught:
            acquire(storage, NAMES, holder=me, clock=clock)
        assert caught.value.pid == child.pid
    finally:
        child.kill()
        child.communicate()
    assert acquire(storage, NAMES, holder=me, clock=clock).renew() is True
    assert clock.sleeps == []  # neither refusal nor takeover waited for a heartbeat
