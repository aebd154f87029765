"""``ckpt run`` with real child processes: killed, hanging, preempted, failing, deaf to signals."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ckpt.errors import OptionError
from ckpt.host import SystemClock
from ckpt.supervisor import Patience, Supervisor

QUICK = Patience(restarts=3, backoff_min_s=0.01, backoff_max_s=0.02)
PROGRESS = "open(os.environ['CKPT_PULSE'], 'w').write('1')"


def script(folder: Path, body: str) -> list[str]:
    """A command whose program counts its starts in ``folder/starts`` and then does ``body`` (``n`` is the count)."""
    head = f"""
        import os, signal, sys, time
        starts = {str(folder / "starts")!r}
        with open(starts, "a") as file:
            file.write("x")
        n = os.path.getsize(starts)
    """
    path = folder / "program.py"
    path.write_text(textwrap.dedent(head) + textwrap.dedent(body))
    return [sys.executable, str(path)]


def starts(folder: Path) -> int:
    path = folder / "starts"
    return path.stat().st_size if path.exists() else 0


def supervise(command: list[str], patience: Patience = QUICK) -> tuple[int, list[str]]:
    said: list[str] = []
    status = Supervisor(command, patience, clock=SystemClock(), say=said.append).run()
    return status, said


def until(condition: Callable[[], bool], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def pids(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []


@pytest.fixture
def later() -> Iterator[Callable[[Callable[[], bool], int], None]]:
    """Sends this process a signal as soon as a condition holds."""
    threads = []

    def send(condition: Callable[[], bool], number: int) -> None:
        def work() -> None:
            until(condition)
            os.kill(os.getpid(), number)

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield send
    for thread in threads:
        thread.join()


def test_a_finished_command_is_not_started_again(tmp_path: Path) -> None:
    assert supervise(script(tmp_path, "")) == (0, [])
    assert starts(tmp_path) == 1


@pytest.mark.parametrize(
    ("death", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("sys.exit(75)", "preempted"),
        ("sys.exit(1)", "status 1"),
    ],
)
def test_every_kind_of_crash_is_followed_by_another_attempt(tmp_path: Path, death: str, words: str) -> None:
    status, said = supervise(script(tmp_path, f"if n < 3: {death}"))
    assert status == 0
    assert starts(tmp_path) == 3
    assert len(said) == 2, said
    assert all(words in line and "starts in" in line for line in said), said
    assert "attempt 1 " in said[0]
    assert "attempt 2 " in said[1]


@pytest.mark.parametrize(("death", "status"), [("os.kill(os.getpid(), signal.SIGSEGV)", 139), ("sys.exit(7)", 7)])
def test_it_gives_up_with_the_last_status_when_nothing_progresses(tmp_path: Path, death: str, status: int) -> None:
    got, said = supervise(script(tmp_path, death))
    assert got == status
    assert starts(tmp_path) == 1 + QUICK.restarts
    assert "giving up" in said[-1]


def test_an_attempt_that_made_progress_earns_all_restarts_again(tmp_path: Path) -> None:
    status, said = supervise(script(tmp_path, f"if n <= 8: {PROGRESS}; sys.exit(1)\nsys.exit(9 if n < 11 else 0)"))
    assert status == 0, said
    assert starts(tmp_path) == 11


@pytest.mark.parametrize(
    ("position", "attempts"),
    [
        ("[[0, {n}]]", 11),
        ("[[0, 7], [0, {n}]]", 11),
        ("[[{n}, 0]]", 11),
        ("[[0, 7]]", 3),
        ("[[0, {9 - n}]]", 3),
        ("[[0, 0]]", 3),
        ("[[0, 7", 3),
        ("[{n}]", 3),
    ],
)
def test_only_an_attempt_that_got_further_than_all_before_made_progress(
    tmp_path: Path, position: str, attempts: int
) -> None:
    body = f"open(os.environ['CKPT_PULSE'], 'w').write(f'0 {position}'); sys.exit(1 if n < 11 else 0)"
    supervise(script(tmp_path, body), Patience(restarts=2, backoff_min_s=0.001, backoff_max_s=0.002))
    assert starts(tmp_path) == attempts


def test_without_restarts_the_first_crash_is_the_last(tmp_path: Path) -> None:
    status, said = supervise(script(tmp_path, f"{PROGRESS}; sys.exit(5)"), Patience(restarts=0))
    assert (status, starts(tmp_path)) == (5, 1)
    assert "giving up" in said[0]


def test_a_wrong_command_line_is_not_tried_again(tmp_path: Path) -> None:
    status, said = supervise(script(tmp_path, "sys.exit(2)"))
    assert (status, starts(tmp_path)) == (2, 1)
    assert "wrong command line" in said[0]


def test_a_command_that_does_not_exist_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no-such-program"):
        supervise([str(tmp_path / "no-such-program")])


@pytest.mark.parametrize("before", ["", "os.utime(os.environ['CKPT_PULSE'])"])
def test_a_job_that_shows_no_sign_of_life_is_killed_and_started_again(tmp_path: Path, before: str) -> None:
    status, said = supervise(
        script(tmp_path, f"{before}\nif n == 1: time.sleep(600)"),
        Patience(restarts=1, backoff_min_s=0.01, backoff_max_s=0.02, hang_timeout_s=1.0),
    )
    assert status == 0
    assert starts(tmp_path) == 2
    assert "no sign of life" in said[0]


def test_a_job_that_touches_its_pulse_is_left_alone_however_long_it_takes(tmp_path: Path) -> None:
    body = """
        assert float(os.environ["CKPT_PULSE_EVERY"]) == 0.5
        for _ in range(80):
            os.utime(os.environ["CKPT_PULSE"])
            time.sleep(0.05)
    """
    status, said = supervise(script(tmp_path, body), Patience(restarts=0, hang_timeout_s=2.0))
    assert (status, said) == (0, [])


@pytest.fixture
def heard(number: int) -> Iterator[int]:
    """A signal that this process may have been told to ignore (``nohup``, a shell's ``&``), back to its default."""
    before = signal.signal(number, signal.SIG_DFL)
    yield number
    signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_forwarded_stop_ends_with_the_childs_status_and_no_restart(
    tmp_path: Path, heard: int, later: Callable[[Callable[[], bool], int], None]
) -> None:
    ready = tmp_path / "ready"
    body = f"""
        signal.signal({int(heard)}, lambda *_: sys.exit(75))
        open({str(ready)!r}, "w").close()
        time.sleep(600)
    """
    later(ready.exists, heard)
    status, said = supervise(script(tmp_path, body))
    assert (status, said, starts(tmp_path)) == (75, [], 1)


def test_a_forwarded_sigusr1_is_followed_by_another_attempt(
    tmp_path: Path, later: Callable[[Callable[[], bool], int], None]
) -> None:
    ready = tmp_path / "ready"
    body = f"""
        if n == 1:
            signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
            open({str(ready)!r}, "w").close()
            time.sleep(600)
    """
    later(ready.exists, signal.SIGUSR1)
    status, _ = supervise(script(tmp_path, body))
    assert (status, starts(tmp_path)) == (0, 2)


def test_a_stop_between_two_attempts_ends_the_wait(
    tmp_path: Path, later: Callable[[Callable[[], bool], int], None]
) -> None:
    said: list[str] = []
    later(lambda: bool(said), signal.SIGTERM)
    command = script(tmp_path, "sys.exit(1)")
    patience = Patience(backoff_min_s=600, backoff_max_s=600)
    assert Supervisor(command, patience, clock=SystemClock(), say=said.append).run() == 75
    assert starts(tmp_path) == 1


def test_handlers_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)]
    supervise(script(tmp_path, ""))
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)] == before


def test_what_an_attempt_left_running_is_dead_before_the_next_one_starts(tmp_path: Path) -> None:
    left = tmp_path / "left"
    body = f"""
        import subprocess
        if n == 1:
            other = subprocess.Popen(["sleep", "600"])
            open({str(left)!r}, "w").write(str(other.pid))
            os.kill(os.getpid(), signal.SIGKILL)
        other = int(open({str(left)!r}).read())
        state = open(f"/proc/{{other}}/stat").read().rpartition(")")[2].split()[0] if os.path.exists(f"/proc/{{other}}") else "X"
        sys.exit(0 if state in "ZX" else 2)
    """
    status, said = supervise(script(tmp_path, body))
    assert status == 0, said


@pytest.mark.parametrize("kill_keeper_first", [False, True])
def test_killing_the_supervisor_leaves_nothing_that_writes(tmp_path: Path, kill_keeper_first: bool) -> None:
    """A job deaf to SIGTERM behind a shell: both are gone after SIGKILL of the supervisor alone."""
    family, beat = tmp_path / "family", tmp_path / "beat"
    body = f"""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        open({str(family)!r}, "w").write(f"{{os.getpid()}} {{os.getpgrp()}}")
        while True:
            open({str(beat)!r}, "a").write("x")
            time.sleep(0.01)
    """
    job = script(tmp_path, body)
    # With the keeper dead only the direct child is covered; behind a shell (`; true`) the job is a grandchild.
    command = job if kill_keeper_first else ["/bin/sh", "-c", f"trap '' TERM; {job[0]} {job[1]}; true"]
    program = (
        "from ckpt.supervisor import *; from ckpt.host import SystemClock\n"
        f"Supervisor({command!r}, Patience(), clock=SystemClock(), say=print).run()"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": os.getcwd(), "TMPDIR": str(tmp_path)}
    )
    try:
        until(lambda: len(pids(family)) == 2 and beat.exists())
        child, keeper = pids(family)
        supervisor.terminate()
        size = beat.stat().st_size
        until(lambda: beat.stat().st_size > size + 20)
        if kill_keeper_first:
            if not sys.platform.startswith("linux"):
                pytest.skip("only Linux kills the child with its parent")
            os.kill(keeper, signal.SIGKILL)
        supervisor.kill()
        supervisor.wait()
        until(lambda: not alive(child) and not alive(keeper))
    finally:
        supervisor.kill()
        supervisor.wait()
        for pid in pids(family)[:1]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_delays_double_within_their_bounds_and_start_anew() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    patience, jitter = Patience(backoff_min_s=1, backoff_max_s=60), random.Random(seed)
    delays = [[patience.delay_s(barren, jitter) for barren in range(12)] for _ in range(200)]
    assert all(1 <= delay <= 60 for row in delays for delay in row)
    for barren, middle in enumerate([1, 2, 4, 8, 16, 32]):
        assert all(0.75 * middle <= row[barren] <= 1.25 * middle for row in delays)
    assert all(row[11] >= 45 for row in delays)
    assert len({row[3] for row in delays}) > 100


@pytest.mark.parametrize(
    "wrong", [{"restarts": -1}, {"backoff_min_s": 9, "backoff_max_s": 3}, {"hang_timeout_s": 0}, {"hang_timeout_s": -1}]
)
def test_senseless_patience_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        Patience(**wrong)  # type: ignore[arg-type]
