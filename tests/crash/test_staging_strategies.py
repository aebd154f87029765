"""However it is found out what changed since the last checkpoint: killed anywhere, the result is that of a plain run.

The seeds are printed; set ``CRASH_SEED`` to draw the same kills again. (Those after some seconds are by the clock.)
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from pathlib import Path

import pytest
from crash.harness import Attempt, ForkHost, Form, Kill, finish
from programs.staging import MIXED, STRATEGIES, missing

FORMS = ["staged_views", "staged_memory", "staged_writers", "staged_nested"]
EVERY = {"CKPT_EVERY": "1it"}
LATE = "delay(0.004):put=*/pack/*@1+"
"""The job goes on while what was staged waits for the storage."""

STAGES = {
    "staged": "kill-before:put=*/pack/*",
    "half of the pack is written": "tear:put=*/pack/*",
    "the pack is durable": "kill-after:put=*/pack/*",
    "half of the record is written": "tear:append=*.log",
    "the record is written": "kill-after:append=*.log",
    "the record is durable": "kill-after:sync=*.log",
    "an old pack goes": "kill-before:delete=*/pack/*",
    "an old pack is gone": "kill-after:delete=*/pack/*",
}


@pytest.fixture(params=[*STRATEGIES, MIXED])
def strategy(request: pytest.FixtureRequest) -> str:
    reason = missing(request.param)
    if reason:
        pytest.skip(reason)
    return str(request.param)


def check_staged(strategy: str, attempt: Attempt) -> None:
    """An attempt that went to its end wrote its snapshots as the strategy says: else it says nothing of it."""
    [found] = re.findall(r"^WROTE (.*)$", attempt.out, re.MULTILINE)
    counts = json.loads(found)
    assert counts["packed"] >= 10, counts
    assert (counts["patched"] >= 3) == (strategy not in ("copy", "streaming")), counts
    assert (counts["live"] >= 3) == (strategy in ("streaming", MIXED)), counts


def test_killed_at_any_tick_large_arrays_are_exact(strategy: str, fork_host: ForkHost, scratch: Path) -> None:
    name = "large_arrays_of_which_little_changes"
    plain = Form(fork_host, name, scratch / "plain").run(CKPT_DISABLE="1")
    assert plain.status == 0, plain.err
    for tick in range(1, plain.ticks + 1, 3):
        form = Form(fork_host, name, scratch / f"run{tick}")
        # Twice: what was restored is watched from the beginning again.
        outcome = finish(form, [Kill(tick=tick), Kill(tick=4)], CKPT_EVERY="1it", STAGING=strategy)
        assert outcome.kills >= 1, outcome.story()
        assert outcome.last.status == 0, outcome.story()
        assert outcome.last.result == plain.result, f"tick {tick}: {outcome.story()}"


def test_killed_at_every_stage_and_at_random_moments_arrays_of_all_shapes_are_exact(
    strategy: str, fork_host: ForkHost, scratch: Path
) -> None:
    seed = int(os.environ.get("CRASH_SEED", random.SystemRandom().randrange(10**6)))
    print(f"CRASH_SEED={seed}")
    rng, kills = random.Random(seed), 0
    stages = rng.sample([*STAGES, *STAGES], 2 * len(STAGES))
    for name in FORMS:
        plain = Form(fork_host, name, scratch / name / "plain").run(CKPT_DISABLE="1")
        began_s = time.monotonic()
        whole = Form(fork_host, name, scratch / name / "whole").run(Kill(fault=LATE), STAGING=strategy, **EVERY)
        longest_s = time.monotonic() - began_s
        assert whole.result == plain.result, f"{name}, not killed: {whole.err}"
        check_staged(strategy, whole)
        own, stages = stages[:4], stages[4:]
        plan = [Kill(fault=f"{LATE},{STAGES[stage]}@{rng.randint(1, 5)}") for stage in own]
        plan[rng.randrange(5) : 0] = [Kill(fault=LATE, after_s=rng.uniform(0.03, longest_s)) for _ in range(2)]
        while plan:
            form = Form(fork_host, name, scratch / name / f"run{len(plan)}")
            outcome = finish(form, plan, STAGING=strategy, **EVERY)
            told = f"{name}, seed {seed}: {plan}\n{outcome.story()}"
            assert outcome.last.status == 0, told
            assert outcome.last.result == plain.result, told
            kills += outcome.kills
            plan = plan[len(outcome.attempts) :]  # what is left where a run came to its end before
    assert kills >= 4 * len(FORMS), f"seed {seed}: only {kills} kills: the jobs are too short"
