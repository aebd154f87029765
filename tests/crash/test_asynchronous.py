"""Checkpoints are written beside the job: what the job does in the meantime is never in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill, finish

NAME = "overwritten_after_the_safe_point"


@pytest.mark.parametrize("settle", ["0", "0.05"])
def test_a_change_right_after_the_safe_point_is_never_in_the_checkpoint(
    settle: str, fork_host: ForkHost, scratch: Path
) -> None:
    expected = Form(fork_host, NAME, scratch / "plain").run(CKPT_DISABLE="1")
    assert expected.status == 0, expected.err
    for tick in range(1, expected.ticks + 1):
        outcome = finish(
            Form(fork_host, NAME, scratch / f"at-{tick}"), [Kill(tick=tick)], CKPT_EVERY="1it", SETTLE_S=settle
        )
        assert outcome.last.status == 0, outcome.story()
        assert outcome.last.result == expected.result, f"tick {tick}: {outcome.last.result}\n{outcome.story()}"


def test_many_kills_in_a_row_while_checkpoints_are_written(fork_host: ForkHost, scratch: Path) -> None:
    expected = Form(fork_host, NAME, scratch / "plain").run(CKPT_DISABLE="1").result
    kills = [Kill(tick=tick) for tick in (2, 3, 2, 4, 2, 3)]
    outcome = finish(Form(fork_host, NAME, scratch / "run"), kills, CKPT_EVERY="1it")
    assert outcome.last.result == expected, outcome.story()
