"""Output files when processes die: at each call to the storage, and with the file on S3."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, ForkHost, Form, Kill, Script, finish
from crash.test_storage_calls import EVERY, whole, writes_of
from servers.fixtures import Server

ACTIONS = [
    ("output_in_nested_loops", "kill-before"),
    ("output_in_an_open_block", "kill-after"),
    ("output_in_parts_that_are_joined", "kill-before"),
    ("output_in_parts_that_are_listed", "kill-after"),
]


@pytest.mark.parametrize(("name", "action"), ACTIONS)
def test_output_of_a_run_killed_at_any_write_is_that_of_an_uninterrupted_one(
    name: str, action: str, fork_host: ForkHost, scratch: Path
) -> None:
    reference = whole(fork_host, name, scratch)
    for call in range(1, writes_of(reference) + 1):
        form = Form(fork_host, name, scratch / str(call))
        outcome = finish(form, [Kill(fault=f"{action}:write@{call}")], **EVERY)
        assert outcome.kills == 1, outcome.story()
        assert outcome.last.status == 0, f"{action} write {call}\n{outcome.story()}"
        assert outcome.last.result == reference.result, f"{action} write {call}\n{outcome.story()}"
        if action == "kill-after":
            assert not [*form.folder.rglob("*.ckpt"), *form.folder.rglob("*claim")], outcome.story()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s3_server"])
def test_output_on_an_object_store_is_that_of_an_uninterrupted_run_after_kills(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(name)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    ticks = random.Random(seed)
    env = {**server.environ, "CKPT_EVERY": "1it"}
    url = server.fresh_store_url()
    script = Script(PROGRAMS / "output_far.py", tmp_path, (f"{url}/rows.csv",), sys.executable, env=env)
    kills = [Kill(tick=ticks.randint(4, 12)) for _ in range(3)]
    outcome = finish(script, kills)
    assert outcome.kills == 3, outcome.story()
    assert outcome.last.status == 0, outcome.story()
    plain = Script(PROGRAMS / "output_far.py", tmp_path, (str(tmp_path / "rows.csv"),)).run(CKPT_DISABLE="1")
    assert plain.status == 0, plain.err
    assert outcome.last.result == plain.result
