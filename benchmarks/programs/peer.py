"""ckpt, measured as the programs of ``benchmarks/peers`` measure others. Usage: peer.py saving MIB | resumed MIB | recording COUNT"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import ckpt
from benchmarks.programs.common import say
from benchmarks.programs.memory import status
from ckpt import events

STORE = Path(os.environ["CKPT_STORE"])
SIZE = int(sys.argv[2])

SETTLE_S = 0.5
"""The checkpoint at the entry of the loop, which has no arrays yet, is durable after this: others have none to wait for."""


class Watch:
    """No variable of the job."""

    committed = threading.Event()
    requested_s = durable_s = called_s = 0.0
    before = 0
    written: float = 0.0
    said: dict[str, Any] = {}  # noqa: RUF012 - there is one


def hook(name: str, details: dict[str, object]) -> None:
    if name == "checkpoint" and details["reason"] == "requested":
        Watch.durable_s = time.perf_counter()
        Watch.written = float(str(details["stored_nbytes"]))
        Watch.committed.set()


def iteration_begins(kind: str) -> None:
    """A checkpoint was taken; wait until it is durable, and note what it took."""
    Watch.said[f"stall_{kind}"] = time.perf_counter() - Watch.requested_s
    Watch.committed.wait()
    Watch.said[f"total_{kind}"] = Watch.durable_s - Watch.requested_s
    Watch.said[f"bytes_{kind}"] = Watch.written
    time.sleep(0.1)  # the checkpoint's thread comes to its end


def request() -> None:
    run = ckpt.current_run()
    Watch.committed.clear()
    if run is not None:
        run.request_checkpoint()
    Watch.requested_s = time.perf_counter()


def back() -> None:
    say(restore=time.perf_counter() - Watch.called_s)
    os._exit(0)


@ckpt.job(key="saving", every="1000h")
def saving(mib: int) -> None:
    rng = np.random.default_rng(1)
    arrays = None
    for turn in ckpt.loop(range(3)):
        if turn == 2 and sys.argv[1] == "resumed":
            back()
        if arrays is None:
            arrays = [rng.standard_normal(mib * (1 << 20) // 128) for _ in range(16)]
            time.sleep(SETTLE_S)
        else:
            iteration_begins("full" if turn == 1 else "small")
            for array in arrays:
                count = array.size // 100
                start = int(rng.integers(0, array.size - count))
                array[start : start + count] += 1.0
        if turn == 2:
            say(**Watch.said, peak=status("VmHWM") - Watch.before, equal=True)
            os.kill(os.getpid(), signal.SIGKILL)
        request()


@ckpt.step
def double(number: int) -> int:
    return 2 * number


@ckpt.job(key="recording", every="1000h")
def recording(count: int) -> float:
    began = time.perf_counter()
    for number in range(count):
        double(number)
    return time.perf_counter() - began


@ckpt.job(key="warm", every="1000h")
def warm() -> None:
    """Loads what a first call loads, as other packages are loaded by their import."""
    for _ in ckpt.loop(range(2)):
        pass


if __name__ == "__main__":
    warm.options(fresh=True, store=STORE.with_name(STORE.name + "-warm"))()
    if sys.argv[1] == "recording":
        say(step=recording(SIZE) / SIZE)
    else:
        events.add_hook(hook)
        Watch.before = status("VmRSS")
        Watch.called_s = time.perf_counter()
        saving(SIZE)
