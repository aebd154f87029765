"""System calls that kill, fail or lie, injected by strace into a real process that plays a run.

SIGKILL at the n-th call of each kind, for n = 1, 2, ... until the run ends untouched; EIO from the n-th fsync or fdatasync;
ENOSPC from the n-th write. Whatever was acknowledged is there afterwards, an error is a typed one, and the next attempt ends
the run. At last an fsync that says 0 and does nothing, followed by a power loss: nobody can survive that, but what is read
then is an earlier moment of the run or a typed error, never a wrong value. Needs strace; the last part needs root.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crash.harness import PROGRAMS, TESTS, base_environment

from ckpt.errors import CkptError
from proofs import power_loss
from proofs.common import main, memory_folder, no_hang, quiet, say
from proofs.facts import check

KILLED_AT = ("pwritev,pwritev2", "pwrite64", "ftruncate", "fsync", "fdatasync", "link", "rename", "unlink", "rmdir", "mkdir")
ENOUGH = 100
"""No run does more calls of one kind."""
LIES = 8
STATUS_KILLED, STATUS_TYPED = -9, 3
PROGRAM_S = 60


@dataclass(frozen=True, slots=True)
class Injection:
    """``what`` strace does to the ``when``-th call of ``call`` (and, if it ends in +, to all after it)."""

    call: str
    what: str
    when: str

    @property
    def text(self) -> str:
        return f"inject={self.call}:{self.what}:when={self.when}"


def reason_not_to() -> str:
    """Why strace cannot be used here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], check=False, capture_output=True, text=True)
    return "" if done.returncode == 0 else f"strace may not trace here: {done.stderr.strip()}"


def play(store: Path, acks: Path, injection: Injection | None, fact: int = 0) -> tuple[int, str]:
    """(exit status, output) of a process that plays the run from ``fact`` on."""
    log = f"{acks}.trace"
    traced = [] if injection is None else ["strace", "-f", "-qq", "-o", log, "-e", f"trace={injection.call}",
                                           "-e", injection.text]  # fmt: skip
    command = [*traced, sys.executable, str(PROGRAMS / "facts_run.py"), str(store), str(fact), str(acks)]
    env = base_environment(store) | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, check=False, env=env, cwd=TESTS, capture_output=True, text=True, timeout=PROGRAM_S)
    return done.returncode, done.stdout + done.stderr


def last_fact(acks: Path) -> int:
    return int(acks.read_text().split()[-1]) if acks.exists() and acks.read_text() else 0


def prove(injection: Injection, folder: Path) -> str:
    """One run with the injection, and one to its end; how the first ended. AssertionError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    store, acks = folder / "store", folder / "acks"
    status, said = play(store, acks, injection)
    expected = (0, STATUS_KILLED) if "signal" in injection.what else (0, STATUS_TYPED)
    assert status in expected, f"{injection.text}: status {status}: {said}"
    if status == 0 and "(INJECTED)" not in Path(f"{acks}.trace").read_text():
        return "untouched"
    acknowledged = last_fact(acks)
    try:
        with no_hang(), quiet():
            reached = check(store, acknowledged, acknowledged + 1)
    except (AssertionError, CkptError) as error:
        raise AssertionError(f"{injection.text}: {error}\n{said}") from error
    if status == 0:
        return "went on, and ended right"
    status, said = play(store, acks, None, reached)
    assert status == 0, f"{injection.text}: the next attempt ends with {status}: {said}"
    final = last_fact(acks)
    with no_hang(), quiet():
        assert check(store, final, final) == final
    return "killed, then ended right" if "signal" in injection.what else "typed error, then ended right"


def injections() -> Iterator[tuple[str, list[Injection]]]:
    """What is tried, in rows: each is followed until the run is untouched."""
    for call in KILLED_AT:
        yield "SIGKILL", [Injection(call, "signal=SIGKILL", str(when)) for when in range(1, ENOUGH)]
    for call in ("fsync", "fdatasync"):
        yield "EIO", [Injection(call, "error=EIO", str(when)) for when in range(1, ENOUGH)]
    yield "ENOSPC", [Injection("pwritev,pwritev2", "error=ENOSPC", str(when)) for when in range(1, ENOUGH)]
    yield "ENOSPC", [Injection("pwritev,pwritev2", "error=ENOSPC", f"{when}+") for when in range(1, ENOUGH)]


def lie(disk: power_loss.Disk, folder: Path, when: int) -> str:
    """Every sync from the ``when``-th on is a lie, then the power goes."""
    store, acks = disk.mount / f"lie{when}", folder / f"acks{when}"
    status, said = play(store, acks, Injection("fsync,fdatasync", "retval=0", f"{when}+"))
    assert status == 0, said
    disk.lose_power()
    disk.restart()
    try:
        with no_hang(), quiet():
            reached = check(store, 0, last_fact(acks))
    except CkptError as error:
        return f"a lying sync, power lost: {type(error).__name__}"
    return f"a lying sync, power lost: {'all is there' if reached == last_fact(acks) else 'an earlier moment'}"


def run(cycles: int, seed: int) -> str:
    """``cycles`` injections, evenly over all (0: every one), and a few lies."""
    counts: Counter[str] = Counter()
    rng, total = random.Random(seed), 0
    rows = list(injections())
    with memory_folder() as folder:
        for kind, row in rows:
            # A share of each row, at random places; or all of it.
            share = row if not cycles else sorted(rng.sample(row[:24], min(24, -(-cycles // len(rows)))), key=row.index)
            for injection in share:
                ended = prove(injection, folder / "case")
                counts[f"{kind}: {ended}"] += 1
                say(f"{total}: {injection.text}")
                if ended == "untouched":
                    break  # the run does not do so many
                total += 1
        if not power_loss.reason_not_to():
            with memory_folder() as place, power_loss.Disk(place) as disk:
                for when in sorted(rng.sample(range(1, 60), LIES)):
                    counts[lie(disk, folder, when)] += 1
    shown = "\n".join(f"  {count:7}  {what}" for what, count in sorted(counts.items()))
    return f"{total} injected system calls, nothing acknowledged was lost (seed {seed})\n{shown}"


if __name__ == "__main__":
    if reason_not_to():
        sys.exit(reason_not_to())
    main(run, 0, __doc__.splitlines()[0])
