"""Killed before, after and in the middle of every single write to the storage: the result is the same, always.

Also with storage that fails, lies about having failed, or is full at any one write: the right result or a typed error,
and the next start ends right.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from crash import damage
from crash.harness import Attempt, ForkHost, Form, Kill, finish
from crash.test_steps import check_effects

EVERY = {"CKPT_EVERY": "1it"}
COUNTING = "delay(0):any@1000000"
FORMS = [
    "two_loops_in_sequence",
    "training_and_validation_in_each_epoch",
    "lists_dicts_and_arrays_of_the_caller",
    "steps_before_in_between_and_after_loops",
    "state_in_packs",
    "open_block_with_state_and_loop",
    "logged_objects_are_the_whole_state",
]
WRITES = {"put", "put_if_absent", "create_append", "append", "sync", "delete"}


def writes_of(attempt: Attempt) -> int:
    """How many calls of an uninterrupted attempt change the storage."""
    found = sum(call.split()[0] in WRITES for call in attempt.calls)
    assert found > 5, attempt.calls
    return found


def whole(host: ForkHost, name: str, folder: Path) -> Attempt:
    attempt = Form(host, name, folder / "whole").run(Kill(fault=COUNTING), **EVERY)
    assert attempt.status == 0, attempt.err
    return attempt


# Killed after a write is nearly killed before the next one: each is done for half of the forms.
ACTIONS = [(name, ("kill-before", "kill-after")[at % 2]) for at, name in enumerate(FORMS)]


@pytest.mark.parametrize(("name", "action"), ACTIONS)
def test_killed_at_any_write_the_result_is_the_same(name: str, action: str, fork_host: ForkHost, scratch: Path) -> None:
    reference = whole(fork_host, name, scratch)
    for call in range(1, writes_of(reference) + 1):
        form = Form(fork_host, name, scratch / str(call))
        outcome = finish(form, [Kill(fault=f"{action}:write@{call}")], **EVERY)
        assert outcome.last.status == 0, f"{action} write {call}\n{outcome.story()}"
        assert outcome.last.result == reference.result, f"{action} write {call}\n{outcome.story()}"


@pytest.mark.parametrize("operation", ["append", "put"])
@pytest.mark.parametrize("name", FORMS)
def test_torn_at_any_write_the_result_is_the_same(
    name: str, operation: str, fork_host: ForkHost, scratch: Path
) -> None:
    reference = whole(fork_host, name, scratch)
    for call in range(1, sum(call.startswith(f"{operation} ") for call in reference.calls) + 1):
        form = Form(fork_host, name, scratch / str(call))
        outcome = finish(form, [Kill(fault=f"tear:{operation}@{call}")], **EVERY)
        assert outcome.last.status == 0, f"torn {operation} {call}\n{outcome.story()}"
        assert outcome.last.result == reference.result, f"torn {operation} {call}\n{outcome.story()}"


@pytest.mark.parametrize("action", ["kill-before", "kill-after"])
@pytest.mark.parametrize("tick", [3, 14])
def test_recovery_killed_at_any_write_can_be_started_again(
    tick: int, action: str, fork_host: ForkHost, scratch: Path
) -> None:
    name = "training_and_validation_in_each_epoch"
    reference = whole(fork_host, name, scratch)
    form = Form(fork_host, name, scratch / "count")
    assert form.run(Kill(tick=tick), **EVERY).killed
    resumed = form.run(Kill(fault=COUNTING), **EVERY)
    assert resumed.result == reference.result, resumed.err
    for call in range(1, min(writes_of(resumed), 12) + 1):
        form = Form(fork_host, name, scratch / str(call))
        kills = [Kill(tick=tick), *[Kill(fault=f"{action}:write@{call}")] * 3]
        outcome = finish(form, kills, **EVERY)
        assert outcome.last.status == 0, f"{action} write {call}\n{outcome.story()}"
        assert outcome.last.result == reference.result, f"{action} write {call}\n{outcome.story()}"


def test_steps_keep_their_promise_when_killed_at_any_write(fork_host: ForkHost, scratch: Path) -> None:
    name = "steps_with_effects"
    reference = whole(fork_host, name, scratch)
    for call in range(1, writes_of(reference) + 1):
        folder = scratch / str(call)
        outcome = finish(Form(fork_host, name, folder), [Kill(fault=f"kill-after:write@{call}")], **EVERY)
        assert outcome.last.status == 0, f"write {call}\n{outcome.story()}"
        check_effects(folder, outcome)


@pytest.mark.parametrize("action", ["fail", "lose", "full"])
@pytest.mark.parametrize("name", ["two_loops_in_sequence", "state_in_packs"])
def test_failing_storage_gives_the_right_result_or_a_typed_error(
    name: str, action: str, fork_host: ForkHost, scratch: Path
) -> None:
    reference = whole(fork_host, name, scratch)
    for call in range(1, writes_of(reference) + 1):
        form = Form(fork_host, name, scratch / str(call))
        wreck = damage.Wreck(fork_host, name, form.folder / "store", reference.result)
        attempt = form.run(Kill(fault=f"{action}:write@{call}"), **EVERY)
        verdict = wreck.verdict(attempt)
        assert verdict in {"right", "StorageError", "StorageFullError"}, f"{action} write {call}: {attempt.err}"
        again = form.run(**EVERY)
        assert again.status == 0, f"after {action} write {call}: {again.err}"
        assert again.result == reference.result, f"after {action} write {call}: {again.err}"


@pytest.mark.parametrize("call", range(1, 12))
def test_flipped_bit_on_the_way_from_the_storage_is_never_used(call: int, fork_host: ForkHost, scratch: Path) -> None:
    wreck = damage.make(fork_host, "state_in_packs", scratch / "made", Kill(tick=4))
    for byte in (0, 40, 200, 3000):
        for operation in ("get", "read_into"):
            form = wreck.copy(scratch / "copy")
            attempt = form.run(Kill(fault=f"flip({byte}):{operation}@{call}"), **damage.EVERY)
            wreck.verdict(attempt)
