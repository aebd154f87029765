"""What a run remembers of its attempts, however its log was trimmed; and what is seen of a budget that is exceeded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from unit.runs import Writing

import ckpt
from ckpt import events
from ckpt.cli import cli
from ckpt.failures import Observed
from ckpt.history import history_of
from ckpt.log import read_log
from ckpt.session.attempts import MAX_LISTED, earlier_attempts, observed, this_attempt
from ckpt.store import Store
from ckpt.triggers import AT_RISK, Budget

MOST_ITERATIONS = 10**7


def attempts_of(writing: Writing, epoch: int) -> list[dict[str, Any]]:
    """What an attempt that takes over now is told."""
    records = read_log(writing.root.storage, writing.names, writing.root.key).records
    return earlier_attempts(records, history_of(records), epoch)


def test_attempt_without_a_word_crashed_and_lived_until_its_last_checkpoint(tmp_path: Path) -> None:
    first = Writing.start(tmp_path)
    first.checkpoint(ran_s=10.0)
    first.checkpoint(ran_s=70.0)
    first.end()
    Writing.start(tmp_path).end()
    third = Writing.start(tmp_path)
    third.end("preempted")
    told = attempts_of(third, 4)
    assert [(one["attempt"], one["how"], one["lived_s"]) for one in told] == [
        (1, "crashed", 70.0),
        (2, "crashed", 0.0),
        (3, "preempted", 4.5),
    ]
    assert observed(told) == Observed(2, 74.5)


def test_what_is_known_of_attempts_survives_that_their_records_are_trimmed(tmp_path: Path) -> None:
    writing = Writing.start(tmp_path)
    early = [{"attempt": 1 - n, "started": 0.0, "host": "h", "pid": 1, "how": "crashed", "lived_s": 9.0} for n in range(30, 0, -1)]
    writing.checkpoint(ran_s=3.0, attempts=[*early, this_attempt(1, {"started": 5.0, "host": "h", "pid": 2})])
    writing.end()
    told = attempts_of(writing, 2)
    assert len(told) == MAX_LISTED - 1
    assert told[-1] == {"attempt": 1, "started": 5.0, "host": "h", "pid": 2, "how": "crashed", "lived_s": 3.0}
    assert observed(told) == Observed(19, 18 * 9.0 + 3.0)


def test_attempts_of_an_older_ckpt_say_nothing_of_failures(tmp_path: Path) -> None:
    writing = Writing.start(tmp_path)
    writing.checkpoint()
    writing.end()
    assert observed(attempts_of(writing, 2)) == Observed()


def test_upkeep_is_no_attempt_that_failed(tmp_path: Path) -> None:
    """Not the FENCE of a retry or a reset; and not what a repair, or a fork, tells of the attempt before it."""
    writing = Writing.start(tmp_path)
    writing.checkpoint(ran_s=50.0)
    writing.end()
    Store(tmp_path).reset("sim/aaaa", to=1)
    assert observed(attempts_of(writing, 3)) == Observed(1, 50.0)
    fork = Store(tmp_path).fork("sim/aaaa", run_id="forked")
    run_id = fork.address.rpartition("/")[2]
    forked = Writing.start(tmp_path, run_id=run_id)
    forked.end()
    assert observed(attempts_of(forked, 2)).failures == 0


PROGRAM = """
import os, signal, sys
import ckpt

@ckpt.job(key="dies", every="auto")
def job():
    for i in ckpt.loop(range(4)):
        ckpt.current_run().checkpoint()
        if sys.argv[1] == "dies" and i == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    print(ckpt.current_run()._services.trigger.observed)

job()
"""


def test_killed_attempts_are_observed_by_the_next_one(tmp_path: Path) -> None:
    path = [str(Path(ckpt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, "CKPT_STORE": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, path))}

    def run(how: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, how]
        return subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=120)

    assert [run("dies").returncode for _ in range(2)] == [-signal.SIGKILL] * 2
    done = run("ends")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Observed(failures=2, lived_s=0."), done.stdout
    [address] = Store(tmp_path).addresses()
    assert [one.status for one in Store(tmp_path).open(address).attempts] == ["crashed", "crashed", "finished"]


def test_budget_that_is_exceeded_for_the_work_at_risk_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reasons: list[object] = []

    def hook(name: str, details: dict[str, object]) -> None:
        if name == "checkpoint":
            reasons.append(details["reason"])

    @ckpt.job(store=str(tmp_path), every=Budget(1e-6, at_most_s=0.001))
    def job() -> None:
        for _ in ckpt.loop(range(MOST_ITERATIONS)):
            if reasons.count(AT_RISK) == 2:
                break

    events.add_hook(hook)
    try:
        job()
    finally:
        events.remove_hook(hook)
    assert reasons.count(AT_RISK) >= 2
    said = [line for line in capsys.readouterr().err.splitlines() if "of work are at risk" in line]
    assert len(said) == 1, "once"
    assert "Budget(1e-06, at_most_s=" in said[0]


def test_show_tells_that_the_budget_is_exceeded_and_which_checkpoints_did(tmp_path: Path) -> None:
    writing = Writing.start(tmp_path)
    writing.checkpoint()
    writing.end()
    show = ["show", "--store", str(tmp_path), "sim"]
    assert "above the budget" not in CliRunner().invoke(cli, show).output
    writing = Writing.start(tmp_path)
    writing.checkpoint(reason=AT_RISK)
    writing.end()
    told = CliRunner().invoke(cli, show).output
    assert "above the budget" in told
