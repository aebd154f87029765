"""``every="auto"``: which interval is chosen for failures that were told of, or seen. Simulated lives, no waiting."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.failures import DEFAULT_MTBF_S, Observed, daly_interval
from ckpt.session.attempts import MAX_LISTED, observed
from ckpt.testing import FakeClock
from ckpt.triggers import (
    AT_RISK_S,
    COLD_FACTOR,
    FREE_SHARE,
    MIN_INTERVAL_S,
    Auto,
    Budget,
    Paid,
    parse,
    taken_from_job,
    tell_resumed,
    tell_taken,
)

DAY_S = 86_400.0


def test_auto_takes_the_interval_of_daly_for_the_cost_that_it_sees() -> None:
    trigger = parse("auto", mtbf_s=3600.0)
    assert trigger.due_in(0, 5.0) <= 0, "the first one is due at once"
    trigger.committed(0, 100.0, 8.0)
    assert trigger.due_in(0, 100.0) == COLD_FACTOR * 8.0 < daly_interval(8.0, 3600.0)
    trigger.committed(0, 300.0, 2.0)
    assert trigger.due_in(0, 300.0) == pytest.approx(daly_interval(2.0, 3600.0)), "the first was a cold one"
    assert trigger.due_in(0, 300.0) == pytest.approx((2 * 2.0 * 3600) ** 0.5, rel=0.02), "Young's, nearly"


def test_auto_counts_from_where_the_state_was_read() -> None:
    trigger = parse("auto", mtbf_s=3600.0)
    for now in (0.0, 100.0):
        trigger.taken(0, now)
        trigger.committed(0, now + 30.0, 2.0)
    assert trigger.due_in(0, 130.0) == pytest.approx(daly_interval(2.0, 3600.0) - 30.0)


@pytest.mark.parametrize(("processors", "lost_s"), [(1, 9.0), (2, 5.0), (64, 5.0)])
def test_auto_goes_by_what_checkpoints_take_from_the_job_and_a_budget_by_all_that_they_cost(processors: int, lost_s: float) -> None:
    assert taken_from_job(1.0, 9.0, processors) == lost_s
    auto, budget = Auto(3600.0), Budget(0.01)
    for trigger in (auto, budget):
        for now in (0.0, 100.0):
            trigger.taken(0, now)
            tell_taken(trigger | "1000h", lost_s)  # a copy of it is told
            tell_taken(trigger, lost_s)
            trigger.committed(0, now, 9.0)
    assert auto.due_in(0, 100.0) == pytest.approx(daly_interval(lost_s, 3600.0))
    assert budget.due_in(0, 100.0) == pytest.approx(900.0)


@pytest.mark.parametrize("every", ["1%", "auto", "1% | 1000h", "auto | 1000h"])
def test_process_that_resumes_waits_for_its_first_checkpoint_as_after_a_cold_one(every: str) -> None:
    trigger = parse(every, mtbf_s=1e4)
    tell_resumed(trigger, 0, 50.0, Paid(3.0, 3.0))
    assert trigger.due_in(0, 50.0) == pytest.approx(COLD_FACTOR * 3.0)
    trigger.taken(0, 80.0)
    trigger.committed(0, 80.0, 5.0)
    assert trigger.due_in(0, 80.0) == pytest.approx(COLD_FACTOR * 5.0), "its own first one was the cold one"
    trigger.taken(0, 130.0)
    trigger.committed(0, 130.0, 2.0)
    assert trigger.due_in(0, 130.0) == pytest.approx(200.0, rel=0.02)


@pytest.mark.parametrize("paid", [None, Paid(3.0, 3.0)])
def test_process_that_resumes_counts_time_and_iterations_from_where_it_goes_on(paid: Paid | None) -> None:
    timed, counted = parse("30s"), parse("100it")
    for trigger in (timed, counted):
        tell_resumed(trigger, 40, 50.0, paid)
    assert timed.due_in(40, 50.0) == 30.0
    assert counted.iterations_left(40) == 100


class Own:
    """A trigger of a program's own."""

    told: tuple[str, ...] = ()

    def iterations_left(self, iterations: int) -> float:
        return math.inf

    def due_in(self, iterations: int, now_s: float) -> float:
        return -math.inf

    def taken(self, iterations: int, now_s: float) -> None:
        self.told += ("taken",)

    def committed(self, iterations: int, now_s: float, cost_s: float) -> None:
        self.told += ("committed",)


def test_trigger_of_a_programs_own_is_not_told_of_a_checkpoint_that_was_not_taken() -> None:
    trigger = parse(Own())
    tell_resumed(trigger, 40, 50.0, Paid(3.0, 3.0))
    assert trigger.told == ()


def test_one_cost_that_was_measured_wrong_does_not_change_the_interval() -> None:
    trigger = parse("auto", mtbf_s=3600.0)
    for now, cost in enumerate([86_400.0, 2.0, 2.0, 86_400.0]):
        trigger.taken(0, float(now))
        trigger.committed(0, float(now), cost)
        assert trigger.due_in(0, float(now)) <= (AT_RISK_S if now == 0 else daly_interval(2.0, 3600.0))


@given(st.floats(0, 1e6), st.floats(1, 1e6))
def test_auto_never_puts_more_work_at_risk_than_the_time_between_failures(cost: float, mtbf: float) -> None:
    trigger = Auto(mtbf)
    for _ in range(3):
        trigger.committed(0, 0.0, cost)
        assert MIN_INTERVAL_S <= trigger.due_in(0, 0.0) <= mtbf * (1 + 1e-9)


def test_auto_joins_other_triggers_with_its_time_between_failures() -> None:
    for joined in ("auto | 30s", Auto() | "30s"):
        trigger = parse(joined, mtbf_s=3600.0)
        trigger.taken(0, 0.0)
        for _ in range(2):
            trigger.committed(0, 0.0, 2.0)
        assert trigger.due_in(0, 0.0) == 30
    trigger = parse("auto | 1h", mtbf_s=7200.0)
    trigger.taken(0, 0.0)
    for _ in range(2):
        trigger.committed(0, 0.0, 2.0)
    assert trigger.due_in(0, 0.0) == pytest.approx(daly_interval(2.0, 7200.0))


def test_what_was_said_of_failures_counts_more_than_what_was_seen() -> None:
    seen = Observed(10, 100.0)
    assert parse(Auto(60.0), mtbf_s=3600.0, observed=seen).mtbf_s == 60.0
    for every in ("auto", Auto()):
        trigger = parse(every, mtbf_s=3600.0, observed=seen)
        for _ in range(2):
            trigger.committed(0, 0.0, 2.0)
        assert trigger.due_in(0, 0.0) == pytest.approx(daly_interval(2.0, 3600.0))


def test_estimate_without_failures_is_a_day_or_as_long_as_it_has_lived() -> None:
    assert Observed().mtbf_s() == DEFAULT_MTBF_S == DAY_S
    assert Observed(0, 3600.0).mtbf_s(60.0) == DAY_S
    assert Observed(0, 9 * DAY_S).mtbf_s(DAY_S) == 10 * DAY_S


def test_first_failure_says_a_lot_and_not_everything() -> None:
    assert 600 < Observed(1, 600.0).mtbf_s() < 2 * 3600 < DAY_S
    assert Observed(1, 0.0).mtbf_s() > 5, "died before there was any sign of life"


@given(st.integers(0, 50), st.floats(0, 1e7), st.floats(0, 1e6))
def test_estimate_falls_with_failures_and_grows_with_time_without_one(failures: int, lived: float, more: float) -> None:
    estimate = Observed(failures, lived).mtbf_s()
    assert estimate > 0
    assert Observed(failures + 1, lived).mtbf_s() <= estimate * (1 + 1e-9)
    assert Observed(failures, lived).mtbf_s(more) >= estimate * (1 - 1e-9)


def test_interval_grows_again_while_a_run_lives_on() -> None:
    trigger = parse("auto", observed=Observed(10, 100.0))
    waits = []
    for now in (0.0, 1000.0, 100_000.0):
        trigger.taken(0, now)
        trigger.committed(0, now, 1.0)
        waits.append(trigger.due_in(0, now))
    assert waits[0] < waits[1] < waits[2]


def test_few_failures_are_no_reason_to_risk_more_than_the_usual_budget_does() -> None:
    trigger = parse("auto")
    for now in (0.0, 100.0):
        trigger.taken(0, now)
        trigger.committed(0, now, 0.05)
    assert trigger.due_in(0, 100.0) == pytest.approx(0.05 / FREE_SHARE)
    assert daly_interval(0.05, DAY_S) > 0.05 / FREE_SHARE
    for now in (200.0, 300.0, 400.0):
        trigger.taken(0, now)
        trigger.committed(0, now, 60.0)
    assert trigger.due_in(0, 400.0) == pytest.approx(daly_interval(60.0, DAY_S))
    assert daly_interval(60.0, DAY_S) < 60 / FREE_SHARE


class _Machine:
    """Kills a job at exponential intervals. The job notes its attempts as the log does: how long each lived at its last
    checkpoint. ``waits`` are the intervals that were chosen."""

    def __init__(self, seed: int, cost_s: float) -> None:
        self.numbers, self.cost_s, self.clock = random.Random(seed), cost_s, FakeClock()
        self.attempts: list[dict[str, Any]] = []
        self.waits: list[float] = []

    def live(self, mtbf_s: float) -> None:
        """One attempt, up to its death."""
        began = self.clock.monotonic()
        dies = began + self.numbers.expovariate(1 / mtbf_s)
        trigger, seen = parse("auto", observed=observed(self.attempts[-(MAX_LISTED - 1) :])), 0.0
        while True:
            taken = self.clock.monotonic() + max(0.0, trigger.due_in(0, self.clock.monotonic()))
            if taken + self.cost_s > dies:
                break
            self.clock.advance(taken + self.cost_s - self.clock.monotonic())
            trigger.taken(0, taken)
            trigger.committed(0, self.clock.monotonic(), self.cost_s)
            self.waits.append(trigger.due_in(0, self.clock.monotonic()))
            seen = taken - began
        self.clock.advance(dies - self.clock.monotonic())
        self.attempts.append({"attempt": len(self.attempts) + 1, "how": "crashed", "lived_s": seen})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("cost_s", "mtbf_s"), [(0.05, 10.0), (2.0, 600.0), (60.0, 6 * 3600.0)])
def test_interval_comes_near_to_the_best_one_and_follows_when_failures_come_more_often(
    seed: int, cost_s: float, mtbf_s: float
) -> None:
    machine = _Machine(seed, cost_s)
    for between_s in (mtbf_s, mtbf_s / 8, mtbf_s):
        for _ in range(40):
            machine.live(between_s)
        best_s = min(daly_interval(cost_s, between_s), cost_s / FREE_SHARE)
        # A rate that is known from 19 lives is right to a fifth or so; the interval is its root.
        assert best_s / 1.5 <= machine.waits[-1] <= best_s * 1.5


def test_one_that_raised_or_was_stopped_is_no_failure_but_the_time_counts() -> None:
    attempts = [
        {"attempt": 1, "started": 0.0},
        {"attempt": 2, "how": "failed", "lived_s": 100.0},
        {"attempt": 3, "how": "preempted", "lived_s": 50.0},
        {"attempt": 4, "how": "crashed", "lived_s": 25.0},
        {"attempt": 5, "how": "crashed", "lived_s": None},
    ]
    assert observed(attempts) == Observed(1, 175.0)
