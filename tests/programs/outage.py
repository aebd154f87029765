"""A job on a storage that goes away. Usage: outage.py ITEMS [step]; PATIENCE is the storage's deadline in seconds.

Says ``AT n`` at each item, all of it on stdout, and with ``step`` records one for each; one that fails is said, waited
for, and tried again. A line for each execution of an item goes to ``executed.txt``.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from programs.bits import report

import ckpt
from ckpt.errors import StorageError
from ckpt.storage import retrying

retrying.POLICY = replace(retrying.POLICY, deadline_s=float(os.environ["PATIENCE"]), longest_s=0.2)
sys.stderr = sys.stdout


@ckpt.step
def fetch(number: int) -> int:
    with Path("steps.txt").open("a") as lines:
        lines.write(f"{number}\n")
    return number * 7919


@ckpt.job(every="100ms")
def count(items: int, with_steps: bool) -> int:
    total = 0
    for number in ckpt.loop(range(items)):
        print("AT", number, flush=True)
        with Path("executed.txt").open("a") as lines:
            lines.write(f"{number}\n")
        time.sleep(0.02)
        value = number
        while with_steps:
            try:
                value = fetch(number)
                break
            except StorageError as error:
                print("STEP FAILED", type(error).__name__, error.what, flush=True)
                time.sleep(0.2)
        total = (total * 31 + value) % 1_000_003
    print("LAST", flush=True)
    while Path("hold").exists():
        time.sleep(0.01)
    return total


if __name__ == "__main__":
    report(count(int(sys.argv[1]), "step" in sys.argv))
