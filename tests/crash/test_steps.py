"""Steps and kills: what was recorded is not executed again; one step per kill at most is executed twice."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest
from crash.harness import NO_RESULT, ForkHost, Form, Kill, Outcome, finish

TRIGGERS = [{"CKPT_EVERY": "1it"}, {"CKPT_EVERY": "3it"}, {}]


def check_effects(folder: Path, outcome: Outcome) -> None:
    """The trace that the steps left outside obeys every promise about steps."""
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
            assert token == executed[name][-1], f"{name} returned what no execution gave"
            assert acknowledged.setdefault(name, token) == token, f"{name} came back different"
    twice = sum(len(tokens) - 1 for tokens in executed.values())
    assert twice <= outcome.kills, f"{twice} steps executed again after {outcome.kills} kills"
    assert all(len(found) == 1 for found in keys.values()), "the idempotency key of a step changed"
    assert len({next(iter(found)) for found in keys.values()}) == len(keys), "two steps share an idempotency key"
    result = outcome.last.result
    assert isinstance(result, list)
    assert dict(result) == acknowledged, "the job returned other results than it saw"


def ticks_of(host: ForkHost, name: str, folder: Path) -> int:
    whole = Form(host, name, folder).run()
    assert whole.status == 0, whole.err
    return whole.ticks


@pytest.mark.parametrize("trigger", TRIGGERS, ids=["1it", "3it", "default"])
def test_a_kill_anywhere_repeats_no_recorded_step(trigger: dict[str, str], fork_host: ForkHost, scratch: Path) -> None:
    ticks = ticks_of(fork_host, "steps_with_effects", scratch / "whole")
    for tick in range(1, ticks + 1):
        folder = scratch / str(tick)
        outcome = finish(Form(fork_host, "steps_with_effects", folder), [Kill(tick=tick)], **trigger)
        assert outcome.last.status == 0, outcome.story()
        check_effects(folder, outcome)


@pytest.mark.parametrize("trigger", TRIGGERS, ids=["1it", "3it", "default"])
def test_many_kills_repeat_at_most_one_step_each(trigger: dict[str, str], fork_host: ForkHost, scratch: Path) -> None:
    rng = random.Random(17)
    for series in range(6):
        folder = scratch / str(series)
        kills = [Kill(tick=rng.randint(1, 5)) for _ in range(12)]
        outcome = finish(Form(fork_host, "steps_with_effects", folder), kills, **trigger)
        assert outcome.last.status == 0, outcome.story()
        assert outcome.kills >= 4, "the job was to be killed several times"
        check_effects(folder, outcome)


def test_failed_tries_are_retried_and_the_success_is_recorded(fork_host: ForkHost, scratch: Path) -> None:
    outcome = finish(Form(fork_host, "steps_that_are_retried", scratch), [Kill(tick=2)])
    assert outcome.last.result == ["call-a after 3", "call-b after 4"], outcome.story()
    tries = (scratch / "effects.txt").read_text().split()
    assert tries.count("call-a") == 3, "call-a was recorded before the kill"


def test_a_step_with_a_key_takes_arguments_without_a_digest(fork_host: ForkHost, scratch: Path) -> None:
    outcome = finish(Form(fork_host, "steps_with_a_key", scratch), [Kill(tick=6)])
    assert outcome.last.status == 0, outcome.story()
    assert outcome.last.result == ["0!", "1!", "2!", "3!"]
    lines = (scratch / "effects.txt").read_text().splitlines()
    assert sum(line.startswith("do row-0") for line in lines) == 1


def test_without_a_kill_every_step_is_executed_once(fork_host: ForkHost, scratch: Path) -> None:
    outcome = finish(Form(fork_host, "steps_with_effects", scratch), [])
    assert outcome.last.result is not NO_RESULT, outcome.story()
    check_effects(scratch, outcome)
    again = finish(Form(fork_host, "steps_with_effects", scratch), [])
    assert again.last.result == outcome.last.result, "a finished run returns its recorded result"
    check_effects(scratch, again)


def test_log_does_not_grow_with_the_number_of_steps(fork_host: ForkHost, scratch: Path) -> None:
    form = Form(fork_host, "many_steps", scratch)
    assert form.run(Kill(tick=1), STEPS="1500", CKPT_EVERY="50it").killed
    length = sum(path.stat().st_size for path in scratch.rglob("*.log"))
    assert length < 10e6, f"{length} bytes of log for 30e6 bytes of results, nearly all before the last checkpoint"
    assert form.run(STEPS="1500", CKPT_EVERY="50it").status == 0


def test_result_that_shares_an_object_with_an_argument_is_a_copy_before_and_after_a_kill(
    fork_host: ForkHost, scratch: Path
) -> None:
    whole = Form(fork_host, "step_that_returns_its_argument", scratch / "whole").run()
    assert whole.status == 0, whole.err
    for tick in range(1, whole.ticks + 1):
        form = Form(fork_host, "step_that_returns_its_argument", scratch / str(tick))
        outcome = finish(form, [Kill(tick=tick)], CKPT_EVERY="1it")
        assert (outcome.kills, outcome.last.result) == (1, whole.result), outcome.story()
