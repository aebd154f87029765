"""Steps from a pool of threads: each is recorded once, and what was recorded is not executed again after a kill."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill, Outcome, finish
from programs.jobs_threads import THREADS

TRIGGERS = [{"CKPT_EVERY": "1it"}, {}]


def lines(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "effects.txt").read_text().splitlines()]


def check_named(folder: Path, outcome: Outcome) -> None:
    """Nothing that was acknowledged is executed again, and the result is what was acknowledged."""
    executed: Counter[str] = Counter()
    keys: dict[str, set[str]] = defaultdict(set)
    acknowledged: dict[str, str] = {}
    for kind, name, token, *rest in lines(folder):
        if kind == "do":
            assert name not in acknowledged, f"{name} was recorded and executed again\n{outcome.story()}"
            executed[name] += 1
            keys[name].add(rest[0])
        else:
            assert acknowledged.setdefault(name, token) == token, f"{name} came back different"
    assert sum(executed.values()) - len(executed) <= THREADS * outcome.kills
    assert all(len(found) == 1 for found in keys.values()), "the idempotency key of a step changed"
    assert len({next(iter(found)) for found in keys.values()}) == len(keys), "two steps share an idempotency key"
    assert outcome.last.status == 0, outcome.story()
    assert isinstance(outcome.last.result, list)
    assert {name: token for name, token in outcome.last.result} == acknowledged
    assert len(outcome.last.result) == len(acknowledged) == len(executed)


def ticks_of(host: ForkHost, name: str, folder: Path) -> int:
    whole = Form(host, name, folder).run()
    assert whole.status == 0, whole.err
    return whole.ticks


@pytest.mark.parametrize("trigger", TRIGGERS, ids=["1it", "default"])
def test_a_kill_anywhere_repeats_no_recorded_step(trigger: dict[str, str], fork_host: ForkHost, scratch: Path) -> None:
    ticks = ticks_of(fork_host, "steps_in_threads", scratch / "whole")
    assert ticks > 50
    for tick in range(1, ticks + 1, 2):
        folder = scratch / str(tick)
        outcome = finish(Form(fork_host, "steps_in_threads", folder), [Kill(tick=tick)], **trigger)
        check_named(folder, outcome)


def test_many_kills_in_a_row_repeat_no_recorded_step(fork_host: ForkHost, scratch: Path) -> None:
    rng = random.Random(23)
    for series in range(4):
        folder = scratch / str(series)
        kills = [Kill(tick=rng.randint(2, 12)) for _ in range(12)]
        outcome = finish(Form(fork_host, "steps_in_threads", folder), kills, CKPT_EVERY="1it")
        assert outcome.kills >= 3, "the job was to be killed several times"
        check_named(folder, outcome)


def test_without_a_kill_each_step_is_executed_once(fork_host: ForkHost, scratch: Path) -> None:
    outcome = finish(Form(fork_host, "steps_in_threads", scratch), [])
    check_named(scratch, outcome)
    assert finish(Form(fork_host, "steps_in_threads", scratch), []).last.result == outcome.last.result


def test_equal_calls_in_threads_are_told_apart_and_none_is_lost(fork_host: ForkHost, scratch: Path) -> None:
    for tick in range(2, 36, 3):
        folder = scratch / str(tick)
        outcome = finish(Form(fork_host, "equal_steps_in_threads", folder), [Kill(tick=tick)], CKPT_EVERY="1it")
        assert outcome.last.status == 0, outcome.story()
        result = outcome.last.result
        assert isinstance(result, list)
        assert len(set(result)) == len(result) == 18
        done = [token for kind, _, token, *_ in lines(folder) if kind == "do"]
        acknowledged = {token for kind, _, token, *_ in lines(folder) if kind == "ack"}
        assert acknowledged == set(result), "a result that was seen is in the end"
        assert len(done) <= 18 + THREADS * outcome.kills
