"""A job to be stopped, overtaken and woken. Usage: zombie.py HOST STEPS PAUSE_S. Its state is in the store CKPT_STORE.

Says ACK <n> <pid> when step n has been acknowledged to the job (its result: the process that executed it), and at the end
RESULT, or FENCED with the successor. ``HOST`` is the name that it gives its machine: others cannot look its process up.
"""

from __future__ import annotations

import os
import sys
import time
from unittest import mock

from programs.bits import report

import ckpt
from ckpt import lease_remote
from ckpt.errors import FencedError

lease_remote.TTL_S = 1.0  # a test does not wait for 15 seconds


@ckpt.step
def work(number: int) -> list[int]:
    time.sleep(float(sys.argv[3]))
    return [number, os.getpid()]


@ckpt.job(key="zombie", every="10ms")
def job(steps: int) -> list[list[int]]:
    done = []
    for number in ckpt.loop(range(steps)):
        done.append(work(number))
        print(f"ACK {done[-1][0]} {done[-1][1]}", flush=True)
    return done


if __name__ == "__main__":
    with mock.patch("ckpt.host.host_name", return_value=sys.argv[1]):
        print(f"READY {os.getpid()}", flush=True)
        try:
            report(job(int(sys.argv[2])))
        except FencedError as error:
            print(f"FENCED {error.successor}", flush=True)
