"""Maps and kills: what was handed out is never executed again; only what was not finished is executed once more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill, finish
from crash.map_checks import check, lines, ticks_of
from programs.jobs_map import WORKERS

FORMS = [
    "map_ordered", "map_as_completed", "map_processes", "map_in_a_loop", "map_as_completed_in_a_loop", "maps_nested",
    "map_in_a_block",
]  # fmt: skip


@pytest.mark.parametrize("every", ["2it", "1%"])
@pytest.mark.parametrize("name", FORMS)
def test_a_kill_anywhere_repeats_nothing_that_was_handed_out(
    name: str, every: str, fork_host: ForkHost, scratch: Path
) -> None:
    ticks = ticks_of(fork_host, name, scratch / "whole")
    for tick in range(1, ticks + 1, 2 if ticks < 30 else 5):
        folder = scratch / str(tick)
        check(folder, finish(Form(fork_host, name, folder), [Kill(tick=tick)], CKPT_EVERY=every))


@pytest.mark.parametrize("name", FORMS)
def test_many_kills_in_a_row_repeat_nothing_that_was_handed_out(name: str, fork_host: ForkHost, scratch: Path) -> None:
    outcome = finish(Form(fork_host, name, scratch), [Kill(tick=4 + n % 3) for n in range(12)], CKPT_EVERY="2it")
    assert outcome.kills >= 2, outcome.story()
    check(scratch, outcome)


def test_results_survive_a_checkpoint_at_the_entry_of_the_loop(fork_host: ForkHost, scratch: Path) -> None:
    kills = [Kill(tick=14), Kill(tick=1), Kill(tick=1)]
    outcome = finish(Form(fork_host, "map_kept_at_its_entry", scratch), kills, CKPT_EVERY="1000it", SETTLE_S="0.2")
    assert outcome.kills == 3, outcome.story()
    assert sum(line[0] == "ack" for line in lines(scratch)) > 9, "some results were handed out before a kill"
    check(scratch, outcome)


def test_equal_items_are_told_apart_by_their_occurrence(fork_host: ForkHost, scratch: Path) -> None:
    for tick in range(2, 9):
        folder = scratch / str(tick)
        outcome = finish(Form(fork_host, "map_of_equal_items", folder), [Kill(tick=tick)])
        assert outcome.last.status == 0, outcome.story()
        result = outcome.last.result
        assert isinstance(result, list)
        assert len(set(result)) == len(result) == 8
        assert len(lines(folder)) <= 8 + 2 * WORKERS


@pytest.mark.parametrize("ordered", ["yes", "no"])
def test_items_may_be_reordered_inserted_and_removed_between_two_attempts(
    ordered: str, fork_host: ForkHost, scratch: Path
) -> None:
    form = Form(fork_host, "map_of_changing_items", scratch)
    assert form.run(Kill(tick=7), ORDERED=ordered, NAMES="a,b,c,d,e,f").killed
    tokens = {name: token for kind, name, token, *_ in lines(scratch) if kind == "ack"}
    assert len(tokens) >= 2
    last = form.run(ORDERED=ordered, NAMES="x,f,c,a,y,e")
    assert last.status == 0, last.err
    assert isinstance(last.result, list)
    result = {name: token for name, token in last.result}
    assert sorted(result) == ["a", "c", "e", "f", "x", "y"]
    if ordered == "yes":
        assert [name for name, _ in last.result] == ["x", "f", "c", "a", "y", "e"]
    assert all(result[name] == token for name, token in tokens.items() if name in result)
    assert Counter(name for kind, name, *_ in lines(scratch) if kind == "do")["a"] == 1
