"""What only the machine can answer: time, sleep, randomness, host and process identity. All of it goes through here."""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
from pathlib import Path


class SystemClock:
    """The machine's clocks (see ``protocols.Clock``)."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def entropy(length: int) -> bytes:
    """``length`` bytes that nobody can predict."""
    return os.urandom(length)


def host_name() -> str:
    return socket.gethostname()


@functools.cache
def boot_id() -> str:
    """Differs after every boot of this machine; '' where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When process ``pid`` started, as an opaque string; '' if there is no such process or no /proc.

    Together with the pid and the boot id this names a process for good: pids are used again.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def process_alive(pid: int) -> bool:
    """Whether a process of this host (and pid namespace) has this number now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # there, and somebody else's
        return True
    return True


def command_line() -> list[str]:
    """The words that started this process, interpreter first."""
    return [sys.executable, *sys.orig_argv[1:]]


def processors() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def thread_cpu_s() -> float:
    """Processor time of the calling thread, seconds."""
    return time.thread_time()
