"""How long after SIGKILL a job with a small state does new work again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping

from benchmarks.harness import Bench, Row, compare, interleave

LIFE_S = 0.5
"""How long the process runs before it is killed: long enough for a number of checkpoints."""


def once(bench: Bench, kind: str, url: str = "", environ: Mapping[str, str] | None = None) -> float:
    """Seconds from SIGKILL to the first iteration of a new process that the dead one had not begun.

    The plain program begins again: its first iteration counts. ``url``: the store, if not a folder; ``environ``: what
    its processes need to reach it.
    """
    folder = bench.new_folder()
    note = folder / "note"
    store = url or folder / "store"
    first = bench.child("running.py", kind, note, -1, store=store, environ=environ)
    first.next()
    time.sleep(LIFE_S)
    killed = time.monotonic()
    first.kill()
    seen = int.from_bytes(note.read_bytes(), "little") if kind == "ckpt" else -1
    second = bench.child("running.py", kind, note, seen, store=store, environ=environ)
    at: float = second.next()["at"]
    second.kill()
    shutil.rmtree(folder)
    return at - killed


def measure(bench: Bench) -> list[Row]:
    cases = {"ckpt": lambda: once(bench, "ckpt"), "plain": lambda: once(bench, "plain")}
    found = interleave(bench.size(11, 3), cases)
    return [
        compare(
            "SIGKILL to the first new iteration, small state",
            found["ckpt"],
            ("plain Python: SIGKILL to its first iteration again", found["plain"]),
            note="includes running again what the kill lost",
        )
    ]
