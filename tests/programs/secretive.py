"""A job whose store is reached with credentials. Usage: secretive.py [URL]; OPTIONS has storage options as JSON.

Without URL, CKPT_STORE is the store. What a storage says is shown at once. With FAIL the job ends with an error that
names the address.
"""

from __future__ import annotations

import json
import os
import sys

from programs.bits import report
from programs.ticks import tick

import ckpt
from ckpt.storage import retrying

retrying.SILENCE_S = 0.0
retrying.POLICY = retrying.RetryPolicy(first_s=0.01, longest_s=0.05, deadline_s=3.0)


@ckpt.step
def ask(number: int) -> int:
    return number * 7919


@ckpt.job(key="secretive", every="1it")
def work(items: int) -> int:
    total = 0
    for number in ckpt.loop(range(items)):
        total += ask(number)
        tick()
    if os.environ.get("FAIL"):
        raise ValueError(f"nothing is right at {sys.argv[1]}")
    return total


if __name__ == "__main__":
    store = ckpt.Store(sys.argv[1] if sys.argv[1:] else None, storage_options=json.loads(os.environ["OPTIONS"]))
    job = work.options(store=store)
    print("SHOWN", repr(store), repr(job), store.open_root(create=True), flush=True)
    report(job(6))
