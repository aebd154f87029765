"""Several processes and one run: two attempts at once, and children made inside a job."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, Attempt, Script, collect, wait_for


def waiting(folder: Path, *arguments: str) -> Script:
    return Script(PROGRAMS / "waits.py", folder, arguments)


def test_second_start_of_a_live_run_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    holder = waiting(tmp_path).start()
    wait_for(holder, "RUNNING")
    second = waiting(tmp_path).run()
    assert second.status == 1
    said = second.err.rpartition("RunBusyError")[2]
    assert str(holder.pid) in said, second.err
    assert socket.gethostname() in said
    assert re.search(r"since|\d\d:\d\d", said), "since when"
    (tmp_path / "go").touch()
    first = collect(holder)
    assert first.status == 0, first.err
    assert first.result == 45, "the refused start did not disturb the holder"


def test_waiting_start_goes_on_when_the_holder_has_finished(tmp_path: Path) -> None:
    holder = waiting(tmp_path).start()
    wait_for(holder, "RUNNING")
    second = waiting(tmp_path, "30").start()
    wait_for(second, "STARTING")
    (tmp_path / "go").touch()
    assert collect(holder).result == 45
    after: Attempt = collect(second)
    assert after.status == 0, after.err
    assert after.result == 45
    assert "RUNNING" not in after.out, "the recorded result is returned"


def test_waiting_start_takes_over_from_a_killed_holder(tmp_path: Path) -> None:
    holder = waiting(tmp_path).start()
    wait_for(holder, "RUNNING")
    second = waiting(tmp_path, "30").start()
    wait_for(second, "STARTING")
    holder.kill()
    assert collect(holder).status == -signal.SIGKILL
    wait_for(second, "RUNNING")
    (tmp_path / "go").touch()
    assert collect(second).result == 45


def test_after_a_kill_the_next_start_takes_over_without_waiting(tmp_path: Path) -> None:
    holder = waiting(tmp_path).start()
    wait_for(holder, "RUNNING")
    holder.kill()
    collect(holder)
    (tmp_path / "go").touch()
    again = waiting(tmp_path).run()
    assert again.status == 0, again.err
    assert again.result == 45


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver", "bare", "exits"])
def test_children_never_write_to_the_run(way: str, tmp_path: Path) -> None:
    script = Script(PROGRAMS / "children.py", tmp_path, (way,))
    attempt = script.run()
    assert attempt.status == 0, attempt.err
    result = attempt.result
    assert isinstance(result, dict)
    seen = {key: value for key, value in result["dict"]}
    assert seen["written by the child"] == [], "files of the store that grew while the child ran"
    assert seen["child"] == {"tuple": [10, [0, 1, 4, 9]]}, "marked loops and steps are plain there"
    assert seen["total"] == 15, "the parent's run went on"
    assert seen["busy after the child"] is True, "the child's end did not give the parent's lease away"
    again = script.run()
    assert again.result == attempt.result, "the finished run returns its result"


def test_jobs_in_pool_workers_are_runs_of_their_own(tmp_path: Path) -> None:
    script = Script(PROGRAMS / "children.py", tmp_path, ("pool",))
    attempt = script.run()
    assert attempt.status == 0, attempt.err
    assert attempt.result == [0, 1, 3, 6]
    assert len(list((tmp_path / "store").glob("*/*/log"))) == 4, "one run for each call"
