"""ckpt's threads get their turn beside a job that lets go of the interpreter lock often, and at once takes it again."""

from __future__ import annotations

import sys
from pathlib import Path

import ckpt
from ckpt.session.turns import TURN_S, take_turns

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


def test_an_interval_that_somebody_else_has_set_stays() -> None:
    before = sys.getswitchinterval()
    try:
        restore = take_turns()
        assert sys.getswitchinterval() <= TURN_S
        sys.setswitchinterval(0.003)
        chosen = sys.getswitchinterval()
        restore()
        assert sys.getswitchinterval() == chosen
        sys.setswitchinterval(TURN_S / 2)
        shorter = sys.getswitchinterval()
        take_turns()()
        assert sys.getswitchinterval() == shorter
    finally:
        sys.setswitchinterval(before)
