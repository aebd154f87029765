"""A job whose store is elsewhere, killed at random moments and resumed by other processes in other folders."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from crash.harness import KILLED, PROGRAMS, Attempt, base_environment, collect, wait_for
from servers.fixtures import Server

EPOCHS, ITEMS = 3, 25
KILLS = 4
KEY = "5e" * 32


def start(folder: Path, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    folder.mkdir()
    command = [sys.executable, str(PROGRAMS / "faraway.py"), str(EPOCHS), str(ITEMS)]
    env = base_environment(Path("/nonexistent")) | environ
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True)


def asked(environ: Mapping[str, str], *command: str) -> Any:
    """What a command of ckpt says of the store, as JSON."""
    env = base_environment(Path("/nonexistent")) | environ
    done = subprocess.run([sys.executable, "-m", "ckpt", *command, "--json"], check=False, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The result of the plain function, without any checkpoint."""
    attempt = collect(start(tmp_path_factory.mktemp("plain") / "here", {"CKPT_DISABLE": "1"}))
    assert attempt.status == 0, attempt.err
    return attempt.result


@pytest.mark.parametrize("name", ["s3_server", "azure_server", "gcs_server", "sftp_server"])
def test_job_resumed_elsewhere_after_each_kill_has_the_result_of_an_uninterrupted_one(
    name: str, uninterrupted: object, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(name)
    environ = {"CKPT_STORE": server.fresh_store_url(), "CKPT_KEY": KEY, **server.environ}
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for number in range(KILLS):
        process = start(tmp_path / f"killed-{number}", environ)
        said = wait_for(process, "ITEM")
        assert "ITEM" in said, collect(process, said).err
        time.sleep(moments.uniform(0.05, 0.35))
        process.kill()
        killed = collect(process, said)
        assert killed.status in (KILLED, 0), killed.err
    if killed.status == KILLED:
        (run,) = asked(environ, "ls")
        newest = asked(environ, "show", run["address"])["attempts"][-1]
        assert newest["command"][:1] == [sys.executable], f"it cannot be started again: {newest}"
    last: Attempt = collect(start(tmp_path / "last", environ))
    assert last.status == 0, last.err
    assert last.result == uninterrupted
    assert last.out.count("ITEM") < EPOCHS * ITEMS  # it went on, and did not begin again
    again = collect(start(tmp_path / "again", environ))
    assert again.result == uninterrupted
    assert "ITEM" not in again.out
