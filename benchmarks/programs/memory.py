"""Memory that a job with checkpoints takes at its peak. Usage: memory.py MIB PERCENT ROUNDS [LIMIT_MIB]

LIMIT_MIB: the job's ``memory_limit``; says ``unknown`` if there is no such option. Else says ``peak``: the most that was resident beyond what was before the state was made, and ``state``, both in bytes. Run with
CKPT_DISABLE=1 it is the same program without checkpoints.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ckpt
from benchmarks.programs.common import say
from benchmarks.programs.workloads import MIB, make


def status(field: str) -> int:
    """Bytes, from /proc: ``VmRSS`` now, ``VmHWM`` at the peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


class Before:
    """No variable of the job."""

    nbytes = 0


def job(mib: int, percent: str, rounds: int) -> None:
    state = None
    for _ in ckpt.loop(range(rounds)):
        if state is None:
            Before.nbytes = status("VmRSS")
            state = make(f"w1:{percent}:block", mib)
        state.step()
        run = ckpt.current_run()
        if run is not None:
            run.checkpoint()


if __name__ == "__main__":
    limit: dict[str, Any] = {"memory_limit": f"{sys.argv[4]}MiB"} if len(sys.argv) > 4 else {}
    try:
        decorated = ckpt.job(key="memory", every="1000h", **limit)(job)
    except ckpt.errors.OptionError:
        say(unknown=True)
        sys.exit(0)
    decorated(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    say(peak=status("VmHWM") - Before.nbytes, state=int(sys.argv[1]) * MIB)
