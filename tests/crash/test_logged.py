"""Operation-logged objects, killed with SIGKILL: nothing that was committed is executed again, nothing is half there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, Attempt, Kill, Script, finish

PROGRAM = PROGRAMS / "jobs_logged.py"


def executed(folder: Path) -> list[int]:
    """The items whose iteration was begun, in order, over all attempts."""
    path = folder / "executed"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def whole(folder: Path, *arguments: str) -> Attempt:
    folder.mkdir()
    attempt = Script(PROGRAM, folder, arguments).run(CKPT_DISABLE="1")
    assert attempt.status == 0, attempt.err
    return attempt


@pytest.mark.parametrize("input_kind", ["range", "list", "key", "frontier"])
def test_committed_iterations_are_never_executed_again(input_kind: str, tmp_path: Path) -> None:
    expected = whole(tmp_path / "plain", input_kind, "always").result
    items = executed(tmp_path / "plain")
    (tmp_path / "run").mkdir()
    script = Script(PROGRAM, tmp_path / "run", (input_kind, "always"))
    rng = random.Random(input_kind)
    outcome = finish(script, [Kill(tick=rng.randint(2, 9)) for _ in range(6)])
    assert outcome.last.status == 0, outcome.story()
    assert outcome.last.result == expected, outcome.story()
    done = executed(tmp_path / "run")
    assert list(dict.fromkeys(done)) == items, "each item, in order"
    again = len(done) - len(set(done))
    assert again <= outcome.kills, f"{again} iterations were begun again after {outcome.kills} kills: {done}"


def test_with_an_interval_a_kill_loses_whole_iterations_at_the_end_only(tmp_path: Path) -> None:
    expected = whole(tmp_path / "plain", "range", "interval:50ms").result
    (tmp_path / "run").mkdir()
    script = Script(PROGRAM, tmp_path / "run", ("range", "interval:50ms"))
    outcome = finish(script, [Kill(tick=tick) for tick in (7, 5, 9, 3)])
    assert outcome.last.status == 0, outcome.story()
    assert outcome.last.result == expected, outcome.story()
