"""Repetitions, ratios and child processes: what all measures share.

A measure runs its cases in turn, round after round, so that a machine that slows down slows all of them. A row's ratio
is the median of the rounds' own ratios, its spread their smallest and largest; times are details of this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"

MIB = 1 << 20

CHILD_S = 400
"""Seconds after which a program that does not end is given up, so that the other rows are still measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: ``ratio`` = ckpt / peer, below 1 where ckpt is cheaper. ``target``: the ratio that is promised at
    most; ``floor``: at least, where more is better."""

    measure: str
    peer: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    low: float
    high: float
    rounds: int
    target: float | None = None
    note: str = ""
    floor: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the promise holds by the median; None if nothing is promised, or nothing was measured."""
        if self.rounds == 0 or (self.target is None and self.floor is None):
            return None
        return self.ratio <= self.target if self.target is not None else self.ratio >= (self.floor or 0.0)


def compare(  # noqa: PLR0913 - what a row is
    measure: str,
    ours: Sequence[float],
    peer: tuple[str, Sequence[float]],
    *,
    unit: str = "s",
    target: float | None = None,
    floor: float | None = None,
    note: str = "",
) -> Row:
    """A row from the values of the same rounds, the peer's with its name: ratios are taken within a round."""
    name, theirs = peer
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Row(
        measure=measure,
        peer=name,
        ours=statistics.median(ours),
        theirs=statistics.median(theirs),
        unit=unit,
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        rounds=len(ratios),
        target=target,
        note=note,
        floor=floor,
    )


def not_measured(measure: str, why: str) -> Row:
    """A row without figures, so that what is missing is seen."""
    return Row(measure, "", 0.0, 0.0, "s", 0.0, 0.0, 0.0, rounds=0, note=why)


def interleave(rounds: int, cases: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run all cases once per round, every other round backwards; the values of each case, round by round."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds):
        names = list(cases)
        for name in names if turn % 2 == 0 else names[::-1]:
            found[name].append(cases[name]())
    return found


def timed(call: Callable[[], object]) -> float:
    """Seconds that ``call`` takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@dataclass(slots=True)
class Bench:
    """One run of the benchmarks: its size, and a folder for stores and files."""

    quick: bool
    folder: Path
    _used: int = 0

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def new_folder(self) -> Path:
        """An empty folder, for the caller to remove: what is unlinked before it was written costs the disk nothing."""
        self._used += 1
        folder = self.folder / str(self._used)
        folder.mkdir()
        return folder

    def environ(self) -> dict[str, str]:
        """This environment without what would change the programs' behaviour."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CKPT_", "PYTHON"))}
        # Two BLAS threads that spin for each other on a shared machine make every other number noise.
        return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def child(
        self,
        program: str,
        *arguments: object,
        store: Path | str,
        plain: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> Child:
        """Start a program of ``benchmarks/programs``; ``plain``: with CKPT_DISABLE=1."""
        environment = self.environ()
        path = [str(PROGRAMS.parent.parent), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        environment["CKPT_STORE"] = str(store)
        if plain:
            environment["CKPT_DISABLE"] = "1"
        environment.update(environ or {})
        command = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        return Child(program, process, began)

    def said(self, program: str, *arguments: object, plain: bool = False) -> list[dict[str, Any]]:
        """All that a program says that runs to its end with a store of its own."""
        folder = self.new_folder()
        try:
            return self.child(program, *arguments, store=folder, plain=plain).all()
        finally:
            shutil.rmtree(folder)

    def result(self, program: str, *arguments: object, plain: bool = False) -> dict[str, Any]:
        """What a program says that runs to its end with a store of its own."""
        folder = self.new_folder()
        try:
            return self.child(program, *arguments, store=folder, plain=plain).last()
        finally:
            shutil.rmtree(folder)


@dataclass(slots=True)
class Child:
    """A running program, which prints JSON objects, one a line. ``began`` is on the clock of ``time.monotonic``."""

    program: str
    process: subprocess.Popen[str]
    began: float

    def next(self) -> dict[str, Any]:
        """The next object that it prints. Waits for it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.program} ended with status {self.process.wait()} and said nothing")
        found: dict[str, Any] = json.loads(line)
        return found

    def last(self) -> dict[str, Any]:
        """The last object that it prints; it must end well, and within ``CHILD_S``."""
        return self.all()[-1]

    def all(self) -> list[dict[str, Any]]:
        """All that it prints; it must end well, and within ``CHILD_S``."""
        try:
            out, _ = self.process.communicate(timeout=CHILD_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.program} did not end within {CHILD_S} s") from None
        if self.process.returncode:
            raise RuntimeError(f"{self.program} ended with status {self.process.returncode}")
        return [json.loads(line) for line in out.splitlines()]

    def wait_killed(self) -> None:
        """It kills itself: wait for that."""
        try:
            self.process.communicate(timeout=CHILD_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.program} did not end within {CHILD_S} s") from None
        if self.process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"{self.program} ended with status {self.process.returncode}, not by SIGKILL")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.communicate()
