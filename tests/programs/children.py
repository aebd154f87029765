"""A job that makes a child process in the middle of its loop. Usage: children.py fork|spawn|forkserver|bare|exits|pool.

``bare`` is os.fork with os._exit; ``exits`` is os.fork with sys.exit, which unwinds the job's frames in the child.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from programs.bits import report

import ckpt

STORE = Path(os.environ["CKPT_STORE"])
OUTPUT = Path("child.json")


@ckpt.step
def square(i: int) -> int:
    return i * i


def in_child() -> None:
    """Marked loops and steps in a child; what came out goes to a file."""
    total, squares = 0, []
    for i in ckpt.loop(range(5)):
        total += i
    for i in ckpt.loop(range(4)):
        squares.append(square(i))
    OUTPUT.write_text(json.dumps([total, squares, ckpt.current_run() is None]))


def sizes() -> dict[str, int]:
    return {str(path.relative_to(STORE)): path.stat().st_size for path in STORE.rglob("*") if path.is_file()}


def run_child(way: str) -> None:
    if way in ("bare", "exits"):
        pid = os.fork()
        if pid == 0:
            in_child()
            if way == "exits":
                sys.exit(0)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        return
    process = multiprocessing.get_context(way).Process(target=in_child)
    process.start()
    process.join()
    assert process.exitcode == 0, process.exitcode


def another_start_is_refused() -> bool:
    """Starts this very run in a fresh process: it has to be told that the run is busy."""
    done = subprocess.run([sys.executable, *sys.argv], check=False, capture_output=True, text=True)
    return done.returncode == 1 and "RunBusyError" in done.stderr


@ckpt.job
def parent(way: str) -> Any:
    seen: dict[str, Any] = {}
    total = 0
    for i in ckpt.loop(range(6)):
        total += i
        if i == 3:
            ckpt.current_run().checkpoint()  # type: ignore[union-attr]
            before = sizes()
            run_child(way)
            after = sizes()
            seen["written by the child"] = sorted(name for name in after if after[name] != before.get(name))
            *results, plain = json.loads(OUTPUT.read_text())
            seen["child"] = tuple(results)
            assert plain, "a child has no current run"
            seen["busy after the child"] = another_start_is_refused()
    seen["total"] = total
    return seen


@ckpt.job
def one_of_many(n: int) -> int:
    total = 0
    for i in ckpt.loop(range(n)):
        total += i + 1
    return total


if __name__ == "__main__":
    if sys.argv[1] == "pool":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            report(pool.map(one_of_many, range(4)))
    else:
        report(parent(sys.argv[1]))
