"""Every control-flow form, killed with SIGKILL at every tick, gives the result of a run that was never killed.

The plain run (``CKPT_DISABLE=1``) is the reference. Each form is killed once at each of its ticks and resumed, with a
checkpoint at every safe point; at every third tick with the default trigger, which takes few checkpoints here; and at
several random ticks in a row.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill, finish, form_names

EVERY_POINT = {"CKPT_EVERY": "1it"}
DEFAULT: dict[str, str] = {}
FORMS = form_names()


_references: dict[str, tuple[object, int]] = {}


def reference(host: ForkHost, name: str, scratch: Path) -> tuple[object, int]:
    """The plain run's result and number of ticks."""
    if name not in _references:
        plain = Form(host, name, scratch / "plain").run(CKPT_DISABLE="1")
        assert plain.status == 0, plain.err
        assert plain.ticks >= 3, "a form must have places to die at"
        _references[name] = plain.result, plain.ticks
    return _references[name]


@pytest.mark.parametrize("name", FORMS)
def test_uninterrupted_run_equals_the_plain_one(name: str, fork_host: ForkHost, scratch: Path) -> None:
    expected, ticks = reference(fork_host, name, scratch)
    for trigger in (EVERY_POINT, DEFAULT):
        attempt = Form(fork_host, name, scratch / f"whole{len(trigger)}").run(**trigger)
        assert attempt.status == 0, attempt.err
        assert attempt.result == expected
        assert attempt.ticks == ticks


def killed_at_each(ticks: range, trigger: dict[str, str], form: Form, expected: object) -> None:
    """One run per tick, killed there once."""
    wrong = []
    for tick in ticks:
        outcome = finish(form, [Kill(tick=tick)], **trigger)
        assert outcome.kills == 1, outcome.story()
        if outcome.last.status != 0 or outcome.last.result != expected:
            wrong.append(f"tick {tick}: {outcome.last.result} {outcome.story()}")
        shutil.rmtree(form.folder)
    assert not wrong, f"{len(wrong)} of {len(ticks)} kills; expected {expected}, the first:\n{wrong[0]}"


@pytest.mark.parametrize("name", FORMS)
def test_killed_at_any_tick_the_result_is_the_same(name: str, fork_host: ForkHost, scratch: Path) -> None:
    expected, ticks = reference(fork_host, name, scratch)
    killed_at_each(range(1, ticks + 1), EVERY_POINT, Form(fork_host, name, scratch / "run"), expected)


@pytest.mark.parametrize("name", FORMS)
def test_killed_with_few_checkpoints_the_result_is_the_same(name: str, fork_host: ForkHost, scratch: Path) -> None:
    expected, ticks = reference(fork_host, name, scratch)
    killed_at_each(range(1 + len(name) % 3, ticks + 1, 3), DEFAULT, Form(fork_host, name, scratch / "run"), expected)


@pytest.mark.parametrize("name", FORMS)
def test_killed_several_times_in_a_row_the_result_is_the_same(name: str, fork_host: ForkHost, scratch: Path) -> None:
    expected, ticks = reference(fork_host, name, scratch)
    rng = random.Random(name)
    for series in range(2):
        form = Form(fork_host, name, scratch / f"s{series}")
        kills = [rng.randint(1, max(2, ticks // 2)) for _ in range(6)]
        outcome = finish(form, [Kill(tick=tick) for tick in kills], **EVERY_POINT)
        assert outcome.last.status == 0, f"killed at {kills}\n{outcome.story()}"
        assert outcome.last.result == expected, f"killed at {kills}\n{outcome.story()}"
