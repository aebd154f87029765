"""``ckpt ls`` of a store with many runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness import Bench, Row, compare, interleave, timed

LIMIT_S = 2.0
MEMORY = Path("/dev/shm")


def measure(bench: Bench) -> list[Row]:
    count = bench.size(10_000, 500)
    store = bench.new_folder() / "store"
    # Made in memory where that is possible: ten thousand runs are forty thousand fsyncs. Then copied to the disk.
    with tempfile.TemporaryDirectory(prefix="ckpt-benchmarks-", dir=MEMORY if MEMORY.is_dir() else bench.folder) as made:
        one = bench.child("runs.py", 1, 0, store=Path(made) / "store")
        one.last()
        halves = [bench.child("runs.py", count // 2, 1 + half * (count // 2), store=Path(made) / "store") for half in (0, 1)]
        for half in halves:
            half.last()
        shutil.copytree(Path(made) / "store", store)
    command = [sys.executable, "-m", "ckpt", "ls", "--store", str(store)]
    listing = partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    listing()  # the store is in memory after this
    cases = {
        "ls": partial(timed, listing),
        "start": partial(timed, partial(listing.func, [*command[:3], "--version"], **listing.keywords)),
    }
    found = interleave(bench.size(5, 3), cases)
    limit = [LIMIT_S] * len(found["ls"])
    shutil.rmtree(store.parent)
    label = f"ckpt ls, {count:,} runs"
    return [
        compare(label, found["ls"], ("limit of 2 s", limit), target=None if bench.quick else 1.0, note="a fixed time: load counts"),
        compare(label, found["ls"], ("ckpt --version", found["start"])),
    ]
