"""What a job says on standard error: one line, only when it matters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill

NAME = "two_loops_in_sequence"
EVERY = {"CKPT_EVERY": "1it"}


def test_new_run_says_nothing(fork_host: ForkHost, scratch: Path) -> None:
    attempt = Form(fork_host, NAME, scratch).run(**EVERY)
    assert attempt.status == 0
    assert attempt.err == ""


def test_resumed_run_says_from_where_in_one_line(fork_host: ForkHost, scratch: Path) -> None:
    form = Form(fork_host, NAME, scratch)
    assert form.run(Kill(tick=12), SETTLE_S="0.1", **EVERY).killed
    attempt = form.run(**EVERY)
    assert len(attempt.err.strip().splitlines()) == 1, attempt.err
    assert "resum" in attempt.err
    assert "two_loops/" in attempt.err, "the run's address"
    assert re.search(r": resumed with \w+ \d+/\d+ done \(checkpoint", attempt.err), attempt.err


def test_failed_run_says_that_it_is_saved_and_how_to_go_on(fork_host: ForkHost, scratch: Path) -> None:
    attempt = Form(fork_host, "fails_at_six", scratch).run(**EVERY)
    said = [line for line in attempt.err.splitlines() if line.startswith("ckpt: ")]
    (line,) = said
    assert re.fullmatch(r"ckpt: \S+/\w+: failed; saved at i 6/10: mend it and start it again", line), line
    assert "ValueError: item 6" in attempt.err


def test_a_run_that_failed_at_once_claims_to_have_saved_nothing(fork_host: ForkHost, scratch: Path) -> None:
    attempt = Form(fork_host, "fails_at_its_first_item", scratch).run(**EVERY)
    assert "ValueError: item 0" in attempt.err
    assert "saved at" not in attempt.err


def test_finished_run_says_so_and_how_to_run_afresh(fork_host: ForkHost, scratch: Path) -> None:
    form = Form(fork_host, NAME, scratch)
    first = form.run(**EVERY)
    again = form.run(**EVERY)
    assert again.result == first.result
    assert again.ticks == 0, "nothing was executed"
    assert len(again.err.strip().splitlines()) == 1, again.err
    assert "finished" in again.err
    assert "fresh=True" in again.err


@pytest.mark.parametrize("name", [NAME, "open_block_with_state_and_loop"])
def test_disabled_it_leaves_no_trace(name: str, fork_host: ForkHost, scratch: Path) -> None:
    attempt = Form(fork_host, name, scratch).run(CKPT_DISABLE="1")
    assert attempt.status == 0, attempt.err
    assert attempt.err == ""
    assert not (scratch / "store").exists()
