"""A full disk: the job goes on with its last good checkpoint, a step raises, and nothing is half-written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill

EVERY = {"CKPT_EVERY": "1it", "SETTLE_S": "0.1"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_during_checkpoints_does_not_stop_the_job(
    small_disk: Path, fork_host: ForkHost, scratch: Path
) -> None:
    expected = Form(fork_host, "state_that_outgrows_the_disk", scratch / "plain").run(CKPT_DISABLE="1")
    form = Form(fork_host, "state_that_outgrows_the_disk", scratch / "run")
    attempt = form.run(CKPT_STORE=str(small_disk / "store"), **EVERY)
    assert attempt.status == 0, attempt.err
    assert attempt.result == expected.result
    assert "space" in attempt.err, "it says so"


@pytest.mark.parametrize("tick", [4, 5, 6, 8])
def test_last_good_checkpoint_stays_good_on_a_full_disk(
    tick: int, small_disk: Path, fork_host: ForkHost, scratch: Path
) -> None:
    expected = Form(fork_host, "state_that_outgrows_the_disk", scratch / "plain").run(CKPT_DISABLE="1").result
    form = Form(fork_host, "state_that_outgrows_the_disk", scratch / "run")
    store = {"CKPT_STORE": str(small_disk / "store")}
    assert form.run(Kill(tick=tick), **store, **EVERY).killed
    resumed = form.run(**store, **EVERY)
    assert resumed.status == 0, resumed.err
    assert resumed.result == expected
    assert "resum" in resumed.err


def test_full_disk_makes_the_step_raise_and_the_log_stays_whole(
    small_disk: Path, fork_host: ForkHost, scratch: Path
) -> None:
    form = Form(fork_host, "step_with_a_result_larger_than_the_disk", scratch)
    store = {"CKPT_STORE": str(small_disk / "store")}
    assert form.run(Kill(tick=3), **store).killed
    attempt = form.run(**store)
    assert attempt.status == 0, attempt.err
    assert attempt.result == [10, "StorageFullError", 20]
    lines = (scratch / "effects.txt").read_text().split()
    assert lines.count("small-10") == 1, "the step recorded before the disk was full was lost"
