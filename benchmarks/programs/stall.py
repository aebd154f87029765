"""How long a job stands still for a checkpoint, beside what else one could do with the same values at that moment.

Usage: stall.py WORKLOAD SIZE ROUNDS. One job; each round requests a checkpoint at the end of an iteration, and saves the
same values in other ways at the beginning of the next, when the checkpoint is durable. The first round is not counted.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np

import ckpt
from benchmarks.programs.common import say
from benchmarks.programs.workloads import make
from ckpt import events

FOLDER = Path(os.environ["CKPT_STORE"])


class Watch:
    """Sees the job from outside: it is no variable of the job, so that nothing of it is in the state."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self.committed = threading.Event()
        self.requested_s = self.durable_s = 0.0
        self.memory: Any = None

    def hook(self, name: str, details: dict[str, object]) -> None:
        if name == "checkpoint" and not self.committed.is_set():
            self.durable_s = time.perf_counter()
            self.committed.set()

    def note(self, name: str, seconds: float) -> None:
        self.times.setdefault(name, []).append(seconds)

    def iteration_ends(self) -> None:
        run = ckpt.current_run()
        if run is not None:
            self.committed.clear()
            run.request_checkpoint()
        self.requested_s = time.perf_counter()

    def iteration_begins(self) -> None:
        """The iteration that requested a checkpoint is over, and the job goes on."""
        self.note("stall", time.perf_counter() - self.requested_s)
        self.committed.wait()
        self.note("durable", self.durable_s - self.requested_s)
        time.sleep(0.1)  # what only an older checkpoint needed is being removed

    def save_otherwise(self, values: Any, turn: int) -> None:
        ways = [self.copy, self.pickle, self.pickle_synced, self.joblib]
        for way in ways if turn % 2 else ways[::-1]:
            way(values)
            for path in FOLDER.glob("peer*"):
                path.unlink()

    def copy(self, values: Any) -> None:
        """One copy of as many bytes between two buffers that were used before."""
        if self.memory is None:
            nbytes = len(pickle.dumps(values, protocol=5)) if not _is_array(values) else _nbytes(values)
            self.memory = np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)
        began = time.perf_counter()
        np.copyto(*self.memory)
        self.note("memcpy", time.perf_counter() - began)

    def pickle(self, values: Any) -> None:
        began = time.perf_counter()
        with (FOLDER / "peer.pickle").open("wb") as file:
            pickle.dump(values, file, protocol=5)
        self.note("pickle", time.perf_counter() - began)

    def pickle_synced(self, values: Any) -> None:
        began = time.perf_counter()
        with (FOLDER / "peer.pickle").open("wb") as file:
            pickle.dump(values, file, protocol=5)
            file.flush()
            os.fsync(file.fileno())
        self.note("pickle_synced", time.perf_counter() - began)

    def joblib(self, values: Any) -> None:
        began = time.perf_counter()
        joblib.dump(values, FOLDER / "peer.joblib")
        self.note("joblib", time.perf_counter() - began)


def _is_array(values: Any) -> bool:
    return not isinstance(values[0], dict)


def _nbytes(values: Any) -> int:
    return sum(one.nbytes if isinstance(one, np.ndarray) else _nbytes(one) for one in values)


watch = Watch()


@ckpt.job(key="stall", every="1000h")
def job(name: str, size: int, rounds: int) -> None:
    state = make(name, size)
    for turn in ckpt.loop(range(rounds + 2)):
        if turn > 0:
            watch.iteration_begins()
            watch.save_otherwise(state.values, turn)
        state.step()
        watch.iteration_ends()


if __name__ == "__main__":
    events.add_hook(watch.hook)
    job(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    heads = [entry.head for entry in ckpt.Store().records(job.address(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))]
    first = [head["stall_s"] for head in heads if head.get("reason") == "first"][-1]
    stored = [head["stored_nbytes"] / head["nbytes"] for head in heads if head.get("reason") == "requested"]
    say(**{way: values[1:] for way, values in watch.times.items()}, first=first, stored=stored[1:])
