"""Fifty kills at random moments: the numpy job of ``programs/simulate.py`` ends identical to the bit, every time.

The seed of the moments is printed; set ``CRASH_SEED`` to draw them again. (The kill itself is by the clock, so a seed
gives the same moments, not the same instructions.)
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, Attempt, Kill, Script, collect, finish, wait_for

SIZES = ("6", "40", "40000")
KILLS = 50


@dataclass(frozen=True)
class Plain:
    """The run without ckpt: what it returns, and the longest wait (s) before a kill, so that most kills hit the job."""

    result: object
    longest_s: float


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    process = Script(PROGRAMS / "simulate.py", tmp_path_factory.mktemp("plain"), SIZES).start(CKPT_DISABLE="1")
    said = wait_for(process, "READY")
    began_s = time.monotonic()
    attempt = collect(process, said)
    assert attempt.status == 0, attempt.err
    return Plain(attempt.result, (time.monotonic() - began_s) / 3)


def moments() -> random.Random:
    seed = int(os.environ.get("CRASH_SEED", random.SystemRandom().randrange(10**6)))
    print(f"CRASH_SEED={seed}")
    return random.Random(seed)


@pytest.mark.slow
def test_fifty_kills_at_random_moments_give_the_same_bits(plain: Plain, tmp_path: Path) -> None:
    rng, killed, series = moments(), 0, 0
    while killed < KILLS:
        series += 1
        folder = tmp_path / f"series-{series}"
        folder.mkdir()
        script = Script(PROGRAMS / "simulate.py", folder, SIZES)
        kills = [Kill(after_s=rng.uniform(0, plain.longest_s)) for _ in range(min(12, KILLS - killed))]
        outcome = finish(script, kills)
        killed += outcome.kills
        assert outcome.last.status == 0, outcome.story()
        assert outcome.last.result == plain.result, outcome.story()
        assert series < KILLS, "the job is too short to be killed"


@pytest.mark.slow
def test_killed_under_ckpt_run_it_is_started_again_until_it_is_done(plain: Plain, tmp_path: Path) -> None:
    rng = moments()
    supervisor = (sys.executable, "-m", "ckpt", "run", "--restarts", "50", "--backoff", "10ms..50ms", "--")
    script = Script(PROGRAMS / "simulate.py", tmp_path, (*SIZES, "pid.txt"), prefix=supervisor)
    process = script.start()
    said, kills = "", 0
    while kills < 10:
        line = wait_for(process, "READY")
        said += line
        if not line.rstrip().endswith("READY"):
            break  # the output ended: the job finished between two kills
        os.set_blocking(process.stdout.fileno(), True)  # type: ignore[union-attr]
        pid = int((tmp_path / "pid.txt").read_text())
        kills += kill_after(rng.uniform(0, plain.longest_s), pid)
    attempt: Attempt = collect(process, said)
    assert attempt.status == 0, attempt.err
    assert attempt.result == plain.result
    assert kills >= 2, "the job is too short to be killed"


def kill_after(seconds: float, pid: int) -> int:
    """Kill ``pid`` after ``seconds``: 1 if it was still there."""
    time.sleep(seconds)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1
