"""Runs job programs in processes of their own, kills them with SIGKILL, runs them again, and keeps what they said.

Three ways to die: at the n-th ``tick()`` of the program (``Kill.tick``), at a call to the storage (``Kill.fault``, in the
words of ``ckpt.testing.faults``; forms only), and after some seconds (``Kill.after_s``): since a script said that it is
ready, or since the process of a form began. The first two are exact: the process kills itself.

A program prints its result as a line ``RESULT <json>`` (``programs.bits.report``), which is equal only for values that
are equal to the bit.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import ckpt
from ckpt.testing import FAULTS_VARIABLE

TESTS = Path(__file__).parent.parent
PROGRAMS = TESTS / "programs"
KILLED = -signal.SIGKILL
NO_RESULT = object()
MAX_ATTEMPTS = 200


@dataclass(frozen=True, slots=True)
class Kill:
    """When the process dies; with all at None it does not. Counts start at 1."""

    tick: int | None = None
    fault: str | None = None
    after_s: float | None = None

    def environment(self) -> dict[str, str]:
        found = {}
        if self.tick is not None:
            found["TICKS"] = str(self.tick)
        if self.fault is not None:
            found[FAULTS_VARIABLE] = self.fault
        return found


NEVER = Kill()


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one process did: its exit status (negative: the signal) and all that it wrote."""

    status: int
    out: str
    err: str

    @property
    def killed(self) -> bool:
        return self.status == KILLED

    @property
    def result(self) -> object:
        """The printed result; NO_RESULT if there is none."""
        found = re.findall(r"^RESULT (.*)$", self.out, re.MULTILINE)
        return json.loads(found[-1]) if found else NO_RESULT

    @property
    def ticks(self) -> int:
        found = re.findall(r"^TICKS (\d+)$", self.out, re.MULTILINE)
        return int(found[-1]) if found else 0

    @property
    def calls(self) -> list[str]:
        """The storage calls of a form that ran to its end under a fault plan: ``operation key`` each."""
        return re.findall(r"^CALL (.*)$", self.out, re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run from its first attempt to the one that was not killed."""

    attempts: tuple[Attempt, ...]

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    @property
    def kills(self) -> int:
        return sum(attempt.killed for attempt in self.attempts)

    def story(self) -> str:
        """All that was said, for the message of a failed assertion."""
        return "\n".join(f"--- attempt {n}: status {a.status}\n{a.err}" for n, a in enumerate(self.attempts, 1))


class Program(Protocol):
    def run(self, kill: Kill = NEVER, **env: str) -> Attempt: ...


def finish(program: Program, kills: Iterable[Kill], **env: str) -> Outcome:
    """Run with each of ``kills`` in turn, then without any; stops at the first attempt that was not killed."""
    attempts: list[Attempt] = []
    for kill in [*kills, NEVER]:
        attempts.append(program.run(kill, **env))
        assert len(attempts) <= MAX_ATTEMPTS, "the program makes no progress"
        if not attempts[-1].killed:
            break
    return Outcome(tuple(attempts))


def base_environment(store: Path) -> dict[str, str]:
    """The environment of every attempt: nothing of ckpt's own settings leaks in from outside."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CKPT_", "TICKS"))}
    roots = [str(TESTS), str(Path(ckpt.__file__).parent.parent)]
    return clean | {
        "PYTHONPATH": os.pathsep.join(roots),
        "CKPT_STORE": str(store),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


@dataclass(frozen=True, slots=True)
class Script:
    """A program file run by an interpreter of its own, in ``folder``, with its store there."""

    path: Path
    folder: Path
    arguments: tuple[str, ...] = ()
    python: str = sys.executable
    prefix: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def start(self, kill: Kill = NEVER, **env: str) -> subprocess.Popen[str]:
        """Start it and return at once."""
        full = base_environment(self.store) | self.env | kill.environment() | env
        command = [*self.prefix, self.python, str(self.path), *self.arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=full, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe,
                                text=True)  # fmt: skip

    def run(self, kill: Kill = NEVER, **env: str) -> Attempt:
        """Run it to its end, which may be the kill."""
        process = self.start(kill, **env)
        said = ""
        if kill.after_s is not None:
            said = wait_for(process, "READY")
            time.sleep(kill.after_s)
            process.kill()
        return collect(process, said)


def collect(process: subprocess.Popen[str], said: str = "", timeout_s: float = 120) -> Attempt:
    """Wait for the end; a process that outlives ``timeout_s`` is killed and the test fails."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running after {timeout_s} s\n{said}{out}\n{err}") from None
    return Attempt(process.returncode, said + out, err)


def wait_for(process: subprocess.Popen[str], word: str, timeout_s: float = 60) -> str:
    """Read lines until one begins with ``word`` or the output ends; returns all lines read."""
    assert process.stdout is not None
    lines = []
    while True:
        ready, _, _ = select.select([process.stdout], [], [], timeout_s)
        assert ready, f"no {word} after {timeout_s} s: {lines}"
        line = process.stdout.readline()
        lines.append(line)
        if not line or line.startswith(word):
            return "".join(lines)


class ForkHost:
    """Runs forms in forked processes of one warmed-up interpreter; see ``forkhost``."""

    def __init__(self, python: str = sys.executable) -> None:
        env = base_environment(Path("/nonexistent"))
        command = [python, str(TESTS / "crash" / "forkhost.py")]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True)

    def attempt(self, name: str, folder: Path, env: Mapping[str, str], after_s: float | None = None) -> Attempt:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        out, err = folder / "out.txt", folder / "err.txt"
        request: dict[str, object] = {"form": name, "env": dict(env), "cwd": str(folder), "out": str(out), "err": str(err)}
        request |= {} if after_s is None else {"after_s": after_s}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        status = self._process.stdout.readline()
        assert status, "the fork host died"
        return Attempt(int(status), out.read_text(), err.read_text())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


@dataclass(frozen=True, slots=True)
class Form:
    """One control-flow form with a store of its own in ``folder``."""

    host: ForkHost
    name: str
    folder: Path

    def run(self, kill: Kill = NEVER, **env: str) -> Attempt:
        self.folder.mkdir(parents=True, exist_ok=True)
        full = {"CKPT_STORE": str(self.folder / "store")} | kill.environment() | env
        return self.host.attempt(self.name, self.folder, full, kill.after_s)


def form_names() -> list[str]:
    """All forms, read from the source: a module that does not import still has its tests (which then fail)."""
    pattern = re.compile(r"^@form\ndef (\w+)", re.MULTILINE)
    return [name for path in sorted(PROGRAMS.glob("forms_*.py")) for name in pattern.findall(path.read_text())]
