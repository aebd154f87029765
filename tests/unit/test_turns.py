"""ckpt's threads get their turn beside a job that lets go of the interpreter lock often, and at once takes it again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ckpt
from ckpt.session.turns import turns

HALF_A_MILLISECOND = 0.0005
ROUNDED = 1e-6  # CPython counts whole microseconds


@ckpt.job(key="asks")
def asks() -> list[float]:
    intervals = []
    for _ in ckpt.loop(range(2)):
        intervals.append(sys.getswitchinterval())
    return intervals


def test_while_a_run_is_alive_a_thread_waits_half_a_millisecond_for_its_turn(scratch: Path) -> None:
    before = sys.getswitchinterval()
    assert before > HALF_A_MILLISECOND + ROUNDED, "or this test could not fail"
    assert max(asks.options(store=str(scratch))()) <= HALF_A_MILLISECOND + ROUNDED
    assert sys.getswitchinterval() == before


def test_runs_side_by_side_have_it_until_the_last_one_ends() -> None:
    before = sys.getswitchinterval()
    first, second = turns(), turns()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() <= HALF_A_MILLISECOND + ROUNDED
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == before


def test_in_a_child_no_run_is_alive() -> None:
    before = sys.getswitchinterval()
    with turns():
        child = os.fork()
        if not child:
            os._exit(0 if sys.getswitchinterval() == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_interval_that_somebody_else_has_set_stays() -> None:
    before = sys.getswitchinterval()
    try:
        with turns():
            sys.setswitchinterval(0.003)
            chosen = sys.getswitchinterval()
        assert sys.getswitchinterval() == chosen
        sys.setswitchinterval(HALF_A_MILLISECOND / 2)
        shorter = sys.getswitchinterval()
        with turns():
            assert sys.getswitchinterval() == shorter
        assert sys.getswitchinterval() == shorter
    finally:
        sys.setswitchinterval(before)
