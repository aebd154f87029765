"""Maps on executors of others: loky's workers and the main process are killed by SIGKILL, and the map goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
from crash.harness import PROGRAMS, Script, wait_for
from crash.test_map_engines import COUNT, WHOLE, check, kill_a_worker, lines, recorded, wait_until

import ckpt
from ckpt import host
from ckpt.errors import ExecutorLostError, WorkerLostError

loky: Any = pytest.importorskip("loky", reason="needs loky: pip install loky")


def new() -> Executor:
    executor: Executor = loky.ProcessPoolExecutor(2)
    return executor


def shared() -> Executor:
    executor: Executor = loky.get_reusable_executor(max_workers=2)
    return executor


def dies_once(path: Path) -> str:
    if path.name.startswith("bad") and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def dies(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.parametrize("make", [new, shared])
def test_loky_that_broke_is_made_again(make: Callable[[], Executor], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "bad-1", "b", "bad-2", "c")]
    assert list(ckpt.map(dies_once, paths, executor=make)) == [path.name for path in paths]
    found = list(ckpt.map(dies, range(5), executor=make, on_error="collect"))
    failed = found.pop(2)
    assert found == [0, 1, 3, 4], "only the culprit failed"
    assert isinstance(failed, ckpt.Failed)
    assert isinstance(failed.error, WorkerLostError)


@pytest.mark.parametrize("make", [new, shared])
def test_loky_that_was_given_and_broke_is_lost(make: Callable[[], Executor]) -> None:
    given = make()
    with pytest.raises(ExecutorLostError, match="PoolExecutor"):
        list(ckpt.map(dies, range(5), executor=given))
    given.shutdown(wait=True)


def test_a_run_on_loky_goes_on_when_a_worker_and_then_the_main_process_was_killed(tmp_path: Path) -> None:
    script = Script(PROGRAMS / "map_engines.py", tmp_path, ("loky", str(COUNT)))
    process = script.start()
    wait_for(process, "READY")
    kill_a_worker(tmp_path)
    wait_until(12, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for pid in {pid for _, _, pid in lines(tmp_path) if host.process_alive(pid)}:
        os.kill(pid, signal.SIGKILL)  # loky leaves its workers behind when their main process is killed
    before = recorded(tmp_path)
    assert before < COUNT
    last = script.run()
    assert last.status == 0, last.err
    assert last.result == WHOLE
    check(tmp_path, before)
