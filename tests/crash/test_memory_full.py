"""No memory for the copy of the state: the job goes on with its last good checkpoint, as on a full disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, Script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit is read from /proc")


def test_job_goes_on_without_memory_for_a_copy_and_saves_again_when_there_is_some(tmp_path: Path) -> None:
    attempt = Script(PROGRAMS / "jobs_memory.py", tmp_path, ("grows",)).run()
    assert "RESULT 1771" in attempt.out, attempt.err
    assert attempt.err.count("could not be taken, the job goes on") == 1, attempt.err
    assert "is stored again" in attempt.err


def test_state_too_large_from_the_beginning_is_a_typed_error(tmp_path: Path) -> None:
    attempt = Script(PROGRAMS / "jobs_memory.py", tmp_path, ("too_large",)).run()
    assert attempt.status == 1
    assert "MemoryFullError" in attempt.err
    assert "fix: give the job more memory" in attempt.err
