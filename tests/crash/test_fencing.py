"""Takeovers by real processes on every kind of storage: one winner per epoch, and nothing from those who were overtaken."""

from __future__ import annotations

import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, base_environment, collect, wait_for
from programs.racer import KEY
from servers.fixtures import Server
from unit.log_doubles import op, take_over

from ckpt.errors import FencedError
from ckpt.format.names import RunNames
from ckpt.format.records import Kind
from ckpt.log import read_log
from ckpt.protocols import Buffer, Storage
from ckpt.storage import MemoryStorage, resolve

RACES = 200
LANES = "ab"  # races that happen side by side, on logs of their own, so that nobody waits
EPOCHS = 2  # races on one log, so that its length, and with it the time that a race takes, stays bounded

SERVERS = ("s3_server", "azure_server", "gcs_server", "sftp_server")


class Somewhere:
    """A new store on one kind of storage: its address and what a process needs to reach it."""

    def __init__(self, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        if kind == "local":
            self.url, self.environ, self.options = str(tmp_path / "store"), {}, None
            return
        server: Server = request.getfixturevalue(kind)
        self.url, self.environ, self.options = server.fresh_store_url(), server.environ, server.storage_options


@pytest.fixture(params=["local", *SERVERS])
def somewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Somewhere:
    return Somewhere(request.param, tmp_path, request)


class Racer:
    """A process of ``programs/racer.py``."""

    def __init__(self, somewhere: Somewhere, name: str) -> None:
        env = base_environment(Path("/nonexistent")) | somewhere.environ
        command = [sys.executable, str(PROGRAMS / "racer.py"), somewhere.url, name]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True)
        self.name, self.pid = name, self.process.pid
        self.heard: dict[str, queue.SimpleQueue[str]] = {lane: queue.SimpleQueue() for lane in ("ready", *LANES)}
        self.telling = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lane, _, text = line.strip().partition(" ")
            self.heard[lane].put(text)
        for heard in self.heard.values():
            heard.put("died")

    def tell(self, lane: str, text: str) -> None:
        assert self.process.stdin is not None
        with self.telling:
            self.process.stdin.write(f"{lane} {text}\n")
            self.process.stdin.flush()

    def hear(self, lane: str) -> str:
        text = self.heard[lane].get(timeout=120)
        assert text != "died", f"racer {self.name} ended with status {self.process.wait()}"
        return text

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def racers(somewhere: Somewhere) -> Iterator[tuple[Racer, Racer]]:
    pair = Racer(somewhere, "alpha"), Racer(somewhere, "beta")
    try:
        for racer in pair:
            racer.hear("ready")
        yield pair
    finally:
        for racer in pair:
            racer.stop()


def winners_of(lane: str, racers: tuple[Racer, Racer]) -> dict[str, list[str]]:
    """Who won each race of a lane, by run; every race has exactly one winner, whom the other one names."""
    wins: dict[str, list[str]] = {}
    for number in range(RACES // len(LANES)):
        run_id = f"{lane}{number // EPOCHS:04d}"
        for racer in racers:
            racer.tell(lane, run_id)
        assert [racer.hear(lane) for racer in racers] == ["AT FENCE", "AT FENCE"]
        for racer in racers if number % 2 else racers[::-1]:
            racer.tell(lane, "go")
        said = [json.loads(racer.hear(lane)) for racer in racers]
        winners = [racer for racer, one in zip(racers, said, strict=True) if "won" in one]
        assert len(winners) == 1, (number, said)
        (winner,) = winners
        epoch = number % EPOCHS + 1
        (fenced,) = [one["fenced"] for one in said if "fenced" in one]
        assert {"won": epoch} in said
        assert f"attempt {epoch} (host {winner.name}, pid {winner.pid}" in fenced
        wins.setdefault(run_id, []).append(winner.name)
    return wins


def test_of_two_processes_that_fence_with_one_epoch_exactly_one_wins(
    somewhere: Somewhere, racers: tuple[Racer, Racer]
) -> None:
    wins: dict[str, list[str]] = {}
    with ThreadPoolExecutor(len(LANES)) as pool:
        for found in pool.map(lambda lane: winners_of(lane, racers), LANES):
            wins |= found
    assert sum(map(len, wins.values())) == RACES
    storage = resolve(somewhere.url, somewhere.options)
    for run_id, names in wins.items():
        records = read_log(storage, RunNames("race", run_id), KEY).records
        assert [(r.epoch, r.head["by"]) for r in records if r.kind is Kind.OPERATION] == list(enumerate(names, 1))
        fences = [(r.epoch, r.head["host"]) for r in records if r.kind is Kind.FENCE]
        assert fences == list(enumerate(names, 1))
    assert {name for names in wins.values() for name in names} == {"alpha", "beta"}  # else this was no race


class GatedMemory(MemoryStorage):
    """Each thread's first create waits until the other thread is about to create, too."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.gate, self.passed = threading.Barrier(2), threading.local()

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        if not getattr(self.passed, "yes", False):
            self.passed.yes = True
            self.gate.wait()
        return super().put_if_absent(key, data)


def test_of_two_threads_that_fence_with_one_epoch_in_memory_exactly_one_wins() -> None:
    for number in range(RACES):
        storage = GatedMemory(f"race-{os.getpid()}-{number}")
        won: list[str] = []
        lost: list[str] = []

        def run(name: str, storage: Storage = storage, won: list[str] = won, lost: list[str] = lost) -> None:
            try:
                writer, _ = take_over(storage, host=name)
                op(writer, 1)
                won.append(name)
            except FencedError as error:
                lost.append(error.successor)

        threads = [threading.Thread(target=run, args=(name,)) for name in ("alpha", "beta")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == len(lost) == 1
        assert f"attempt 1 (host {won[0]}, " in lost[0]


class Zombie:
    """A process of ``programs/zombie.py``, read line by line by a thread, so that nothing is lost while it is stopped."""

    def __init__(self, somewhere: Somewhere, folder: Path, host: str, *, steps: int, pause_s: float) -> None:
        folder.mkdir()
        env = (
            base_environment(Path(somewhere.url))
            | {"CKPT_STORE": somewhere.url, "CKPT_KEY": KEY.to_text()}
            | somewhere.environ
        )
        command = [sys.executable, str(PROGRAMS / "zombie.py"), host, str(steps), str(pause_s)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True)
        self.said = ""

    def wait_for(self, word: str) -> None:
        self.said += wait_for(self.process, word)
        assert word in self.said, collect(self.process, self.said).err

    def end(self) -> str:
        attempt = collect(self.process, self.said)
        assert attempt.status == 0, attempt.err
        return attempt.out

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.communicate()


def acknowledged(said: str) -> dict[int, int]:
    """Which process's execution of each step was acknowledged."""
    return {int(step): int(pid) for step, pid in re.findall(r"^ACK (\d+) (\d+)$", said, re.MULTILINE)}


WAKINGS = [(kind, "later") for kind in ("local", *SERVERS)] + [("local", "at once"), ("s3_server", "at once")]


@pytest.mark.parametrize(("somewhere", "waking"), WAKINGS, indirect=["somewhere"])
def test_zombie_that_wakes_after_a_takeover_commits_and_acknowledges_nothing(
    somewhere: Somewhere, waking: str, tmp_path: Path
) -> None:
    """It wakes when its successor has finished (and swept its log), or when that has just begun."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    first = Zombie(somewhere, tmp_path / "a", "machine-a", steps=40, pause_s=0.02)
    second = None
    try:
        first.wait_for("ACK 2 ")
        time.sleep(random.Random(seed).uniform(0, 0.1))
        first.process.send_signal(signal.SIGSTOP)
        if not somewhere.environ:
            # The kernel knows that a stopped process lives. A file system whose locks lapse looks like this:
            (lock,) = Path(somewhere.url).glob("*/*/lock")
            lock.unlink()
        second = Zombie(somewhere, tmp_path / "b", "machine-b", steps=40, pause_s=0.01)
        if waking == "at once":
            # Recorded steps come back first; they are the first process's.
            while str(second.process.pid) not in second.said.rpartition("ACK")[2]:
                second.wait_for("ACK ")
            first.process.send_signal(signal.SIGCONT)
        second.wait_for("RESULT ")
        result = dict(json.loads(second.said.rpartition("RESULT ")[2]))
        first.process.send_signal(signal.SIGCONT)
        theirs = first.end()
    finally:
        for one in (first, second):
            if one is not None:
                one.stop()
    a, b = first.process.pid, second.process.pid
    assert f"FENCED attempt 2 (host machine-b, pid {b}" in theirs
    assert "RESULT" not in theirs
    # What was acknowledged to the first process is in the result of the second, and nothing else of it is.
    assert {step for step, pid in acknowledged(theirs).items() if result[step] != pid} == set()
    assert set(result.values()) == {a, b}
    assert set(result) == set(range(40))
