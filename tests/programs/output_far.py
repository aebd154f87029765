"""A job whose output file is elsewhere. Usage: output_far.py PATH_OR_URL. Gives the bytes of the finished file."""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

from programs.bits import report
from programs.ticks import tick

import ckpt
from ckpt.outputs import parts
from ckpt.storage import resolve

parts.PART_BYTES = 512


@ckpt.job(key="output")
def job(path: str) -> None:
    with ckpt.output(path, newline="") as out:
        rows = csv.writer(out)
        for i in ckpt.loop(range(40)):
            rows.writerow([i, random.random(), "x" * random.randrange(60)])
            tick()


if __name__ == "__main__":
    random.seed(7)
    job(sys.argv[1])
    folder, _, name = sys.argv[1].rpartition("/")
    report(Path(sys.argv[1]).read_bytes() if "://" not in folder else resolve(folder).get(name))
