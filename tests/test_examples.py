"""Every example, killed with SIGKILL in the middle and started again, prints what an uninterrupted run prints."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from crash.harness import TESTS, Attempt, Script, collect

EXAMPLES = {
    "simulation.py": ("--steps", "12000", "--size", "120"),
    "train_digits.py": ("--epochs", "40"),
    "etl_stdlib.py": ("--files", "250"),
    "open_script.py": ("--rounds", "6000", "--darts", "1000"),
    "ledger.py": ("--transfers", "6000"),
}
FOLDER = TESTS.parent / "examples"
ENDLESS = 60


def started(store: Path) -> bool:
    """Whether the run has its first segment: from here on a kill has something to lose."""
    return any(store.glob("*/*/log/*.log"))


def kill_once(script: Script, delay_s: float) -> Attempt:
    """Start, wait until the run exists, wait ``delay_s`` more, kill."""
    process = script.start()
    for _ in range(100 * ENDLESS):
        if started(script.store) or process.poll() is not None:
            break
        time.sleep(0.01)
    time.sleep(delay_s)
    process.kill()
    return collect(process)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_killed_in_mid_run_prints_the_same(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    (tmp_path / "plain").mkdir()
    (tmp_path / "killed").mkdir()
    plain = Script(FOLDER / name, tmp_path / "plain", EXAMPLES[name]).run(CKPT_DISABLE="1")
    assert plain.status == 0, plain.err
    script = Script(FOLDER / name, tmp_path / "killed", EXAMPLES[name])
    attempts = [kill_once(script, rng.uniform(0.05, 0.4)) for _ in range(3)]
    assert any(attempt.killed for attempt in attempts), "it was too short to be killed"
    resumed = script.run()
    assert resumed.status == 0, resumed.err
    assert resumed.out == plain.out
    assert resumed.out.count("\n") == 1
    again = script.run()
    assert again.out == plain.out, "the finished run shows the same"


def test_all_examples_are_tested() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(EXAMPLES)
