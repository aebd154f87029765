"""How long a job stands still for a checkpoint, beside what else one could do with the same values at that moment.

Usage: stall.py WORKLOAD SIZE ROUNDS WAYS. One job; each round requests a checkpoint at the end of an iteration, and does
the same values in other ways (names with commas, see ``Watch``) at the beginning of the next, when the checkpoint is
durable. The first round is not counted.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import ckpt
from benchmarks.programs.common import say
from benchmarks.programs.limits import Limits
from benchmarks.programs.workloads import make
from ckpt import events

FOLDER = Path(os.environ["CKPT_STORE"])
WAYS = sys.argv[4].split(",") if len(sys.argv) > 4 else ["memcpy", "pickle", "pickle_synced", "joblib"]


class Watch:
    """Sees the job from outside: it is no variable of the job, so that nothing of it is in the state."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self.committed = threading.Event()
        self.requested_s = self.durable_s = 0.0
        self.limits: Limits | None = None
        self.nbytes = 0
        self.packs: set[Path] = set()

    def hook(self, name: str, details: dict[str, object]) -> None:
        if name == "checkpoint" and details["reason"] == "requested":  # the very first may still be in flight
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
        stall = time.perf_counter() - self.requested_s
        self.note("stall", stall)
        self.committed.wait()
        self.note("durable", self.durable_s - self.requested_s)
        self.note("persist", self.durable_s - self.requested_s - stall)
        packs = set(FOLDER.rglob("*.pack"))
        self.note("files", len(packs - self.packs))
        self.packs = packs
        time.sleep(0.1)  # what only an older checkpoint needed is being removed

    def save_otherwise(self, state: Any, turn: int) -> None:
        if self.limits is None:
            values = state.values
            self.nbytes = len(pickle.dumps(values, protocol=5)) if not _is_array(values) else _nbytes(values)
            self.limits = Limits(self.nbytes, FOLDER)
        for way in WAYS if turn % 2 else WAYS[::-1]:
            self.note(way, float(getattr(self, way)(state)))
            for path in FOLDER.glob("peer*"):
                path.unlink()

    def memcpy(self, state: Any) -> float:
        """One copy of as many bytes between two buffers that were used before."""
        assert self.limits is not None
        return self.limits.memcpy()

    def compare(self, state: Any) -> float:
        assert self.limits is not None
        return self.limits.compare()

    def direct(self, state: Any) -> float:
        assert self.limits is not None
        return self.limits.write_direct()

    def dumps(self, state: Any) -> float:
        """One ``pickle.dumps`` of everything, arrays in band."""
        began = time.perf_counter()
        pickle.dumps(state.values, protocol=5)
        return time.perf_counter() - began

    def changed(self, state: Any) -> float:
        """One pickle.dumps of what the last step changed, and a look at every object: the least that has to be done."""
        began = time.perf_counter()
        state.scan()
        pickle.dumps(state.changed, protocol=5)
        return time.perf_counter() - began

    def pickle(self, state: Any) -> float:
        return self._pickle(state, synced=False)

    def pickle_synced(self, state: Any) -> float:
        return self._pickle(state, synced=True)

    def _pickle(self, state: Any, *, synced: bool) -> float:
        began = time.perf_counter()
        with (FOLDER / "peer.pickle").open("wb") as file:
            pickle.dump(state.values, file, protocol=5)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        return time.perf_counter() - began

    def joblib(self, state: Any) -> float:
        import joblib

        began = time.perf_counter()
        joblib.dump(state.values, FOLDER / "peer.joblib")
        return time.perf_counter() - began


def _is_array(values: Any) -> bool:
    return isinstance(values, list) and not isinstance(values[0], dict)


def _nbytes(values: Any) -> int:
    return sum(one.nbytes if isinstance(one, np.ndarray) else _nbytes(one) for one in values)


watch = Watch()


@ckpt.job(key="stall", every="1000h")
def job(name: str, size: int, rounds: int) -> None:
    state = make(name, size)
    for turn in ckpt.loop(range(rounds + 2)):
        if turn > 0:
            watch.iteration_begins()
            watch.save_otherwise(state, turn)
        state.step()
        watch.iteration_ends()


if __name__ == "__main__":
    events.add_hook(watch.hook)
    seen: list[dict[str, Any]] = []
    events.add_hook(lambda name, details: seen.append(details) if name == "checkpoint" else None)
    job(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    first = [head["stall_s"] for head in seen if head["reason"] == "first"][-1]
    requested = [head for head in seen if head["reason"] == "requested"][1:]
    entries = ckpt.Store().records(job.address(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    record = max(each.nbytes + len(json.dumps(each.head)) for each in entries if each.kind == "checkpoint")
    written = [int(head["stored_nbytes"]) + record for head in requested]
    say(
        **{way: values[1:] for way, values in watch.times.items()},
        first=first,
        stored=[int(head["stored_nbytes"]) / int(head["nbytes"]) for head in requested],
        written=written,
        nbytes=watch.nbytes,
        direct_io=watch.limits is not None and watch.limits.direct,
    )
