"""When a checkpoint is due: what a budget spends, and how triggers combine."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.errors import OptionError
from ckpt.triggers import MIN_INTERVAL_S, Auto, Budget, Every, Iterations, daly_interval, parse


def played(fraction: float, costs: list[float]) -> tuple[Budget, float]:
    """A budget whose checkpoints cost this much, each taken as soon as it is due; when the next is due."""
    trigger, now = Budget(fraction), 0.0
    for cost in costs:
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


def test_auto_takes_the_interval_of_daly_for_the_cost_that_it_sees() -> None:
    trigger = parse("auto", mtbf_s=3600.0)
    assert trigger.due_in(0, 5.0) <= 0, "the first one is due at once"
    trigger.committed(0, 100.0, 2.0)
    assert trigger.due_in(0, 100.0) == pytest.approx(daly_interval(2.0, 3600.0))
    assert trigger.due_in(0, 100.0) == pytest.approx((2 * 2.0 * 3600) ** 0.5, rel=0.02), "Young's, nearly"
    trigger.committed(0, 300.0, 8.0)
    assert trigger.due_in(0, 300.0) == pytest.approx(daly_interval(8.0, 3600.0))


@given(st.floats(0, 1e6), st.floats(1, 1e6))
def test_auto_never_puts_more_work_at_risk_than_the_time_between_failures(cost: float, mtbf: float) -> None:
    trigger = Auto(mtbf)
    trigger.committed(0, 0.0, cost)
    assert MIN_INTERVAL_S <= trigger.due_in(0, 0.0) <= mtbf * (1 + 1e-9)


def test_auto_joins_other_triggers_with_its_time_between_failures() -> None:
    trigger = parse("auto | 30s", mtbf_s=3600.0)
    trigger.taken(0, 0.0)
    trigger.committed(0, 0.0, 2.0)
    assert trigger.due_in(0, 0.0) == 30
    trigger = parse("auto | 1h", mtbf_s=7200.0)
    trigger.taken(0, 0.0)
    trigger.committed(0, 0.0, 2.0)
    assert trigger.due_in(0, 0.0) == pytest.approx(daly_interval(2.0, 7200.0))
