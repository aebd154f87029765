"""ckpt's threads get their turn beside a job that lets go of the interpreter lock often, and at once takes it again."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import ckpt
from ckpt.session.turns import TURN_S, take_turns
from ckpt.store import Store

PERIOD_S = 0.002


NOWHERE = os.open(os.devnull, os.O_WRONLY)


def says(number: int) -> None:
    """Lets go of the interpreter lock for a moment, as each line of output does."""
    os.write(NOWHERE, b"%d\n" % number)


@ckpt.job(key="chatty", every="50ms", keep=100)
def chatty(iterations: int) -> int:
    total = 0
    for number in ckpt.loop(range(iterations)):
        until = time.perf_counter() + PERIOD_S
        while time.perf_counter() < until:
            total += 1
        says(number)
    return number


def test_short_system_calls_in_a_job_do_not_keep_checkpoints_from_being_taken(scratch: Path) -> None:
    before = sys.getswitchinterval()
    assert chatty.options(store=str(scratch))(500) == 499
    (address,) = Store(scratch).addresses()
    assert Store(scratch).open(address).summary.checkpoints >= 8, "of about twenty; without turns there are two"
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
