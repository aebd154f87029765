"""Real power losses of an ext4: it is shut down without flushing its journal, at each system call of a run in turn.

A child process plays a run (``facts.play``) on a small mounted disk. At its n-th system call that changes something, the
disk stops (EXT4_IOC_SHUTDOWN, no log flush) and the child dies. The disk is mounted again: what is there is what was durable.
Recovery must reach at least the last fact that the child had reported on a pipe, with the very values. Every other time the
run goes on from there, and loses its power again. Needs root and loop mounts.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from proofs.common import main, memory_folder, no_hang, quiet, say
from proofs.facts import LARGE, Playing, check

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
DISK_MIB = 64
CALLS = ("pwritev", "pwrite", "ftruncate", "fsync", "fdatasync", "link", "replace", "unlink", "mkdir", "rmdir")
"""What changes something on the disk; opening is not among them, as what it makes is written to next."""
LONGEST = 40
"""Facts that one run records at most."""


class Disk:
    """A small ext4 in a file of its own, mounted on a folder. OSError or CalledProcessError where that is not allowed."""

    def __init__(self, folder: Path) -> None:
        self._image, self.mount, self._device = folder / "disk.img", folder / "mounted", ""
        self.mount.mkdir()

    def __enter__(self) -> Self:
        with self._image.open("wb") as file:
            file.truncate(DISK_MIB << 20)
        _run("mkfs.ext4", "-q", "-F", "-O", "^metadata_csum_seed", self._image)
        self._device = _run("losetup", "--find", "--show", self._image).strip()
        _run("mount", "-t", "ext4", self._device, self.mount)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self.mount)], check=False, capture_output=True)
        subprocess.run(["losetup", "--detach", self._device], check=False, capture_output=True)

    def lose_power(self) -> None:
        """From now on nothing reaches the disk; what was not durable is gone after ``restart``."""
        fd = os.open(self.mount, os.O_RDONLY)
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(fd)

    def restart(self) -> None:
        """Mount what survived."""
        _run("umount", self.mount)
        _run("mount", "-t", "ext4", self._device, self.mount)


def _run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    return done.stdout


def reason_not_to() -> str:
    """Why no disk can be mounted here; empty if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "mounting a disk needs root on Linux"
    try:
        with _disk():
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"a loop mount is not allowed here: {getattr(error, 'stderr', '') or error}"


def _dies_at(call: int, die: Callable[[], None]) -> None:
    """In this process, the ``call``-th of the calls that change something is preceded by ``die()``."""
    counter = itertools.count(1)

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if next(counter) == call:
                die()
            return function(*args, **kwargs)

        return counted

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))


def _play(store: Path, fact: int, acks: int, rng: random.Random) -> None:
    """Record facts in an order of its own, reporting each."""
    playing = Playing(store, lambda number: os.write(acks, struct.pack("I", number)) and None, fact)
    while playing.fact < LONGEST:
        step = rng.randrange(10)
        if step < 4:
            playing.operation()
        elif step < 8:
            playing.checkpoint(LARGE if step < 6 else 100)
        elif step == 8:
            playing.rotate()
        else:
            playing.end()
            playing.begin()
    playing.finish()
    playing.end()


def lose(disk: Disk, store: Path, fact: int, call: int, seed: str) -> tuple[int, bool]:
    """A child goes on with the run in ``store`` and loses its power at its ``call``-th call: (last fact acknowledged,
    whether it came that far)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            _dies_at(call, lambda: (disk.lose_power(), os._exit(9)))
            with quiet():
                _play(store, fact, writing, random.Random(seed))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        numbers = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), f"the child failed with {status}"
    if status == 0:
        disk.lose_power()
    return (struct.unpack("I", numbers[-4:])[0] if numbers else fact), status == 9


@contextmanager
def _disk() -> Iterator[Disk]:
    with memory_folder() as folder, Disk(folder) as disk:
        yield disk


def run(cycles: int, seed: int) -> str:
    """``cycles`` power losses (0: 500)."""
    cycles = cycles or 500
    ends: Counter[str] = Counter()
    with _disk() as disk:
        store, fact, call, seen = disk.mount / "0", 0, 0, 0
        for number in range(cycles):
            going_on = number % 2 and 0 < fact < LONGEST
            if not going_on:
                for old in disk.mount.glob("[0-9]*"):
                    _run("rm", "-rf", old)
                store, fact = disk.mount / str(number), 0
                call = call % 120 + 1
            at = call if not going_on else 1 + (number * 7 + seed) % 60
            acknowledged, reached = lose(disk, store, fact, at, f"{seed} {number}")
            disk.restart()
            try:
                with no_hang(), quiet():
                    seen = check(store, acknowledged, acknowledged + 1)
            except Exception as error:
                where = f"cycle {number}, power lost at call {at} of a run at fact {fact}"
                raise AssertionError(f"{where} (--seed {seed}): {error}") from error
            ends["at a call" if reached else "after the end"] += 1
            ends["with one fact that was not acknowledged yet"] += seen > acknowledged
            ends["facts acknowledged and found"] += acknowledged - fact
            fact = seen
            say(f"{number + 1} of {cycles}")
    shown = "\n".join(f"  {count:7}  {what}" for what, count in ends.items())
    return f"{cycles} power losses, nothing acknowledged was lost (seed {seed})\n{shown}"


if __name__ == "__main__":
    if reason_not_to():
        sys.exit(reason_not_to())
    main(run, 500, __doc__.splitlines()[0])
