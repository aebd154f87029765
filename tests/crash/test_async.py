"""Async jobs and kills: steps side by side are recorded at most once each, signals save at the next safe point."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill, Outcome, finish
from programs.jobs_async import AT_ONCE

STEPS, SIGNALLED = "async_steps_with_effects", "async_signalled"


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
