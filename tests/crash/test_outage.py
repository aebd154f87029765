"""The storage is unreachable for a while: the job goes on, waits where it must, and nothing is lost.

A real server (S3, SFTP), a proxy that refuses connections, and the job in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import pytest
from crash.harness import PROGRAMS, Script, collect
from servers.fixtures import Server
from servers.proxy import FaultyProxy

LIMIT_S = 60
KEY = "5" * 64
ITEMS = 700


@dataclass(frozen=True, slots=True)
class Place:
    proxy: FaultyProxy
    folder: Path
    env: dict[str, str]

    def start(self, *arguments: str, patience_s: float) -> Popen[str]:
        script = Script(PROGRAMS / "outage.py", self.folder, arguments)
        return script.start(**self.env, PATIENCE=str(patience_s))

    def lines(self, name: str) -> list[int]:
        return [int(line) for line in (self.folder / name).read_text().split()]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A store behind a proxy: on S3, or on the server that a test names as its parameter."""
    server: Server = request.getfixturevalue(getattr(request, "param", "s3_server"))
    with FaultyProxy(server.port) as proxy:
        url, env, there, here = server.fresh_store_url(), dict(server.environ), f":{server.port}", f":{proxy.port}"
        if known := env.get("FSSPEC_SFTP_KNOWN_HOSTS"):
            env["FSSPEC_SFTP_KNOWN_HOSTS"] = str(tmp_path / "known_hosts")
            (tmp_path / "known_hosts").write_text(Path(known).read_text().replace(there, here))
        env = {name: value.replace(there, here) for name, value in env.items()}
        env |= {"CKPT_STORE": url.replace(there, here), "CKPT_KEY": KEY}
        yield Place(proxy, tmp_path, env)


def read_until(process: Popen[str], text: str, said: list[str]) -> None:
    """Read lines, and keep them in ``said``, until one holds ``text``."""
    assert process.stdout is not None
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        said.append(line)
        assert line, f"the job ended without saying {text!r}: {''.join(said)}"
        if text in line:
            return
    raise AssertionError(f"no {text!r}: {''.join(said)}")


def expected(items: int, factor: int = 1) -> int:
    total = 0
    for number in range(items):
        total = (total * 31 + number * factor) % 1_000_003
    return total


@pytest.mark.parametrize("place", ["s3_server", "sftp_server"], indirect=True)
def test_computing_goes_on_and_checkpoints_wait_and_say_so_once(place: Place) -> None:
    process, said = place.start(str(ITEMS), patience_s=1), list[str]()
    read_until(process, "AT 40", said)
    place.proxy.refuse()
    read_until(process, "could not be stored, the job goes on", said)
    at = len(place.lines("executed.txt"))
    for _ in range(3):  # more than one deadline long
        read_until(process, "AT ", said)
        time.sleep(1)
    while len(place.lines("executed.txt")) < at + 100:
        read_until(process, "AT ", said)
    place.proxy.refuse(False)
    read_until(process, "is stored again", said)
    story = "".join(said)
    assert story.count("could not be stored") == 1
    assert story.count("is stored again") == 1
    process.kill()
    collect(process)
    before = place.lines("executed.txt")[-1]
    place.proxy.cut_connections()
    again, more = place.start(str(ITEMS), patience_s=20), list[str]()
    read_until(again, "resumed with", more)
    read_until(again, "AT ", more)
    first = int(more[-1].split()[1])
    assert at < first <= before + 1, "the checkpoint after the outage is the one that counts"
    read_until(again, "RESULT", more)
    assert collect(again, "".join(more)).result == expected(ITEMS)


@pytest.mark.parametrize("place", ["s3_server", "sftp_server"], indirect=True)
def test_a_step_blocks_until_the_storage_is_back(place: Place) -> None:
    process, said = place.start("60", "step", patience_s=40), list[str]()
    read_until(process, "AT 10", said)
    place.proxy.refuse()
    read_until(process, "does not answer as it should", said)
    executed = place.lines("steps.txt")
    time.sleep(1)
    assert place.lines("steps.txt") == executed, "the step waits"
    place.proxy.refuse(False)
    attempt = collect(process, "".join(said))
    assert attempt.result == expected(60, 7919), attempt.out
    assert "STEP FAILED" not in attempt.out
    assert "answers again" in attempt.out
    assert place.lines("steps.txt") == [*range(60)]


def test_a_step_that_waited_for_the_limit_raises_a_typed_error_and_nothing_is_lost(place: Place) -> None:
    process, said = place.start("60", "step", patience_s=0.5), list[str]()
    read_until(process, "AT 10", said)
    place.proxy.refuse()
    read_until(process, "STEP FAILED StorageError", said)
    place.proxy.refuse(False)
    attempt = collect(process, "".join(said))
    assert attempt.result == expected(60, 7919), attempt.out
    recorded = len(place.lines("steps.txt"))
    again = collect(place.start("60", "step", patience_s=20))
    assert again.result == attempt.result
    assert len(place.lines("steps.txt")) == recorded, "nothing is executed again"


def test_the_end_of_a_run_waits_for_the_storage(place: Place) -> None:
    (place.folder / "hold").touch()
    process, said = place.start("20", patience_s=40), list[str]()
    read_until(process, "LAST", said)
    place.proxy.refuse()
    (place.folder / "hold").unlink()
    read_until(process, "does not answer as it should", said)
    place.proxy.refuse(False)
    attempt = collect(process, "".join(said))
    assert (attempt.status, attempt.result) == (0, expected(20)), attempt.out
    again = collect(place.start("20", patience_s=20))
    assert again.result == expected(20)
    assert "finished earlier" in again.out
    assert place.lines("executed.txt") == [*range(20)]


def test_a_result_that_cannot_be_recorded_is_still_the_callers(place: Place) -> None:
    (place.folder / "hold").touch()
    process, said = place.start("20", patience_s=0.5), list[str]()
    read_until(process, "LAST", said)
    place.proxy.refuse()
    (place.folder / "hold").unlink()
    attempt = collect(process, "".join(said))
    assert (attempt.status, attempt.result) == (0, expected(20)), attempt.out
    assert "the result could not be recorded" in attempt.out
    place.proxy.refuse(False)
    again = collect(place.start("20", patience_s=20))
    assert again.result == expected(20), again.out
