"""The testing kit itself: faults strike exactly where they should, also in another process; the fake clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ckpt.errors import OptionError, StorageError, StorageFullError
from ckpt.protocols import AppendableStorage, Storage
from ckpt.storage import LocalStorage, MemoryStorage
from ckpt.testing import FAULTS_VARIABLE, Action, FakeClock, Fault, FaultPlan, FaultyStorage
from ckpt.testing.contract import AppendableStorageContract, StorageContract


class TestFaultyLocalStorageWithoutFaults(AppendableStorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> FaultyStorage:
        return FaultyStorage(LocalStorage(tmp_path / "store"), FaultPlan())


class TestFaultyMemoryStorageWithoutFaults(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return FaultyStorage(MemoryStorage(str(tmp_path)), FaultPlan())


def faulty(path: Path, text: str) -> FaultyStorage:
    return FaultyStorage(LocalStorage(path / "store"), FaultPlan.parse(text))


def test_it_is_appendable_only_if_the_inner_one_is(tmp_path: Path) -> None:
    assert isinstance(faulty(tmp_path, ""), AppendableStorage)
    over_memory = FaultyStorage(MemoryStorage("x"), FaultPlan())
    assert not isinstance(over_memory, AppendableStorage)
    assert not hasattr(over_memory, "make_durable")


def test_making_durable_is_a_write_that_can_fail(tmp_path: Path) -> None:
    storage = faulty(tmp_path, "fail:make_durable@1")
    storage.put("log", [b"x"])
    with pytest.raises(StorageError, match="injected: make_durable"):
        storage.make_durable("log")
    storage.make_durable("log")
    assert storage.plan.count("write", "log") == 3


def test_fault_strikes_the_calls_it_counts_and_no_others(tmp_path: Path) -> None:
    storage = faulty(tmp_path, "fail:put=job/*@2-3")
    for key, works in (("other", True), ("job/a", True), ("job/b", False), ("other", True), ("job/c", False)):
        if works:
            storage.put(key, [b"x"])
        else:
            with pytest.raises(StorageError, match="injected"):
                storage.put(key, [b"x"])
    storage.put("job/d", [b"x"])
    assert storage.list("") == ["job/a", "job/d", "other"]
    assert storage.plan.count("put") == 6
    assert storage.plan.count("write", "job/*") == 4
    assert storage.plan.calls[-1] == ("list", "")


def test_full_has_no_effect_and_lost_has(tmp_path: Path) -> None:
    storage = faulty(tmp_path, "full:put_if_absent@1,lose:put_if_absent@2")
    with pytest.raises(StorageFullError):
        storage.put_if_absent("a", b"x")
    assert not storage.exists("a")
    with pytest.raises(StorageError, match="lost"):
        storage.put_if_absent("a", b"x")
    assert storage.get("a") == b"x"


def test_flip_changes_one_bit_of_what_is_read(tmp_path: Path) -> None:
    storage = faulty(tmp_path, "flip(2):get@2,flip(99):read_into@1")
    storage.put("a", [b"\0\0\0\0"])
    assert storage.get("a") == b"\0\0\0\0"
    assert storage.get("a") == b"\0\0\x10\0"
    assert storage.get("a") == b"\0\0\0\0"
    target = bytearray(6)
    assert storage.read_into("a", 0, memoryview(target)) == 4
    assert target == b"\0\0\0\x10\0\0"


def test_delay_passes_on_the_plans_clock(tmp_path: Path) -> None:
    clock = FakeClock()
    plan = FaultPlan(Fault(Action.DELAY, "get", amount=2.5), clock=clock)
    storage = FaultyStorage(LocalStorage(tmp_path), plan)
    storage.put("a", [b"x"])
    assert storage.get("a") == b"x"
    assert clock.sleeps == [2.5]


def test_failed_append_leaves_the_file_usable_and_a_lost_one_breaks_it(tmp_path: Path) -> None:
    storage = faulty(tmp_path, "full:append@1,lose:append@2")
    file = storage._create_append("log", b"head")
    assert file is not None
    with pytest.raises(StorageFullError):
        file.append([b"x"])
    assert not file.broken
    with pytest.raises(StorageError, match="lost"):
        file.append([b"y"])
    assert file.broken
    with pytest.raises(StorageError, match="broken"):
        file.append([b"z"])
    assert storage.get("log") == b"heady"


@pytest.mark.parametrize("action", ["fail", "lose"])
def test_failed_sync_breaks_the_file(action: str, tmp_path: Path) -> None:
    storage = faulty(tmp_path, f"{action}:sync@2")
    file = storage._create_append("log", b"head")
    assert file is not None
    file.sync()
    with pytest.raises(StorageError, match="injected"):
        file.sync()
    assert file.broken


def test_faults_can_be_added_and_cleared(tmp_path: Path) -> None:
    storage = faulty(tmp_path, "")
    storage.plan.add(Fault(Action.FAIL, "exists", last=2))
    with pytest.raises(StorageError):
        storage.exists("a")
    storage.plan.clear()
    assert storage.exists("a") is False


@pytest.mark.parametrize(
    "text", ["nonsense", "explode:put@1", "fail:launch@1", "fail:put@0", "fail:put@3-2", "tear:get@1", "flip:put@1"]
)
def test_senseless_fault_is_an_option_error(text: str) -> None:
    with pytest.raises(OptionError):
        FaultPlan.parse(text)


SCRIPT = """
import sys
from ckpt.storage import resolve
storage = resolve(sys.argv[1])
for i in range(5):
    storage.put(f"job/{i}", [b"x" * 100])
file = storage.create_append("log", b"head")
for i in range(5):
    file.append([b"0123456789"])
    file.sync()
print("survived", __name__, sys.argv[1:])
"""


def run_with(faults: str, tmp_path: Path) -> tuple[subprocess.CompletedProcess[str], LocalStorage]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    store = tmp_path / "store"
    done = subprocess.run(
        [sys.executable, "-m", "ckpt.testing", str(script), str(store)],
        env={**os.environ, FAULTS_VARIABLE: faults},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, LocalStorage(store)


def test_script_without_faults_runs_as_usual(tmp_path: Path) -> None:
    done, _ = run_with("", tmp_path)
    assert done.stdout == f"survived __main__ ['{tmp_path}/store']\n"
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("faults", "keys", "log"),
    [
        ("kill-before:put@3", 2, b""),
        ("kill-after:put=job/2@1", 3, b""),
        ("tear:put@2", 1, b""),
        ("kill-after:write@6", 5, b"head"),
        ("kill-before:append@2", 5, b"head0123456789"),
        ("kill-after:append@2", 5, b"head01234567890123456789"),
        ("tear:append@2", 5, b"head012345678901234"),
    ],
)
def test_child_dies_at_the_chosen_call(faults: str, keys: int, log: bytes, tmp_path: Path) -> None:
    done, storage = run_with(faults, tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == ""
    assert storage.list("job/") == [f"job/{i}" for i in range(keys)]
    assert (storage.get("log") if storage.exists("log") else b"") == log


def test_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock(1000.0)
    assert (clock.now(), clock.monotonic()) == (1000.0, 0.0)
    clock.sleep(5)
    clock.advance(2)
    assert (clock.now(), clock.monotonic()) == (1007.0, 7.0)
    clock.set_wall(50.0)
    assert (clock.now(), clock.monotonic()) == (50.0, 7.0)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)
