"""Async jobs and kills: steps and items side by side are recorded at most once each, signals save at the next safe point."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill, Outcome, finish
from crash.map_checks import check, ticks_of
from programs.jobs_async import AT_ONCE

STEPS, SIGNALLED = "async_steps_with_effects", "async_signalled"
MAPS = [
    "amap_in_a_plain_job", "amap_as_completed_in_a_plain_job", "amap_in_an_async_job", "amap_as_completed_in_an_async_job",
    "amap_with_other_executors", "amaps_side_by_side",
]  # fmt: skip
MAPS_AT_A_TIME = {"amaps_side_by_side": 2}


def check_effects(folder: Path, outcome: Outcome) -> None:
    executed: dict[str, list[str]] = defaultdict(list)
    keys: dict[str, set[str]] = defaultdict(set)
    acknowledged: dict[str, str] = {}
    for line in (folder / "effects.txt").read_text().splitlines():
        kind, name, token, *rest = line.split()
        if kind == "do":
            assert name not in acknowledged, f"{name} was recorded and executed again"
            executed[name].append(token)
            keys[name].add(rest[0])
        else:
            assert token in executed[name], f"{name} returned what no execution gave"
            assert acknowledged.setdefault(name, token) == token, f"{name} came back different"
    again = sum(len(tokens) - 1 for tokens in executed.values())
    assert again <= AT_ONCE * outcome.kills, f"{again} steps executed again after {outcome.kills} kills"
    assert all(len(found) == 1 for found in keys.values()), "the idempotency key of a step changed"
    assert len({next(iter(found)) for found in keys.values()}) == len(keys), "two steps share an idempotency key"
    assert dict(outcome.last.result) == acknowledged, "the job returned other results than it saw"  # type: ignore[call-overload]


@pytest.mark.parametrize("trigger", [{"CKPT_EVERY": "1it"}, {}], ids=["1it", "default"])
def test_a_kill_anywhere_repeats_no_recorded_async_step(
    trigger: dict[str, str], fork_host: ForkHost, scratch: Path
) -> None:
    whole = Form(fork_host, STEPS, scratch / "whole").run()
    assert whole.status == 0, whole.err
    for tick in range(1, whole.ticks + 1):
        folder = scratch / str(tick)
        outcome = finish(Form(fork_host, STEPS, folder), [Kill(tick=tick)], **trigger)
        assert outcome.last.status == 0, outcome.story()
        check_effects(folder, outcome)


def test_many_kills_in_a_row_repeat_no_recorded_async_step(fork_host: ForkHost, scratch: Path) -> None:
    outcome = finish(Form(fork_host, STEPS, scratch / "run"), [Kill(tick=1 + n % 5) for n in range(14)])
    assert outcome.kills >= 8, outcome.story()
    check_effects(scratch / "run", outcome)


@pytest.mark.parametrize("at", [0, 5])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_signal_saves_an_async_job_at_the_next_safe_point_and_nothing_runs_twice(
    name: str, at: int, fork_host: ForkHost, scratch: Path
) -> None:
    whole = Form(fork_host, SIGNALLED, scratch / "whole").run(CKPT_DISABLE="1")
    form = Form(fork_host, SIGNALLED, scratch / "run")
    stopped = form.run(SIGNAL=f"{name}@{at}")
    assert stopped.status == 75, stopped.err
    starts = [line for line in (scratch / "run" / "effects.txt").read_text().splitlines() if line.startswith("start")]
    assert len(starts) == at + 1, "the iteration in progress is finished, no other is begun"
    assert "Traceback" not in stopped.err
    assert len(stopped.err.strip().splitlines()) <= 2, "one line, and a hint for Ctrl-C"
    resumed = form.run()
    assert resumed.status == 0, resumed.err
    assert resumed.result == whole.result
    lines = Counter((scratch / "run" / "effects.txt").read_text().splitlines())
    assert set(lines.values()) == {1}, "an iteration was executed twice"


@pytest.mark.parametrize("name", MAPS)
def test_a_kill_anywhere_repeats_no_item_of_a_map_that_was_handed_out(
    name: str, fork_host: ForkHost, scratch: Path
) -> None:
    ticks = ticks_of(fork_host, name, scratch / "whole")
    for tick in range(1, ticks + 1, max(2, ticks // 8)):
        folder = scratch / str(tick)
        outcome = finish(Form(fork_host, name, folder), [Kill(tick=tick)], CKPT_EVERY="2it")
        check(folder, outcome, maps=MAPS_AT_A_TIME.get(name, 1))


@pytest.mark.parametrize("name", MAPS)
def test_many_kills_in_a_row_repeat_no_item_of_a_map(name: str, fork_host: ForkHost, scratch: Path) -> None:
    outcome = finish(Form(fork_host, name, scratch), [Kill(tick=4 + n % 3) for n in range(10)], CKPT_EVERY="2it")
    assert outcome.kills >= 2, outcome.story()
    check(scratch, outcome, maps=MAPS_AT_A_TIME.get(name, 1))


@pytest.mark.parametrize("name", ["amap_signalled_in_a_plain_job", "amap_signalled_in_an_async_job"])
@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_signal_lets_coroutines_of_a_map_be_finished_and_recorded(
    signal: str, name: str, fork_host: ForkHost, scratch: Path
) -> None:
    form = Form(fork_host, name, scratch)
    stopped = form.run(SIGNAL=f"{signal}@5")
    assert stopped.status == 75, stopped.err
    assert "Traceback" not in stopped.err
    effects = scratch / "effects.txt"
    begun = Counter(line.split()[0] for line in effects.read_text().splitlines())
    assert begun["start"] == begun["end"] < 30, "what had begun was finished, and not all had begun"
    resumed = form.run()
    assert resumed.status == 0, resumed.err
    assert resumed.result == sum(range(30))
    assert set(Counter(effects.read_text().splitlines()).values()) == {1}, "an item was executed twice"
