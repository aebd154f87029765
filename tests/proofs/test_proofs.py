"""Each proof at a size that takes seconds; its module is the command that goes on for as long as you like."""

from __future__ import annotations

import os
import re

import pytest

from proofs import corruption, crash_states, decoders, power_loss, system_calls

SEED = int(os.environ.get("CKPT_PROOF_SEED", "1"))


def count(text: str, what: str) -> int:
    """The number in front of ``what`` in what a proof says."""
    return sum(int(number) for number in re.findall(rf"^ *(\d+)  .*{what}", text, re.MULTILINE))


@pytest.mark.slow
def test_changed_stores_give_the_right_result_or_a_typed_error_and_verify_finds_the_change() -> None:
    said = corruption.run(4000, SEED)
    print(said)
    assert count(said, "reported, refused") > 500
    assert count(said, "reported, right all the same") > 500
    assert count(said, "repaired, and ended right") > 20
    assert count(said, "resumed: right") > 5


def test_decoders_raise_documented_errors_only() -> None:
    said = decoders.run(20_000, SEED)
    print(said)
    assert count(said, "CorruptionError") > 500
    assert count(said, "taken") > 500


@pytest.mark.slow
def test_every_state_that_a_power_loss_may_leave_is_recovered() -> None:
    said = crash_states.run(0, SEED)
    print(said)
    for scenario in crash_states.scenarios():
        assert count(said, f"{scenario}: recovered") > 300, scenario
    assert count(said, "CorruptionError for a hole") < 50


@pytest.mark.slow
def test_real_power_losses_of_ext4_lose_nothing_that_was_acknowledged() -> None:
    reason = power_loss.reason_not_to()
    if reason:
        pytest.skip(reason)
    said = power_loss.run(500, SEED)
    print(said)
    assert count(said, "at a call") > 450
    assert count(said, "facts acknowledged and found") > 500


@pytest.mark.slow
def test_killed_and_failing_system_calls_lose_nothing_that_was_acknowledged() -> None:
    reason = system_calls.reason_not_to()
    if reason:
        pytest.skip(reason)
    said = system_calls.run(40, SEED)
    print(said)
    assert count(said, "killed, then ended right") > 5
    assert count(said, "typed error, then ended right") > 5
