"""When a checkpoint is due: what a budget spends, and how triggers combine."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.errors import OptionError
from ckpt.triggers import (
    AT_RISK_S,
    DEAR_SHARE,
    MIN_INTERVAL_S,
    Budget,
    Every,
    Iterations,
    excess_of,
    parse,
)


def played(fraction: float, costs: list[float], at_most_s: float = math.inf) -> tuple[Budget, float]:
    """A budget whose checkpoints cost this much, each taken as soon as it is due; when the next is due."""
    trigger, now = Budget(fraction, at_most_s=at_most_s), 0.0
    for cost in costs:
        trigger.taken(0, now)
        now += cost
        trigger.committed(0, now, cost)
        now += trigger.due_in(0, now)
    return trigger, now


@given(st.lists(st.floats(0, 1000), min_size=2, max_size=40), st.floats(0.001, 1))
def test_budget_never_spends_more_than_its_share(costs: list[float], fraction: float) -> None:
    _, now = played(fraction, costs)
    assert sum(costs[1:]) <= fraction * now * (1 + 1e-9), "all but the first, which is on top"


@given(st.floats(0.001, 1000), st.floats(0, 1), st.floats(0.001, 0.1))
def test_first_two_checkpoints_stay_below_a_fifth_of_the_time(cold: float, part: float, fraction: float) -> None:
    _, due = played(fraction, [cold])
    assert due <= 11 * cold * (1 + 1e-9), "the work at risk is small"
    spent = cold + part * cold
    assert spent <= 0.2 * (due + part * cold) * (1 + 1e-9)


def test_cold_first_checkpoint_is_no_estimate_of_later_ones() -> None:
    trigger, due = played(0.01, [0.1])
    assert due == pytest.approx(1.1)
    trigger.committed(0, 2.0, 0.002)
    assert trigger.due_in(0, 2.0) == pytest.approx(0.2)
    trigger.committed(0, 3.0, 0.005)
    assert trigger.due_in(0, 3.0) == pytest.approx(0.5)


def test_large_budget_does_not_wait_longer_for_the_second() -> None:
    assert played(0.5, [1.0])[1] == pytest.approx(3.0)


def test_one_cheap_checkpoint_does_not_make_the_next_ones_too_frequent() -> None:
    trigger, _ = played(0.01, [1.0, 10.0, 0.001])
    assert trigger.due_in(0, trigger._last_s) > 500


def test_budget_of_a_tiny_state_keeps_a_least_distance() -> None:
    trigger = Budget(0.01)
    for now in (50.0, 100.0):
        trigger.committed(0, now, 0.0)
        assert trigger.due_in(0, now) == pytest.approx(MIN_INTERVAL_S)


@given(
    st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 5000), st.booleans()), min_size=2, max_size=40),
    st.floats(0.0001, 1),
)
def test_work_at_risk_is_bounded_whatever_checkpoints_cost_and_storages_take(
    checkpoints: list[tuple[float, float, bool]], fraction: float
) -> None:
    """Each costs so much, and is durable so long after it was taken; or the storage refuses it, and it is tried again."""
    trigger, now = Budget(fraction), 0.0
    trigger.taken(0, now)
    trigger.committed(0, now, 100.0)
    costs: list[float] = []
    for cost, persist, refused in checkpoints:
        read = trigger._from_s
        due = now + max(0.0, trigger.due_in(0, now))
        last = sorted([100.0, *costs][-3:])
        usual = last[(len(last) - 1) // 2] if costs else 0.0
        assert due <= max(read + AT_RISK_S, now + usual / DEAR_SHARE, now + MIN_INTERVAL_S) + 1e-6
        trigger.taken(0, due)
        if refused:
            due += 1.0
            trigger.taken(0, due)
        now = due + persist
        trigger.committed(0, now, cost)
        costs.append(cost)


@pytest.mark.parametrize("at", [0, 1, 2, 5])
def test_clock_that_jumps_by_a_day_during_a_checkpoint_puts_no_more_than_the_bound_at_risk(at: int) -> None:
    costs = [0.1] * 10
    costs[at] = 86400.0
    trigger, now = Budget(0.01), 0.0
    waits = []
    for cost in costs:
        trigger.taken(0, now)
        now += cost
        trigger.committed(0, now, cost)
        waits.append(trigger.due_in(0, now))
        now += max(0.0, waits[-1])
    assert max(waits) <= AT_RISK_S
    assert waits[-1] == pytest.approx(10), "and it is forgotten soon"


def test_dear_checkpoints_exceed_the_budget_rather_than_leave_hours_at_risk() -> None:
    trigger, now = Budget(0.01), 0.0
    for _ in range(5):
        trigger.taken(0, now)
        now += 60
        trigger.committed(0, now, 60)
        now += trigger.due_in(0, now)
    assert now == pytest.approx(660 + 4 * AT_RISK_S), "the budget alone would leave 100 minutes"
    found = excess_of(trigger)
    assert found is not None
    assert found.share == pytest.approx(60 / AT_RISK_S)
    assert excess_of(trigger | "1h") is None


def test_very_dear_checkpoints_take_their_share_and_no_more() -> None:
    trigger, now = Budget(0.01), 0.0
    for _ in range(50):
        trigger.taken(0, now)
        now += 600
        trigger.committed(0, now, 600)
        now += trigger.due_in(0, now)
    assert DEAR_SHARE * now >= 48 * 600


def test_budget_that_is_kept_is_not_exceeded() -> None:
    trigger, _ = played(0.01, [0.5, 17.0, 17.0], AT_RISK_S)
    assert excess_of(trigger) is None
    assert excess_of(Budget(0.01)) is None


def test_slow_storage_is_waited_for_and_the_bound_counts_from_where_the_state_was_read() -> None:
    trigger = Budget(0.01)
    for taken in (0.0, 2000.0):
        trigger.taken(0, taken)
        trigger.committed(0, taken + 1500, 30.0)
    assert trigger.due_in(0, 3500.0) == pytest.approx(300), "2000 + 1800; and its share of ten is kept"
    trigger.taken(0, 4000.0)
    trigger.committed(0, 6000.0, 30.0)
    assert trigger.due_in(0, 6000.0) == pytest.approx(300)
    assert excess_of(trigger) is not None
    trigger = Budget(0.01)
    for taken in (0.0, 3000.0, 6000.0):
        trigger.taken(0, taken)
        trigger.committed(0, taken + 2500, 10.0)
    assert trigger.due_in(0, 8500.0) == pytest.approx(100), "at once, but for its share of ten"
    assert excess_of(trigger) is None, "10 s of 2600: the storage is slow, not the checkpoint dear"


@pytest.mark.parametrize("every", ["1%", "30s", "1000it"])
def test_first_checkpoint_is_due_at_once(every: str) -> None:
    assert parse(every).due_in(0, 0.0) <= 0


def test_time_and_iterations_are_counted_from_the_last_checkpoint() -> None:
    seconds, iterations = parse("1h30m"), parse("1000it")
    for trigger in (seconds, iterations):
        trigger.taken(7, 50.0)
        trigger.committed(7, 55.0, 1.0)
    assert seconds.due_in(10**9, 60.0) == 50.0 + 5400 - 60.0
    assert iterations.due_in(1006, 1e9) == math.inf
    assert iterations.due_in(1007, 60.0) <= 0
    assert (seconds.iterations_left(1006), iterations.iterations_left(1006)) == (math.inf, 1)


@pytest.mark.parametrize("trigger", [parse("30s | 10it"), Every(30) | Iterations(10), Every(30) | "10it"])
def test_joined_triggers_are_due_as_soon_as_one_is(trigger: object) -> None:
    both = parse(trigger)
    both.taken(0, 0.0)
    both.committed(0, 0.5, 1.0)
    assert both.iterations_left(4) == 6
    assert both.due_in(5, 10.0) == 20.0
    assert both.due_in(10, 10.0) <= 0
    assert both.due_in(5, 30.0) <= 0


@pytest.mark.parametrize("every", ["", "often", "0%", "101%", "-1s", "0it", "1.5it", "5", 5, None, "30s|often", "nan%"])
def test_what_is_no_trigger_is_refused_with_the_fix(every: object) -> None:
    with pytest.raises(OptionError) as caught:
        parse(every)
    assert caught.value.fix
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "one traceback says it all"


@pytest.mark.parametrize(
    ("every", "reason"),
    [("0%", "0% is not a share of the job's time"), ("30s|101%", "101% is not a share"), ("1 percent", "is not a duration")],
)
def test_what_is_no_trigger_is_told_why(every: str, reason: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(every)
    assert f"every={every!r} is not understood: " in caught.value.what
    assert reason in caught.value.what
