"""Signals ask the run to stop: it is saved at the next safe point, the process ends with status 75, nothing is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from crash.harness import Attempt, ForkHost, Form, Kill

NAMES = ["SIGTERM", "SIGINT", "SIGUSR1"]
FORMS = ["signalled", "signalled_in_an_inner_loop"]


def whole(host: ForkHost, name: str, folder: Path) -> Attempt:
    attempt = Form(host, name, folder / "whole").run(CKPT_DISABLE="1")
    assert attempt.status == 0, attempt.err
    return attempt


def starts(folder: Path) -> Counter[str]:
    return Counter(line for line in (folder / "effects.txt").read_text().splitlines() if line.startswith("start"))


@pytest.mark.parametrize("at", [0, 1, 6, 11])
@pytest.mark.parametrize("name", NAMES)
def test_signal_saves_at_the_next_safe_point_and_nothing_runs_twice(
    name: str, at: int, fork_host: ForkHost, scratch: Path
) -> None:
    expected = whole(fork_host, "signalled", scratch).result
    folder = scratch / "run"
    form = Form(fork_host, "signalled", folder)
    stopped = form.run(SIGNAL=f"{name}@{at}")
    assert stopped.status == 75, stopped.err
    assert len(starts(folder)) == at + 1, "the iteration in progress is finished, no other is begun"
    assert "Traceback" not in stopped.err
    assert len(stopped.err.strip().splitlines()) <= 2, "one line, and a hint for Ctrl-C"
    resumed = form.run()
    assert resumed.status == 0, resumed.err
    assert resumed.result == expected
    assert set(starts(folder).values()) == {1}, "an iteration was executed twice"


@pytest.mark.parametrize("at", range(0, 12, 3))
def test_signal_in_an_inner_loop_resumes_exactly(at: int, fork_host: ForkHost, scratch: Path) -> None:
    expected = whole(fork_host, "signalled_in_an_inner_loop", scratch).result
    form = Form(fork_host, "signalled_in_an_inner_loop", scratch / "run")
    stopped = form.run(SIGNAL=f"SIGTERM@{at}")
    assert stopped.status == 75, stopped.err
    assert form.run().result == expected


def test_stopped_again_and_again_nothing_is_lost(fork_host: ForkHost, scratch: Path) -> None:
    expected = whole(fork_host, "signalled", scratch).result
    form = Form(fork_host, "signalled", scratch / "run")
    for at in range(12):
        assert form.run(SIGNAL=f"SIGTERM@{at}").status == 75
    resumed = form.run()
    assert resumed.result == expected, resumed.err
    assert set(starts(scratch / "run").values()) == {1}


def test_first_interrupt_hints_at_the_second(fork_host: ForkHost, scratch: Path) -> None:
    stopped = Form(fork_host, "signalled", scratch).run(SIGNAL="SIGINT@3")
    assert stopped.status == 75
    assert "again" in stopped.err.lower() or "second" in stopped.err.lower()
    assert "Ctrl-C" in stopped.err


def test_second_interrupt_quits_at_once_and_the_run_stays_good(fork_host: ForkHost, scratch: Path) -> None:
    expected = whole(fork_host, "signalled", scratch).result
    form = Form(fork_host, "signalled", scratch / "run")
    stopped = form.run(SIGNAL="SIGINT@3,SIGINT@3")
    assert stopped.status not in (0, 75)
    assert len(starts(scratch / "run")) == 4, "nothing ran after the second Ctrl-C"
    assert form.run().result == expected


def test_except_exception_does_not_swallow_the_stop(fork_host: ForkHost, scratch: Path) -> None:
    form = Form(fork_host, "signalled_where_exceptions_are_swallowed", scratch / "run")
    assert form.run(SIGNAL="SIGTERM@2").status == 75
    assert form.run().result == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("tick", range(1, 12, 2))
def test_killed_right_after_a_stop_and_a_resume(tick: int, fork_host: ForkHost, scratch: Path) -> None:
    expected = whole(fork_host, "signalled", scratch).result
    form = Form(fork_host, "signalled", scratch / "run")
    assert form.run(SIGNAL="SIGTERM@1").status == 75
    killed = form.run(Kill(tick=tick))
    assert killed.killed or killed.result == expected
    assert form.run().result == expected


def test_handler_of_the_program_is_called_too(fork_host: ForkHost, scratch: Path) -> None:
    form = Form(fork_host, "signalled_with_a_handler_of_its_own", scratch / "run")
    stopped = form.run(SIGNAL="SIGTERM@2")
    assert stopped.status == 75, stopped.err
    assert "handled" in (scratch / "run" / "effects.txt").read_text()
    finished = form.run()
    assert finished.status == 0, finished.err
