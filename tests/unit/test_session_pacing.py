"""When a checkpoint is worth it, by the numbers: what a resume would run again against the work that it saves."""

from __future__ import annotations

from typing import Any

import pytest

from ckpt.checkpointer import Kept
from ckpt.session.node import Node, rerun_s
from ckpt.session.pacing import KEEP_SHARE, RERUN_SHARE, Pacing
from ckpt.triggers import Every, Iterations, parse

KEPT = Kept(None, None, 0)


def node(began_s: float, *, base_s: float | None = None, index: int = 0, iteration_s: float | None = None) -> Node:
    """A loop entered at ``began_s``, whose state was last kept at ``base_s``, in iteration ``index`` since ``iteration_s``."""
    made = Node("f#0", "x", 1, 0, 0, "active", True, began_s, {}, 1, ())
    if base_s is not None:
        made.rebase(KEPT, base_s)
    made.index += index
    if iteration_s is not None:
        made.iteration_s = iteration_s
    return made


def over(rerun_s: float, status: str = "live") -> Node:
    """A finished loop that a resume runs again in ``rerun_s`` seconds, if it is "live"."""
    made = node(0)
    made.status, made.rerun_s = status, rerun_s
    return made


ROOT = node(0)


@pytest.mark.parametrize(
    ("active", "seconds"),
    [
        ([ROOT], 0),
        ([ROOT, node(0, base_s=10)], 0),
        ([ROOT, node(0, base_s=10, index=3, iteration_s=17), node(17)], 7),
        ([ROOT, node(0, base_s=10, index=3, iteration_s=17), node(17, base_s=18, index=2, iteration_s=20)], 7),
        ([ROOT, node(0, index=2, iteration_s=8), node(8, index=5, iteration_s=9), node(9)], 8 + 1),
    ],
    ids=["nothing", "at its base", "outer", "the place itself counts nothing", "three deep"],
)
def test_a_resume_runs_again_the_finished_iterations_since_each_base(active: list[Node], seconds: float) -> None:
    assert rerun_s(active, active[-1]) == seconds


def test_a_resume_runs_again_the_loops_on_the_way_whose_end_was_not_kept() -> None:
    outer, inner = node(0, base_s=10), node(30)
    outer.children = [over(5), over(3, "exhausted"), over(2), over(1, "broken"), inner]
    outer.merged_s = 0.5
    assert rerun_s([ROOT, outer, inner], inner) == 7.5
    assert rerun_s([ROOT, outer, inner], outer) == 0


def pacing(trigger: Any = "1%", *, first: bool = False, now_s: float = 0) -> Pacing:
    return Pacing(parse(trigger), first=first, now_s=now_s)


@pytest.mark.parametrize(("passed_s", "allowed"), [(9.9, False), (10.0, True), (100.0, True)])
def test_inner_checkpoint_is_taken_once_the_resume_costs_at_most_half_of_the_work(
    passed_s: float, allowed: bool
) -> None:
    assert RERUN_SHARE == 0.5
    inner = node(5)
    active = [ROOT, node(0, index=1, iteration_s=5), inner]
    later_s = pacing().allows(active, inner, passed_s)
    assert (later_s == 0) is allowed
    assert allowed or later_s == 5, "look again after as long as the resume would take"


def test_outer_safe_point_is_always_a_good_one() -> None:
    outer = node(0, index=9, iteration_s=500)
    assert pacing().allows([ROOT, outer], outer, 0.001) == 0


def test_work_is_counted_from_the_last_checkpoint() -> None:
    inner = node(5)
    active = [ROOT, node(0, index=1, iteration_s=5), inner]
    paced = pacing()
    paced.last_s = 95
    assert paced.allows(active, inner, 100) == 5
    assert paced.allows(active, inner, 105) == 0


def test_first_checkpoint_is_insisted_on_once() -> None:
    paced = pacing("1h", first=True)
    assert paced.insists()
    assert paced.taken() == "first"
    assert not paced.insists()
    assert not pacing("1h", first=False).insists(), "a resumed run has its first checkpoint already"


def test_asked_for_checkpoint_is_insisted_on_once() -> None:
    paced = pacing("1h")
    paced.ask()
    assert paced.insists()
    assert paced.taken() == "requested"
    assert not paced.insists()
    assert paced.taken() == "trigger"


def test_counted_out_checkpoint_is_due_at_its_iteration() -> None:
    paced = pacing(Iterations(10))
    paced.trigger.taken(0, 0.0)
    loop = node(0, index=9)
    paced.count(loop)
    assert not paced.counted_out()
    assert paced.stop_at(9) == 10
    loop.index = 10
    paced.count(loop)
    assert paced.counted_out()
    assert paced.stop_at(10) > 10**9, "somebody reminds of it"
    paced.trigger.taken(10, 0.0)
    assert not paced.counted_out()
    assert paced.stop_at(3) == 13


def test_time_that_has_passed_is_nothing_to_count() -> None:
    paced = pacing(Every(1))
    assert not paced.counted_out(), "that goes through the ticker, and may wait for a better place"
    assert paced.stop_at(0) > 10**9
    either = pacing(Every(1) | Iterations(10))
    either.trigger.taken(0, 0.0)
    assert not either.counted_out()
    either.iterations = 10
    assert either.counted_out()


def test_taking_a_checkpoint_settles_all_reasons() -> None:
    paced = pacing(first=True)
    paced.ask()
    paced.due = True
    assert paced.taken() == "first"
    assert not paced.due
    assert not paced.insists()


def test_state_is_kept_where_the_work_is_worth_a_hundred_copies() -> None:
    assert KEEP_SHARE == 0.01
    paced = pacing()
    assert paced.worth_keeping(0), "nothing is known of the cost yet"
    paced.kept(0.02)
    assert not paced.worth_keeping(1.9)
    assert paced.worth_keeping(2.1)


def test_one_cheap_copy_does_not_make_copies_look_cheap() -> None:
    paced = pacing()
    paced.kept(1.0)
    paced.kept(0.0)
    assert not paced.worth_keeping(60)
    for _ in range(30):
        paced.kept(0.0)
    assert paced.worth_keeping(1)
    paced.kept(1.0)
    assert not paced.worth_keeping(60), "one that is dearer than all before counts at once"
