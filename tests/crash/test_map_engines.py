"""Maps on Dask and Ray: workers killed by SIGKILL, the scheduler or head lost, the run resumed on a new one."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, Script, collect, wait_for
from servers.process import ServerProcess

import ckpt
from ckpt import host

COUNT = 40
IN_HAND = 2
"""Items that a killed worker takes with it, at most."""

WHOLE = sum(n * n for n in range(COUNT))


def script(folder: Path, executor: str) -> Script:
    return Script(PROGRAMS / "map_engines.py", folder, (executor, str(COUNT)))


def lines(folder: Path) -> list[tuple[str, int, int]]:
    found = (line.split() for line in (folder / "items.txt").read_text().splitlines())
    return [(word, int(number), int(pid)) for word, number, pid in found]


def ended(folder: Path) -> int:
    return len({number for word, number, _ in lines(folder) if word == "end"})


def kill_a_worker(folder: Path) -> None:
    """SIGKILL the process that executes an item now."""
    for _ in range(400):
        begun = [(number, pid) for word, number, pid in lines(folder) if word == "begin"]
        done = {(number, pid) for word, number, pid in lines(folder) if word == "end"}
        for number, pid in begun:
            if (number, pid) not in done and host.process_alive(pid):
                os.kill(pid, signal.SIGKILL)
                return
        time.sleep(0.02)
    raise AssertionError("no item is being executed")


def wait_until(count: int, folder: Path) -> None:
    for _ in range(3000):
        if ended(folder) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"only {ended(folder)} items ended")


def children(pid: int, name: str) -> list[int]:
    """The processes below ``pid`` whose command line has ``name`` in it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and name in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except (OSError, ValueError, IndexError):
            continue
    return found


def recorded(folder: Path) -> int:
    """The items whose results are in the log."""
    store = ckpt.Store(str(folder / "store"))
    (run,) = store.list()
    return sum(int(one.head["items"]) for one in store.records(run.address) if "map" in one.head)


def check(folder: Path, acknowledged: int) -> None:
    """``acknowledged`` items were recorded when the executor was lost; a worker had been killed with what it had in hand."""
    executed = Counter(number for word, number, _ in lines(folder) if word == "begin")
    assert set(executed) == set(range(COUNT))
    again = sum(executed.values()) - COUNT
    assert again <= COUNT - acknowledged + IN_HAND, "what was recorded was executed again"
    assert again <= 2 + 2 * 4, "only what was in hand is executed again: of a killed worker, and of a lost scheduler"


class DaskCluster:
    def __init__(self) -> None:
        self.process = ServerProcess("dask")
        found = self.process.start([sys.executable, str(PROGRAMS / "dask_cluster.py")], r"LISTENING (\S+)")
        self.executor = f"dask://{found[1]}"

    def kill(self) -> None:
        assert self.process._process is not None
        self.process._process.kill()
        self.process.stop()


@pytest.mark.slow
def test_dask_loses_a_worker_then_its_scheduler_and_the_run_goes_on_on_a_new_one(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason='needs Dask: pip install "ckpt-jobs[dask]"')
    first = DaskCluster()
    process = script(tmp_path, first.executor).start()
    try:
        said = wait_for(process, "READY")
        kill_a_worker(tmp_path)
        wait_until(15, tmp_path)
    finally:
        first.kill()
    lost = collect(process, said)
    assert lost.status == 1
    assert "ExecutorLostError" in lost.err
    before = recorded(tmp_path)
    assert 0 < before < COUNT
    second = DaskCluster()
    try:
        last = script(tmp_path, second.executor).run()
    finally:
        second.process.stop()
    assert last.status == 0, last.err
    assert last.result == WHOLE
    check(tmp_path, before)


def test_dask_scheduler_that_does_not_answer_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason='needs Dask: pip install "ckpt-jobs[dask]"')
    import ckpt
    from ckpt.integrations import dask

    monkeypatch.setattr(dask, "CONNECT_S", 1.0)
    with pytest.raises(ckpt.errors.ExecutorLostError, match="no Dask scheduler answers"):
        list(ckpt.map(abs, [1], executor="dask://127.0.0.1:9"))
    with pytest.raises(ckpt.errors.OptionError, match="names no scheduler"):
        list(ckpt.map(abs, [1], executor="dask"))


OWN_RAY = {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": "local"}
"""A Ray that the program starts itself, whatever another one has left on this machine."""


@pytest.mark.slow
def test_ray_loses_a_worker_then_its_head_and_the_run_goes_on_on_a_new_one(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='needs Ray: pip install "ckpt-jobs[ray]"')
    process = script(tmp_path, "ray").start(**OWN_RAY)
    said = wait_for(process, "READY", timeout_s=120)
    kill_a_worker(tmp_path)
    wait_until(15, tmp_path)
    [head] = children(process.pid, "gcs_server")
    os.kill(head, signal.SIGKILL)
    lost = collect(process, said)
    assert lost.status == 1, lost.err
    assert "ExecutorLostError" in lost.err
    before = recorded(tmp_path)
    last = script(tmp_path, "ray").run(**OWN_RAY)
    assert last.status == 0, last.err
    assert last.result == WHOLE
    check(tmp_path, before)
