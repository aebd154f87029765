"""``sync="interval:T"``: a kill loses at most what the last interval recorded, and never leaves a gap."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill, Outcome, finish


def executed(folder: Path) -> list[list[int]]:
    """The numbers of the steps that each attempt executed, in order."""
    found = [line.split() for line in (folder / "effects.txt").read_text().splitlines()]
    steps = [(pid, int(number)) for pid, number, _ in found if pid != "written"]
    return [[number for _, number in group] for _, group in itertools.groupby(steps, key=lambda step: step[0])]


def check_no_gap(folder: Path, outcome: Outcome, steps: int) -> list[int]:
    """Each attempt goes on behind a prefix of what was recorded; returns how long each prefix was."""
    assert outcome.last.status == 0, outcome.story()
    starts, reached = [], 0
    for numbers in executed(folder):
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "one after the other, without a hole"
        assert numbers[0] <= reached, f"step {reached} was never executed"
        assert not starts or numbers[0] >= starts[-1], "what was there once is gone"
        starts.append(numbers[0])
        reached = max(reached, numbers[-1] + 1)
    last = {}
    for line in (folder / "effects.txt").read_text().splitlines():
        pid, number, token = line.split()
        if pid != "written":
            last[int(number)] = token
    assert outcome.last.result == [last[number] for number in range(steps)], "the results of the newest executions"
    return starts


@pytest.mark.parametrize("tick", range(1, 7))
def test_what_was_not_synced_yet_is_executed_again_as_a_whole(tick: int, fork_host: ForkHost, scratch: Path) -> None:
    outcome = finish(Form(fork_host, "steps_volatile_for_an_hour", scratch), [Kill(tick=tick)])
    assert outcome.kills == 1
    assert check_no_gap(scratch, outcome, 6) == [0, 0], "nothing was synced within the hour"


@pytest.mark.parametrize("tick", range(1, 11))
def test_checkpoint_makes_what_was_recorded_before_it_durable(tick: int, fork_host: ForkHost, scratch: Path) -> None:
    form = Form(fork_host, "volatile_steps_and_checkpoints", scratch)
    outcome = finish(form, [Kill(tick=tick)])
    assert outcome.kills == 1
    saved = 7 if tick >= 7 else 4 if tick >= 4 else 0  # checkpoints after steps 3 and 6
    assert check_no_gap(scratch, outcome, 10) == [0, saved]


@pytest.mark.parametrize("tick", [5, 6, 8])
def test_what_an_interval_has_synced_is_never_executed_again(tick: int, fork_host: ForkHost, scratch: Path) -> None:
    outcome = finish(Form(fork_host, "steps_volatile_for_a_moment", scratch), [Kill(tick=tick)])
    assert outcome.kills == 1, outcome.story()
    assert "written 4 -" in (scratch / "effects.txt").read_text()
    again = executed(scratch)[1:]
    assert all(number >= 5 for numbers in again for number in numbers), f"steps 0 to 4 were in the log: {again}"
    if again:
        check_no_gap(scratch, outcome, 8)


def test_kills_at_random_moments_leave_no_gap(fork_host: ForkHost, scratch: Path) -> None:
    rng = random.Random(5)
    lost = kept = 0
    for series in range(8):
        folder = scratch / str(series)
        kills = [Kill(tick=rng.randint(1, 20)) for _ in range(6)]
        outcome = finish(Form(fork_host, "slow_steps_volatile_for_a_moment", folder), kills)
        starts = check_no_gap(folder, outcome, 30)
        ends = [numbers[-1] + 1 for numbers in executed(folder)]
        lost += sum(start < end for start, end in zip(starts[1:], ends, strict=False))
        kept += sum(start > 0 for start in starts[1:])
    assert kept, "nothing was ever synced: the interval is not at work"


def test_finished_run_has_everything(fork_host: ForkHost, scratch: Path) -> None:
    form = Form(fork_host, "steps_volatile_for_an_hour", scratch)
    outcome = finish(form, [])
    check_no_gap(scratch, outcome, 6)
    assert form.run().result == outcome.last.result
    assert executed(scratch) == [list(range(6))]
