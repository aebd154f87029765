"""Maps in a process of their own: workers killed, the main process killed or stopped, failed items tried again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, Attempt, Script, base_environment, collect, wait_for

from ckpt import host

COUNT = 24
WHOLE = sum(n * n for n in range(COUNT))


def script(folder: Path, mode: str = "plain", executor: str = "processes") -> Script:
    return Script(PROGRAMS / "map_script.py", folder, (mode, executor, str(COUNT)))


def items(folder: Path, kind: str) -> Counter[int]:
    lines = [line.split() for line in (folder / "items.txt").read_text().splitlines()]
    return Counter(int(number) for word, number, _ in lines if word == kind)


def pids(folder: Path) -> set[int]:
    return {int(line.split()[2]) for line in (folder / "items.txt").read_text().splitlines()}


def gone(wanted: set[int]) -> bool:
    for _ in range(200):
        if not any(host.process_alive(pid) for pid in wanted):
            return True
        time.sleep(0.05)
    return False


def check_whole(folder: Path, attempt: Attempt, lost: int) -> None:
    """The right result, and no more than ``lost`` items were executed once more."""
    assert attempt.status == 0, attempt.err
    assert attempt.result == [WHOLE, 0]
    ended = items(folder, "end")
    assert set(ended) == set(range(COUNT))
    assert sum(items(folder, "begin").values()) <= COUNT + lost


@pytest.mark.parametrize("mode", ["plain", "loop"])
def test_workers_that_are_killed_cost_only_their_items(mode: str, tmp_path: Path) -> None:
    process = script(tmp_path, mode).start()
    said = wait_for(process, "READY")
    killed = 0
    for _ in range(2):  # one item that loses three is held to be the cause
        for pid in pids(tmp_path):
            if host.process_alive(pid):
                os.kill(pid, signal.SIGKILL)
                killed += 1
                break
        time.sleep(0.1)
    attempt = collect(process, said)
    assert killed == 2
    check_whole(tmp_path, attempt, lost=2)
    assert gone(pids(tmp_path))


@pytest.mark.parametrize("mode", ["plain", "loop"])
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_main_process_killed_leaves_no_worker_and_only_unfinished_items(mode: str, executor: str, tmp_path: Path) -> None:
    process = script(tmp_path, mode, executor).start()
    said = wait_for(process, "READY")
    time.sleep(0.12)
    process.kill()
    assert collect(process, said).killed
    assert gone(pids(tmp_path)), "a worker outlived its main process"
    begun = sum(items(tmp_path, "begin").values())
    assert begun < COUNT
    check_whole(tmp_path, script(tmp_path, mode, executor).run(), lost=2 * 2)


def test_main_process_and_a_worker_killed_together(tmp_path: Path) -> None:
    process = script(tmp_path).start()
    said = wait_for(process, "READY")
    for pid in pids(tmp_path):
        os.kill(pid, signal.SIGKILL)
    process.kill()
    collect(process, said)
    assert gone(pids(tmp_path))
    check_whole(tmp_path, script(tmp_path).run(), lost=5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("mode", "executor"), [("plain", "threads"), ("plain", "processes"), ("loop", "processes")])
def test_a_stop_finishes_what_is_being_executed_and_loses_nothing(
    number: signal.Signals, mode: str, executor: str, tmp_path: Path
) -> None:
    process = script(tmp_path, mode, executor).start()
    said = wait_for(process, "READY")
    process.send_signal(number)
    stopped = collect(process, said)
    assert stopped.status == 75, stopped.err
    assert items(tmp_path, "begin") == items(tmp_path, "end"), "every item that began was finished"
    assert gone(pids(tmp_path) - {process.pid})
    check_whole(tmp_path, script(tmp_path, mode, executor).run(), lost=0)


def test_a_loop_that_notices_a_stop_before_its_map_does_lets_it_finish_too(tmp_path: Path) -> None:
    stopped = script(tmp_path, "loop", "processes").run(STOPS="1", ITEM_S="0.15")
    assert stopped.status == 75, stopped.err
    assert items(tmp_path, "begin") == items(tmp_path, "end")
    check_whole(tmp_path, script(tmp_path, "loop", "processes").run(), lost=0)


def test_ctrl_c_of_a_terminal_reaches_the_workers_and_does_not_end_their_items(tmp_path: Path) -> None:
    env = base_environment(tmp_path / "store")
    command = [sys.executable, str(PROGRAMS / "map_script.py"), "plain", "processes", str(COUNT)]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)  # fmt: skip
    said = wait_for(process, "READY")
    os.killpg(process.pid, signal.SIGINT)
    stopped = collect(process, said)
    assert stopped.status == 75, stopped.err
    assert items(tmp_path, "begin") == items(tmp_path, "end")
    check_whole(tmp_path, script(tmp_path).run(), lost=0)


def cli(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = base_environment(folder / "store")
    command = [sys.executable, "-m", "ckpt", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("mode", ["plain", "loop"])
def test_failed_items_are_listed_and_only_they_are_executed_again(mode: str, killed: bool, tmp_path: Path) -> None:
    one = script(tmp_path, mode, "threads")
    if killed:
        process = one.start(BAD="1,5")
        said = wait_for(process, "READY")
        process.kill()
        collect(process, said)
    if mode == "plain" or not killed:
        first = one.run(BAD="1,5")
        assert first.result == [WHOLE - 26, 2], first.err
    before = items(tmp_path, "begin")
    listed = cli(tmp_path, "failed", "script", "--json")
    assert listed.returncode == 0, listed.stderr
    letters = json.loads(listed.stdout)
    assert {(one["text"], one["error"]) for one in letters} <= {(n, f"ValueError: item {n} is bad") for n in "15"}
    assert letters
    assert "item 1 is bad (1 attempt," in cli(tmp_path, "failed", "script").stdout
    marked = cli(tmp_path, "retry", "script", "--failed")
    assert marked.returncode == 0, marked.stderr
    assert f"{len(letters)} item" in marked.stdout
    assert cli(tmp_path, "failed", "script").stdout.count("to be executed again") == len(letters)
    last = one.run()
    assert last.status == 0, last.err
    again = items(tmp_path, "begin") - before
    assert isinstance(last.result, list)
    if mode == "plain":
        assert last.result == [WHOLE, 0]
        assert again == Counter({1: 1, 5: 1})
    elif "not reached were" in last.err:  # the run was over, and went on behind the loop
        assert not killed
        assert not again
        assert cli(tmp_path, "failed", "script").stdout.count("to be executed again") == len(letters)
        return
    else:
        assert last.result[0] == WHOLE, "a result that came late was handed out, too"
    assert cli(tmp_path, "verify").returncode == 0
    assert cli(tmp_path, "failed", "script").stdout == "no failed items\n"


def test_a_live_run_cannot_be_marked(tmp_path: Path) -> None:
    process = script(tmp_path).start(BAD="0", ITEM_S="0.3")
    said = wait_for(process, "READY")
    assert cli(tmp_path, "retry", "script", "--failed").returncode == 3
    process.kill()
    collect(process, said)
    assert cli(tmp_path, "retry", "script").returncode == 2, "what is to be retried has to be said"
